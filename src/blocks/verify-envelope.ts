import { DaybookError } from '../base/index.ts';
import {
  batchSigningBytes,
  encodeTransaction,
  type IdentityVerifier,
  identityFromBytes,
  merkleRootFromSubset,
  sha256,
  singleSigningBytes,
  transactionLeafHash,
} from '../model/index.ts';
import {
  type EndorserTransaction,
  type EnvelopeHead,
  readEndorserTransaction,
} from './fabric/read-envelope.ts';

/**
 * Checks that the creator named in an envelope signed the very call that the envelope shows: the
 * transaction is put together again from the envelope's fields, and its leaf must lead to what was
 * signed.
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
  if (signing === undefined) throw invalid(head, 'there is no signing proof');
  const signed = signedTransaction(head, transaction);
  const hash = transactionLeafHash(txId, signed);
  const message =
    signing.mode === 'single'
      ? singleSigningBytes(hash)
      : batchSigningBytes(
          head.channel,
          signing.batchId,
          signing.size,
          merkleRootFromSubset(signing.size, [{ index: signing.leaf, hash }], signing.path),
        );
  const creator = identityFromBytes(head.creator);
  try {
    verifier.checkIdentity(creator, head.timestampMs);
    verifier.checkSignature(creator, message, head.signature);
  } catch (cause) {
    throw invalid(head, 'the client’s signature', cause);
  }
  return transaction;
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
