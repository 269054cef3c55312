/** The two times that replay knows; milliseconds since 1970. Neither ever goes back. */
export interface LogTime {
  /** What clocks said when entries were written. No transaction may be a lifetime ahead of it. */
  readonly logTimeMs: number;
  /** Transactions with an older timestamp are expired for ever. */
  readonly horizonMs: number;
}

/**
 * The times behind an entry with records. One clock that is wrong must not make all that others
 * sign expire, for as long as it takes until the time it showed has come: so the writer's clock
 * counts only as far as that of somebody whose signature is in the entry agrees. The horizon goes as
 * far as both have come; log time up to a lifetime beyond the newest transaction.
 *
 * @param writerMs - the entry's time.
 * @param newestMs - the greatest timestamp of the transactions in it that their creators signed;
 *   `undefined` without any: then nothing moves.
 */
export function timesBehindRecords(
  before: LogTime,
  writerMs: number,
  newestMs: number | undefined,
  lifetimeMs: number,
): LogTime {
  const { logTimeMs, horizonMs } = before;
  if (newestMs === undefined) return { logTimeMs, horizonMs };
  return {
    logTimeMs: Math.max(logTimeMs, Math.min(writerMs, newestMs + lifetimeMs)),
    horizonMs: Math.max(horizonMs, Math.min(writerMs, newestMs) - lifetimeMs),
  };
}

/**
 * The times behind a tick or a configuration. Nobody else's clock stands in them: they move no
 * horizon, and log time not by more than a lifetime.
 *
 * @param lifetimeMs - `undefined` before the channel is founded: there is no time to compare with.
 */
export function timesBehindOthers(
  before: LogTime,
  writerMs: number,
  lifetimeMs: number | undefined,
): LogTime {
  const { logTimeMs, horizonMs } = before;
  const believed = lifetimeMs === undefined || writerMs <= logTimeMs + lifetimeMs;
  return { logTimeMs: believed ? Math.max(logTimeMs, writerMs) : logTimeMs, horizonMs };
}
