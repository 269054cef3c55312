import type { ChangeId, ChangeRecord, Payload, Vector } from './change-record.ts';
import { refusal } from './refusal.ts';
import { type Left, type Member, rows, type Tail } from './rows.ts';
import { get, put, range, rowsUnder, type Step } from './step.ts';

/** Members of a federation, those that left included. */
export const membersMax = 64;
const scanRows = 256;

/** This node's id. */
export function* selfId(): Step<string> {
  const self = yield* get<{ node: string }>(rows.self);
  if (self === undefined) throw new Error('E_fatalError: the registry was not founded');
  return self.node;
}

/** All members, those that left included, by id. */
export function* allMembers(): Step<readonly Member[]> {
  return (yield* rowsUnder('member|', membersMax)).map(({ value }) => value as Member);
}

/** Ids of the members that have not left. */
export function* presentMembers(): Step<readonly string[]> {
  return (yield* allMembers()).filter(({ heir }) => heir === undefined).map(({ node }) => node);
}

/** @throws {DaybookError} `REGISTRY_REFUSED` (`E_busy`) while a full copy is written: nothing is whole. */
export function* checkWhole(): Step<void> {
  if ((yield* get(rows.copying)) !== undefined) throw refusal('E_busy', 'a full copy is under way');
}

/** How far this node knows each origin. */
export function* highWaterMarks(): Step<Vector> {
  const marks: Record<string, number> = {};
  for (const { key, value } of yield* rowsUnder('seen|', membersMax)) {
    marks[key.slice('seen|'.length)] = value as number;
  }
  return marks;
}

/** Origins that have left the vector. */
export function* leftOrigins(): Step<ReadonlyMap<string, Left>> {
  const found = yield* rowsUnder('left|', membersMax);
  return new Map(found.map(({ key, value }) => [key.slice('left|'.length), value as Left]));
}

/** {@link highWaterMarks} with the origins that have left. */
export function* allMarks(): Step<Vector> {
  const marks: Record<string, number> = { ...(yield* highWaterMarks()) };
  for (const [origin, { final }] of yield* leftOrigins()) marks[origin] = final;
  return marks;
}

/**
 * The marks to pull with: {@link highWaterMarks}, and those origins that have left of which some
 * member may not know it.
 */
export function* askingMarks(): Step<Vector> {
  const self = yield* selfId();
  const marks: Record<string, number> = { ...(yield* highWaterMarks()) };
  const present = yield* presentMembers();
  for (const [origin, { final, by }] of yield* leftOrigins()) {
    for (const member of present) {
      if (member === self || member === by.origin) continue;
      const known = (yield* get<number>(rows.acknowledged(member, by.origin))) ?? 0;
      if (known < by.usn) marks[origin] = final;
    }
  }
  return marks;
}

/** Whether an asker has a record, also one of an origin that is no longer in its vector. */
function has(marks: Vector, id: ChangeId, left: ReadonlyMap<string, Left>): boolean {
  if ((marks[id.origin] ?? 0) >= id.usn) return true;
  const gone = left.get(id.origin);
  return gone !== undefined && marks[id.origin] === undefined && has(marks, gone.by, left);
}

/** Puts a record at the end of the journal and raises its origin's mark. */
export function* append(record: ChangeRecord): Step<void> {
  const tail = (yield* get<Tail>(rows.tail)) ?? { nextSequence: 1, firstSequence: 1 };
  yield* put(rows.journal(tail.nextSequence), record);
  yield* put(rows.place(record), tail.nextSequence);
  yield* put(rows.seen(record.origin), record.usn);
  yield* put(rows.tail, { ...tail, nextSequence: tail.nextSequence + 1 });
}

/** Makes a record of this node, with its next USN, in the commit of the change itself. */
export function* originate(
  self: string,
  payload: Payload,
  acknowledgementRequested = false,
): Step<ChangeRecord> {
  const usn = ((yield* get<number>(rows.seen(self))) ?? 0) + 1;
  const record: ChangeRecord = { origin: self, usn, acknowledgementRequested, payload };
  yield* append(record);
  return record;
}

/** One answer to a pull. */
export type PullAnswer =
  | {
      readonly type: 'records';
      /** In the order of the answering node's journal, so that causes come before effects. */
      readonly records: readonly ChangeRecord[];
      /** There is more: pull again with the new marks. */
      readonly more: boolean;
    }
  /** Compaction has dropped what the asker lacks: it needs a full copy. */
  | { readonly type: 'copy-needed' };

/**
 * The records that an asker with the marks `asked` lacks, own ones and relayed ones, at most `limit`.
 * An origin absent from `asked` counts as 0, unless the asker knows that it left. Records above `upTo`, where given, stay out.
 *
 * @throws {DaybookError} `REGISTRY_REFUSED` (`E_busy`)
 */
export function* pull(asked: Vector, limit: number, upTo?: Vector): Step<PullAnswer> {
  yield* checkWhole();
  const marks: Record<string, number> = { ...asked };
  const left = yield* leftOrigins();
  for (const [origin, { final }] of left) {
    if (has(asked, { origin, usn: final }, left)) marks[origin] = final;
  }
  let start: number | undefined;
  for (const [origin, mark] of Object.entries(yield* allMarks())) {
    const known = marks[origin] ?? 0;
    if (known >= mark) continue;
    const floor = (yield* get<number>(rows.floor(origin))) ?? 0;
    if (known < floor) return { type: 'copy-needed' };
    const place = yield* get<number>(rows.place({ origin, usn: known + 1 }));
    if (place === undefined) return { type: 'copy-needed' };
    start = start === undefined ? place : Math.min(start, place);
  }
  const records: ChangeRecord[] = [];
  if (start === undefined) return { type: 'records', records, more: false };
  for (let from = rows.journal(start); ; ) {
    const page = yield* range(from, 'journal~', scanRows);
    for (const { value } of page) {
      const record = value as ChangeRecord;
      if (record.usn <= (marks[record.origin] ?? 0)) continue;
      if (upTo !== undefined && record.usn > (upTo[record.origin] ?? 0)) continue;
      if (records.length === limit) return { type: 'records', records, more: true };
      records.push(record);
    }
    const last = page.at(-1);
    if (page.length < scanRows || last === undefined) break;
    from = `${last.key}\u0001`;
  }
  return { type: 'records', records, more: false };
}
