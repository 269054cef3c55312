import { hash } from 'node:crypto';
import { asBuffer, type Bytestring, bytestringOfText } from '../../base/index.ts';
import type { CommitRecord, KeyRead, NamespaceSet, RangeRead, ReadVersion } from '../record.ts';
import type { Transaction } from '../transaction.ts';
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
  /** Mode `single`: who executed the call, and its signature; see `endorsementMessage`. */
  readonly endorsement?: { readonly endorser: Uint8Array; readonly signature: Uint8Array };
  /** Block and transaction number of a version that was read. */
  versionOf(version: Exclude<ReadVersion, undefined>): BlockVersion;
}

/** What a client knows of its transaction before it is executed; together the proposal hash. */
export interface ProposalParts {
  readonly channelHeader: Buffer;
  readonly signatureHeader: Buffer;
  readonly chaincodeProposalPayload: Buffer;
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
    const writer = this.#envelope;
    writer.reset();
    // What a client signed alone is an envelope as Fabric's own client makes it, and nothing more.
    if (source.mode === 'batch') writeSigningProof(writer, source);
    writer.bytes(2, source.signature);
    const payloadEnd = writer.length;
    this.#writePayload(source);
    writer.message(1, payloadEnd);
    return writer.view();
  }

  /** `common.Payload`: what the client signs in mode `single`. A view, as of {@link write}. */
  payload(source: EnvelopeSource): Buffer {
    this.#envelope.reset();
    this.#writePayload(source);
    return this.#envelope.view();
  }

  /** `protos.ProposalResponsePayload`: what an endorser signs. A view, as of {@link write}. */
  responsePayload(source: EnvelopeSource): Buffer {
    this.#writeParts(source);
    this.#envelope.reset();
    this.#writeResponsePayload(source);
    return this.#envelope.view();
  }

  /** The three parts that a client knows before its call is executed. */
  proposal(transaction: Transaction, creator: Uint8Array, txId: string): ProposalParts {
    this.#writeProposalParts(transaction, creator, txId);
    return {
      channelHeader: this.#channelHeader.finish(),
      signatureHeader: this.#signatureHeader.finish(),
      chaincodeProposalPayload: this.#proposal.finish(),
    };
  }

  #writeParts({ record, transaction, creator }: EnvelopeSource): void {
    this.#writeProposalParts(transaction, creator, asBuffer(record.txId).toString('hex'));
  }

  #writeProposalParts(transaction: Transaction, creator: Uint8Array, txId: string): void {
    this.#writeChannelHeader(transaction, txId);
    this.#signatureHeader.reset();
    this.#signatureHeader.bytes(2, transaction.nonce).bytes(1, creator);
    this.#writeProposal(transaction);
  }

  #writePayload(source: EnvelopeSource): void {
    this.#writeParts(source);
    const writer = this.#envelope;
    const transactionEnd = writer.length;
    const actionEnd = writer.length;
    const actionPayloadEnd = writer.length;
    const endorsedEnd = writer.length;
    if (source.endorsement === undefined) writeExecutor(writer, source.executor);
    else writeEndorsement(writer, source.endorsement);
    const responseEnd = writer.length;
    this.#writeResponsePayload(source);
    writer.message(1, responseEnd);
    writer.message(2, endorsedEnd).bytes(1, this.#proposal.view());
    writer.message(2, actionPayloadEnd).bytes(1, this.#signatureHeader.view());
    writer.message(1, actionEnd).message(2, transactionEnd);
    this.#writeHeader();
  }

  #writeResponsePayload(source: EnvelopeSource): void {
    this.#writeChaincodeAction(source, asBuffer(source.record.txId).toString('hex'));
    this.#envelope.bytestring(1, this.#proposalHash());
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
    // Fabric wants a version; its own built-in contract has this one.
    const version = record.type === 'deploy' ? 'syscc' : record.contractVersion;
    writer.bytestring(3, bytestringOfText(version)).bytestring(2, contract);
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

/** `protos.Endorsement`. */
function writeEndorsement(
  writer: ProtoWriter,
  { endorser, signature }: { readonly endorser: Uint8Array; readonly signature: Uint8Array },
): void {
  const end = writer.length;
  writer.bytes(2, signature).bytes(1, endorser).message(2, end);
}

/** The executor's name alone: in mode `batch` nobody signs for what it did but with the block. */
function writeExecutor(writer: ProtoWriter, executor: string): void {
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
  writer.message(signingProofField, end);
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
