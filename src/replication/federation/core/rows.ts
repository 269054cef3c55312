import type { ChangeId, ChangeRecord, Entity } from './change-record.ts';

/*
 * The layout of a registry's rows. Keys and node ids never contain `|` or `~`, so `|` separates and
 * `~` ends ranges.
 */

const digits = 12;

/** A number in a form whose order as text is its order as a number. */
function padded(value: number): string {
  return value.toString().padStart(digits, '0');
}

/** Prefix of the keys of the journal's rows. */
export const journalPrefix = 'journal|';

/** Keys of rows; the prefixes that a full copy carries are listed in {@link copiedPrefixes}. */
export const rows = {
  self: 'self',
  tail: 'tail',
  /** Set while a full copy is written. */
  copying: 'copying',
  /** An own record of the journal that a full copy replaces. */
  kept: (usn: number): string => `kept|${padded(usn)}`,
  /** A certificate with which a record of the journal is signed, PEM. */
  certificate: (fingerprint: string): string => `certificate|${fingerprint}`,
  journal: (sequence: number): string => `${journalPrefix}${padded(sequence)}`,
  /** Where in the journal a record stands. */
  place: (id: ChangeId): string => `place|${id.origin}|${padded(id.usn)}`,
  /** Up to which USN an origin's records are no longer in the journal. */
  floor: (origin: string): string => `floor|${origin}`,
  seen: (origin: string): string => `seen|${origin}`,
  /** An origin that is no longer in the vector. */
  left: (origin: string): string => `left|${origin}`,
  /** A member that is being expelled. */
  expelling: (node: string): string => `expelling|${node}`,
  member: (node: string): string => `member|${node}`,
  entity: (key: string): string => `entity|${key}`,
  /** A tombstone that compaction has not purged. */
  grave: (key: string): string => `grave|${key}`,
  /** Which entity a key of any kind belongs to; stays after its removal. */
  key: (key: string): string => `key|${key}`,
  /** A living entity that refers to a key. */
  referrer: (target: string, source: string): string => `referrer|${target}|${source}`,
  pending: (id: ChangeId): string => `pending|${id.origin}|${padded(id.usn)}`,
  /** A key that an origin's open conditional change has or wants. */
  pendingKey: (key: string, origin: string): string => `pendingkey|${key}|${origin}`,
  pendingReferrer: (target: string, source: string): string => `pendingref|${target}|${source}`,
  acknowledged: (member: string, origin: string): string => `acked|${member}|${origin}`,
  quarantine: (id: ChangeId): string => `quarantine|${id.origin}|${padded(id.usn)}`,
  /** A record that waits until a key is there. */
  waiting: (missing: string, id: ChangeId): string =>
    `waiting|${missing}|${id.origin}|${padded(id.usn)}`,
  waitingFor: (missing: string): string => `waiting|${missing}|`,
  /** A `newData` that ends a conditional change: compaction leaves it. */
  ending: (id: ChangeId): string => `ending|${id.origin}|${padded(id.usn)}`,
  /** What became of this node's own changes, for the publisher who made them. */
  outcome: (usn: number): string => `outcome|${padded(usn)}`,
} as const;

/** Prefixes of the rows that a full copy consists of, in the order of their rows. */
export const copiedPrefixes = [
  'acked|',
  'certificate|',
  'ending|',
  'entity|',
  'expelling|',
  'floor|',
  'grave|',
  journalPrefix,
  'key|',
  'left|',
  'member|',
  'pendingkey|',
  'pendingref|',
  'pending|',
  'place|',
  'quarantine|',
  'referrer|',
  'seen|',
  'tail',
  'waiting|',
] as const;

/** Prefixes of the rows that all members have alike when no change is on its way. */
export const sharedPrefixes = [
  'entity|',
  'expelling|',
  'key|',
  'left|',
  'member|',
  'pending',
  'referrer|',
  'seen|',
  'waiting|',
] as const;

/** Where this node's journal ends. */
export interface Tail {
  readonly nextSequence: number;
  /** The first sequence that compaction has not emptied. */
  readonly firstSequence: number;
}

/** A member of the federation, or one that left. */
export interface Member {
  readonly node: string;
  /** Set when it left: who has its custody and key space now. */
  readonly heir?: string;
}

/** An origin whose records have come to their end, and who said so. */
export interface Left {
  readonly final: number;
  /** The `retired` record: whoever has it has all records of the origin. */
  readonly by: ChangeId;
}

/** A member that is being expelled: nothing is taken from it directly. */
export interface Expelling {
  readonly node: string;
  readonly id: ChangeId;
  readonly heir: string;
  /** How far those members know the node that have answered. */
  readonly marks: Readonly<Record<string, number>>;
  /** Somebody's reason against it: the proposer will end it without effect. */
  readonly objection?: { readonly by: string; readonly reason: string };
}

/** A datum, or what is left of it. */
export interface StoredEntity {
  readonly entity: Entity;
  readonly change: ChangeId;
  /** The first version's change: what depends on the entity comes after it. */
  readonly firstChange: ChangeId;
  /** A tombstone; the content is gone. */
  readonly deletedMs?: number;
}

/** See `rows.key`. */
export interface KeyRow {
  readonly entity: string;
  readonly removed?: true;
}

/** A conditional change whose outcome is open. */
export interface Pending {
  readonly id: ChangeId;
  readonly entity: Entity;
  /** Members that acknowledged it. */
  readonly acknowledgedBy: readonly string[];
  /** A member's reason against it. */
  readonly objection?: { readonly by: string; readonly reason: string };
}

/** A received record that has no effect. */
export interface Quarantined {
  readonly record: ChangeRecord;
  readonly reason: string;
  /** It waits for this key and is applied when the key comes. */
  readonly missing?: string;
}

/** What became of a change of this node. */
export interface Outcome {
  readonly change: ChangeId;
  readonly key: string;
  readonly state: 'committed' | 'pending' | 'failed' | 'refused-elsewhere';
  /** Who failed it, and why. */
  readonly by?: string;
  readonly reason?: string;
}
