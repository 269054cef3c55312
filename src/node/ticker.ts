import { isDaybookError, toDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog, Token } from '../log/index.ts';
import { type Address, asAddress, decodeEntry, encodeEntry, nextAddress } from '../model/index.ts';
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

/** A tick that may be in the log, or not. */
interface OpenTick {
  readonly token: Token;
  readonly bytes: Buffer;
}

/**
 * Sees to it that no record waits longer than about one interval for the end of its block: while
 * the log ends in something else than a tick (or a configuration, which ends a block, too), it
 * writes one per interval. So an idle channel gets no ticks. Under load blocks end by their size,
 * and a tick more per second changes little.
 */
export function startTicker(options: TickerOptions): Repeated {
  const { io, log, intervalMs = intervalMsDefault } = options;
  /** The log's tail when it ended in a tick. */
  let quietTail: number | undefined;
  const ticks = new Ticks(options);
  const tick = async (): Promise<void> => {
    const tail = await log.tail();
    if (tail === quietTail && !ticks.isOpen) return;
    const quiet = !ticks.isOpen && (await isQuiet(log, tail));
    quietTail = quiet ? tail : nextAddress(await ticks.write());
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

class Ticks {
  readonly #options: TickerOptions;
  #open: OpenTick | undefined;

  constructor(options: TickerOptions) {
    this.#options = options;
  }

  /** One has an address, and could not be written yet. */
  get isOpen(): boolean {
    return this.#open !== undefined;
  }

  /** Writes the open one, or else a new one. @returns its address. */
  async write(): Promise<Address> {
    const { log } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const { token, bytes } = this.#open ?? (await this.#next());
      this.#open = undefined;
      try {
        await log.write(token, bytes, { makesRoom: true });
        return token.address;
      } catch (error) {
        // Every address that is left behind is a hole that all replicas wait for.
        if (toDaybookError(error).retry === 'same') this.#open = { token, bytes };
        if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN') || attempt === attemptsMax) throw error;
      }
    }
  }

  async #next(): Promise<OpenTick> {
    const { io, log, sequencer, writer } = this.#options;
    const token = sequencer?.grant() ?? { epoch: await log.epoch(), address: await log.tail() };
    const timestampMs = io.clock.nowMs();
    return { token, bytes: encodeEntry({ kind: 'tick', writer, timestampMs }) };
  }
}
