import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { asAddress, asPosition, type Position, positionOf } from '../model/index.ts';
import { catchUp } from './catch-up.ts';
import type { Replica } from './replica.ts';
import { MemoryLog } from './testing/memory-log.ts';

const io = { clock: { nowMs: () => 0, monotonicMs: () => 0 } };

/** A replica that moves on by one entry at a time, after so many timeouts. */
function slowReplica(timeouts: number, stopped?: DaybookError): Replica & { waits: Position[] } {
  let at = 0;
  let left = timeouts;
  const waits: Position[] = [];
  const replica: Pick<Replica, 'position' | 'nextAddress' | 'waitFor'> & { waits: Position[] } = {
    waits,
    get nextAddress() {
      return asAddress(at);
    },
    get position() {
      return positionOf(asAddress(at), 0);
    },
    waitFor: async (position) => {
      waits.push(position);
      if (left-- > 0) throw new DaybookError('TIMEOUT', 'not yet');
      if (stopped !== undefined) throw stopped;
      at = 3;
    },
  };
  return replica as Replica & { waits: Position[] };
}

function logOfThree(): MemoryLog {
  const log = new MemoryLog();
  for (let entry = 0; entry < 3; entry++) log.append(Buffer.from('entry'));
  return log;
}

it('waits for the log’s tail, however long it takes', async () => {
  const replica = slowReplica(2);
  await catchUp(replica, logOfThree(), io);
  expect(replica.waits).toEqual([1, 2, 3].map(() => positionOf(asAddress(3), 0)));
  expect(replica.position).toBe(positionOf(asAddress(3), 0));
});

it('does not wait for an empty log, and fails when the replica stopped', async () => {
  const idle = slowReplica(0);
  await catchUp(idle, new MemoryLog(), io);
  expect(idle.waits).toEqual([]);
  expect(idle.position).toBe(asPosition(0));
  const damaged = slowReplica(1, new DaybookError('LOG_DAMAGED', 'damaged'));
  await expect(catchUp(damaged, logOfThree(), io)).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
});

it('does not wait for a hole: nobody can have been answered for what stands behind it', async () => {
  const log = new MemoryLog();
  await log.write({ epoch: 0, address: asAddress(1) }, Buffer.from('behind a hole'));
  const replica = slowReplica(Number.POSITIVE_INFINITY);
  await catchUp(replica, log, io);
  expect(replica.waits).toHaveLength(1);
  expect(replica.position).toBe(asPosition(0));
});
