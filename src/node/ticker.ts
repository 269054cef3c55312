import { isDaybookError, toDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog, Token } from '../log/index.ts';
import { asAddress, decodeEntry, encodeEntry, nextAddress } from '../model/index.ts';
import { type Repeated, repeat } from './repeat.ts';

/** Settings of {@link startTicker}. */
export interface TickerOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly log: SharedLog;
  /** Grants addresses; without one, ticks go to the log's tail like everything else. */
  readonly sequencer: { grant(): Token } | undefined;
  /** Name of the writer, as it will stand in the entries. */
  readonly writer: string;
  /** Default 1,000 ms. */
  readonly intervalMs?: number;
  /** Hears why a tick could not be written; the next one is tried all the same. */
  readonly onError?: (message: string) => void;
}

const intervalMsDefault = 1_000;
/** Without a sequencer somebody else may take the tail; then the next tick is soon enough. */
const attemptsMax = 3;

/**
 * Sees to it that no record waits longer than about one interval for the end of its block: while
 * the log ends in something else than a tick (or a configuration, which ends a block, too), it
 * writes one per interval. So an idle channel gets no ticks. Under load blocks end by their size,
 * and a tick more per second changes little.
 */
export function startTicker(options: TickerOptions): Repeated {
  const { io, intervalMs = intervalMsDefault } = options;
  /** The log's tail when it ended in a tick. */
  let quietTail: number | undefined;
  const tick = async (): Promise<void> => {
    const tail = await options.log.tail();
    if (tail === quietTail) return;
    quietTail = (await isQuiet(options.log, tail)) ? tail : nextAddress(await writeTick(options));
  };
  return repeat(io, intervalMs, async () => {
    try {
      await tick();
    } catch (error) {
      options.onError?.(toDaybookError(error).message);
    }
  });
}

/** Whether no block is open at the log's end. */
async function isQuiet(log: SharedLog, tail: number): Promise<boolean> {
  if (tail <= (await log.start())) return true;
  const { kind, bytes } = await log.read(asAddress(tail - 1));
  // Something may be open before a filled hole.
  return kind === 'data' && decodeEntry(bytes).kind !== 'records';
}

async function writeTick(options: TickerOptions): Promise<Token['address']> {
  const { io, log, sequencer, writer } = options;
  for (let attempt = 1; ; attempt++) {
    const token = sequencer?.grant() ?? { epoch: await log.epoch(), address: await log.tail() };
    const timestampMs = io.clock.nowMs();
    try {
      await log.write(token, encodeEntry({ kind: 'tick', writer, timestampMs }));
      return token.address;
    } catch (error) {
      if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN') || attempt === attemptsMax) throw error;
    }
  }
}
