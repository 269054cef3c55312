import { ByteWriter } from '../base/index.ts';
import { writeVersion } from '../model/index.ts';
import type { GroupSummary, RecordSummary, SeenVersion } from './sequencer.ts';

const urgentOffset = 8;
/** Groups are packed here, one after the other; grows to the largest one. */
const scratch = new ByteWriter(16 * 1024);

/**
 * Appends the canonical bytes of a record's summary. A version takes eight bytes in the same form
 * as in the record, so `patchVersion` fills in either.
 *
 * @param onVersion - told the offset (from the summary's first byte) of every version.
 */
export function encodeRecordSummary(
  summary: RecordSummary,
  writer: ByteWriter,
  onVersion?: (offset: number, seen: SeenVersion) => void,
): void {
  const start = writer.length;
  writer.u64(summary.snapshot).u8(summary.urgent ? 1 : 0);
  writeRows(writer, summary.reads, start, onVersion);
  writer.u32(summary.ranges.length);
  for (const range of summary.ranges) {
    writer.bytestring(range.start).bytestring(range.end);
    writeRows(writer, range.rows, start, onVersion);
  }
  writer.u32(summary.writes.length);
  for (const key of summary.writes) writer.bytestring(key);
  writer.u32(summary.writtenRanges.length);
  for (const range of summary.writtenRanges) writer.bytestring(range.start).bytestring(range.end);
}

/** Marks encoded bytes as urgent. */
export function markUrgent(summaryBytes: Uint8Array): void {
  summaryBytes[urgentOffset] = 1;
}

/** Packs the summaries of a group's records, in the order of the entry. */
export function groupSummary(requester: string, records: readonly Uint8Array[]): GroupSummary {
  scratch.reset();
  for (const record of records) scratch.bytes(record);
  return { requester, count: records.length, summaries: scratch.finish() };
}

function writeRows(
  writer: ByteWriter,
  rows: readonly SeenVersion[],
  start: number,
  onVersion: ((offset: number, seen: SeenVersion) => void) | undefined,
): void {
  writer.u32(rows.length);
  for (const row of rows) {
    writer.bytestring(row.stateKey);
    onVersion?.(writer.length - start, row);
    writeVersion(writer, row.version);
  }
}
