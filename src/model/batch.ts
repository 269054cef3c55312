import { ByteReader, ByteWriter, checkLimit, limits } from '../base/index.ts';
import type { Endorsement } from './fabric/endorsed.ts';
import {
  type Identity,
  type IdentityVerifier,
  identityBytes,
  identityFromBytes,
  type Signer,
} from './identity.ts';
import { merkleRoot } from './merkle.ts';
import { MerkleTree } from './merkle-tree.ts';
import {
  decodeTransaction,
  type Transaction,
  type TxId,
  transactionId,
  transactionLeafHash,
  writeTransaction,
} from './transaction.ts';

/**
 * How transactions are signed. `batch`: one signature over the Merkle root of all transactions of a
 * batch, before they are executed. `single`: a node executes and endorses one transaction, then the
 * client signs that, as in Fabric (`fabric/endorsed.ts`).
 */
export type SigningMode = 'batch' | 'single';

/** One transaction of a batch, as received and checked for shape. */
export interface BatchItem {
  readonly transaction: Transaction;
  /** The transaction's canonical bytes. */
  readonly bytes: Uint8Array;
  readonly txId: Uint8Array;
  /** Mode `single`: the client's signature over the envelope's payload, and what it covers. */
  readonly endorsed?: { readonly signature: Uint8Array; readonly endorsement: Endorsement };
  /** Calls of a client with the same key take effect in the order in which they were sent. */
  readonly orderingKey: string;
}

/** The transactions that a client sends together. */
export interface Batch {
  readonly channel: string;
  /** 16 random bytes. */
  readonly batchId: Uint8Array;
  readonly creator: Identity;
  readonly creatorBytes: Uint8Array;
  readonly mode: SigningMode;
  readonly items: readonly BatchItem[];
  /** Over the items' leaves; its root is part of what was signed. */
  readonly tree: MerkleTree;
  /** Over {@link batchSigningBytes}. */
  readonly signature: Uint8Array;
}

const batchVersion = 1;
const signatureBytesMax = 128;
const batchDomain = Buffer.from('daybook batch v1\0');
const evaluateDomain = Buffer.from('daybook evaluate v1\0');
const prepareDomain = Buffer.from('daybook prepare v1\0');

/**
 * What a batch is signed for. The purpose is part of what is signed and not of the bytes sent, so
 * nobody can submit what was signed for evaluation only.
 */
export type BatchPurpose = 'submit' | 'evaluate' | 'prepare';

const domains: Readonly<Record<BatchPurpose, Buffer>> = {
  submit: batchDomain,
  evaluate: evaluateDomain,
  prepare: prepareDomain,
};

/** What a batch's creator signs: domain, channel, batch id, number of transactions, Merkle root. */
export function batchSigningBytes(
  channel: string,
  batchId: Uint8Array,
  count: number,
  root: Uint8Array,
  purpose: BatchPurpose = 'submit',
): Buffer {
  return new ByteWriter(128)
    .raw(domains[purpose])
    .text(channel)
    .raw(batchId)
    .u32(count)
    .raw(root)
    .finish();
}

/** A call to be put into a batch. */
export interface BatchCall {
  readonly transaction: Transaction;
  readonly orderingKey?: string;
}

/**
 * Signs calls as one batch and encodes it for the wire.
 *
 * @returns the bytes to send (and to send again, unchanged, on every retry) and the transaction
 *   ids in order.
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function signBatch(
  signer: Signer,
  channel: string,
  batchId: Uint8Array,
  calls: readonly BatchCall[],
  purpose: BatchPurpose = 'submit',
): { bytes: Buffer; txIds: TxId[] } {
  checkLimit('batchTransactionsMax', calls.length);
  const creator = identityBytes(signer.identity);
  const txIds: TxId[] = [];
  const leaves: Buffer[] = [];
  const writer = new ByteWriter(320 * calls.length + 2048);
  writer.u8(batchVersion).text(channel).raw(batchId).bytes(creator);
  // Mode `batch`: the other one is not sent in batches.
  writer.u8(0).u16(calls.length);
  for (const { transaction, orderingKey } of calls) {
    const start = writer.u32(0).length;
    writeTransaction(transaction, writer);
    writer.patchU32(start - 4, writer.length - start);
    const txId = transactionId(transaction.nonce, creator);
    const leafHash = transactionLeafHash(txId, writer.view(start));
    txIds.push(txId.toString('hex'));
    leaves.push(leafHash);
    writer.text(orderingKey ?? '');
  }
  const message = batchSigningBytes(channel, batchId, calls.length, merkleRoot(leaves), purpose);
  writer.bytes(signer.sign(message));
  checkLimit('batchBytesMax', writer.length);
  return { bytes: writer.finish(), txIds };
}

/**
 * Reads a batch from the wire. Byte fields are views of `bytes`. Nothing is verified yet: see
 * {@link verifyBatch}.
 *
 * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`
 */
export function decodeBatch(bytes: Uint8Array): Batch {
  checkLimit('batchBytesMax', bytes.length);
  const reader = new ByteReader(bytes, 'batch');
  const version = reader.u8();
  if (version !== batchVersion) reader.fail(`unknown version ${version}`);
  const channel = reader.text(limits.nameBytesMax);
  const batchId = reader.raw(16);
  const creatorBytes = reader.bytes(limits.certificateBytesMax + limits.nameBytesMax + 16);
  const creator = identityFromBytes(creatorBytes);
  const mode = reader.u8();
  if (mode !== 0) reader.fail(`unknown signing mode ${mode}`);
  const count = reader.u16();
  if (count === 0) reader.fail('no transactions');
  checkLimit('batchTransactionsMax', count);
  const items: BatchItem[] = [];
  const tree = new MerkleTree(count);
  for (let at = 0; at < count; at++) {
    const transactionBytes = reader.bytes(limits.batchBytesMax);
    const orderingKey = reader.text(limits.nameBytesMax);
    const transaction = decodeTransaction(transactionBytes);
    if (transaction.channel !== channel) reader.fail('a transaction of another channel');
    const txId = transactionId(transaction.nonce, creatorBytes);
    tree.setLeaf(at, transactionLeafHash(txId, transactionBytes));
    items.push({ transaction, bytes: transactionBytes, txId, orderingKey });
  }
  const signature = reader.bytes(signatureBytesMax);
  reader.finish();
  return { channel, batchId, creator, creatorBytes, mode: 'batch', items, tree, signature };
}

/**
 * Checks the creator's certificate at every transaction's timestamp, and the batch's signature.
 *
 * @throws {DaybookError} `IDENTITY_UNKNOWN`, `SIGNATURE_INVALID`
 */
export function verifyBatch(
  batch: Batch,
  verifier: IdentityVerifier,
  purpose: BatchPurpose = 'submit',
): void {
  // A certificate is valid from one moment to another, so the ends stand for all in between.
  const times = batch.items.map((item) => item.transaction.timestampMs);
  verifier.checkIdentity(batch.creator, Math.min(...times));
  verifier.checkIdentity(batch.creator, Math.max(...times));
  const { channel, batchId, tree } = batch;
  const message = batchSigningBytes(channel, batchId, tree.size, tree.root(), purpose);
  verifier.checkSignature(batch.creator, message, batch.signature);
}
