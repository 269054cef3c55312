import {
  ByteReader,
  type Bytestring,
  type ByteWriter,
  bytestringOfText,
  checkLimit,
  limits,
  textOf,
} from '../base/index.ts';
import { asPosition, type Position } from './position.ts';

/**
 * `call`: a contract call. `deploy`: installs or upgrades a contract; its writes go to the
 * `_lifecycle` namespace.
 */
export type RecordType = 'call' | 'deploy';
const recordTypes: readonly RecordType[] = ['call', 'deploy'];

/**
 * The version that a transaction read: `undefined` when the key was absent, a position, or, for a
 * value written by an earlier record of the same entry, that record's index in the entry (its
 * position is not known before the token is).
 */
export type ReadVersion = Position | { readonly index: number } | undefined;

/** One key that was read. */
export interface KeyRead {
  readonly key: Bytestring;
  readonly version: ReadVersion;
}

/**
 * One range that was read: all keys with `start <= key < end` (`end` empty: no bound), or, when
 * `exhausted` is false, the part of it up to and including the last row. `rows` are the keys found
 * with their versions, in key order.
 */
export interface RangeRead {
  readonly start: Bytestring;
  readonly end: Bytestring;
  readonly exhausted: boolean;
  readonly rows: readonly KeyRead[];
}

/** One write; `value` is `undefined` for a delete. Keys ascend and occur once. */
export interface KeyWrite {
  readonly key: Bytestring;
  readonly value: Bytestring | undefined;
}

/**
 * A bulk update kept as data (design §7): rows of `start <= key < end` (`end` empty: no bound) that
 * match `query`.
 */
export interface BulkUpdate {
  readonly start: Bytestring;
  readonly end: Bytestring;
  /** Query operators, JSON. */
  readonly query: string;
  /** Update operators, JSON. */
  readonly update: string;
  /**
   * Rows in the range when the contract ran, counted up to `bulkRowsCountedMax`: what tells a heavy
   * update from a normal one, see `BulkRule`.
   */
  readonly rows: number;
}

/** Reads and writes in one namespace; as in Fabric, the namespace is the contract's name. */
export interface NamespaceSet {
  readonly namespace: string;
  readonly reads: readonly KeyRead[];
  readonly ranges: readonly RangeRead[];
  readonly writes: readonly KeyWrite[];
  readonly bulkUpdates: readonly BulkUpdate[];
}

/** What the contract announced with `setEvent`. */
export interface ContractEvent {
  readonly name: string;
  readonly payload: Bytestring;
}

/**
 * All that one transaction did. Channel, contract, function, arguments, nonce and timestamp are in
 * `transactionBytes`, verbatim as the client signed them; client id and signature are in the entry
 * (`identities`, `batches`), which many records share; the log address is where the entry stands.
 */
export interface CommitRecord {
  readonly type: RecordType;
  /** 32 bytes. */
  readonly txId: Uint8Array;
  /** Index of the batch in the entry's `batches`. */
  readonly batch: number;
  /** Index of the transaction in its batch: the leaf under which it was signed. */
  readonly leaf: number;
  readonly transactionBytes: Uint8Array;
  /** The deployed version that ran. */
  readonly contractVersion: string;
  readonly sets: readonly NamespaceSet[];
  /** What the contract function returned. */
  readonly result: Bytestring;
  readonly event: ContractEvent | undefined;
}

const recordVersion = 1;
const absent = 0;
const localFlag = 0x8000_0000;
const batchOffset = 2 + 32;

/**
 * Where in a record's bytes a version must be filled in that was not known at execution: eight
 * bytes at `offset`, see {@link patchVersion}.
 */
export interface VersionSlot {
  readonly offset: number;
  readonly read: KeyRead;
}

/**
 * Canonical bytes of a record.
 *
 * @param slots - if given, collects the place of every version, in encoding order.
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeRecord(
  record: CommitRecord,
  writer: ByteWriter,
  slots?: VersionSlot[],
): void {
  const start = writer.length;
  writer.u8(recordVersion).u8(recordTypes.indexOf(record.type)).raw(record.txId);
  writer.u16(record.batch).u16(record.leaf);
  writer.bytes(record.transactionBytes).text(record.contractVersion);
  writer.u16(record.sets.length);
  const read = (row: KeyRead): void => {
    key(writer, row.key);
    slots?.push({ offset: writer.length - start, read: row });
    version(writer, row.version);
  };
  for (const set of record.sets) {
    checkLimit('readsPerRecordMax', set.reads.length);
    checkLimit('writesPerRecordMax', set.writes.length);
    writer.text(set.namespace);
    writer.u32(set.reads.length);
    for (const row of set.reads) read(row);
    writer.u32(set.ranges.length);
    for (const range of set.ranges) {
      checkLimit('readsPerRecordMax', range.rows.length);
      writer
        .bytestring(range.start)
        .bytestring(range.end)
        .u8(range.exhausted ? 1 : 0);
      writer.u32(range.rows.length);
      for (const row of range.rows) read(row);
    }
    writer.u32(set.writes.length);
    for (const write of set.writes) {
      key(writer, write.key);
      if (write.value === undefined) writer.u8(0);
      else {
        checkLimit('valueBytesMax', write.value.length);
        writer.u8(1).bytestring(write.value);
      }
    }
    writer.u32(set.bulkUpdates.length);
    for (const bulk of set.bulkUpdates) {
      writer.bytestring(bulk.start).bytestring(bulk.end).text(bulk.query).text(bulk.update);
      writer.u32(bulk.rows);
    }
  }
  checkLimit('valueBytesMax', record.result.length);
  writer.bytestring(record.result);
  if (record.event === undefined) writer.u8(0);
  else {
    checkLimit('valueBytesMax', record.event.payload.length);
    writer.u8(1).text(record.event.name).bytestring(record.event.payload);
  }
  checkLimit('recordBytesMax', writer.length - start);
}

/** Fills in a version at an offset that {@link encodeRecord} reported. */
export function patchVersion(recordBytes: Buffer, offset: number, value: ReadVersion): void {
  const [high, low] = versionWords(value);
  recordBytes.writeUInt32BE(high, offset);
  recordBytes.writeUInt32BE(low, offset + 4);
}

/** Fills in the record's batch (index in the entry's table), which only the entry's writer knows. */
export function patchBatch(recordBytes: Buffer, batch: number): void {
  recordBytes.writeUInt16BE(batch, batchOffset);
}

/**
 * Reads {@link encodeRecord}'s bytes; `txId` and `transactionBytes` are views of them.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeRecord(bytes: Uint8Array): CommitRecord {
  const reader = new ByteReader(bytes, 'commit record');
  const formatVersion = reader.u8();
  if (formatVersion !== recordVersion) reader.fail(`unknown version ${formatVersion}`);
  const type = recordTypes[reader.u8()] ?? reader.fail('unknown record type');
  const txId = reader.raw(32);
  const batch = reader.u16();
  const leaf = reader.u16();
  const transactionBytes = reader.bytes(limits.batchBytesMax);
  const contractVersion = reader.text(limits.nameBytesMax);
  const sets: NamespaceSet[] = [];
  for (let count = reader.u16(); count > 0; count--) sets.push(readSet(reader));
  const result = reader.bytestring(limits.valueBytesMax);
  const event =
    reader.u8() === 0
      ? undefined
      : {
          name: reader.text(limits.nameBytesMax),
          payload: reader.bytestring(limits.valueBytesMax),
        };
  reader.finish();
  return {
    type,
    txId,
    batch,
    leaf,
    transactionBytes,
    contractVersion,
    sets,
    result,
    event,
  };
}

function readSet(reader: ByteReader): NamespaceSet {
  const namespace = reader.text(limits.nameBytesMax);
  const reads = readReads(reader);
  const ranges: RangeRead[] = [];
  for (let count = reader.length(limits.readsPerRecordMax); count > 0; count--) {
    const start = reader.bytestring(limits.keyBytesMax);
    const end = reader.bytestring(limits.keyBytesMax);
    const exhausted = reader.u8() === 1;
    ranges.push({ start, end, exhausted, rows: readReads(reader) });
  }
  const writes: KeyWrite[] = [];
  for (let count = reader.length(limits.writesPerRecordMax); count > 0; count--) {
    const writeKey = reader.bytestring(limits.keyBytesMax);
    const value = reader.u8() === 0 ? undefined : reader.bytestring(limits.valueBytesMax);
    writes.push({ key: writeKey, value });
  }
  const bulkUpdates: BulkUpdate[] = [];
  for (let count = reader.length(limits.writesPerRecordMax); count > 0; count--) {
    bulkUpdates.push({
      start: reader.bytestring(limits.keyBytesMax),
      end: reader.bytestring(limits.keyBytesMax),
      query: reader.text(limits.valueBytesMax),
      update: reader.text(limits.valueBytesMax),
      rows: reader.u32(),
    });
  }
  return { namespace, reads, ranges, writes, bulkUpdates };
}

function readReads(reader: ByteReader): KeyRead[] {
  const reads: KeyRead[] = [];
  for (let count = reader.length(limits.readsPerRecordMax); count > 0; count--) {
    const readKey = reader.bytestring(limits.keyBytesMax);
    reads.push({ key: readKey, version: readVersion(reader) });
  }
  return reads;
}

function key(writer: ByteWriter, value: Bytestring): void {
  checkLimit('keyBytesMax', value.length);
  writer.bytestring(value);
}

/* A version in eight bytes: 0 absent; position + 1; or, with the top bit set, an index. */

function version(writer: ByteWriter, value: ReadVersion): void {
  const [high, low] = versionWords(value);
  writer.u32(high).u32(low);
}

function versionWords(value: ReadVersion): [number, number] {
  if (value === undefined) return [absent, absent];
  if (typeof value === 'object') return [localFlag, value.index];
  const stored = value + 1;
  return [Math.floor(stored / 0x1_0000_0000), stored % 0x1_0000_0000];
}

function readVersion(reader: ByteReader): ReadVersion {
  const high = reader.u32();
  const low = reader.u32();
  if (high === localFlag) {
    if (low >= limits.recordsPerEntryMax) reader.fail('index over recordsPerEntryMax');
    return { index: low };
  }
  if (high >= 0x20_0000) reader.fail('version over 2^53');
  const stored = high * 0x1_0000_0000 + low;
  return stored === 0 ? undefined : asPosition(stored - 1);
}

/**
 * The key of a row in the whole state: `namespace ‖ 0x00 ‖ key`. Namespaces contain no 0x00, so
 * rows of one namespace stand together, in byte order of their keys.
 */
export function stateKey(namespace: string, keyInNamespace: Bytestring): Bytestring {
  return `${bytestringOfText(namespace)}\0${keyInNamespace}`;
}

/** Splits {@link stateKey}. */
export function splitStateKey(whole: Bytestring): { namespace: string; key: Bytestring } {
  const at = whole.indexOf('\0');
  return { namespace: textOf(whole.slice(0, at)), key: whole.slice(at + 1) };
}

/** The first state key after all rows of a namespace. */
export function namespaceEnd(namespace: string): Bytestring {
  return `${bytestringOfText(namespace)}\u0001`;
}
