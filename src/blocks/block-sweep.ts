import { type Io, pause } from '../io/index.ts';
import type { BlockGenerator } from './generator.ts';

const stepMs = 100;
/** Opening and closing a file for a small block takes time, too. */
const blockBytesMin = 16 * 1024;

/** A sweep that goes on by itself. */
export interface BlockSweep {
  /** Times that all stored blocks were read. */
  readonly passes: number;
  close(): Promise<void>;
}

/**
 * Reads all stored blocks at a steady pace, round and round, so that one that rotted is found while others
 * have it. The store writes down what is damaged.
 *
 * @param bytesPerS - small blocks count as 16 KiB.
 */
export function startBlockSweep(
  io: Pick<Io, 'timers'>,
  generator: Pick<BlockGenerator, 'store' | 'stored'>,
  bytesPerS: number,
): BlockSweep {
  const stop = new AbortController();
  const { signal } = stop;
  let passes = 0;
  const run = async (): Promise<void> => {
    let height = 0;
    let owedMs = 0;
    while (!signal.aborted) {
      if (height < generator.stored.height) {
        // What keeps it from being read, if it is not damaged, shows when somebody wants it.
        const block = await generator.store.block(height++).catch(() => undefined);
        owedMs += (Math.max(block?.length ?? 0, blockBytesMin) / bytesPerS) * 1000;
      } else {
        if (height > 0) passes++;
        height = 0;
        owedMs += stepMs;
      }
      if (owedMs < stepMs) continue;
      await pause(io, owedMs, { signal });
      owedMs = 0;
    }
  };
  const running = run();
  return {
    get passes() {
      return passes;
    },
    close: async () => {
      stop.abort();
      await running;
    },
  };
}
