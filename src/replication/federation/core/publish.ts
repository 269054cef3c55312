import { activeSelf } from './active-self.ts';
import type { ChangeId, ChangeRecord, Entity, EntityKind } from './change-record.ts';
import { changeText } from './change-record.ts';
import { failOwn, issue, pendingFrom, pendingMax } from './conditional.ts';
import { custodianOf, publisherOf } from './custody.ts';
import { buryEntity, keysOf, pendingOrigins, referrerOf, storeEntity } from './entities.ts';
import { examine } from './examine.ts';
import { expulsionProblem } from './expulsion.ts';
import { originate, presentMembers } from './journal.ts';
import { isUddiKey, prefixOf } from './key-space.ts';
import { noteOutcome } from './outcomes.ts';
import { releaseWaiting, settleExpulsions } from './receive.ts';
import { refusal } from './refusal.ts';
import { type Expelling, type Member, type Pending, rows, type StoredEntity } from './rows.ts';
import { get, put, type Step } from './step.ts';

/** An entity as JSON: with its record's signature, and three bytes to each, it fits into an argument of a call. */
export const entityCharactersMax = 600_000;

/** What a publisher wants an entity to be. */
export interface Draft {
  readonly key: string;
  readonly kind: EntityKind;
  readonly publisher: string;
  readonly innerKeys?: readonly string[];
  readonly references?: readonly string[];
  readonly content: unknown;
  /** Shows a hidden entity again. */
  readonly visible?: boolean;
}

/** The change that came of an operation, and whether it has taken effect already. */
export interface Published {
  readonly change: ChangeId;
  readonly state: 'committed' | 'pending';
}

/** Founds a registry with this node as its only member. */
export function* found(node: string): Step<void> {
  yield* enter(node);
  yield* put(rows.member(node), { node } satisfies Member);
  yield* originate(node, { type: 'member', node });
}

/**
 * Makes this node one that follows a federation: it pulls from `known` until it finds itself
 * admitted.
 */
export function* join(node: string, known: readonly string[]): Step<void> {
  yield* enter(node);
  for (const member of known) yield* put(rows.member(member), { node: member } satisfies Member);
}

function* enter(node: string): Step<void> {
  if (!isUddiKey(node) || prefixOf(node) === 'uddi:') {
    throw refusal('E_invalidKeyPassed', `${node} is not a node id: uddi:<domain>:<name>`);
  }
  if ((yield* get(rows.self)) !== undefined) {
    throw refusal('E_requestDenied', 'this registry has a node id already');
  }
  yield* put(rows.self, { node });
}

/**
 * Inserts or updates an entity of this node. It takes effect at once, unless it depends on other
 * nodes: then it is `pending` until they have answered, and `outcomeOf` tells.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED`; then there is no change record.
 */
export function* save(draft: Draft, nowMs: number): Step<Published> {
  const self = yield* activeSelf();
  const previous = yield* get<StoredEntity>(rows.entity(draft.key));
  const entity: Entity = {
    key: draft.key,
    kind: draft.kind,
    owner: self,
    publisher: draft.publisher,
    innerKeys: [...(draft.innerKeys ?? [])].sort(),
    references: [...new Set(draft.references ?? [])].sort(),
    hidden: draft.visible === true ? false : (previous?.entity.hidden ?? false),
    createdMs: draft.kind === 'assertion' ? nowMs : (previous?.entity.createdMs ?? nowMs),
    modifiedMs: nowMs,
    content: draft.content,
  };
  // Whoever cannot take a record can take none that comes after it.
  if (JSON.stringify(entity).length > entityCharactersMax) {
    throw refusal('E_messageTooLarge', `entityCharactersMax is ${entityCharactersMax}`, {
      key: draft.key,
    });
  }
  const verdict = yield* examine(self, entity, true);
  if (verdict.type === 'refused') {
    throw refusal(verdict.code, verdict.reason, { key: draft.key });
  }
  if (verdict.conditional) {
    if ((yield* pendingFrom(self)).length >= pendingMax) {
      throw refusal('E_busy', `${pendingMax} conditional changes are open`);
    }
    const { usn } = yield* issue(self, entity);
    const ended = (yield* get(rows.pending({ origin: self, usn }))) === undefined;
    if (ended) yield* releaseAll(self, entity, nowMs);
    return { change: { origin: self, usn }, state: ended ? 'committed' : 'pending' };
  }
  // Whoever publishes the business speaks for its side.
  const unsaid = entity.kind === 'assertion' ? { ...entity, publisher: '' } : entity;
  return yield* commit(self, unsaid, verdict.previous, nowMs);
}

function* commit(
  self: string,
  entity: Entity,
  previous: StoredEntity | undefined,
  nowMs: number,
): Step<Published> {
  const record = yield* originate(self, { type: 'newData', entity });
  yield* storeEntity(entity, record, previous);
  yield* releaseAll(self, entity, nowMs);
  return yield* published(record, entity.key);
}

function* releaseAll(self: string, entity: Entity, nowMs: number): Step<void> {
  for (const key of keysOf(entity)) yield* releaseWaiting(self, key, nowMs);
}

function* published(record: ChangeRecord, key: string): Step<Published> {
  const change = { origin: record.origin, usn: record.usn };
  yield* noteOutcome({ change, key, state: 'committed' });
  return { change, state: 'committed' };
}

/**
 * Deletes an entity of this node; all assertions about it go with it, at every node.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED`: `E_requestDenied` as long as anything refers to it or
 *   is about to, with the referrer.
 */
export function* removeEntity(key: string, publisher: string, nowMs: number): Step<Published> {
  const self = yield* activeSelf();
  const stored = yield* ownEntity(self, key, publisher);
  if (stored.entity.kind === 'tModel') {
    throw refusal('E_requestDenied', 'a tModel is hidden, never deleted', { key });
  }
  for (const one of keysOf(stored.entity)) {
    const referrer = yield* referrerOf(one, key);
    if (referrer !== undefined) {
      throw refusal('E_requestDenied', `${referrer} refers to ${one}`, { key: one });
    }
  }
  return yield* published(yield* bury(self, stored, nowMs), key);
}

function* bury(self: string, stored: StoredEntity, nowMs: number): Step<ChangeRecord> {
  const { key, kind } = stored.entity;
  // UDDI names an assertion by what it says.
  const said = kind === 'assertion' ? { content: stored.entity.content } : {};
  const record = yield* originate(self, { type: 'delete', key, kind, modifiedMs: nowMs, ...said });
  yield* buryEntity(stored, record, nowMs);
  return record;
}

/** Hides a tModel of this node: it is no longer found, but stays for what refers to it. */
export function* hideEntity(key: string, publisher: string, nowMs: number): Step<Published> {
  const self = yield* activeSelf();
  const stored = yield* ownEntity(self, key, publisher);
  if (stored.entity.kind !== 'tModel') {
    throw refusal('E_invalidKeyPassed', `${key} is not a tModel`, { key });
  }
  const record = yield* originate(self, { type: 'hide', key, modifiedMs: nowMs });
  yield* storeEntity({ ...stored.entity, hidden: true, modifiedMs: nowMs }, record, stored);
  return yield* published(record, key);
}

/**
 * Hands an entity over to another node and publisher; with a key generator goes its prefix.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_transferNotAllowed`: not a member)
 */
export function* transfer(
  key: string,
  publisher: string,
  to: { readonly node: string; readonly publisher: string },
  nowMs: number,
): Step<Published> {
  const self = yield* activeSelf();
  const stored = yield* ownEntity(self, key, publisher);
  if (stored.entity.kind === 'assertion') {
    throw refusal('E_transferNotAllowed', 'an assertion goes with its business', { key });
  }
  if (!(yield* presentMembers()).includes(to.node)) {
    throw refusal('E_transferNotAllowed', `${to.node} is not a member`, { key });
  }
  const entity = {
    ...stored.entity,
    owner: to.node,
    publisher: to.publisher,
    modifiedMs: nowMs,
  };
  return yield* commit(self, entity, stored, nowMs);
}

function* ownEntity(self: string, key: string, publisher: string): Step<StoredEntity> {
  const stored = yield* get<StoredEntity>(rows.entity(key));
  if (stored === undefined || stored.deletedMs !== undefined) {
    throw refusal('E_invalidKeyPassed', `${key} does not exist`, { key });
  }
  if ((yield* custodianOf(stored)) !== self) {
    throw refusal('E_userMismatch', `${key} is in custody of ${stored.entity.owner}`, { key });
  }
  if ((yield* publisherOf(stored)) !== publisher) {
    throw refusal('E_userMismatch', `${key} belongs to another publisher`, { key });
  }
  if ((yield* pendingOrigins(key)).length > 0) {
    throw refusal('E_busy', `a change of ${key} is under way`, { key });
  }
  return stored;
}

/** Takes a node into the federation: from now on its acknowledgements are waited for. */
export function* admit(node: string): Step<void> {
  const self = yield* activeSelf();
  if (!isUddiKey(node) || prefixOf(node) === 'uddi:') {
    throw refusal('E_invalidKeyPassed', `${node} is not a node id: uddi:<domain>:<name>`);
  }
  if ((yield* get(rows.member(node))) !== undefined) {
    throw refusal('E_requestDenied', `${node} is or was a member`);
  }
  const generator = `${prefixOf(node)}keygenerator`;
  if (
    (yield* get(rows.key(generator))) !== undefined ||
    (yield* pendingOrigins(generator)).length > 0
  ) {
    throw refusal('E_keyUnavailable', `${generator} is taken`);
  }
  yield* put(rows.member(node), { node } satisfies Member);
  yield* originate(self, { type: 'member', node });
}

/** Leaves the federation for good; `heir` takes over custody and key space. The last record. */
export function* resign(heir: string): Step<void> {
  const self = yield* activeSelf();
  if (heir === self || !(yield* presentMembers()).includes(heir)) {
    throw refusal('E_transferNotAllowed', `${heir} is not another member`);
  }
  if ((yield* pendingFrom(self)).length > 0) {
    throw refusal('E_busy', 'conditional changes are open: wait for them or withdraw them');
  }
  yield* originate(self, { type: 'member', node: self, heir });
  yield* put(rows.member(self), { node: self, heir } satisfies Member);
}

/**
 * Proposes to expel a member; `heir` takes over its custody and key space. It ends when all members
 * that are left have answered.
 *
 * @param vouched - the operator knows that the node is dead: needed where those left are no majority.
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_requestDenied`, `E_transferNotAllowed`)
 */
export function* expel(
  node: string,
  heir: string,
  vouched: boolean,
  nowMs: number,
): Step<ChangeId> {
  const self = yield* activeSelf();
  const present = yield* presentMembers();
  if (node === self || !present.includes(node)) {
    throw refusal('E_requestDenied', `${node} is not another member`);
  }
  if (heir === node || !present.includes(heir)) {
    throw refusal('E_transferNotAllowed', `${heir} cannot take over from ${node}`);
  }
  const problem = yield* expulsionProblem(self, { node, heir }, vouched);
  if (problem !== undefined) throw refusal('E_requestDenied', problem);
  const { origin, usn } = yield* originate(self, { type: 'expel', node, heir, vouched });
  const id = { origin, usn };
  yield* put(rows.expelling(node), { node, id, heir, marks: {} } satisfies Expelling);
  yield* settleExpulsions(self, nowMs);
  return id;
}

/** Gives up a conditional change of this node that has not ended. */
export function* withdraw(usn: number): Step<void> {
  const self = yield* activeSelf();
  const pending = yield* get<Pending>(rows.pending({ origin: self, usn }));
  if (pending === undefined) {
    throw refusal('E_invalidKeyPassed', `${changeText({ origin: self, usn })} is not open`);
  }
  yield* failOwn(self, pending, self, 'withdrawn');
}

/** Asks all members how far they are: what all have can be dropped from journals. */
export function* requestAcknowledgement(): Step<ChangeId> {
  const self = yield* activeSelf();
  const { origin, usn } = yield* originate(self, { type: 'null' }, true);
  return { origin, usn };
}

/**
 * Replaces a record of this node that others could not apply by what stands now: the entity's
 * present version, or nothing.
 *
 * @returns the correction's own id.
 */
export function* correct(usn: number): Step<ChangeId> {
  const self = yield* activeSelf();
  const of = { origin: self, usn };
  const last = (yield* get<number>(rows.seen(self))) ?? 0;
  if (!Number.isSafeInteger(usn) || usn < 1 || usn > last) {
    throw refusal('E_invalidKeyPassed', `${changeText(of)} does not exist`);
  }
  const outcome = yield* get<{ key: string }>(rows.outcome(usn));
  const stored =
    outcome === undefined ? undefined : yield* get<StoredEntity>(rows.entity(outcome.key));
  const payload =
    stored === undefined || stored.deletedMs !== undefined
      ? ({ type: 'null' } as const)
      : ({ type: 'newData', entity: stored.entity } as const);
  const record = yield* originate(self, { type: 'correction', of, payload });
  return { origin: self, usn: record.usn };
}
