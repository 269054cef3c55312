import type { Clock, Io, Processes, Randomness, Timers } from '../src/io/index.ts';
import type { SimDisk } from './sim-disk.ts';
import type { SimNetwork } from './sim-network.ts';
import type { SimProcess, World } from './world.ts';

/** The simulated outside world of one process. */
export function simIo(
  world: World,
  process: SimProcess,
  disk: SimDisk,
  network: SimNetwork,
  processes?: (io: Io) => Processes,
): Io {
  const clock: Clock = {
    nowMs: () => Math.floor(world.wallMs + process.clockOffsetMs),
    monotonicMs: () => (world.nowUs / 1000) * process.clockRate,
  };
  const timers: Timers = {
    after: (delayMs, callback) => {
      // What a cancelled timer would have called is let go of at once, with all that hangs on it.
      let pending: (() => void) | undefined = callback;
      // As in Node, at least a millisecond.
      world.after(process, Math.max(1, delayMs) * (1000 / process.clockRate), 'timer', () =>
        pending?.(),
      );
      return {
        cancel: () => {
          pending = undefined;
        },
      };
    },
    soon: (callback) => world.after(process, 0, 'soon', callback),
  };
  const random: Randomness = {
    bytes: (count) => {
      const bytes = Buffer.allocUnsafe(count);
      for (let at = 0; at < count; at++) bytes[at] = world.chance.below(256);
      return bytes;
    },
    number: () => world.chance.number(),
  };
  const io = { clock, timers, random, disk: disk.of(process), network: network.of(process) };
  const whole: { processes: Processes } & typeof io = {
    ...io,
    processes: {
      spawn: () => {
        throw new Error('this process has no children');
      },
    },
  };
  if (processes !== undefined) whole.processes = processes(whole);
  return whole;
}
