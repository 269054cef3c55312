import type { Bytestring, ByteWriter } from '../base/index.ts';
import {
  type CommitRecord,
  encodeRecord,
  type KeyRead,
  type KeyWrite,
  type NamespaceSet,
  namespaceEnd,
  type Position,
  stateKey,
} from '../model/index.ts';
import { encodeRecordSummary, type RecordSummary } from '../sequencer/index.ts';
import type { CallSet, Seen, SeenRange } from './call-set.ts';
import type { VersionReference } from './frames.ts';

/** What a record says besides reads and writes. */
export type RecordHead = Omit<CommitRecord, 'sets' | 'batch'>;

/** A call that has come to its end, for {@link encodeCall}. */
export interface EncodedCall {
  readonly sets: CallSet[];
  /** Whether values in flight were read. */
  readonly pending: boolean;
  readonly head: RecordHead;
  /** Up to where committed state was seen. */
  readonly snapshot: Position;
  /** What was written in all namespaces, by state key. */
  readonly written: readonly { readonly key: Bytestring }[];
  /** Whether namespaces and keys read are to stand in ascending order, as Fabric's do. */
  readonly sorted: boolean;
}

/**
 * Encodes the record of a call and its summary for the sequencer.
 *
 * @returns the places of versions that are not known yet.
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeCall(
  call: EncodedCall,
  record: ByteWriter,
  summary: ByteWriter,
): readonly VersionReference[] {
  const { head, snapshot, written, sorted, pending } = call;
  const touched = call.sets.every(isTouched) ? call.sets : call.sets.filter(isTouched);
  if (sorted) inFabricOrder(touched);
  const sets = touched.map(namespaceSet);
  const [only] = touched;
  // Most calls touch one namespace.
  const reads =
    only !== undefined && touched.length === 1
      ? only.reads.all
      : touched.flatMap((set) => set.reads.all);
  const ranges: RecordSummary['ranges'][number][] = [];
  const writtenRanges: RecordSummary['writtenRanges'][number][] = [];
  for (const set of touched) {
    for (const range of set.ranges) {
      const start = stateKey(set.namespace, range.start);
      ranges.push({ start, end: rangeEnd(set.namespace, range), rows: range.seen });
    }
    for (const { start, end } of set.bulkUpdates) {
      writtenRanges.push({
        start: stateKey(set.namespace, start),
        end: end === '' ? namespaceEnd(set.namespace) : stateKey(set.namespace, end),
      });
    }
  }
  const { type, txId, leaf, transactionBytes, contractVersion, result, event } = head;
  encodeRecord(
    { type, txId, batch: 0, leaf, transactionBytes, contractVersion, sets, result, event },
    record,
    pending ? noteOffset : undefined,
  );
  const references: VersionReference[] = [];
  const writes = written.map(({ key }) => key);
  encodeRecordSummary(
    { snapshot, urgent: false, reads, ranges, writes, writtenRanges },
    summary,
    pending
      ? (summaryOffset, row) => {
          const { execution, recordOffset } = row as Seen;
          if (execution === undefined) return;
          references.push({ recordOffset, summaryOffset, execution });
        }
      : undefined,
  );
  return references;
}

function noteOffset(offset: number, row: KeyRead): void {
  const seen = row as Seen;
  if (seen.value !== undefined) seen.recordOffset = offset;
}

function isTouched({ reads, ranges, writes, bulkUpdates }: CallSet): boolean {
  return reads.all.length + ranges.length + writes.all.length + bulkUpdates.length > 0;
}

function inFabricOrder(sets: CallSet[]): void {
  sets.sort((left, right) => (left.namespace < right.namespace ? -1 : 1));
  for (const { reads } of sets) reads.sort();
}

function namespaceSet({ namespace, reads, ranges, writes, bulkUpdates }: CallSet): NamespaceSet {
  return { namespace, reads: reads.all, ranges, writes: inKeyOrder(writes.all), bulkUpdates };
}

function inKeyOrder(writes: readonly KeyWrite[]): readonly KeyWrite[] {
  const [first, second] = writes;
  if (first === undefined || second === undefined) return writes;
  // Most calls write two rows; `sort` would cost as much as the rest of this file.
  if (writes.length === 2) return first.key < second.key ? writes : [second, first];
  return [...writes].sort((left, right) => (left.key < right.key ? -1 : 1));
}

/** The part of a range that was really read: up to and including the last row when it was cut. */
function rangeEnd(namespace: string, range: SeenRange): Bytestring {
  const last = range.rows.at(-1);
  if (!range.exhausted && last !== undefined) return `${last.stateKey}\0`;
  return range.end === '' ? namespaceEnd(namespace) : stateKey(namespace, range.end);
}
