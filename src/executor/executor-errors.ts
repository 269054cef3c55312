import { DaybookError } from '../base/index.ts';
import type { Job } from './job.ts';

/** It is on its way to the log, and what became of it is not known in time. */
export function unknownOutcome(txId: Uint8Array): DaybookError {
  return new DaybookError(
    'OUTCOME_UNKNOWN',
    'no answer came before the deadline; look the transaction up by its id',
    { details: { txId: Buffer.from(txId).toString('hex') } },
  );
}

/** A prepared transaction cannot be committed any more. */
export function staleError(txId: Uint8Array): DaybookError {
  return new DaybookError(
    'ENDORSEMENT_STALE',
    'what the transaction read has changed since it was endorsed',
    { details: { txId: Buffer.from(txId).toString('hex') } },
  );
}

/** It has no effect: there was no time left to execute it (again). */
export function conflictError(job: Job): DaybookError {
  return new DaybookError(
    'TRANSACTION_CONFLICT',
    'the transaction was not committed before its deadline',
    { details: { attempts: job.attempts } },
  );
}
