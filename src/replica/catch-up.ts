import { isDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { positionOf } from '../model/index.ts';
import type { Replica } from './replica.ts';

const checkIntervalMs = 30_000;

/**
 * Resolves once the replica has applied all that the log holds now. A node waits for this before it
 * serves: on an older state it would refuse calls for good that follow from what it answered before
 * it was restarted (invariant I5), such as calls of a contract that it does not know yet.
 *
 * @throws {DaybookError} why the log cannot be asked, or why the replica stopped.
 */
export async function catchUp(
  replica: Replica,
  log: SharedLog,
  io: Pick<Io, 'clock'>,
): Promise<void> {
  const tail = positionOf(await log.tail(), 0);
  while (replica.position < tail) {
    try {
      await replica.waitFor(tail, io.clock.monotonicMs() + checkIntervalMs);
    } catch (error) {
      // However long the log is: the replica gets there, or stops and says why.
      if (!isDaybookError(error, 'TIMEOUT')) throw error;
    }
  }
}
