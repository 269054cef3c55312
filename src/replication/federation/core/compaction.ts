import type { ChangeRecord } from './change-record.ts';
import {
  allMembers,
  checkWhole,
  highWaterMarks,
  leftOrigins,
  presentMembers,
  selfId,
} from './journal.ts';
import { journalPrefix, type Quarantined, rows, type StoredEntity, type Tail } from './rows.ts';
import { get, put, range, remove, rowsUnder, type Step } from './step.ts';

/** What a run of {@link compact} did. */
export interface Compacted {
  /** Journal rows that all members have, dropped. */
  readonly dropped: number;
  /** Versions that a later one has replaced, emptied: their numbers stay, so there is no gap. */
  readonly emptied: number;
  readonly tombstonesPurged: number;
  /** Where the next run goes on; `undefined` when the journal's end was reached. */
  readonly next?: number;
}

/**
 * Makes the journal smaller: drops what every member has acknowledged, and empties versions of an
 * entity between its first and its present one, which nothing depends on and a majority has. The content of a
 * tombstone goes after `graceMs`, when all have acknowledged the deletion; its keys stay taken.
 *
 * @param limit - journal rows, and tombstones, to look at.
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_busy`) while a full copy is written.
 */
export function* compact(nowMs: number, graceMs: number, limit: number, from = 0): Step<Compacted> {
  yield* checkWhole();
  const self = yield* selfId();
  const floors = yield* acknowledgedByAll(self);
  const settled = yield* acknowledgedByMost(self);
  const tail = yield* get<Tail>(rows.tail);
  if (tail === undefined) return { dropped: 0, emptied: 0, tombstonesPurged: 0 };
  const start = Math.max(from, tail.firstSequence);
  let dropped = 0;
  let emptied = 0;
  let sequence = start;
  let first = tail.firstSequence;
  for (const row of yield* range(rows.journal(start), 'journal~', limit)) {
    const record = row.value as ChangeRecord;
    sequence = Number(row.key.slice(journalPrefix.length)) + 1;
    if (record.usn <= (floors.get(record.origin) ?? 0)) {
      yield* remove(row.key);
      yield* remove(rows.place(record));
      yield* remove(rows.ending(record));
      if (first === sequence - 1) first = sequence;
      dropped++;
    } else if (yield* isReplaced(record, settled)) {
      yield* put(row.key, { ...record, payload: { type: 'null' } });
      emptied++;
    }
  }
  for (const [origin, floor] of floors) {
    // A member that was admitted since has acknowledged nothing; what is gone is gone.
    const before = (yield* get<number>(rows.floor(origin))) ?? 0;
    if (floor > before) yield* put(rows.floor(origin), floor);
  }
  if (first !== tail.firstSequence) yield* put(rows.tail, { ...tail, firstSequence: first });
  const done = sequence >= tail.nextSequence || sequence === start;
  // Own records that were kept for the time of a full copy.
  for (const { key } of yield* rowsUnder('kept|', limit)) yield* remove(key);
  const tombstonesPurged = done ? yield* purgeTombstones(nowMs - graceMs, floors, limit) : 0;
  return { dropped, emptied, tombstonesPurged, ...(done ? {} : { next: sequence }) };
}

/** Up to which USN all present members have an origin's records. */
function* acknowledgedByAll(self: string): Step<ReadonlyMap<string, number>> {
  const floors = new Map<string, number>();
  const members = yield* presentMembers();
  for (const [origin, mark] of Object.entries(yield* highWaterMarks())) {
    let floor = mark;
    for (const member of members) {
      if (member === self || member === origin) continue;
      floor = Math.min(floor, (yield* get<number>(rows.acknowledged(member, origin))) ?? 0);
    }
    floors.set(origin, floor);
  }
  for (const [origin, { final, by }] of yield* leftOrigins()) {
    if ((floors.get(by.origin) ?? 0) >= by.usn) floors.set(origin, final);
  }
  return floors;
}

/**
 * Up to which USN a majority has an origin's records. Were the origin lost, its last record is that
 * of the member who knows most of it; so no version may be emptied for one that could be lost, too.
 */
function* acknowledgedByMost(self: string): Step<ReadonlyMap<string, number>> {
  const marks = new Map<string, number>();
  const members = yield* presentMembers();
  const needed = Math.floor(members.length / 2) + 1;
  for (const [origin, mark] of Object.entries(yield* highWaterMarks())) {
    const known = [];
    for (const member of members) {
      if (member === self || member === origin) known.push(mark);
      else known.push((yield* get<number>(rows.acknowledged(member, origin))) ?? 0);
    }
    marks.set(origin, known.sort((left, right) => right - left)[needed - 1] ?? 0);
  }
  return marks;
}

function* isReplaced(record: ChangeRecord, settled: ReadonlyMap<string, number>): Step<boolean> {
  const { payload } = record;
  // A version that hands over is a link in the chain of custody, and an ending frees its condition.
  if (payload.type !== 'newData' || payload.entity.owner !== record.origin) return false;
  if ((yield* get(rows.ending(record))) !== undefined) return false;
  const quarantined = yield* get<Quarantined>(rows.quarantine(record));
  if (quarantined !== undefined) return false;
  const stored = yield* get<StoredEntity>(rows.entity(payload.entity.key));
  if (stored === undefined) return false;
  const isFirst =
    stored.firstChange.origin === record.origin && stored.firstChange.usn === record.usn;
  if (isFirst || stored.change.origin !== record.origin) return false;
  // Inner keys and references that only this version brought could be what others build on.
  const now = stored.entity;
  const brought = [...payload.entity.innerKeys, ...payload.entity.references];
  if (brought.length > 0 || now.innerKeys.length > 0) return false;
  return stored.change.usn > record.usn && stored.change.usn <= (settled.get(record.origin) ?? 0);
}

function* purgeTombstones(
  beforeMs: number,
  floors: ReadonlyMap<string, number>,
  limit: number,
): Step<number> {
  let purged = 0;
  for (const { key: graveKey } of yield* rowsUnder('grave|', limit)) {
    const key = rows.entity(graveKey.slice('grave|'.length));
    const stored = yield* get<StoredEntity>(key);
    if (stored?.deletedMs !== undefined) {
      if (stored.deletedMs > beforeMs) continue;
      if (stored.change.usn > (floors.get(stored.change.origin) ?? 0)) continue;
      yield* remove(key);
      purged++;
    }
    yield* remove(graveKey);
  }
  return purged;
}

/** Members, those that left too, with how far each is known to have every origin's records. */
export function* progress(): Step<
  readonly {
    readonly node: string;
    readonly heir?: string;
    readonly acknowledged: Readonly<Record<string, number>>;
  }[]
> {
  const found = [];
  for (const member of yield* allMembers()) {
    const acknowledged: Record<string, number> = {};
    const prefix = rows.acknowledged(member.node, '');
    for (const { key, value } of yield* rowsUnder(prefix, 64)) {
      acknowledged[key.slice(prefix.length)] = value as number;
    }
    found.push({ ...member, acknowledged });
  }
  return found;
}
