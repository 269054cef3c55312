import { type Bytestring, DaybookError, isDaybookError } from '../base/index.ts';
import {
  asPosition,
  type EndorserTransaction,
  IdentityVerifier,
  merkleRootFromSubset,
  type Position,
  readEnvelopeHead,
  sha256,
  type TxId,
  type Verdict,
  verdictName,
} from '../model/index.ts';
import {
  completeStateProof,
  type ProvenRow,
  type Row,
  type StateProof,
  type StateProofJson,
  type StateProofPath,
  stateProofFromJson,
  stateProofToJson,
  verifyStateProof,
} from '../state/index.ts';
import {
  type AttestationJson,
  attestationFromJson,
  attestationOf,
  attestationToJson,
  type Trust,
  verifyAttestation,
} from './attestation.ts';
import { decodeBlock, metadataIndex } from './fabric/block.ts';
import type { BlockGenerator } from './generator.ts';
import { damagedHistory } from './history-files.ts';
import { historyInclusionProof, historyLeafHash } from './history-tree.ts';
import { readProof } from './segment-files.ts';
import { verifyEnvelope } from './verify-envelope.ts';

/**
 * Proves that a transaction stands in the log with this verdict: its envelope, its path in the
 * history tree, and a signed block with that tree's root. Plain JSON; bytes in base64, hashes in
 * hexadecimal.
 */
export interface Receipt {
  readonly kind: 'daybook receipt 1';
  readonly txId: TxId;
  readonly position: number;
  readonly verdict: number;
  /** The block that holds the transaction, and its place there. */
  readonly height: number;
  readonly transaction: number;
  readonly envelope: string;
  /** Number of the record in the history tree. */
  readonly historyIndex: number;
  readonly path: readonly string[];
  readonly block: AttestationJson;
}

/** Proves what a key held after a block. */
export interface KeyProof {
  readonly kind: 'daybook key proof 1';
  readonly proof: StateProofJson;
  readonly block: AttestationJson;
}

/** What a receipt proves. */
export interface ProvenTransaction {
  readonly txId: TxId;
  readonly position: Position;
  readonly verdict: Verdict;
  /** Number of the block that attests it. */
  readonly height: number;
  /** What was called and what it did. */
  readonly transaction: EndorserTransaction;
}

/**
 * A receipt for a transaction, under the newest block.
 *
 * @throws {DaybookError} `TRANSACTION_UNKNOWN` when it is in no block yet; `STATE_DAMAGED` when what it needs
 *   rotted.
 */
export async function makeReceipt(generator: BlockGenerator, txId: TxId): Promise<Receipt> {
  const { store, history, stored } = generator;
  // Configurations stand in the index under zeros, and are no transactions.
  const place = /^0*$/.test(txId)
    ? undefined
    : await store.findTransaction(Buffer.from(txId, 'hex'));
  // A generator that starts again has blocks ahead of its history.
  if (place === undefined || place.historyIndex >= stored.historySize) {
    throw new DaybookError('TRANSACTION_UNKNOWN', `transaction ${txId} is in no block yet`, {
      details: { txId },
    });
  }
  const block = decodeBlock(await store.block(place.height));
  const newest = await store.block(stored.height - 1);
  const { position, historyIndex: index } = place;
  const path = await historyInclusionProof(history.read, index, stored.historySize);
  const envelope = block.envelopes[place.transaction] as Buffer;
  const verdict = block.metadata[metadataIndex.transactionsFilter]?.[place.transaction] as number;
  const hash = historyLeafHash({
    position,
    verdict,
    txId: Buffer.from(txId, 'hex'),
    envelopeHash: sha256(envelope),
  });
  const historyRoot = merkleRootFromSubset(stored.historySize, [{ index, hash }], path);
  // Blocks and their indexes have checksums, so it can only be the files of the tree.
  if (!historyRoot.equals(readProof(decodeBlock(newest)).historyRoot)) {
    await history.truncate(0);
    throw damagedHistory();
  }
  return {
    kind: 'daybook receipt 1',
    txId,
    position,
    verdict,
    height: place.height,
    transaction: place.transaction,
    envelope: envelope.toString('base64'),
    historyIndex: index,
    path: path.map((hash) => hash.toString('hex')),
    block: attestationToJson(attestationOf(newest)),
  };
}

/**
 * Checks a receipt, offline.
 *
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED`
 */
export function verifyReceipt(receipt: Receipt, trust: Trust): ProvenTransaction {
  return untrusted('receipt', () => checkReceipt(receipt, trust));
}

function checkReceipt(receipt: Receipt, trust: Trust): ProvenTransaction {
  const verifier = new IdentityVerifier(trust.msps);
  const attestation = attestationFromJson(receipt.block);
  const proof = verifyAttestation(attestation, trust, verifier);
  const envelope = Buffer.from(receipt.envelope, 'base64');
  const head = readEnvelopeHead(envelope);
  if (head.txId !== receipt.txId) {
    throw new DaybookError('PROOF_INVALID', 'the envelope is of another transaction');
  }
  const position = asPosition(receipt.position);
  const hash = historyLeafHash({
    position,
    verdict: receipt.verdict,
    txId: Buffer.from(receipt.txId, 'hex'),
    envelopeHash: sha256(envelope),
  });
  const path = receipt.path.map((one) => Buffer.from(one, 'hex'));
  const held = [{ index: receipt.historyIndex, hash }];
  if (!merkleRootFromSubset(proof.historySize, held, path).equals(proof.historyRoot)) {
    throw new DaybookError('PROOF_INVALID', 'the transaction is not in the signed history');
  }
  return {
    txId: receipt.txId,
    position,
    verdict: verdictName(receipt.verdict),
    height: attestation.header.number,
    transaction: verifyEnvelope(head, verifier),
  };
}

/**
 * A proof of a key after the newest block.
 *
 * @param rowBefore - the key's row as it was before a position: the newest version below it.
 * @throws {DaybookError} `PROOF_NOT_READY`: ask again after the next block.
 */
export async function makeKeyProof(
  generator: BlockGenerator,
  key: Bytestring,
  rowBefore: (key: Bytestring, position: Position) => Row | undefined,
): Promise<KeyProof> {
  const { store, point } = generator;
  const { updates, root } = generator.pending;
  const proof = provenRow(key, generator.tree.path(key), root, [
    () => rowBefore(key, point.position),
    ...updates.toReversed().map((position) => () => rowBefore(key, position)),
  ]);
  const block = attestationToJson(attestationOf(await store.block(point.height - 1)));
  return { kind: 'daybook key proof 1', proof: stateProofToJson(proof), block };
}

/**
 * Completes a proof with the row that the tree covers: while bulk updates are pending that is the
 * row before them, unless it was written since.
 *
 * @param candidates - give the key's row, newest first.
 * @throws {DaybookError} `PROOF_NOT_READY` when the tree covers none of them.
 */
export function provenRow(
  key: Bytestring,
  path: StateProofPath,
  pendingRoot: Uint8Array,
  candidates: readonly (() => Row | undefined)[],
): StateProof {
  let failure: unknown;
  for (const candidate of candidates) {
    try {
      return completeStateProof(key, path, candidate(), pendingRoot);
    } catch (error) {
      if (!isDaybookError(error, 'PROOF_NOT_READY')) throw error;
      failure = error;
    }
  }
  throw failure;
}

/**
 * Checks a key proof, offline.
 *
 * @returns the row (`undefined`: there is no such key) after block `height`.
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED`
 */
export function verifyKeyProof(keyProof: KeyProof, trust: Trust): ProvenKey {
  return untrusted('key proof', () => checkKeyProof(keyProof, trust));
}

/** What a key proof shows. */
export interface ProvenKey {
  readonly key: Bytestring;
  /** `undefined`: there was no such key. */
  readonly row: ProvenRow;
  /** Number of the block after which it holds. */
  readonly height: number;
}

function checkKeyProof(keyProof: KeyProof, trust: Trust): ProvenKey {
  const attestation = attestationFromJson(keyProof.block);
  const { stateRoot } = verifyAttestation(attestation, trust);
  const proof = stateProofFromJson(keyProof.proof);
  return {
    key: proof.key,
    row: verifyStateProof(stateRoot, proof),
    height: attestation.header.number,
  };
}

/** JSON from somewhere may have any shape: what breaks on it is the sender's fault. */
function untrusted<T>(what: string, check: () => T): T {
  try {
    return check();
  } catch (cause) {
    if (cause instanceof DaybookError) throw cause;
    throw new DaybookError('MALFORMED', `this is no ${what}`, { cause, details: { what } });
  }
}
