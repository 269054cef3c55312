import { assertingBusiness } from './assertion-key.ts';
import type { Entity } from './change-record.ts';
import { custodianOf, publisherOf } from './custody.ts';
import { holderOf, keysOf, pendingOrigins, referrerOf } from './entities.ts';
import { allMembers } from './journal.ts';
import {
  homePrefix,
  isTopLevelClaim,
  isUddiKey,
  ownerOfPrefix,
  prefixOf,
  successorOf,
} from './key-space.ts';
import { type KeyRow, rows, type StoredEntity } from './rows.ts';
import { get, type Step } from './step.ts';
import type { UddiErrorCode } from './uddi-errors.ts';

/** What an entity's new version is, or why it cannot be. */
export type Verdict =
  | {
      readonly type: 'fine';
      readonly previous: StoredEntity | undefined;
      /** It depends on what other nodes do at the same time: all must acknowledge it first. */
      readonly conditional: boolean;
    }
  | {
      readonly type: 'refused';
      readonly code: UddiErrorCode;
      readonly reason: string;
      /** It could be fine when this key comes. */
      readonly missing?: string;
      /**
       * Other nodes may find otherwise, because of what happens at the same time. Without it the
       * verdict follows from the origin's own stream and what lay before, and is the same anywhere.
       */
      readonly concurrent?: true;
    };

/** Entities and references above these sizes are refused. */
const innerKeysMax = 1_000;
const referencesMax = 1_000;

/**
 * May `origin` give `entity` this new version? The same questions at the origin (`local`, which also
 * asks for referrers of keys that go away, and for the publisher) and at every receiver.
 */
export function* examine(origin: string, entity: Entity, local: boolean): Step<Verdict> {
  const shape = shapeProblem(entity);
  if (shape !== undefined) return refused('E_invalidKeyPassed', shape);
  const stored = yield* get<StoredEntity>(rows.entity(entity.key));
  // What is asserted again after it was taken back begins anew.
  const isRevival = entity.kind === 'assertion' && stored?.deletedMs !== undefined;
  const previous = isRevival ? undefined : stored;
  if (previous !== undefined) {
    if (previous.deletedMs !== undefined)
      return refused('E_keyRetired', `${entity.key} was deleted`);
    if (previous.entity.kind !== entity.kind) {
      return refused('E_invalidKeyPassed', `${entity.key} is a ${previous.entity.kind}`);
    }
    if ((yield* custodianOf(previous)) !== origin) {
      return refused('E_userMismatch', `${entity.key} is in custody of ${previous.entity.owner}`);
    }
    if (
      local &&
      entity.kind !== 'assertion' &&
      (yield* publisherOf(previous)) !== entity.publisher
    ) {
      return refused('E_userMismatch', `${entity.key} belongs to another publisher`);
    }
  }
  const before = previous === undefined ? [] : keysOf(previous.entity);
  const now = keysOf(entity);
  let conditional = false;
  const members = yield* allMembers();
  const homes = new Map(members.map(({ node }) => [homePrefix(node), node]));
  for (const key of now) {
    const rivals = (yield* pendingOrigins(key)).filter((rival) => local || rival !== origin);
    if (local && rivals.length > 0) return refused('E_busy', `a change of ${key} is under way`);
    if (before.includes(key)) continue;
    const row = yield* get<KeyRow>(rows.key(key));
    if (row !== undefined && !(entity.kind === 'assertion' && row.removed === true)) {
      const code = row.removed === true ? 'E_keyRetired' : 'E_keyUnavailable';
      return { ...refused(code, `${key} was used before`), concurrent: true };
    }
    const right = yield* mayMakeKey(origin, key, entity, homes, local);
    if (right.type === 'refused') return right;
    if (right.conditional) conditional = true;
    // Two claims at the same time: the smaller node id has it, and says so to the other.
    const stronger = rivals.find((rival) => rival < origin);
    if (stronger !== undefined) {
      return {
        ...refused('E_keyUnavailable', `${stronger} claims ${key} at the same time`),
        concurrent: true,
      };
    }
  }
  const gone = before.filter((key) => !now.includes(key));
  if (local) {
    for (const key of gone) {
      const referrer = yield* referrerOf(key, entity.key);
      if (referrer !== undefined) return refused('E_requestDenied', `${referrer} refers to ${key}`);
    }
  }
  for (const target of entity.references) {
    if (previous?.entity.references.includes(target) === true) continue;
    const holder = yield* holderOf(target);
    if (holder === undefined) {
      const known = yield* get<KeyRow>(rows.key(target));
      const verdict = refused('E_invalidKeyPassed', `${target} does not exist`);
      return known === undefined
        ? { ...verdict, missing: target, concurrent: true }
        : { ...verdict, concurrent: true };
    }
    // A tModel is never removed, so a reference to it cannot come to dangle; an assertion goes with
    // its businesses.
    if (holder.entity.kind === 'tModel' || entity.kind === 'assertion') continue;
    if ((yield* successorOf(holder.entity.owner)) !== origin) conditional = true;
  }
  const handsOver = entity.owner !== origin;
  if (
    handsOver &&
    !members.some(({ node, heir }) => node === entity.owner && (!local || heir === undefined))
  ) {
    return refused('E_transferNotAllowed', `${entity.owner} is not a member`);
  }
  if (conditional && (gone.length > 0 || handsOver)) {
    return refused(
      'E_invalidCombination',
      'references to data of other nodes cannot be added in the change that removes keys or hands over',
    );
  }
  return { type: 'fine', previous, conditional };
}

type Right =
  | Extract<Verdict, { type: 'refused' }>
  | { readonly type: 'granted'; readonly conditional: boolean };

function* mayMakeKey(
  origin: string,
  key: string,
  entity: Entity,
  homes: ReadonlyMap<string, string>,
  local: boolean,
): Step<Right> {
  if (entity.kind === 'assertion') {
    const business = yield* holderOf(assertingBusiness(key) ?? '');
    if (business === undefined) {
      const target = assertingBusiness(key) ?? '';
      const known = yield* get<KeyRow>(rows.key(target));
      const verdict = refused('E_invalidKeyPassed', `${target} does not exist`);
      return known === undefined ? { ...verdict, missing: target } : verdict;
    }
    if ((yield* successorOf(business.entity.owner)) !== origin) {
      return refused('E_userMismatch', `${key} is not the assertion of a business of ${origin}`);
    }
    if (local && business.entity.publisher !== entity.publisher) {
      return refused('E_userMismatch', `${business.entity.key} belongs to another publisher`);
    }
    return { type: 'granted', conditional: false };
  }
  if (isTopLevelClaim(key)) {
    if (entity.kind !== 'tModel') return refused('E_keyUnavailable', `${key} must be a tModel`);
    if (homes.has(key.slice(0, -'keygenerator'.length))) {
      return { ...refused('E_keyUnavailable', `${key} is a node's home`), concurrent: true };
    }
    return { type: 'granted', conditional: true };
  }
  const prefix = prefixOf(key);
  const owner = yield* ownerOfPrefix(prefix, homes);
  if (owner === undefined) {
    return {
      ...refused('E_keyUnavailable', `nobody has the prefix ${prefix}`),
      missing: `${prefix}keygenerator`,
    };
  }
  if (owner.node !== origin) {
    return refused('E_keyUnavailable', `${key} lies in the prefix of ${owner.node}`);
  }
  if (local && owner.publisher !== undefined && owner.publisher !== entity.publisher) {
    return refused('E_keyUnavailable', `${key} lies in the prefix of another publisher`);
  }
  return { type: 'granted', conditional: false };
}

function refused(code: UddiErrorCode, reason: string): Extract<Verdict, { type: 'refused' }> {
  return { type: 'refused', code, reason };
}

function shapeProblem(entity: Entity): string | undefined {
  if (entity.kind === 'assertion') {
    if (assertingBusiness(entity.key) === undefined) return 'not the key of an assertion';
  } else if (!isUddiKey(entity.key)) return `not a key: ${String(entity.key).slice(0, 80)}`;
  if (entity.innerKeys.length > innerKeysMax) return 'too many inner keys';
  if (entity.references.length > referencesMax) return 'too many references';
  const keys = keysOf(entity);
  if (new Set(keys).size !== keys.length) return 'a key stands twice in one entity';
  const bad = [...entity.innerKeys, ...entity.references].find((key) => !isUddiKey(key));
  if (bad !== undefined) return `not a key: ${bad.slice(0, 80)}`;
  const own = entity.references.find((key) => keys.includes(key));
  return own === undefined ? undefined : `${own} is a reference to itself`;
}
