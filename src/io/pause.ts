import type { Io } from './io.ts';

/** Settings of {@link pause}. */
export interface PauseOptions {
  /**
   * Ends the pause when it aborts. One that aborted before does not: a loop that forgets to look at
   * its signal must not spin.
   */
  readonly signal?: AbortSignal;
  /** Whether the process stays alive for it; see `Timers.after`. Default false. */
  readonly keepAlive?: boolean;
}

/** Resolves after `delayMs` milliseconds. */
export function pause(
  io: Pick<Io, 'timers'>,
  delayMs: number,
  options: PauseOptions = {},
): Promise<void> {
  const { signal, keepAlive = false } = options;
  return new Promise((resolve) => {
    const end = (): void => {
      timer.cancel();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const timer = io.timers.after(delayMs, end, { keepAlive });
    signal?.addEventListener('abort', end);
  });
}
