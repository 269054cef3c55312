import type { ChangeRecord, Entity } from './change-record.ts';
import { dropPending, holdPending, storeEntity } from './entities.ts';
import { examine } from './examine.ts';
import { originate, presentMembers } from './journal.ts';
import { noteOutcome } from './outcomes.ts';
import { type Pending, rows, type StoredEntity } from './rows.ts';
import { get, put, rowsUnder, type Step } from './step.ts';

/*
 * A change that depends on what other nodes do at the same time (it refers to data in another's
 * custody, or claims a key at the top of the key space) is first sent as a condition. Every member
 * looks at it once: it acknowledges, and from then on deletes nothing the change refers to; or it
 * says why not. The origin alone ends it, with the data when all members that it knows have
 * acknowledged, or by failing it. Of an insert and a concurrent delete of its target one comes
 * second at the target's custodian, and that one loses.
 */

/** Conditional changes of one node whose outcome is open. */
export const pendingMax = 1_000;

/** Sends a change as a condition. Alone in the federation, it takes effect at once. */
export function* issue(self: string, entity: Entity): Step<ChangeRecord> {
  const record = yield* originate(self, { type: 'conditional', entity }, true);
  const pending: Pending = {
    id: { origin: self, usn: record.usn },
    entity,
    acknowledgedBy: [self],
  };
  yield* holdPending(pending);
  yield* noteOutcome({ change: pending.id, key: entity.key, state: 'pending' });
  yield* resolveIfComplete(self, pending);
  return record;
}

/** Ends an own condition with the data, when all members have acknowledged; true when it did. */
export function* resolveIfComplete(self: string, pending: Pending): Step<boolean> {
  const members = yield* presentMembers();
  if (!members.every((member) => pending.acknowledgedBy.includes(member))) return false;
  // A custodian that left without an answer may have deleted a target: its last records tell.
  const verdict = yield* examine(self, pending.entity, false);
  if (verdict.type === 'refused') {
    yield* failOwn(self, pending, self, `${verdict.code}: ${verdict.reason}`);
    return false;
  }
  yield* dropPending(pending);
  const record = yield* originate(self, { type: 'newData', entity: pending.entity });
  const previous = yield* get<StoredEntity>(rows.entity(pending.entity.key));
  yield* storeEntity(pending.entity, record, previous);
  yield* put(rows.ending(record), 1);
  yield* noteOutcome({ change: pending.id, key: pending.entity.key, state: 'committed' });
  return true;
}

/** Ends an own condition without effect. */
export function* failOwn(self: string, pending: Pending, by: string, reason: string): Step<void> {
  yield* dropPending(pending);
  yield* originate(self, { type: 'conditionFailed', of: pending.id, reason: `${by}: ${reason}` });
  yield* noteOutcome({
    change: pending.id,
    key: pending.entity.key,
    state: 'failed',
    by,
    reason,
  });
}

/** Open conditions of one origin. */
export function* pendingFrom(origin: string): Step<readonly Pending[]> {
  const found = yield* rowsUnder(`pending|${origin}|`, pendingMax);
  return found.map(({ value }) => value as Pending);
}

/** A member that others wait for has left: what waited for it alone takes effect. */
export function* resolveAll(self: string): Step<readonly Entity[]> {
  const resolved: Entity[] = [];
  for (const pending of yield* pendingFrom(self)) {
    if (yield* resolveIfComplete(self, pending)) resolved.push(pending.entity);
  }
  return resolved;
}
