import { assertingBusiness } from './assertion-key.ts';
import type { ChangeId, ChangeRecord, Entity, Payload } from './change-record.ts';
import { failOwn, pendingFrom, resolveAll, resolveIfComplete } from './conditional.ts';
import { custodianOf } from './custody.ts';
import {
  buryEntity,
  dropPending,
  holdPending,
  keysOf,
  noteStillborn,
  pendingOf,
  storeEntity,
} from './entities.ts';
import { examine } from './examine.ts';
import {
  applyExpel,
  applyFrozen,
  applyRetired,
  checkPeer,
  dropExpulsion,
  retire,
  retireReady,
} from './expulsion.ts';
import { append, checkWhole, originate, selfId } from './journal.ts';
import { noteOutcome } from './outcomes.ts';
import { refusal } from './refusal.ts';
import {
  type KeyRow,
  type Member,
  type Outcome,
  type Pending,
  type Quarantined,
  rows,
  type StoredEntity,
} from './rows.ts';
import { get, put, remove, rowsUnder, type Step } from './step.ts';

/** What came of a page of received records. */
export interface Received {
  /** New ones, now in the journal. */
  readonly taken: number;
  readonly duplicates: number;
  /** Not taken: an earlier record of the same origin, or the origin's admission, is lacking. */
  readonly early: number;
  /** Taken without effect; their origins are told. */
  readonly quarantined: readonly ChangeId[];
}

/** Records that wait for one key and are looked at when it comes. */
const waitingMax = 1_000;

type Effect =
  | { readonly type: 'applied' }
  /** A condition that this node does not agree to. */
  | { readonly type: 'objection'; readonly reason: string }
  | { readonly type: 'refused'; readonly reason: string }
  | { readonly type: 'waits'; readonly missing: string; readonly reason: string };

const applied: Effect = { type: 'applied' };

/**
 * Takes records from a pull. Each counts once, in its origin's order; repetitions are harmless.
 * Records must come in the order of the answering node's journal.
 *
 * @param from - the member that sent them: of one that is being expelled nothing is taken.
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_userMismatch`) when `from` has no part any more; (`E_fatalError`) when another node knows more of this
 *   node's own records than this node itself: its storage went back in time.
 */
export function* receive(
  records: readonly ChangeRecord[],
  nowMs: number,
  from?: string,
): Step<Received> {
  const self = yield* selfId();
  if (from !== undefined) yield* checkPeer(from);
  yield* checkWhole();
  let taken = 0;
  let duplicates = 0;
  let early = 0;
  const quarantined: ChangeId[] = [];
  for (const record of records) {
    const seen = (yield* get<number>(rows.seen(record.origin))) ?? 0;
    if (record.usn <= seen) {
      duplicates++;
      continue;
    }
    if (record.origin === self) {
      throw refusal('E_fatalError', `others know ${self}#${record.usn}, this node only #${seen}`);
    }
    const member = yield* get<Member>(rows.member(record.origin));
    if (member === undefined && !(yield* introducesItself(self, record))) {
      // What comes behind it may build on it.
      early += records.length - taken - duplicates - early;
      break;
    }
    const lacking = record.usn > seen + 1 || member?.heir !== undefined;
    if (lacking || !(yield* retireReady(record.payload))) {
      early++;
      continue;
    }
    taken++;
    yield* append(record);
    const effect = yield* applyPayload(self, record, record.payload, nowMs);
    if (effect.type === 'refused') quarantined.push({ origin: record.origin, usn: record.usn });
    yield* answer(self, record, effect);
  }
  if (taken > 0) yield* settleExpulsions(self, nowMs);
  return { taken, duplicates, early, quarantined };
}

/** Keeps what had no effect, and tells the origin. */
function* answer(self: string, record: ChangeRecord, effect: Effect): Step<void> {
  const id = { origin: record.origin, usn: record.usn };
  if (effect.type === 'refused' || effect.type === 'objection') {
    if (effect.type === 'refused') {
      const kept: Quarantined = { record, reason: effect.reason };
      yield* put(rows.quarantine(id), kept);
    }
    if (record.payload.type === 'conditionFailed') return;
    yield* originate(self, { type: 'conditionFailed', of: id, reason: effect.reason });
    return;
  }
  if (effect.type === 'waits') {
    const kept: Quarantined = { record, reason: effect.reason, missing: effect.missing };
    yield* put(rows.quarantine(id), kept);
    yield* put(rows.waiting(effect.missing, id), id);
  }
  if (record.acknowledgementRequested) yield* originate(self, { type: 'acknowledge', of: id });
}

/** Applies what waited for a key that has come. */
export function* releaseWaiting(self: string, key: string, nowMs: number): Step<void> {
  for (const row of yield* rowsUnder(rows.waitingFor(key), waitingMax)) {
    const id = row.value as ChangeId;
    yield* remove(row.key);
    const kept = yield* get<Quarantined>(rows.quarantine(id));
    if (kept === undefined) continue;
    yield* remove(rows.quarantine(id));
    const { record } = kept;
    const effect = yield* applyPayload(self, record, record.payload, nowMs);
    yield* answer(self, { ...record, acknowledgementRequested: false }, effect);
  }
}

/** What one record does to the registry's content. Also used for own records after a full copy. */
export function* applyPayload(
  self: string,
  record: ChangeRecord,
  payload: Payload,
  nowMs: number,
): Step<Effect> {
  const id = { origin: record.origin, usn: record.usn };
  switch (payload.type) {
    case 'null':
      return applied;
    case 'newData':
      return yield* applyNewData(self, id, payload, nowMs);
    case 'conditional':
      return yield* applyConditional(self, id, payload);
    case 'delete':
    case 'hide':
      return yield* applyEnd(id, payload);
    case 'acknowledge': {
      yield* noteProcessed(record.origin, payload.of);
      const pending = yield* get<Pending>(rows.pending(payload.of));
      if (pending === undefined || pending.acknowledgedBy.includes(record.origin)) return applied;
      const more = { ...pending, acknowledgedBy: [...pending.acknowledgedBy, record.origin] };
      yield* put(rows.pending(payload.of), more);
      if (payload.of.origin === self && record.origin !== self) {
        if (yield* resolveIfComplete(self, more)) {
          for (const key of keysOf(more.entity)) yield* releaseWaiting(self, key, nowMs);
        }
      }
      return applied;
    }
    case 'conditionFailed':
      return yield* applyFailed(self, record, payload);
    case 'correction': {
      if (payload.of.origin !== record.origin || payload.payload.type === 'correction') {
        return { type: 'refused', reason: 'a node corrects its own records only, once each' };
      }
      const kept = yield* get<Quarantined>(rows.quarantine(payload.of));
      yield* remove(rows.quarantine(payload.of));
      if (kept?.missing !== undefined) yield* remove(rows.waiting(kept.missing, payload.of));
      return yield* applyPayload(self, record, payload.payload, nowMs);
    }
    case 'member':
      return yield* applyMember(self, record, payload, nowMs);
    case 'expel': {
      const objection = yield* applyExpel(self, id, payload);
      return objection === undefined ? applied : { type: 'objection', reason: objection };
    }
    case 'frozen':
      yield* applyFrozen(record.origin, payload);
      return applied;
    case 'retired':
      yield* applyRetired(id, payload);
      // An own one is done again after a full copy, before own numbers are given again.
      if (record.origin !== self) yield* releaseResolved(self, nowMs);
      return applied;
  }
}

/** Ends own expulsions that all have answered. */
export function* settleExpulsions(self: string, nowMs: number): Step<void> {
  if (yield* retire(self)) yield* releaseResolved(self, nowMs);
}

/** What waited for members that have left takes effect. */
function* releaseResolved(self: string, nowMs: number): Step<void> {
  for (const entity of yield* resolveAll(self)) {
    for (const key of keysOf(entity)) yield* releaseWaiting(self, key, nowMs);
  }
}

/** An acknowledgement covers all that its sender took from the same origin before. */
function* noteProcessed(by: string, of: ChangeId): Step<void> {
  const row = rows.acknowledged(by, of.origin);
  if (((yield* get<number>(row)) ?? 0) < of.usn) yield* put(row, of.usn);
}

function* applyNewData(
  self: string,
  id: ChangeId,
  { entity }: Extract<Payload, { type: 'newData' }>,
  nowMs: number,
): Step<Effect> {
  const pending = yield* pendingOf(entity.key, id.origin);
  if (pending !== undefined) {
    if (canonical(pending.entity) !== canonical(entity)) {
      return { type: 'refused', reason: `differs from the condition of ${entity.key}` };
    }
    yield* dropPending(pending);
    yield* storeEntity(entity, id, yield* get<StoredEntity>(rows.entity(entity.key)));
    yield* put(rows.ending(id), 1);
  } else {
    const previous = yield* get<StoredEntity>(rows.entity(entity.key));
    // Waited while later versions came.
    if (previous?.change.origin === id.origin && previous.change.usn > id.usn) return applied;
    if (entity.kind === 'assertion' && (yield* isStillborn(entity))) {
      yield* noteStillborn(entity);
      return applied;
    }
    const verdict = yield* examine(id.origin, entity, false);
    if (verdict.type === 'refused') {
      return verdict.missing === undefined
        ? { type: 'refused', reason: `${verdict.code}: ${verdict.reason}` }
        : { type: 'waits', missing: verdict.missing, reason: `${verdict.code}: ${verdict.reason}` };
    }
    if (verdict.conditional) {
      return { type: 'refused', reason: `${entity.key} takes effect without a condition` };
    }
    yield* storeEntity(entity, id, verdict.previous);
  }
  for (const key of keysOf(entity)) yield* releaseWaiting(self, key, nowMs);
  return applied;
}

/** Where the deletion of a business came before an assertion about it, the assertion never lives. */
function* isStillborn({ references }: Entity): Step<boolean> {
  for (const target of references) {
    if ((yield* get<KeyRow>(rows.key(target)))?.removed === true) return true;
  }
  return false;
}

function* applyConditional(
  self: string,
  id: ChangeId,
  { entity }: Extract<Payload, { type: 'conditional' }>,
): Step<Effect> {
  const verdict = yield* examine(id.origin, entity, false);
  if (verdict.type === 'refused' && verdict.concurrent !== true) {
    return { type: 'refused', reason: `${verdict.code}: ${verdict.reason}` };
  }
  // Held even against an objection of this node: only the origin ends it.
  if (verdict.type === 'refused') {
    const reason = `${verdict.code}: ${verdict.reason}`;
    const objection = { by: self, reason };
    yield* holdPending({ id, entity, acknowledgedBy: [id.origin], objection });
    return { type: 'objection', reason };
  }
  const acknowledgedBy = self === id.origin ? [self] : [id.origin, self];
  yield* holdPending({ id, entity, acknowledgedBy });
  return applied;
}

function* applyEnd(
  id: ChangeId,
  payload: Extract<Payload, { type: 'delete' | 'hide' }>,
): Step<Effect> {
  const stored = yield* get<StoredEntity>(rows.entity(payload.key));
  if (stored === undefined) {
    const known = yield* get(rows.key(payload.key));
    // It went with a business.
    if (known !== undefined && assertingBusiness(payload.key) !== undefined) return applied;
    const reason = `${payload.key} does not exist`;
    if (known !== undefined) return { type: 'refused', reason };
    return { type: 'waits', missing: payload.key, reason };
  }
  if (stored.deletedMs !== undefined) return applied;
  if ((yield* custodianOf(stored)) !== id.origin) {
    return { type: 'refused', reason: `${payload.key} is not in custody of ${id.origin}` };
  }
  if (payload.type === 'hide') {
    const hidden = { ...stored.entity, hidden: true, modifiedMs: payload.modifiedMs };
    yield* storeEntity(hidden, id, stored);
  } else yield* buryEntity(stored, id, payload.modifiedMs);
  return applied;
}

function* applyFailed(
  self: string,
  record: ChangeRecord,
  { of, reason }: Extract<Payload, { type: 'conditionFailed' }>,
): Step<Effect> {
  yield* noteProcessed(record.origin, of);
  const pending = yield* get<Pending>(rows.pending(of));
  if (yield* dropExpulsion(self, record.origin, of, reason)) return applied;
  if (of.origin === record.origin) {
    if (pending !== undefined) yield* dropPending(pending);
    return applied;
  }
  if (of.origin !== self) {
    // Kept for an origin that takes a full copy from here.
    const objection = { by: record.origin, reason };
    if (pending !== undefined) yield* put(rows.pending(of), { ...pending, objection });
    return applied;
  }
  if (pending !== undefined) {
    yield* failOwn(self, pending, record.origin, reason);
    return applied;
  }
  const outcome = yield* get<Outcome>(rows.outcome(of.usn));
  if (outcome?.state === 'failed') return applied;
  yield* noteOutcome({
    change: of,
    key: outcome?.key ?? '',
    state: 'refused-elsewhere',
    by: record.origin,
    reason,
  });
  return applied;
}

/**
 * Whether a record is the founder's first one. Nobody admitted the founder, so a node that joins by
 * another member learns of it here; who is a member itself knows all members by those who admitted
 * them.
 */
function* introducesItself(self: string, { origin, usn, payload }: ChangeRecord): Step<boolean> {
  if (usn !== 1 || payload.type !== 'member' || payload.node !== origin) return false;
  return (yield* get(rows.member(self))) === undefined;
}

function* applyMember(
  self: string,
  record: ChangeRecord,
  { node, heir }: Extract<Payload, { type: 'member' }>,
  nowMs: number,
): Step<Effect> {
  if (heir === undefined) {
    if ((yield* get(rows.member(node))) === undefined) {
      yield* put(rows.member(node), { node } satisfies Member);
    }
    return applied;
  }
  if (record.origin !== node) return { type: 'refused', reason: 'a node resigns for itself only' };
  yield* put(rows.member(node), { node, heir } satisfies Member);
  for (const pending of yield* pendingFrom(node)) yield* dropPending(pending);
  yield* releaseResolved(self, nowMs);
  if (heir !== self) return applied;
  // This was its last record, and who takes the heir's next one has it, too.
  const ending = { type: 'retired', node, heir, final: record.usn } as const;
  yield* applyRetired(yield* originate(self, ending, true), ending);
  return applied;
}

/** The same text for equal values, whatever the order in which properties were set. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_name, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([left], [right]) => (left < right ? -1 : 1)))
      : part,
  );
}
