/**
 * What replay found about a record. Pure function of the log prefix (invariant I3). The numbers are
 * Fabric's `TxValidationCode` where Fabric has the case, so that block filters need no mapping.
 */
export const verdicts = {
  valid: 0,
  /** The creator's certificate or signature, or a right to do this, is missing. */
  badCreatorSignature: 4,
  /** Malformed record. */
  invalidTransaction: 5,
  /** A transaction id that is not SHA-256(nonce ‖ creator). */
  badTransactionId: 8,
  /** The transaction id took effect before. */
  duplicateTransactionId: 9,
  /** Signed singly, and whoever endorsed it did not sign it or may not endorse. */
  endorsementPolicy: 10,
  /** A key was read in a version that is no longer the last. */
  readConflict: 11,
  /** A range that was read has changed. */
  phantomReadConflict: 12,
  /** The record is of another channel. */
  wrongChannel: 14,
  /** The contract is not deployed, or in another version than the one that ran. */
  contractVersion: 25,
  /** Log time is outside the transaction's lifetime. */
  expired: 254,
} as const;

/** Name of a verdict. */
export type Verdict = keyof typeof verdicts;

/** Fabric's number of a verdict. */
export type VerdictCode = (typeof verdicts)[Verdict];

const names = new Map<number, Verdict>(
  Object.entries(verdicts).map(([name, code]) => [code, name as Verdict]),
);

/** The name of a verdict's number. */
export function verdictName(code: number): Verdict {
  return names.get(code) ?? 'invalidTransaction';
}

/** Verdicts after which an executor may execute the same transaction again. */
export function isRetryable(code: VerdictCode): boolean {
  return (
    code === verdicts.readConflict ||
    code === verdicts.phantomReadConflict ||
    code === verdicts.contractVersion
  );
}
