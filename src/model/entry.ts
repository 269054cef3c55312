import { assert, ByteReader, ByteWriter, checkLimit, limits } from '../base/index.ts';
import type { SigningMode } from './batch.ts';
import type { BlockVersion } from './fabric/read-envelope.ts';

/**
 * What stands at one log address. A hole that was closed is the log's own business (`fill`, see
 * `log/`) and has no bytes of this kind.
 */
export type Entry = RecordsEntry | TickEntry | ConfigEntry;

interface EntryHeader {
  /** Name of the node that wrote the entry. */
  readonly writer: string;
  /**
   * The writer's time, milliseconds since 1970. *Log time* at an address is the largest time of
   * any entry up to it, as far as the entries' transactions bear it out: replay's only clock.
   */
  readonly timestampMs: number;
}

/** A group of commit records. */
export interface RecordsEntry extends EntryHeader {
  readonly kind: 'records';
  /** Serialised identities that the entry's batches refer to. */
  readonly identities: readonly Uint8Array[];
  readonly batches: readonly BatchProof[];
  /**
   * Index and canonical bytes of every record, indices ascending. Indices may have gaps: a record
   * that the sequencer refused leaves one, so that the others need not be encoded again.
   */
  readonly records: readonly { readonly index: number; readonly bytes: Uint8Array }[];
}

/**
 * What proves that the creator signed the records of a batch in this entry. In mode `batch`:
 * the signature over the root of all `size` leaves, and the hashes that lead from the leaves in
 * this entry to that root (`merkleSubsetProof`). In mode `single`, for one record alone: the
 * signature over the payload of its envelope, and the endorsement that is part of it.
 */
export interface BatchProof {
  readonly batchId: Uint8Array;
  /** Index in `identities`. */
  readonly creator: number;
  readonly mode: SigningMode;
  readonly size: number;
  /** The creator's: one. */
  readonly signatures: readonly Uint8Array[];
  readonly proof: readonly Uint8Array[];
  /** Mode `single`: what stands for an `Endorsement`. */
  readonly endorsement?: EntryEndorsement;
}

/** An `Endorsement` with the endorser by its index in `identities`. */
export interface EntryEndorsement {
  readonly endorser: number;
  readonly signature: Uint8Array;
  readonly versions: readonly BlockVersion[];
}

/** Lets time pass in the log: closes a block when traffic is low. */
export interface TickEntry extends EntryHeader {
  readonly kind: 'tick';
}

/** Sets the channel's configuration; at address 0 it founds the channel. */
export interface ConfigEntry extends EntryHeader {
  readonly kind: 'config';
  /** Canonical JSON of a `ChannelConfig`. */
  readonly config: string;
  /** Serialised identity of the administrator; empty at address 0. */
  readonly creator: Uint8Array;
  /** The administrator's signature over `configSigningBytes`; empty at address 0. */
  readonly signature: Uint8Array;
}

const entryVersion = 1;
/** Entries are put together here, one after the other; grows to the largest one. */
const scratch = new ByteWriter(64 * 1024);
const kinds = ['records', 'tick', 'config'] as const;
const signatureBytesMax = 128;
const identityBytesMax = limits.certificateBytesMax + limits.nameBytesMax + 16;
const configBytesMax = 1024 * 1024;

/** What an administrator signs to change a channel's configuration. */
export function configSigningBytes(config: string): Buffer {
  return Buffer.from(`daybook config v1\0${config}`, 'utf8');
}

/**
 * Canonical bytes of an entry.
 *
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeEntry(entry: Entry): Buffer {
  if (entry.kind === 'records') {
    return encodeRecordsEntry(entry, entry.records, ({ bytes }, writer) => writer.raw(bytes));
  }
  const writer = beginEntry(entry.kind, entry);
  if (entry.kind === 'config') {
    writer.text(entry.config).bytes(entry.creator).bytes(entry.signature);
  }
  checkLimit('entryBytesMax', writer.length);
  return writer.finish();
}

/**
 * The bytes of an entry of records that nobody has in one piece.
 *
 * @param write - appends a record's canonical bytes (`encodeRecordHead`, `encodeRecordBody`).
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function encodeRecordsEntry<T extends { readonly index: number }>(
  entry: Omit<RecordsEntry, 'kind' | 'records'>,
  records: readonly T[],
  write: (record: T, writer: ByteWriter, at: number) => void,
): Buffer {
  checkLimit('recordsPerEntryMax', records.length);
  const writer = beginEntry('records', entry);
  writer.u16(entry.identities.length);
  for (const identity of entry.identities) writer.bytes(identity);
  writer.u16(entry.batches.length);
  for (const batch of entry.batches) {
    writer
      .raw(batch.batchId)
      .u16(batch.creator)
      .u8(batch.mode === 'batch' ? 0 : 1);
    writer.u16(batch.size).u16(batch.signatures.length);
    for (const signature of batch.signatures) writer.bytes(signature);
    writer.u16(batch.proof.length);
    for (const hash of batch.proof) writer.raw(hash);
    if (batch.mode === 'single') writeEndorsement(writer, batch.endorsement);
  }
  writer.u16(records.length);
  let at = 0;
  for (const record of records) {
    const start = writer.u16(record.index).u32(0).length;
    write(record, writer, at++);
    writer.patchU32(start - 4, writer.length - start);
  }
  checkLimit('entryBytesMax', writer.length);
  return writer.finish();
}

function beginEntry(kind: Entry['kind'], { writer, timestampMs }: EntryHeader): ByteWriter {
  scratch.reset();
  return scratch.u8(entryVersion).u8(kinds.indexOf(kind)).text(writer).u64(timestampMs);
}

/**
 * Reads {@link encodeEntry}'s bytes; byte fields are views of them. Records stay encoded: see
 * `decodeRecord`.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeEntry(bytes: Uint8Array): Entry {
  const reader = new ByteReader(bytes, 'entry');
  const version = reader.u8();
  if (version !== entryVersion) reader.fail(`unknown version ${version}`);
  const kind = kinds[reader.u8()] ?? reader.fail('unknown entry kind');
  const header = { writer: reader.text(limits.nameBytesMax), timestampMs: reader.u64() };
  const entry = readBody(kind, header, reader);
  reader.finish();
  return entry;
}

function writeEndorsement(writer: ByteWriter, endorsement: EntryEndorsement | undefined): void {
  assert(endorsement !== undefined, 'a transaction that is signed singly has an endorsement');
  const { endorser, signature, versions } = endorsement;
  writer.u16(endorser).bytes(signature).u32(versions.length);
  for (const { block, transaction } of versions) writer.u64(block).u16(transaction);
}

function readEndorsement(reader: ByteReader, identities: number): EntryEndorsement {
  const endorser = reader.u16();
  if (endorser >= identities) reader.fail('no such identity');
  const signature = reader.bytes(signatureBytesMax);
  const versions: BlockVersion[] = [];
  for (let left = reader.u32(); left > 0; left--) {
    versions.push({ block: reader.u64(), transaction: reader.u16() });
  }
  return { endorser, signature, versions };
}

function readBody(kind: (typeof kinds)[number], header: EntryHeader, reader: ByteReader): Entry {
  switch (kind) {
    case 'tick':
      return { kind, ...header };
    case 'config':
      return {
        kind,
        ...header,
        config: reader.text(configBytesMax),
        creator: reader.bytes(identityBytesMax),
        signature: reader.bytes(signatureBytesMax),
      };
    case 'records':
      return { kind, ...header, ...readRecords(reader) };
  }
}

function readRecords(reader: ByteReader): Pick<RecordsEntry, 'identities' | 'batches' | 'records'> {
  const identities: Uint8Array[] = [];
  for (let count = reader.u16(); count > 0; count--) {
    identities.push(reader.bytes(identityBytesMax));
  }
  const batches: BatchProof[] = [];
  for (let count = reader.u16(); count > 0; count--) {
    const batchId = reader.raw(16);
    const creator = reader.u16();
    if (creator >= identities.length) reader.fail('no such identity');
    const mode = reader.u8() === 0 ? 'batch' : 'single';
    const size = reader.u16();
    const signatures: Uint8Array[] = [];
    for (let left = reader.u16(); left > 0; left--) {
      signatures.push(reader.bytes(signatureBytesMax));
    }
    const proof: Uint8Array[] = [];
    for (let left = reader.u16(); left > 0; left--) proof.push(reader.raw(32));
    const shared = { batchId, creator, mode, size, signatures, proof } as const;
    if (mode === 'batch') batches.push(shared);
    else batches.push({ ...shared, endorsement: readEndorsement(reader, identities.length) });
  }
  const records: { index: number; bytes: Uint8Array }[] = [];
  let least = 0;
  for (let count = reader.u16(); count > 0; count--) {
    const index = reader.u16();
    if (index < least || index >= limits.recordsPerEntryMax) reader.fail('record index');
    least = index + 1;
    records.push({ index, bytes: reader.bytes(limits.recordBytesMax) });
  }
  return { identities, batches, records };
}
