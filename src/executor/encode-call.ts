import { type Bytestring, type ByteWriter, checkLimit } from '../base/index.ts';
import {
  encodeRecordBody,
  type KeyRead,
  type Position,
  type RecordBody,
  rangeEndKey,
  recordHeadBytes,
  stateKey,
} from '../model/index.ts';
import {
  encodeRecordSummary,
  type RecordSummary,
  type SeenVersion,
  type WrittenRange,
} from '../sequencer/index.ts';
import type { CallSet, Seen, SeenRange } from './call-set.ts';
import type { VersionReference } from './frames.ts';

/** How a call ended. */
export interface CallEnd extends Omit<RecordBody, 'sets'> {
  /** Length of the transaction that was called for: the record has it, too. */
  readonly transactionBytes: number;
}

/** What a call read and wrote, for {@link encodeCall}. */
export interface CallToEncode {
  readonly sets: readonly CallSet[];
  /** Whether values in flight were read. */
  readonly pending: boolean;
  /** Up to where committed state was seen. */
  readonly snapshot: Position;
  /** What was written in all namespaces, by state key. */
  readonly written: readonly { readonly key: Bytestring }[];
  /** Whether namespaces and keys read are to stand in ascending order, as Fabric's do. */
  readonly sorted: boolean;
}

/** A call as {@link encodeCall} wrote it. */
export interface EncodedCall {
  /** Where the body ends and the summary begins. */
  readonly bodyBytes: number;
  /** The places of versions that are not known yet. */
  readonly references: readonly VersionReference[];
}

const none: readonly never[] = [];

/**
 * Encodes the body of a call's record, and behind it the record's summary for the sequencer.
 *
 * @param writer - an empty one.
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeCall(call: CallToEncode, end: CallEnd, writer: ByteWriter): EncodedCall {
  const { snapshot, written, sorted, pending } = call;
  const sets = call.sets.every(isTouched) ? call.sets : call.sets.filter(isTouched);
  for (const set of sets) set.sortWrites();
  const inOrder = sorted ? inFabricOrder(sets) : sets;
  const { contractVersion, result, event } = end;
  const body = { contractVersion, sets: inOrder, result, event };
  encodeRecordBody(body, writer, pending ? noteBodyOffset : undefined);
  const bodyBytes = writer.length;
  checkLimit('recordBytesMax', recordHeadBytes(end.transactionBytes) + bodyBytes);
  const summary = summaryOf(inOrder, snapshot, written);
  encodeRecordSummary(summary, writer, pending ? noteSummaryOffset : undefined);
  return { bodyBytes, references: pending ? referencesIn(sets) : none };
}

function summaryOf(
  sets: readonly CallSet[],
  snapshot: Position,
  written: readonly { readonly key: Bytestring }[],
): RecordSummary {
  const [only] = sets;
  // Most calls touch one namespace.
  const reads =
    only !== undefined && sets.length === 1 ? only.reads : sets.flatMap((set) => set.reads);
  const ranges = sets.some(isRanging) ? sets.flatMap(rangesOf) : none;
  const writtenRanges = sets.some(isBulk) ? sets.flatMap(writtenRangesOf) : none;
  const writes = written.map(({ key }) => key);
  return { snapshot, urgent: false, reads, ranges, writes, writtenRanges };
}

function isRanging({ ranges }: CallSet): boolean {
  return ranges.length > 0;
}

function isBulk({ bulkUpdates }: CallSet): boolean {
  return bulkUpdates.length > 0;
}

function rangesOf({ namespace, ranges }: CallSet): RecordSummary['ranges'][number][] {
  return ranges.map((range) => {
    const start = stateKey(namespace, range.start);
    return { start, end: rangeEnd(namespace, range), rows: range.seen };
  });
}

function writtenRangesOf({ namespace, bulkUpdates }: CallSet): WrittenRange[] {
  return bulkUpdates.map(({ start, end }) => ({
    start: stateKey(namespace, start),
    end: rangeEndKey(namespace, end),
  }));
}

function noteBodyOffset(offset: number, row: KeyRead): void {
  const seen = row as Seen;
  if (seen.value !== undefined) seen.bodyOffset = offset;
}

function noteSummaryOffset(offset: number, row: SeenVersion): void {
  (row as Seen).summaryOffset = offset;
}

function referencesIn(sets: readonly CallSet[]): readonly VersionReference[] {
  const [only] = sets;
  return only !== undefined && sets.length === 1 ? referencesOf(only) : sets.flatMap(referencesOf);
}

function referencesOf({ reads, ranges }: CallSet): VersionReference[] {
  const references = reads.filter(isReference);
  for (const { seen } of ranges) {
    for (const row of seen) if (isReference(row)) references.push(row);
  }
  return references;
}

function isReference(seen: Seen): seen is Seen & VersionReference {
  return seen.execution !== undefined;
}

function isTouched(set: CallSet): boolean {
  return set.isTouched;
}

function inFabricOrder(sets: readonly CallSet[]): readonly CallSet[] {
  for (const set of sets) set.sortReads();
  return sets.toSorted((left, right) => (left.namespace < right.namespace ? -1 : 1));
}

/** The part of a range that was really read: up to and including the last row when it was cut. */
function rangeEnd(namespace: string, range: SeenRange): Bytestring {
  const last = range.rows.at(-1);
  if (!range.exhausted && last !== undefined) return `${last.stateKey}\0`;
  return rangeEndKey(namespace, range.end);
}
