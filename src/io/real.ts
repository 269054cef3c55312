import { randomBytes } from 'node:crypto';
import type { Io } from './io.ts';
import { realDisk } from './real-disk.ts';
import { realNetwork } from './real-network.ts';
import { realProcesses } from './real-processes.ts';

/** The machine we run on. */
export function realIo(): Io {
  return {
    clock: { nowMs: () => Date.now(), monotonicMs: () => performance.now() },
    timers: {
      after: (delayMs, callback, options) => {
        const timer = setTimeout(callback, delayMs);
        if (options?.keepAlive !== true) timer.unref();
        return { cancel: () => clearTimeout(timer) };
      },
      soon: (callback) => {
        setImmediate(callback);
      },
    },
    random: { bytes: (count) => randomBytes(count), number: () => Math.random() },
    disk: realDisk(),
    network: realNetwork(),
    processes: realProcesses(),
  };
}
