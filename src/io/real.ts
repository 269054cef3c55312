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
    random: { bytes: pooledRandomBytes(), number: () => Math.random() },
    disk: realDisk(),
    network: realNetwork(),
    processes: realProcesses(),
  };
}

const poolBytes = 8 * 1024;
const pooledMax = 64;

/** Few bytes are cut from a pool: asking for them one by one costs ten times as much. */
function pooledRandomBytes(): (count: number) => Buffer {
  let pool = Buffer.alloc(0);
  let used = 0;
  return (count) => {
    if (count > pooledMax) return randomBytes(count);
    if (used + count > pool.length) {
      pool = randomBytes(poolBytes);
      used = 0;
    }
    used += count;
    return pool.subarray(used - count, used);
  };
}
