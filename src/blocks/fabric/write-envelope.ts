import { hash } from 'node:crypto';
import { asBuffer, type Bytestring, bytestringOfText } from '../../base/index.ts';
import type {
  CommitRecord,
  KeyRead,
  NamespaceSet,
  RangeRead,
  ReadVersion,
  Transaction,
} from '../../model/index.ts';
import { ProtoWriter } from './proto-writer.ts';
import {
  type BlockVersion,
  bulkUpdatesField,
  headerTypes,
  signingProofField,
} from './read-envelope.ts';

const nodeChaincode = 2;
const statusOk = 200;

/** What an envelope is written from. */
export interface EnvelopeSource {
  readonly record: CommitRecord;
  /** The decoded `record.transactionBytes`. */
  readonly transaction: Transaction;
  /** Serialised identity of the client. */
  readonly creator: Uint8Array;
  /** The client's: over its batch's root, or over this transaction alone. */
  readonly signature: Uint8Array;
  readonly mode: 'batch' | 'single';
  readonly batchId: Uint8Array;
  readonly batchSize: number;
  /** See `SigningProof.path`. */
  readonly path: readonly Uint8Array[];
  /** Name of the executor that ran the call and wrote the entry. */
  readonly executor: string;
  /** Block and transaction number of a version that was read. */
  versionOf(version: Exclude<ReadVersion, undefined>): BlockVersion;
}

/**
 * Writes records as Fabric endorser transactions (`common.Envelope`). One writer serves many
 * envelopes: its scratch memory is reused.
 *
 * What differs from an envelope made by Fabric's own client, and why, is in `docs/blocks.md`.
 */
export class EnvelopeWriter {
  readonly #envelope = new ProtoWriter();
  readonly #channelHeader = new ProtoWriter(1024);
  readonly #signatureHeader = new ProtoWriter(4096);
  readonly #proposal = new ProtoWriter();
  readonly #hashInput = new ProtoWriter();

  /** The envelope's bytes: a view that the next call invalidates. */
  write(source: EnvelopeSource): Buffer {
    const { record, transaction } = source;
    const txId = asBuffer(record.txId).toString('hex');
    this.#writeChannelHeader(transaction, txId);
    this.#signatureHeader.reset();
    this.#signatureHeader.bytes(2, transaction.nonce).bytes(1, source.creator);
    this.#writeProposal(transaction);

    const writer = this.#envelope;
    writer.reset();
    writeSigningProof(writer, source);
    writer.bytes(2, source.signature);
    const payloadEnd = writer.length;
    const transactionEnd = writer.length;
    const actionEnd = writer.length;
    const actionPayloadEnd = writer.length;
    const endorsedEnd = writer.length;
    writeEndorsement(writer, source.executor);
    const responseEnd = writer.length;
    this.#writeChaincodeAction(source, txId);
    writer.bytestring(1, this.#proposalHash()).message(1, responseEnd);
    writer.message(2, endorsedEnd).bytes(1, this.#proposal.view());
    writer.message(2, actionPayloadEnd).bytes(1, this.#signatureHeader.view());
    writer.message(1, actionEnd).message(2, transactionEnd);
    this.#writeHeader();
    writer.message(1, payloadEnd);
    return writer.view();
  }

  /**
   * An envelope for a record whose transaction is not readable: it is invalid and stays in the
   * block as evidence, as opaque bytes under its transaction id.
   */
  writeOpaque(channel: string, txId: string, bytes: Uint8Array): Buffer {
    const header = this.#channelHeader;
    header.reset();
    header.bytestring(5, txId).bytestring(4, bytestringOfText(channel));
    this.#signatureHeader.reset();
    const writer = this.#envelope;
    writer.reset();
    const payloadEnd = writer.length;
    writer.bytes(2, bytes);
    this.#writeHeader();
    return writer.message(1, payloadEnd).view();
  }

  #writeHeader(): void {
    const writer = this.#envelope;
    const end = writer.length;
    writer.bytes(2, this.#signatureHeader.view()).bytes(1, this.#channelHeader.view());
    writer.message(1, end);
  }

  #writeChannelHeader(transaction: Transaction, txId: string): void {
    const writer = this.#channelHeader;
    writer.reset();
    const extensionEnd = writer.length;
    const contractEnd = writer.length;
    writer.bytestring(2, bytestringOfText(transaction.contract)).message(2, contractEnd);
    writer.message(7, extensionEnd).bytestring(5, txId);
    writer.bytestring(4, bytestringOfText(transaction.channel));
    writeTimestamp(writer, transaction.timestampMs);
    writer.varint(1, headerTypes.endorserTransaction);
  }

  /** `ChaincodeProposalPayload{ChaincodeInvocationSpec{ChaincodeSpec}}`. */
  #writeProposal(transaction: Transaction): void {
    const writer = this.#proposal;
    writer.reset();
    const { args } = transaction;
    for (let at = args.length - 1; at >= 0; at--) writer.bytesAlways(1, args[at] as Uint8Array);
    writer.bytestringAlways(1, bytestringOfText(transaction.functionName)).message(3, 0);
    const contractEnd = writer.length;
    writer.bytestring(3, bytestringOfText(transaction.contractVersion));
    writer.bytestring(2, bytestringOfText(transaction.contract)).message(2, contractEnd);
    writer.varint(1, nodeChaincode).message(1, 0).message(1, 0);
  }

  /** SHA-256(channel header ‖ signature header ‖ chaincode proposal payload). */
  #proposalHash(): Bytestring {
    const input = this.#hashInput;
    input.reset();
    input.raw(this.#proposal.view()).raw(this.#signatureHeader.view());
    input.raw(this.#channelHeader.view());
    return hash('sha256', input.view(), 'binary');
  }

  #writeChaincodeAction(source: EnvelopeSource, txId: string): void {
    const { record, transaction } = source;
    const contract = bytestringOfText(transaction.contract);
    const writer = this.#envelope;
    const end = writer.length;
    writer.bytestring(3, bytestringOfText(record.contractVersion)).bytestring(2, contract);
    writer.message(4, end);
    const responseEnd = writer.length;
    writer.bytestring(3, record.result).varint(1, statusOk).message(3, responseEnd);
    if (record.event !== undefined) {
      const eventEnd = writer.length;
      writer.bytestring(4, record.event.payload);
      writer.bytestring(3, bytestringOfText(record.event.name));
      writer.bytestring(2, txId).bytestring(1, contract).message(2, eventEnd);
    }
    const resultsEnd = writer.length;
    const { sets } = record;
    for (let at = sets.length - 1; at >= 0; at--)
      writeSet(writer, sets[at] as NamespaceSet, source);
    writer.message(1, resultsEnd).message(2, end);
  }
}

/** The executor's name; nothing in the log lets a generator sign for it. */
function writeEndorsement(writer: ProtoWriter, executor: string): void {
  const end = writer.length;
  const endorserEnd = writer.length;
  writer.bytestring(2, bytestringOfText(executor)).message(1, endorserEnd).message(2, end);
}

function writeSigningProof(writer: ProtoWriter, source: EnvelopeSource): void {
  const end = writer.length;
  const { path, record, transaction } = source;
  // Text that is not UTF-8 reads as U+FFFD: the signed bytes cannot be made from what was read.
  const { channel, contract, contractVersion, functionName } = transaction;
  if (`${channel}${contract}${contractVersion}${functionName}`.includes('\ufffd')) {
    writer.bytes(6, record.transactionBytes);
  }
  for (let at = path.length - 1; at >= 0; at--) writer.bytes(5, path[at] as Uint8Array);
  writer.varint(4, record.leaf).varint(3, source.batchSize).bytes(2, source.batchId);
  writer.varint(1, source.mode === 'batch' ? 0 : 1).message(signingProofField, end);
}

function writeSet(writer: ProtoWriter, set: NamespaceSet, source: EnvelopeSource): void {
  const end = writer.length;
  for (let at = set.bulkUpdates.length - 1; at >= 0; at--) {
    const bulk = set.bulkUpdates[at] as NamespaceSet['bulkUpdates'][number];
    const bulkEnd = writer.length;
    writer.varint(5, bulk.rows);
    writer.bytestring(4, bytestringOfText(bulk.update));
    writer.bytestring(3, bytestringOfText(bulk.query));
    writer.bytestring(2, bulk.end).bytestring(1, bulk.start).message(bulkUpdatesField, bulkEnd);
  }
  for (let at = set.writes.length - 1; at >= 0; at--) {
    const { key, value } = set.writes[at] as NamespaceSet['writes'][number];
    const writeEnd = writer.length;
    if (value === undefined) writer.varint(2, 1);
    else writer.bytestring(3, value);
    writer.bytestring(1, key).message(3, writeEnd);
  }
  for (let at = set.ranges.length - 1; at >= 0; at--) {
    writeRange(writer, set.ranges[at] as RangeRead, source);
  }
  writeReads(writer, set.reads, source);
  writer.message(2, end).bytestring(1, bytestringOfText(set.namespace)).message(2, end);
}

/** `kvrwset.RangeQueryInfo` with raw reads. As in Fabric, no start means U+0001. */
function writeRange(writer: ProtoWriter, range: RangeRead, source: EnvelopeSource): void {
  const end = writer.length;
  writeReads(writer, range.rows, source);
  writer.message(4, end);
  const last = range.rows.at(-1);
  writer.varint(3, range.exhausted ? 1 : 0);
  writer.bytestring(2, range.exhausted || last === undefined ? range.end : last.key);
  writer.bytestring(1, range.start === '' ? '\u0001' : range.start).message(2, end);
}

function writeReads(writer: ProtoWriter, reads: readonly KeyRead[], source: EnvelopeSource): void {
  for (let at = reads.length - 1; at >= 0; at--) {
    const { key, version } = reads[at] as KeyRead;
    const end = writer.length;
    if (version !== undefined) {
      const { block, transaction } = source.versionOf(version);
      writer.varint(2, transaction).varint(1, block).message(2, end);
    }
    writer.bytestring(1, key).message(1, end);
  }
}

/** `google.protobuf.Timestamp` as field 3 of a channel header. */
export function writeTimestamp(writer: ProtoWriter, timestampMs: number): void {
  const end = writer.length;
  const seconds = Math.floor(timestampMs / 1000);
  writer.varint(2, (timestampMs - seconds * 1000) * 1_000_000).varint(1, seconds);
  writer.message(3, end);
}
