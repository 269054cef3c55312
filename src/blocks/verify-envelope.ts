import { DaybookError } from '../base/index.ts';
import {
  batchSigningBytes,
  type EndorserTransaction,
  type EnvelopeHead,
  encodeTransaction,
  endorsementMessage,
  type IdentityVerifier,
  identityFromBytes,
  merkleRootFromSubset,
  readEndorserTransaction,
  type SigningProof,
  sha256,
  transactionLeafHash,
} from '../model/index.ts';

/**
 * Checks that the creator named in an envelope signed the very call that the envelope shows. Signed
 * with its batch: the transaction is put together again from the envelope's fields, and its leaf
 * must lead to what was signed. Signed singly: the payload is what was signed, endorsements included.
 *
 * @returns what the transaction did.
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED`
 */
export function verifyEnvelope(
  head: EnvelopeHead,
  verifier: IdentityVerifier,
): EndorserTransaction {
  const { signing } = head;
  const transaction = readEndorserTransaction(head.data);
  const proposal = sha256(
    head.channelHeader,
    head.signatureHeader,
    transaction.chaincodeProposalPayload,
  );
  if (!proposal.equals(transaction.proposalHash)) throw invalid(head, 'the proposal hash');
  const txId = sha256(head.nonce, head.creator);
  if (txId.toString('hex') !== head.txId) throw invalid(head, 'the transaction id');
  const message = signing === undefined ? head.payload : batchMessage(head, signing, transaction);
  const creator = identityFromBytes(head.creator);
  try {
    verifier.checkIdentity(creator, head.timestampMs);
    verifier.checkSignature(creator, message, head.signature);
  } catch (cause) {
    throw invalid(head, 'the client’s signature', cause);
  }
  if (signing === undefined) verifyEndorsements(head, transaction, verifier);
  return transaction;
}

/** What was signed for a whole batch, from this transaction and its path to the batch's root. */
function batchMessage(
  head: EnvelopeHead,
  { batchId, size, leaf, path }: SigningProof,
  transaction: EndorserTransaction,
): Buffer {
  const txId = Buffer.from(head.txId, 'hex');
  const hash = transactionLeafHash(txId, signedTransaction(head, transaction));
  const root = merkleRootFromSubset(size, [{ index: leaf, hash }], path);
  return batchSigningBytes(head.channel, batchId, size, root);
}

/** Signed singly, a transaction is endorsed: whoever executed it signed what came out. */
function verifyEndorsements(
  head: EnvelopeHead,
  { endorsements, proposalResponsePayload }: EndorserTransaction,
  verifier: IdentityVerifier,
): void {
  if (endorsements.length === 0) throw invalid(head, 'there is no endorsement, which');
  for (const { endorser, signature } of endorsements) {
    try {
      const identity = identityFromBytes(endorser);
      const message = endorsementMessage(proposalResponsePayload, endorser);
      verifier.checkIdentity(identity, head.timestampMs);
      verifier.checkSignature(identity, message, signature);
    } catch (cause) {
      throw invalid(head, 'an endorsement', cause);
    }
  }
}

/** The transaction's bytes as they were signed, put together again from its envelope. */
export function signedTransaction(
  head: EnvelopeHead,
  transaction: EndorserTransaction,
): Uint8Array {
  const given = head.signing?.transactionBytes;
  if (given !== undefined && given.length > 0) return given;
  const [functionName, ...args] = transaction.args;
  return encodeTransaction({
    channel: head.channel,
    contract: transaction.contract,
    contractVersion: transaction.contractVersionAsked,
    functionName: (functionName ?? Buffer.alloc(0)).toString('utf8'),
    args,
    nonce: head.nonce,
    timestampMs: head.timestampMs,
  });
}

function invalid(head: EnvelopeHead, what: string, cause?: unknown): DaybookError {
  return new DaybookError('PROOF_INVALID', `transaction ${head.txId}: ${what} does not hold`, {
    cause,
    details: { txId: head.txId, what },
  });
}
