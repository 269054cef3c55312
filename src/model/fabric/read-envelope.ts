import { type Bytestring, bytestringOf } from '../../base/index.ts';
import type { BulkUpdate } from '../record.ts';
import { ProtoMessage } from './proto-reader.ts';

/** `common.HeaderType` values that occur in blocks. */
export const headerTypes = { message: 0, config: 1, endorserTransaction: 3 } as const;

/** Protobuf field of `common.Envelope` that carries a {@link SigningProof}; Fabric ignores it. */
export const signingProofField = 1001;

/** Protobuf field of `kvrwset.KVRWSet` that carries bulk updates; Fabric ignores it. */
export const bulkUpdatesField = 1001;

/** A version in Fabric's form: block number and number of the transaction in the block. */
export interface BlockVersion {
  readonly block: number;
  readonly transaction: number;
}

/** How the creator's signature covers a transaction that was signed with its batch. */
export interface SigningProof {
  readonly batchId: Buffer;
  /** Transactions in the batch. */
  readonly size: number;
  /** This transaction's index among them. */
  readonly leaf: number;
  /** Hashes beside its path in the batch's Merkle tree, left to right. */
  readonly path: readonly Buffer[];
  /** The signed transaction's bytes, when they cannot be made from the envelope; else empty. */
  readonly transactionBytes: Buffer;
}

/** `common.Envelope`, up to its header. Byte fields are views. */
export interface EnvelopeHead {
  readonly payload: Buffer;
  readonly signature: Buffer;
  /** `undefined` when the signature is over the payload, as Fabric's own clients sign. */
  readonly signing: SigningProof | undefined;
  readonly type: number;
  readonly channel: string;
  readonly txId: string;
  readonly timestampMs: number;
  readonly channelHeader: Buffer;
  readonly signatureHeader: Buffer;
  readonly creator: Buffer;
  readonly nonce: Buffer;
  /** `common.Payload.data`: what the type says. */
  readonly data: Buffer;
}

/** @throws {DaybookError} `MALFORMED` */
export function readEnvelopeHead(bytes: Uint8Array): EnvelopeHead {
  const envelope = new ProtoMessage(bytes, 'envelope');
  const payload = envelope.message(1, 'payload');
  const header = payload.message(1, 'header');
  const channelHeader = header.message(1, 'channel header');
  const signatureHeader = header.message(2, 'signature header');
  const timestamp = channelHeader.message(3, 'timestamp');
  const proof = envelope.bytes(signingProofField);
  return {
    payload: envelope.bytes(1),
    signature: envelope.bytes(2),
    signing: proof.length === 0 ? undefined : readSigningProof(proof),
    type: channelHeader.number(1),
    channel: channelHeader.text(4),
    txId: channelHeader.text(5),
    timestampMs: timestamp.number(1) * 1000 + Math.floor(timestamp.number(2) / 1e6),
    channelHeader: header.bytes(1),
    signatureHeader: header.bytes(2),
    creator: signatureHeader.bytes(1),
    nonce: signatureHeader.bytes(2),
    data: payload.bytes(2),
  };
}

function readSigningProof(bytes: Buffer): SigningProof {
  const proof = new ProtoMessage(bytes, 'signing proof');
  return {
    batchId: proof.bytes(2),
    size: proof.number(3),
    leaf: proof.number(4),
    path: proof.repeated(5),
    transactionBytes: proof.bytes(6),
  };
}

/** What an endorser transaction did. Byte fields are views; keys and values are bytestrings. */
export interface EndorserTransaction {
  readonly contract: string;
  /** The version the client asked for; `''` for whichever is deployed. */
  readonly contractVersionAsked: string;
  /** The version that ran. */
  readonly contractVersion: string;
  /** Function name and arguments. */
  readonly args: readonly Buffer[];
  readonly proposalHash: Buffer;
  readonly chaincodeProposalPayload: Buffer;
  readonly proposalResponsePayload: Buffer;
  readonly endorsements: readonly { readonly endorser: Buffer; readonly signature: Buffer }[];
  readonly status: number;
  readonly result: Buffer;
  readonly event: { readonly name: string; readonly payload: Buffer } | undefined;
  readonly sets: readonly EnvelopeSet[];
}

/** Reads and writes in one namespace. */
export interface EnvelopeSet {
  readonly namespace: string;
  readonly reads: readonly {
    readonly key: Bytestring;
    readonly version: BlockVersion | undefined;
  }[];
  readonly ranges: number;
  readonly writes: readonly { readonly key: Bytestring; readonly value: Bytestring | undefined }[];
  readonly bulkUpdates: readonly BulkUpdate[];
}

/**
 * Reads the data of an envelope of type `endorserTransaction` (its first action, as Fabric does).
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function readEndorserTransaction(data: Uint8Array): EndorserTransaction {
  const action = new ProtoMessage(data, 'transaction').message(1, 'action');
  const payload = action.message(2, 'payload');
  const endorsed = payload.message(2, 'endorsed action');
  const response = endorsed.message(1, 'response payload');
  const result = response.message(2, 'chaincode action');
  const proposal = payload.message(1, 'proposal payload');
  const spec = proposal.message(1, 'invocation').message(1, 'spec');
  const answer = result.message(3, 'response');
  const event = result.message(2, 'event');
  return {
    contract: spec.message(2, 'chaincode id').text(2),
    contractVersionAsked: spec.message(2, 'chaincode id').text(3),
    contractVersion: result.message(4, 'chaincode id').text(3),
    args: spec.message(3, 'input').repeated(1),
    proposalHash: response.bytes(1),
    chaincodeProposalPayload: payload.bytes(1),
    proposalResponsePayload: endorsed.bytes(1),
    endorsements: endorsed.repeated(2).map((bytes) => {
      const endorsement = new ProtoMessage(bytes, 'endorsement');
      return { endorser: endorsement.bytes(1), signature: endorsement.bytes(2) };
    }),
    status: answer.number(1),
    result: answer.bytes(3),
    event: event.fields.length === 0 ? undefined : { name: event.text(3), payload: event.bytes(4) },
    sets: result.message(1, 'results').repeated(2).map(readSet),
  };
}

function readSet(bytes: Buffer): EnvelopeSet {
  const set = new ProtoMessage(bytes, 'namespace set');
  const rows = set.message(2, 'read-write set');
  return {
    namespace: set.text(1),
    reads: rows.repeated(1).map((read) => {
      const row = new ProtoMessage(read, 'read');
      const version = row.message(2, 'version');
      const present = row.fields.some((one) => one.field === 2);
      return {
        key: bytestringOf(row.bytes(1)),
        version: present ? { block: version.number(1), transaction: version.number(2) } : undefined,
      };
    }),
    ranges: rows.repeated(2).length,
    writes: rows.repeated(3).map((write) => {
      const row = new ProtoMessage(write, 'write');
      const key = bytestringOf(row.bytes(1));
      return { key, value: row.number(2) === 1 ? undefined : bytestringOf(row.bytes(3)) };
    }),
    bulkUpdates: rows.repeated(bulkUpdatesField).map((update) => {
      const bulk = new ProtoMessage(update, 'bulk update');
      return {
        start: bytestringOf(bulk.bytes(1)),
        end: bytestringOf(bulk.bytes(2)),
        query: bulk.text(3),
        update: bulk.text(4),
        rows: bulk.number(5),
      };
    }),
  };
}
