import { ByteReader, type ByteWriter, limits } from '../base/index.ts';
import { asPosition, type ReadVersion } from '../model/index.ts';
import type { RecordSummary, SeenVersion, WrittenRange } from './sequencer.ts';

/** A state key is a namespace, one byte, and a key. */
const stateKeyBytesMax = limits.nameBytesMax + 1 + limits.keyBytesMax;
const localFlag = 0x8000_0000;
const urgentOffset = 8;

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
  const rows = (seen: readonly SeenVersion[]): void => {
    writer.u32(seen.length);
    for (const row of seen) {
      writer.bytestring(row.stateKey);
      onVersion?.(writer.length - start, row);
      writeVersion(writer, row.version);
    }
  };
  rows(summary.reads);
  writer.u32(summary.ranges.length);
  for (const range of summary.ranges) {
    writer.bytestring(range.start).bytestring(range.end);
    rows(range.rows);
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

/**
 * Reads {@link encodeRecordSummary}'s bytes.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeRecordSummary(bytes: Uint8Array): RecordSummary {
  const reader = new ByteReader(bytes, 'record summary');
  const snapshot = asPosition(reader.u64());
  const urgent = reader.u8() === 1;
  const reads = readRows(reader);
  const ranges: { start: string; end: string; rows: SeenVersion[] }[] = [];
  for (let count = reader.length(limits.readsPerRecordMax); count > 0; count--) {
    const start = reader.bytestring(stateKeyBytesMax);
    const end = reader.bytestring(stateKeyBytesMax);
    ranges.push({ start, end, rows: readRows(reader) });
  }
  const writes: string[] = [];
  for (let count = reader.length(limits.writesPerRecordMax); count > 0; count--) {
    writes.push(reader.key(stateKeyBytesMax));
  }
  const writtenRanges: WrittenRange[] = [];
  for (let count = reader.length(limits.writesPerRecordMax); count > 0; count--) {
    writtenRanges.push({
      start: reader.bytestring(stateKeyBytesMax),
      end: reader.bytestring(stateKeyBytesMax),
    });
  }
  reader.finish();
  return { snapshot, urgent, reads, ranges, writes, writtenRanges };
}

function readRows(reader: ByteReader): SeenVersion[] {
  const rows: SeenVersion[] = [];
  for (let count = reader.length(limits.readsPerRecordMax); count > 0; count--) {
    rows.push({ stateKey: reader.key(stateKeyBytesMax), version: readVersion(reader) });
  }
  return rows;
}

function writeVersion(writer: ByteWriter, version: ReadVersion): void {
  if (version === undefined) writer.u32(0).u32(0);
  else if (typeof version === 'object') writer.u32(localFlag).u32(version.index);
  else writer.u64(version + 1);
}

function readVersion(reader: ByteReader): ReadVersion {
  const high = reader.u32();
  const low = reader.u32();
  if (high === localFlag) return { index: low };
  if (high >= 0x20_0000) reader.fail('version over 2^53');
  const stored = high * 0x1_0000_0000 + low;
  return stored === 0 ? undefined : asPosition(stored - 1);
}
