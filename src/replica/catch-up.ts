import { isDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { positionOf } from '../model/index.ts';
import type { Replica } from './replica.ts';

const checkIntervalMs = 1_000;

/**
 * Resolves once the replica has applied all that anybody can have been answered for: all that the log
 * holds now, or all before a hole. A node waits for this before it serves: on an older state it would
 * refuse calls for good that follow from what it answered before it was restarted (invariant I5), such
 * as calls of a contract that it does not know yet. For holes it does not wait: a log without room
 * takes no fills, and only nodes that run can see to it that there is room again.
 *
 * @throws {DaybookError} why the log cannot be asked, or why the replica stopped.
 */
export async function catchUp(
  replica: Replica,
  log: SharedLog,
  io: Pick<Io, 'clock'>,
): Promise<void> {
  const tail = positionOf(await log.tail(), 0);
  for (let next = replica.nextAddress; replica.position < tail; next = replica.nextAddress) {
    try {
      await replica.waitFor(tail, io.clock.monotonicMs() + checkIntervalMs);
    } catch (error) {
      // However long the log is: the replica gets there, or stops and says why.
      if (!isDaybookError(error, 'TIMEOUT')) throw error;
      const stands = replica.nextAddress === next;
      if (stands && (await isHole(log, replica))) return;
    }
  }
}

async function isHole(log: SharedLog, { nextAddress }: Replica): Promise<boolean> {
  try {
    await log.read(nextAddress);
    return false;
  } catch (error) {
    // Of anything else that it met the replica tells when it stops.
    return isDaybookError(error, 'LOG_NOT_WRITTEN');
  }
}
