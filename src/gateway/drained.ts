import type { ServerResponse } from 'node:http';
import { DaybookError, limits } from '../base/index.ts';
import type { Io } from '../io/index.ts';

/**
 * Resolves when a stream's reader has room again, or is gone.
 *
 * @param what - what it does not read, for the error.
 * @throws {DaybookError} `OVERLOADED` when the reader stalls.
 */
export function drained(
  { timers }: Pick<Io, 'timers'>,
  response: ServerResponse,
  what: string,
): Promise<void> {
  // Of a reader that is gone already nothing is heard any more.
  if (response.destroyed) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const done = (): void => {
      timer.cancel();
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    const timer = timers.after(limits.eventStallMsMax, () => {
      response.off('drain', done);
      response.off('close', done);
      reject(
        new DaybookError('OVERLOADED', `${what} are not read`, {
          details: { limit: 'eventStallMsMax', max: limits.eventStallMsMax },
        }),
      );
    });
    response.on('drain', done);
    response.on('close', done);
  });
}
