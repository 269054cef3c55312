import { ByteReader, type Bytestring, ByteWriter, checkLimit, limits } from '../base/index.ts';
import { lifecycleNamespace } from './lifecycle.ts';
import type { Position } from './position.ts';
import type { Transaction } from './transaction.ts';

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

/** What is known of a record before it is executed; `decodeRecord` reads it as part of the record. */
export type RecordHead = Pick<
  CommitRecord,
  'type' | 'txId' | 'batch' | 'leaf' | 'transactionBytes'
>;
/** What came of executing it. */
export type RecordBody = Omit<CommitRecord, keyof RecordHead>;

const recordVersion = 1;
/** First half of an encoded version that names a record of the same entry; the other is its index. */
export const localFlag = 0x8000_0000;
const txIdBytes = 32;
const headBytes = 2 + txIdBytes + 2 + 2 + 4;
/** Room that is made for a list because of its length alone, which may be a lie. */
const listRoomMax = 64;

/**
 * Canonical bytes of a record: those of its head, then those of its body.
 *
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeRecord(record: CommitRecord, writer: ByteWriter): void {
  const start = writer.length;
  encodeRecordHead(record, writer);
  encodeRecordBody(record, writer);
  checkLimit('recordBytesMax', writer.length - start);
}

/** The bytes of a record before its body. */
export function encodeRecordHead(head: RecordHead, writer: ByteWriter): void {
  writer.u8(recordVersion).u8(recordTypes.indexOf(head.type)).raw(head.txId);
  writer.u16(head.batch).u16(head.leaf).bytes(head.transactionBytes);
}

/** How many {@link encodeRecordHead} writes. @param transactionBytes - the transaction's length. */
export function recordHeadBytes(transactionBytes: number): number {
  return headBytes + transactionBytes;
}

/**
 * The bytes of a record behind its head.
 *
 * @param onVersion - told the offset (from the body's first byte) of every version: where one that
 *   was not known at execution is to be filled in, see {@link patchVersion}.
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeRecordBody(
  body: RecordBody,
  writer: ByteWriter,
  onVersion?: (offset: number, read: KeyRead) => void,
): void {
  const start = writer.length;
  writer.text(body.contractVersion);
  writer.u16(body.sets.length);
  for (const set of body.sets) {
    checkLimit('readsPerRecordMax', set.reads.length);
    checkLimit('writesPerRecordMax', set.writes.length);
    writer.text(set.namespace);
    writeReads(writer, set.reads, start, onVersion);
    writer.u32(set.ranges.length);
    for (const range of set.ranges) {
      checkLimit('readsPerRecordMax', range.rows.length);
      writer
        .bytestring(range.start)
        .bytestring(range.end)
        .u8(range.exhausted ? 1 : 0);
      writeReads(writer, range.rows, start, onVersion);
    }
    writer.u32(set.writes.length);
    for (const write of set.writes) {
      key(writer, write.key);
      if (write.value === undefined) writer.u8(0);
      else {
        const { length } = write.value;
        if (length > limits.valueBytesMax) checkLimit('valueBytesMax', length);
        writer.u8(1).bytestring(write.value);
      }
    }
    writer.u32(set.bulkUpdates.length);
    for (const bulk of set.bulkUpdates) {
      writer.bytestring(bulk.start).bytestring(bulk.end).text(bulk.query).text(bulk.update);
      writer.u32(bulk.rows);
    }
  }
  checkLimit('valueBytesMax', body.result.length);
  writer.bytestring(body.result);
  if (body.event === undefined) writer.u8(0);
  else {
    checkLimit('valueBytesMax', body.event.payload.length);
    writer.u8(1).text(body.event.name).bytestring(body.event.payload);
  }
}

/** The record of a head and a body. @throws {DaybookError} `MALFORMED` */
export function joinRecord(head: RecordHead, bodyBytes: Uint8Array): CommitRecord {
  const writer = new ByteWriter(recordHeadBytes(head.transactionBytes.length) + bodyBytes.length);
  encodeRecordHead(head, writer);
  return decodeRecord(writer.raw(bodyBytes).view());
}

/** The type of the record of a transaction. */
export function recordTypeOf({ contract }: Transaction): RecordType {
  return contract === lifecycleNamespace ? 'deploy' : 'call';
}

/** Fills in a version at an offset that {@link encodeRecordBody} reported. */
export function patchVersion(bodyBytes: Buffer, offset: number, value: ReadVersion): void {
  bodyBytes.writeUInt32BE(highWord(value), offset);
  bodyBytes.writeUInt32BE(lowWord(value), offset + 4);
}

/** A transaction whose bytes somebody holds. */
export interface HeldTransaction {
  readonly txId: Uint8Array;
  readonly bytes: Uint8Array;
}

/**
 * Reads {@link encodeRecord}'s bytes; `txId` and `transactionBytes` are views of them.
 *
 * @param heldAt - the transaction that is expected to stand there. Where the record's bytes are the
 *   same, its fields are the very ones that are held, and no views are made.
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeRecord(
  bytes: Uint8Array,
  heldAt?: (batch: number, leaf: number) => HeldTransaction | undefined,
): CommitRecord {
  const reader = new ByteReader(bytes, 'commit record');
  const formatVersion = reader.u8();
  if (formatVersion !== recordVersion) reader.fail(`unknown version ${formatVersion}`);
  const type = recordTypes[reader.u8()] ?? reader.fail('unknown record type');
  const idAt = reader.skip(txIdBytes);
  const batch = reader.u16();
  const leaf = reader.u16();
  const transactionLength = reader.length(limits.batchBytesMax);
  const transactionAt = reader.skip(transactionLength);
  const held = heldAt?.(batch, leaf);
  const txId = reader.heldOrView(held?.txId, idAt, txIdBytes);
  const transactionBytes = reader.heldOrView(held?.bytes, transactionAt, transactionLength);
  const contractVersion = reader.text(limits.nameBytesMax);
  const sets = readList(reader, reader.u16(), readSet);
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
  return {
    namespace: reader.text(limits.nameBytesMax),
    reads: readList(reader, reader.length(limits.readsPerRecordMax), readRead),
    ranges: readList(reader, reader.length(limits.readsPerRecordMax), readRange),
    writes: readList(reader, reader.length(limits.writesPerRecordMax), readWrite),
    bulkUpdates: readList(reader, reader.length(limits.writesPerRecordMax), readBulkUpdate),
  };
}

const none: readonly never[] = [];

/** Most lists are empty, the others short: an array that is only pushed to has room for 17. */
function readList<T>(
  reader: ByteReader,
  count: number,
  readOne: (reader: ByteReader) => T,
): readonly T[] {
  if (count === 0) return none;
  const list = new Array<T>(Math.min(count, listRoomMax));
  for (let at = 0; at < count; at++) list[at] = readOne(reader);
  return list;
}

function readRead(reader: ByteReader): KeyRead {
  const readKey = reader.key(limits.keyBytesMax);
  return { key: readKey, version: readVersion(reader) };
}

function readRange(reader: ByteReader): RangeRead {
  const start = reader.bytestring(limits.keyBytesMax);
  const end = reader.bytestring(limits.keyBytesMax);
  const exhausted = reader.u8() === 1;
  return {
    start,
    end,
    exhausted,
    rows: readList(reader, reader.length(limits.readsPerRecordMax), readRead),
  };
}

function readWrite(reader: ByteReader): KeyWrite {
  const writeKey = reader.key(limits.keyBytesMax);
  const value = reader.u8() === 0 ? undefined : reader.bytestring(limits.valueBytesMax);
  return { key: writeKey, value };
}

function readBulkUpdate(reader: ByteReader): BulkUpdate {
  return {
    start: reader.bytestring(limits.keyBytesMax),
    end: reader.bytestring(limits.keyBytesMax),
    query: reader.text(limits.valueBytesMax),
    update: reader.text(limits.valueBytesMax),
    rows: reader.u32(),
  };
}

function writeReads(
  writer: ByteWriter,
  reads: readonly KeyRead[],
  start: number,
  onVersion: ((offset: number, read: KeyRead) => void) | undefined,
): void {
  writer.u32(reads.length);
  for (const read of reads) {
    key(writer, read.key);
    onVersion?.(writer.length - start, read);
    writeVersion(writer, read.version);
  }
}

function key(writer: ByteWriter, value: Bytestring): void {
  if (value.length > limits.keyBytesMax) checkLimit('keyBytesMax', value.length);
  writer.bytestring(value);
}

/** Appends a version in eight bytes: 0 absent; position + 1; or, with the top bit set, an index. */
export function writeVersion(writer: ByteWriter, version: ReadVersion): void {
  if (version === undefined) writer.u32(0).u32(0);
  else if (typeof version === 'object') writer.u32(localFlag).u32(version.index);
  else writer.u64(version + 1);
}

function highWord(version: ReadVersion): number {
  if (version === undefined) return 0;
  return typeof version === 'object' ? localFlag : Math.floor((version + 1) / 0x1_0000_0000);
}

function lowWord(version: ReadVersion): number {
  if (version === undefined) return 0;
  return typeof version === 'object' ? version.index : (version + 1) % 0x1_0000_0000;
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
  return stored === 0 ? undefined : ((stored - 1) as Position);
}
