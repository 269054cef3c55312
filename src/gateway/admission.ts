import { DaybookError, type LimitName, limits } from '../base/index.ts';
import {
  type Batch,
  type BatchPurpose,
  lifecycleNamespace,
  untimely,
  verifyBatch,
  verifyReadToken,
} from '../model/index.ts';
import type { GatewayBackend } from './backend.ts';

/**
 * Checks everything about a batch that can be checked before it executes: channel, signatures,
 * certificate, and the rights of the creator's MSP.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT` (channel), `IDENTITY_UNKNOWN`, `SIGNATURE_INVALID`,
 *   `ACCESS_DENIED`
 */
export function admitBatch(backend: GatewayBackend, batch: Batch): void {
  admit(backend, batch, 'submit');
}

/**
 * The same for a transaction that is to be prepared. Its own signature comes later.
 *
 * @throws {DaybookError} as {@link admitBatch}
 */
export function admitPreparation(backend: GatewayBackend, batch: Batch): void {
  admit(backend, batch, 'prepare');
}

function admit(backend: GatewayBackend, batch: Batch, purpose: BatchPurpose): void {
  checkChannel(backend, batch);
  const { access } = backend.config();
  const { mspId } = batch.creator;
  verifyBatch(batch, backend.verifier(), purpose);
  for (const { transaction } of batch.items) {
    const right = transaction.contract === lifecycleNamespace ? 'deploy' : 'submit';
    if (!access[right].includes(mspId)) {
      throw new DaybookError('ACCESS_DENIED', `${mspId} may not ${right} on this channel`, {
        details: { mspId, right, channel: batch.channel },
      });
    }
  }
}

/**
 * Checks calls that are to be evaluated: any identity of the channel's MSPs may, and what was signed
 * long ago does not count.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`, `IDENTITY_UNKNOWN`, `SIGNATURE_INVALID`,
 *   `TRANSACTION_EXPIRED`, `CLOCKS_APART`
 */
export function admitEvaluation(backend: GatewayBackend, batch: Batch, nowMs: number): void {
  checkChannel(backend, batch);
  verifyBatch(batch, backend.verifier(), 'evaluate');
  const lifetimeMs = backend.config().transactionLifetimeMs;
  for (const { transaction } of batch.items) {
    const refusal = untimely(transaction.timestampMs, nowMs, backend.logTimeMs(), lifetimeMs);
    if (refusal !== undefined) throw refusal;
  }
}

/**
 * Checks who reads, by the `authorization` header. With `open` everybody may.
 *
 * @throws {DaybookError} `SIGNATURE_INVALID` without a token, else as `verifyReadToken`
 */
export function admitReader(
  backend: GatewayBackend,
  authorization: string | undefined,
  open: boolean,
  nowMs: number,
): void {
  if (open) return;
  const token = /^daybook ([\w-]+)$/i.exec(authorization ?? '')?.[1];
  if (token === undefined) {
    throw new DaybookError('SIGNATURE_INVALID', 'reading needs a signed read token', {
      details: { header: 'authorization' },
    });
  }
  verifyReadToken(token, backend.channel, backend.verifier(), nowMs);
}

/**
 * The deadline that a client gave, in milliseconds from now.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function readDeadlineMs(value: unknown): number {
  if (value === undefined) return deadlineMsDefault;
  return readInteger('deadlineMs', value, 1, limits.gatewayDeadlineMsMax);
}

const deadlineMsDefault = 10_000;

/**
 * A decimal integer of a query or header.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function readInteger(what: string, value: unknown, min: number, max: number): number {
  const number = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : Number.NaN;
  if (!(number >= min && number <= max)) {
    throw new DaybookError('INVALID_ARGUMENT', `${what} is an integer from ${min} to ${max}`, {
      details: { what, min, max },
    });
  }
  return number;
}

function checkChannel(backend: GatewayBackend, batch: Batch): void {
  if (batch.channel === backend.channel) return;
  throw new DaybookError('INVALID_ARGUMENT', 'the batch is for another channel', {
    details: { what: 'channel', expected: backend.channel, actual: batch.channel },
  });
}

/** Counts what is under way, up to a limit. */
export class Bounded {
  readonly #limit: LimitName;
  readonly #max: number;
  #count = 0;

  constructor(limit: LimitName, max: number = limits[limit]) {
    this.#limit = limit;
    this.#max = max;
  }

  get count(): number {
    return this.#count;
  }

  /** @throws {DaybookError} `OVERLOADED` naming the limit */
  enter(): void {
    if (this.#count >= this.#max) {
      throw new DaybookError('OVERLOADED', `${this.#limit} is ${this.#max}`, {
        details: { limit: this.#limit, max: this.#max },
      });
    }
    this.#count++;
  }

  leave(): void {
    this.#count--;
  }
}
