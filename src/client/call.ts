import { checkLimit, DaybookError } from '../base/index.ts';
import type { Transaction, TxId } from '../model/index.ts';
import type { QueuedCall } from './call-queue.ts';
import type { CallResult } from './result.ts';

/** Options of one call. */
export interface CallOptions {
  /**
   * Calls with the same key take effect in the order in which they were made, through batches,
   * retries and failover. Empty: no order.
   */
  readonly orderingKey?: string;
  /** Pins a deployed version of the contract. */
  readonly contractVersion?: string;
  /** How long to try, milliseconds. Default: the client's `deadlineMs`. */
  readonly deadlineMs?: number;
}

/** One call from `submit` or `evaluate` to its end. */
export interface PendingCall extends QueuedCall {
  readonly contract: string;
  readonly contractVersion: string;
  readonly functionName: string;
  readonly args: readonly Uint8Array[];
  /** Monotonic. */
  readonly deadlineMs: number;
  readonly resolve: (result: CallResult) => void;
  readonly reject: (error: DaybookError) => void;
  /** Made when the call first goes into a batch, and kept through all retries. */
  transaction: Transaction | undefined;
  txId: TxId;
}

const callOverheadBytes = 256;

/**
 * Checks for programs without types that names are texts.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function checkTexts(values: Readonly<Record<string, unknown>>): void {
  for (const what in values) {
    if (typeof values[what] === 'string') continue;
    throw new DaybookError('INVALID_ARGUMENT', `${what} is not a string`, { details: { what } });
  }
}

/**
 * The arguments of a call as bytes. One of a wrong type would fail all calls of its batch.
 *
 * @throws {DaybookError} `INVALID_ARGUMENT`
 */
export function argumentBytes(args: readonly (string | Uint8Array)[]): Uint8Array[] {
  return args.map((arg, index) => {
    if (typeof arg === 'string') return Buffer.from(arg, 'utf8');
    if (arg instanceof Uint8Array) return arg;
    const message = `argument ${index} is neither a string nor bytes: ${typeof arg}`;
    throw new DaybookError('INVALID_ARGUMENT', message, { details: { what: `args[${index}]` } });
  });
}

/**
 * Checks what a call contributes to a batch, so that it cannot spoil the batch for others, and
 * estimates its size.
 *
 * @throws {DaybookError} `LIMIT_EXCEEDED`
 */
export function measureCall(names: readonly string[], args: readonly Uint8Array[]): number {
  let bytes = callOverheadBytes;
  for (const name of names) {
    // Most names are short whatever their characters.
    if (name.length > 32) checkLimit('nameBytesMax', Buffer.byteLength(name));
    bytes += name.length;
  }
  checkLimit('argumentsMax', args.length);
  for (const argument of args) {
    checkLimit('argumentBytesMax', argument.length);
    bytes += 4 + argument.length;
  }
  checkLimit('batchBytesMax', bytes);
  return bytes;
}
