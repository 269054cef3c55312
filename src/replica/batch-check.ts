import {
  AssertionError,
  asBuffer,
  type Bytestring,
  bytestringOf,
  TransitMap,
} from '../base/index.ts';
import {
  type Batch,
  type BatchProof,
  batchSigningBytes,
  type CommitRecord,
  type EntryEndorsement,
  EnvelopeWriter,
  endorsedSource,
  endorsementMessage,
  type Identity,
  type IdentityVerifier,
  identityFromBytes,
  isLowS,
  merkleRootFromSubset,
  notEndorsable,
  type Transaction,
  transactionId,
  transactionLeafHash,
} from '../model/index.ts';

/** A record with what was read out of it. */
export interface ReadRecord {
  readonly record: CommitRecord;
  /** Its index in the entry. */
  readonly index: number;
  /** `undefined` when the transaction's bytes are malformed. */
  readonly transaction: Transaction | undefined;
  /** The batch that was verified at this node with the very same transaction at this leaf. */
  readonly trusted: TrustedBatch | undefined;
}

/** A batch that was verified at this node. */
export interface TrustedBatch {
  readonly batch: Batch;
  /** Transactions of it that have not taken effect. */
  open: number;
}

/** Transactions remembered at most; the oldest ones are forgotten, which costs time only. */
const trustedMax = 50_000;

/**
 * Checks that the creator of a batch signed the records of it that stand in an entry. Remembers
 * what it checked, by the bytes that were checked: a pure function made faster.
 */
export class BatchChecker {
  /** By batch id. */
  readonly #trusted = new TransitMap<Bytestring, TrustedBatch>();
  /** How many transactions they have. */
  #trustedCount = 0;
  readonly #writer = new EnvelopeWriter();
  /** A batch and an identity in an entry that have the same creator. */
  #sameCreator: readonly [Batch?, Uint8Array?] = [];

  /** See `Replica.trustBatch`. */
  trust(batch: Batch): void {
    const id = bytestringOf(batch.batchId);
    this.#distrust(id);
    this.#trusted.set(id, { batch, open: batch.items.length });
    this.#trustedCount += batch.items.length;
    for (const oldest of this.#trusted.keys()) {
      if (this.#trustedCount <= trustedMax) break;
      this.#distrust(oldest);
    }
  }

  #distrust(id: Bytestring): void {
    const trusted = this.#trusted.delete(id);
    if (trusted !== undefined) this.#trustedCount -= trusted.batch.items.length;
  }

  /** What is remembered under the id of this batch: it may be another one all the same. */
  trusted({ batchId }: BatchProof): TrustedBatch | undefined {
    return this.#trusted.size === 0 ? undefined : this.#trusted.get(bytestringOf(batchId));
  }

  /** True when the record's id is SHA-256(nonce ‖ creator). */
  hasRightId(
    { record, trusted }: ReadRecord,
    transaction: Transaction,
    creatorBytes: Uint8Array,
  ): boolean {
    // The id was made from this nonce and the batch's creator when the batch came in.
    if (trusted !== undefined && this.#hasCreator(trusted.batch, creatorBytes)) return true;
    return transactionId(transaction.nonce, creatorBytes).equals(record.txId);
  }

  /** Compared once for all records of a batch in an entry. */
  #hasCreator(batch: Batch, creatorBytes: Uint8Array): boolean {
    const [knownBatch, knownCreator] = this.#sameCreator;
    if (batch === knownBatch && creatorBytes === knownCreator) return true;
    if (!asBuffer(creatorBytes).equals(batch.creatorBytes)) return false;
    this.#sameCreator = [batch, creatorBytes];
    return true;
  }

  /**
   * Checks the creator's certificate and signature for the records of one batch in an entry.
   *
   * @param identities - the entry's.
   * @param reads - the records of the batch in entry order.
   * @returns whose batch it is, and per record whether it holds; `undefined`: none does. Signed
   *   singly, also who endorsed it; `''`: nobody did.
   */
  check(
    channel: string,
    proof: BatchProof,
    identities: readonly Uint8Array[],
    reads: readonly ReadRecord[],
    verifier: IdentityVerifier,
  ): { mspId: string; holds: readonly boolean[]; endorserMspId?: string } | undefined {
    try {
      const creatorBytes = identities[proof.creator] as Uint8Array;
      const creator = identityFromBytes(creatorBytes);
      if (proof.mode === 'single') {
        return this.#checkSingle(proof, { creator, creatorBytes }, identities, reads, verifier);
      }
      const holds = this.#holds(channel, proof, { creator, creatorBytes }, reads, verifier);
      return { mspId: creator.mspId, holds };
    } catch (error) {
      if (error instanceof AssertionError) throw error;
      // Malformed identity or proof.
      return undefined;
    }
  }

  #holds(
    channel: string,
    proof: BatchProof,
    { creator, creatorBytes }: { creator: Identity; creatorBytes: Uint8Array },
    reads: readonly ReadRecord[],
    verifier: IdentityVerifier,
  ): readonly boolean[] {
    const none = (): boolean[] => reads.map(() => false);
    const inTime = identityHolds(verifier, creator, reads);
    if (!inTime.includes(true)) return inTime;
    const signature = proof.signatures[0];
    if (signature === undefined || proof.signatures.length !== 1) return none();
    if (this.#isTrusted(channel, proof, creatorBytes, signature, reads)) return inTime;
    const held = reads
      .map(({ record }) => ({
        index: record.leaf,
        hash: transactionLeafHash(record.txId, record.transactionBytes),
      }))
      .sort((left, right) => left.index - right.index);
    const root = merkleRootFromSubset(proof.size, held, proof.proof);
    const message = batchSigningBytes(channel, proof.batchId, proof.size, root);
    return isSigned(verifier, creator, message, signature) ? inTime : none();
  }

  /**
   * Makes what was signed from the record, and checks both signatures as Fabric's peers do: the
   * creator's over the payload, the endorser's over what came out of the call.
   */
  #checkSingle(
    proof: BatchProof,
    { creator, creatorBytes }: { creator: Identity; creatorBytes: Uint8Array },
    identities: readonly Uint8Array[],
    reads: readonly ReadRecord[],
    verifier: IdentityVerifier,
  ): { mspId: string; holds: readonly boolean[]; endorserMspId: string } | undefined {
    const [signature] = proof.signatures;
    const [read] = reads;
    const { endorser, signature: endorsed, versions } = proof.endorsement as EntryEndorsement;
    if (signature === undefined || read?.transaction === undefined) return undefined;
    const { record, transaction } = read;
    const alone =
      proof.signatures.length === 1 &&
      proof.size === 1 &&
      proof.proof.length === 0 &&
      reads.length === 1 &&
      record.leaf === 0;
    if (!alone || notEndorsable(record, transaction) !== undefined) return undefined;
    const endorserBytes = identities[endorser] as Uint8Array;
    const endorsement = { endorser: endorserBytes, signature: endorsed, versions };
    const source = endorsedSource(record, transaction, creatorBytes, endorsement);
    if (source === undefined || identityHolds(verifier, creator, reads)[0] !== true) {
      return undefined;
    }
    const payload = this.#writer.payload(source);
    if (!isLowS(signature) || !isSigned(verifier, creator, payload, signature)) return undefined;
    const endorserIdentity = identityFromBytes(endorserBytes);
    const message = endorsementMessage(this.#writer.responsePayload(source), endorserBytes);
    const isEndorsed =
      isLowS(endorsed) &&
      identityHolds(verifier, endorserIdentity, reads)[0] === true &&
      isSigned(verifier, endorserIdentity, message, endorsed);
    const endorserMspId = isEndorsed ? endorserIdentity.mspId : '';
    return { mspId: creator.mspId, holds: [true], endorserMspId };
  }

  /** Transactions of a batch took effect: one that has no others is forgotten. */
  tookEffect(trusted: TrustedBatch): void {
    trusted.open--;
    if (trusted.open > 0) return;
    const id = bytestringOf(trusted.batch.batchId);
    if (this.#trusted.get(id) === trusted) this.#distrust(id);
  }

  /**
   * True when all records are of one batch that was verified here, and what proves that its
   * creator signed them is what proves it of that batch.
   */
  #isTrusted(
    channel: string,
    proof: BatchProof,
    creatorBytes: Uint8Array,
    signature: Uint8Array,
    reads: readonly ReadRecord[],
  ): boolean {
    const trusted = reads[0]?.trusted;
    const batch = trusted?.batch;
    const same =
      batch !== undefined &&
      batch.mode === 'batch' &&
      batch.channel === channel &&
      batch.tree.size === proof.size &&
      asBuffer(batch.batchId).equals(proof.batchId) &&
      asBuffer(batch.signature).equals(signature) &&
      this.#hasCreator(batch, creatorBytes);
    if (!same) return false;
    const leaves: number[] = [];
    for (const read of reads) {
      if (read.trusted !== trusted) return false;
      leaves.push(read.record.leaf);
    }
    leaves.sort((left, right) => left - right);
    const once = leaves.every((leaf, at) => leaf !== leaves[at - 1]);
    return once && batch.tree.isSubsetProof(leaves, proof.proof);
  }
}

function isSigned(
  verifier: IdentityVerifier,
  identity: Identity,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  try {
    verifier.checkSignature(identity, message, signature);
    return true;
  } catch {
    // Whatever OpenSSL makes of the bytes: they are no valid signature.
    return false;
  }
}

/** Per record, whether the certificate holds at the transaction's own time. */
function identityHolds(
  verifier: IdentityVerifier,
  creator: Identity,
  reads: readonly ReadRecord[],
): boolean[] {
  let least = Number.POSITIVE_INFINITY;
  let greatest = 0;
  for (const { transaction } of reads) {
    if (transaction === undefined) continue;
    least = Math.min(least, transaction.timestampMs);
    greatest = Math.max(greatest, transaction.timestampMs);
  }
  if (least > greatest) return reads.map(() => false);
  const holdsAt = (timeMs: number): boolean => {
    try {
      verifier.checkIdentity(creator, timeMs);
      return true;
    } catch {
      return false;
    }
  };
  // Validity is one interval: who holds at both ends holds in between.
  const all = holdsAt(least) && holdsAt(greatest);
  return reads.map(
    ({ transaction }) => transaction !== undefined && (all || holdsAt(transaction.timestampMs)),
  );
}
