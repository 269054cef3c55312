import type { Io, Timer } from '../io/index.ts';

/** Something that goes on until it is closed. */
export interface Repeated {
  /** Resolves when what is under way has ended. */
  close(): Promise<void>;
}

/**
 * Does something again and again.
 *
 * @param intervalMs - before the first time, and from the end of each to the next one.
 * @param work - must not reject.
 */
export function repeat(
  io: Pick<Io, 'timers'>,
  intervalMs: number,
  work: () => Promise<void>,
): Repeated {
  let timer: Timer | undefined;
  let running = Promise.resolve();
  let closed = false;
  const schedule = (): void => {
    if (closed) return;
    timer = io.timers.after(intervalMs, () => {
      running = work().then(schedule);
    });
  };
  schedule();
  return {
    close: async () => {
      closed = true;
      timer?.cancel();
      await running;
    },
  };
}
