import { ByteReader, ByteWriter, limits } from '../base/index.ts';
import {
  asAddress,
  type CommitRecord,
  decodeEntry,
  decodeRecord,
  encodeEntry,
  positionOf,
  type VerdictCode,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';

const noVerdict = 255;

/**
 * Applied entries as bytes, for a generator in another process: per entry u64 address, u64 log
 * time, u8 verdict of a configuration, a verdict per record, the entry's canonical bytes (none for
 * a fill).
 */
export function encodeApplied(entries: readonly AppliedEntry[]): Buffer {
  const writer = new ByteWriter(64 * 1024);
  writer.u32(entries.length);
  for (const { address, entry, records, configVerdict, logTimeMs } of entries) {
    writer
      .u64(address)
      .u64(logTimeMs)
      .u8(configVerdict ?? noVerdict);
    writer.u16(records.length);
    for (const { verdict } of records) writer.u8(verdict);
    writer.bytes(entry === undefined ? new Uint8Array() : encodeEntry(entry));
  }
  return writer.view();
}

/**
 * Reads {@link encodeApplied}'s bytes; byte fields are views of them.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeApplied(bytes: Uint8Array): AppliedEntry[] {
  const reader = new ByteReader(bytes, 'applied entries');
  const entries: AppliedEntry[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const address = asAddress(reader.u64());
    const logTimeMs = reader.u64();
    const configVerdict = reader.u8();
    const verdicts = reader.raw(reader.u16());
    const entryBytes = reader.bytes(limits.entryBytesMax);
    const entry = entryBytes.length === 0 ? undefined : decodeEntry(entryBytes);
    const records: AppliedRecord[] = [];
    if (entry?.kind === 'records') {
      for (const logged of entry.records) {
        // Replay leaves out what is no record; so there is no verdict for it.
        const record = readRecord(logged.bytes);
        if (record === undefined) continue;
        const verdict = verdicts[records.length] as VerdictCode;
        records.push({ position: positionOf(address, logged.index), record, verdict });
      }
    }
    if (records.length !== verdicts.length) reader.fail('verdicts do not fit the records');
    entries.push({
      address,
      entry,
      records,
      logTimeMs,
      ...(configVerdict === noVerdict ? {} : { configVerdict: configVerdict as VerdictCode }),
    });
  }
  reader.finish();
  return entries;
}

function readRecord(bytes: Uint8Array): CommitRecord | undefined {
  try {
    return decodeRecord(bytes);
  } catch {
    return undefined;
  }
}
