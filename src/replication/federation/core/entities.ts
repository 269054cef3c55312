import type { ChangeId, Entity } from './change-record.ts';
import { membersMax } from './journal.ts';
import { type KeyRow, type Pending, rows, type StoredEntity } from './rows.ts';
import { get, put, remove, rowsUnder, type Step } from './step.ts';

const assertionPrefix = 'assertion:';

/** The entity that a key of any kind belongs to, unless the key was removed or never there. */
export function* holderOf(key: string): Step<StoredEntity | undefined> {
  const row = yield* get<KeyRow>(rows.key(key));
  if (row === undefined || row.removed === true) return undefined;
  return yield* get<StoredEntity>(rows.entity(row.entity));
}

/** All keys of an entity. */
export function keysOf(entity: Entity): readonly string[] {
  return [entity.key, ...entity.innerKeys];
}

/** Writes an entity's new version with its keys and references; decides nothing. */
export function* storeEntity(
  entity: Entity,
  change: ChangeId,
  previous: StoredEntity | undefined,
): Step<void> {
  const id = { origin: change.origin, usn: change.usn };
  const stored: StoredEntity = {
    entity,
    change: id,
    firstChange: previous?.firstChange ?? id,
  };
  yield* put(rows.entity(entity.key), stored);
  const keys = keysOf(entity);
  const before = previous === undefined ? [] : keysOf(previous.entity);
  for (const key of keys) {
    if (!before.includes(key)) yield* put(rows.key(key), { entity: entity.key });
  }
  for (const key of before) {
    if (!keys.includes(key)) yield* put(rows.key(key), { entity: entity.key, removed: true });
  }
  const oldReferences = previous?.entity.references ?? [];
  for (const target of entity.references) {
    if (!oldReferences.includes(target)) yield* put(rows.referrer(target, entity.key), 1);
  }
  for (const target of oldReferences) {
    if (!entity.references.includes(target)) yield* remove(rows.referrer(target, entity.key));
  }
}

/** Turns an entity into a tombstone, which keeps its keys from coming back. */
export function* buryEntity(stored: StoredEntity, change: ChangeId, deletedMs: number): Step<void> {
  const { entity } = stored;
  for (const target of entity.references) yield* remove(rows.referrer(target, entity.key));
  for (const key of keysOf(entity)) {
    yield* put(rows.key(key), { entity: entity.key, removed: true });
  }
  const grave: StoredEntity = {
    entity: { ...entity, content: null, references: [], modifiedMs: deletedMs },
    change: { origin: change.origin, usn: change.usn },
    firstChange: stored.firstChange,
    deletedMs,
  };
  yield* put(rows.entity(entity.key), grave);
  yield* put(rows.grave(entity.key), 1);
  if (entity.kind !== 'business') return;
  // An assertion lives as long as both its businesses: no record of its own ends it everywhere.
  for (;;) {
    const assertions = yield* rowsUnder(rows.referrer(entity.key, assertionPrefix), 1_000);
    for (const row of assertions) {
      const source = row.key.slice(rows.referrer(entity.key, '').length);
      const assertion = yield* get<StoredEntity>(rows.entity(source));
      if (assertion === undefined || assertion.deletedMs !== undefined) yield* remove(row.key);
      else yield* buryEntity(assertion, change, deletedMs);
    }
    if (assertions.length < 1_000) return;
  }
}

/** An assertion that never lives at this node: its target went before it came. */
export function* noteStillborn(entity: Entity): Step<void> {
  yield* put(rows.key(entity.key), { entity: entity.key, removed: true } satisfies KeyRow);
}

/** Notes a conditional change: its new keys are taken and its targets cannot be deleted meanwhile. */
export function* holdPending(pending: Pending): Step<void> {
  const { entity, id } = pending;
  yield* put(rows.pending(id), pending);
  for (const key of keysOf(entity)) yield* put(rows.pendingKey(key, id.origin), id);
  for (const target of entity.references) {
    yield* put(rows.pendingReferrer(target, `${entity.key}|${id.origin}`), 1);
  }
}

/** Frees what {@link holdPending} holds. */
export function* dropPending(pending: Pending): Step<void> {
  const { entity, id } = pending;
  yield* remove(rows.pending(id));
  for (const key of keysOf(entity)) yield* remove(rows.pendingKey(key, id.origin));
  for (const target of entity.references) {
    yield* remove(rows.pendingReferrer(target, `${entity.key}|${id.origin}`));
  }
}

/** Origins with an open conditional change on a key. */
export function* pendingOrigins(key: string): Step<readonly string[]> {
  const prefix = rows.pendingKey(key, '');
  return (yield* rowsUnder(prefix, membersMax)).map((row) => row.key.slice(prefix.length));
}

/** An origin's open conditional change of an entity. */
export function* pendingOf(key: string, origin: string): Step<Pending | undefined> {
  const id = yield* get<ChangeId>(rows.pendingKey(key, origin));
  return id === undefined ? undefined : yield* get<Pending>(rows.pending(id));
}

/** Who refers to a key or is about to, other than `source` itself. Assertions hold nobody. */
export function* referrerOf(target: string, source: string): Step<string | undefined> {
  for (const prefix of [rows.referrer(target, ''), rows.pendingReferrer(target, '')]) {
    for (const { key } of yield* rowsUnder(`${prefix}uddi:`, 2)) {
      const referrer = key.slice(prefix.length).split('|')[0] ?? '';
      if (referrer !== source) return referrer;
    }
  }
  return undefined;
}
