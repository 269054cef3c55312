import { DaybookError, type ErrorJson, isDaybookError } from '../base/index.ts';
import { type Io, noAnswerFrom, pause } from '../io/index.ts';
import { type Outcome, type Signer, type SigningMode, signBatch } from '../model/index.ts';
import type { Balancer } from './balancer.ts';
import type { PendingCall } from './call.ts';
import { chainsOf, overtaken } from './chain.ts';
import { CallResult } from './result.ts';
import { AttemptLost, type Door, type Transport } from './transport.ts';

/** What deliveries of one client share. */
export interface DeliveryContext {
  readonly io: Pick<Io, 'clock' | 'timers' | 'random'>;
  readonly transport: Transport;
  readonly balancer: Balancer;
  readonly signer: Signer;
  readonly channel: string;
  readonly door: Door;
  readonly mode: SigningMode;
  /** The longest one gateway may take before another is tried, milliseconds. */
  readonly attemptMs: number;
  /** The highest position this client saw committed; kept by the delivery. */
  readonly horizon: { position: number | undefined };
  /** Aborts when the client closes. */
  readonly closing: AbortSignal;
}

/**
 * How long a refusal is doubted after an attempt whose fate is unknown: that attempt may have
 * committed the transaction already, and the refusing node not have read it yet.
 */
const doubtMs = 2_000;

/** The longest attempt with a chain: when it is lost, its end must be waited for. */
const chainAttemptMs = 2_000;
/** From an attempt's end until every node knows what it wrote. */
const settleMs = 500;
const statusMs = 2_000;

/**
 * Brings one batch to its end: sends the same signed bytes to one gateway after another until every
 * call has its outcome or its deadline has passed. Calls that are left over when some have theirs
 * are signed as a new batch of the same transactions: their ids stay, so none takes effect twice,
 * and those that were refused are not executed again.
 */
export class Delivery {
  readonly #context: DeliveryContext;
  readonly #onUnknown: (call: PendingCall) => void;
  /** Calls without an outcome, in order. */
  #open: PendingCall[];
  #bytes: Buffer;
  /** When an attempt was last lost that makes a refusal doubtful; `undefined`: none was. */
  #lostMs: number | undefined;
  /**
   * An attempt was lost: what it left with a node whose log takes nothing at present is written when it
   * does again, however late that is.
   */
  #mayTakeEffect = false;
  /** When a lost attempt with chains is over; `undefined`: none is to be looked into. */
  #settledAtMs: number | undefined;
  /** Of the last attempt. */
  #lastError: DaybookError | undefined;

  /**
   * @param onUnknown - hears of every call that ends in `OUTCOME_UNKNOWN`.
   * @throws {DaybookError} when the batch cannot be signed.
   */
  constructor(
    context: DeliveryContext,
    calls: readonly PendingCall[],
    onUnknown: (call: PendingCall) => void,
  ) {
    this.#context = context;
    this.#onUnknown = onUnknown;
    this.#open = [...calls];
    this.#bytes = this.#sign();
  }

  /** Resolves when every call is resolved or rejected. */
  async run(): Promise<void> {
    while (this.#dropOverdue()) {
      const { clock } = this.#context.io;
      const nowMs = clock.monotonicMs();
      const { gateway, delayMs } = this.#context.balancer.pick(nowMs);
      const leftMs = earliestDeadline(this.#open) - nowMs;
      if (delayMs > leftMs) {
        await this.#pause(leftMs);
        continue;
      }
      if (delayMs > 0) await this.#pause(delayMs);
      if (!this.#dropOverdue()) return;
      if (this.#settledAtMs === undefined) await this.#attempt(gateway);
      else await this.#lookInto(gateway, this.#settledAtMs);
    }
  }

  /** Finds out what a lost attempt did, before anything with an order is sent again. */
  async #lookInto(gateway: string, settledAtMs: number): Promise<void> {
    const { io, transport, balancer } = this.#context;
    const waitMs = settledAtMs - io.clock.monotonicMs();
    if (waitMs > 0) {
      await this.#pause(waitMs);
      return;
    }
    let failed = false;
    balancer.started(gateway, 0);
    try {
      for (const chain of chainsOf(this.#open)) {
        const passed = new Set(await overtaken(transport, gateway, chain, statusMs));
        for (const call of passed) call.reject(overtakenError(call));
        this.#open = this.#open.filter((call) => !passed.has(call));
      }
      // What the attempt did not do by now it hardly will.
      this.#settledAtMs = undefined;
      this.#lostMs = undefined;
    } catch {
      failed = true;
    }
    balancer.ended(gateway, 0, failed, io.clock.monotonicMs(), io.random.number());
    if (this.#open.length > 0) this.#bytes = this.#sign();
  }

  async #attempt(gateway: string): Promise<void> {
    const { io, transport, balancer, door, attemptMs, horizon } = this.#context;
    const calls = this.#open;
    const outcomes: (Outcome | undefined)[] = Array.from({ length: calls.length });
    const settled = new Uint8Array(calls.length);
    const onOutcome = (index: number, outcome: Outcome): void => {
      outcomes[index] = outcome;
      const call = calls[index] as PendingCall;
      if (outcome.status === 'committed') {
        settled[index] = 1;
        const { position } = outcome;
        if (door === 'batches' && position > (horizon.position ?? -1)) horizon.position = position;
        call.resolve(new CallResult(call.txId, position, outcome.result));
      } else if (!this.#mayRetry(outcome.error)) {
        settled[index] = 1;
        call.reject(errorOf(outcome.error, call));
      }
    };
    const startMs = io.clock.monotonicMs();
    const mostMs = chainsOf(calls).length > 0 ? Math.min(chainAttemptMs, attemptMs) : attemptMs;
    const waitMs = Math.min(mostMs, earliestDeadline(calls) - startMs);
    balancer.started(gateway, calls.length);
    let lost: unknown;
    try {
      await transport.send(gateway, {
        door,
        bytes: this.#bytes,
        count: calls.length,
        waitMs,
        after: horizon.position,
        onOutcome,
      });
    } catch (error) {
      lost = error;
    }
    const nowMs = io.clock.monotonicMs();
    this.#open = calls.filter((_call, index) => settled[index] === 0);
    // Without a loss everything has an outcome, so what is open was turned down for the moment.
    const failed = isDaybookError(lost) ? lost.retry === 'same' : this.#open.length > 0;
    balancer.ended(gateway, calls.length, failed, nowMs, io.random.number());
    if (lost !== undefined) this.#note(lost, gateway);
    if (this.#open.length > 0) this.#keepOpen(calls, outcomes, settled);
    const uncertain = this.#lostMs !== undefined && this.#lostMs >= startMs;
    if (door === 'batches' && uncertain && chainsOf(this.#open).length > 0) {
      this.#settledAtMs = startMs + waitMs + settleMs;
    }
  }

  /** A refusal is final, unless an earlier attempt may have committed behind it. */
  #mayRetry(error: ErrorJson): boolean {
    if (error.retry === 'same') return true;
    if (this.#lostMs === undefined || this.#context.door === 'evaluate') return false;
    return this.#context.io.clock.monotonicMs() - this.#lostMs < doubtMs;
  }

  /** Learns from an attempt that ended without all outcomes. */
  #note(lost: unknown, gateway: string): void {
    if (lost instanceof AttemptLost) {
      if (lost.delivered) this.#lose();
      this.#lastError = noAnswerFrom(gateway, lost);
    } else if (isDaybookError(lost)) {
      this.#lastError = lost;
      if (lost.retry !== 'same') this.#rejectAll(() => lost);
    } else {
      this.#rejectAll(() => new DaybookError('INTERNAL', String(lost), { cause: lost }));
    }
  }

  #lose(): void {
    this.#lostMs = this.#context.io.clock.monotonicMs();
    this.#mayTakeEffect = true;
  }

  #keepOpen(
    calls: readonly PendingCall[],
    outcomes: readonly (Outcome | undefined)[],
    settled: Uint8Array,
  ): void {
    const open: PendingCall[] = [];
    // From the end: a call may only be tried again while nothing after it in its order has ended.
    const passed = new Set<string>();
    for (let index = calls.length - 1; index >= 0; index--) {
      const call = calls[index] as PendingCall;
      const outcome = outcomes[index];
      if (settled[index] === 1) {
        if (call.orderingKey !== '') passed.add(call.orderingKey);
        continue;
      }
      if (outcome?.status === 'rejected') {
        if (outcome.error.code === 'OUTCOME_UNKNOWN') {
          this.#lose();
        }
        this.#lastError = DaybookError.fromJSON(outcome.error);
      }
      if (passed.has(call.orderingKey)) call.reject(this.#failure(call));
      else open.push(call);
    }
    const changed = open.length < calls.length;
    this.#open = open.reverse();
    if (changed && open.length > 0) this.#bytes = this.#sign();
  }

  /** Rejects what is past its deadline; true while calls are open. */
  #dropOverdue(): boolean {
    if (this.#open.length === 0) return false;
    if (this.#context.closing.aborted) {
      this.#rejectAll((call) =>
        this.#mayTakeEffect
          ? this.#failure(call)
          : new DaybookError('CLOSED', 'the client was closed', { details: { txId: call.txId } }),
      );
      return false;
    }
    const nowMs = this.#context.io.clock.monotonicMs();
    if (this.#open.every((call) => call.deadlineMs > nowMs)) return true;
    const open = this.#open.filter((call) => call.deadlineMs > nowMs);
    for (const call of this.#open) {
      if (call.deadlineMs <= nowMs) call.reject(this.#failure(call));
    }
    this.#open = open;
    if (open.length > 0) this.#bytes = this.#sign();
    return open.length > 0;
  }

  /** The error of a call that is given up. */
  #failure(call: PendingCall): DaybookError {
    const cause = this.#lastError ?? new DaybookError('TIMEOUT', 'not sent before the deadline');
    const { code, message, details } = cause;
    if (this.#mayTakeEffect && this.#context.door === 'batches') {
      this.#onUnknown(call);
      return new DaybookError('OUTCOME_UNKNOWN', `no answer came before the deadline: ${message}`, {
        cause,
        details: { txId: call.txId, lastCode: code, lastMessage: message },
      });
    }
    return new DaybookError(code, message, { details: { ...details, txId: call.txId } });
  }

  #rejectAll(error: (call: PendingCall) => DaybookError): void {
    for (const call of this.#open) call.reject(error(call));
    this.#open = [];
  }

  /** Signs the open calls; makes their transactions the first time. */
  #sign(): Buffer {
    const { io, channel, signer, door } = this.#context;
    const nonceBytes = 24;
    const random = io.random.bytes(16 + nonceBytes * this.#open.length);
    const timestampMs = io.clock.nowMs();
    let at = 16;
    const calls = this.#open.map((call) => {
      const { contract, contractVersion, functionName, args, orderingKey } = call;
      call.transaction ??= {
        channel,
        contract,
        contractVersion,
        functionName,
        args,
        nonce: random.subarray(at, at + nonceBytes),
        timestampMs,
      };
      at += nonceBytes;
      return { transaction: call.transaction, orderingKey };
    });
    const purpose = door === 'batches' ? 'submit' : 'evaluate';
    const batchId = random.subarray(0, 16);
    const { bytes, txIds } = signBatch(signer, channel, batchId, calls, purpose);
    for (let index = 0; index < txIds.length; index++) {
      (this.#open[index] as PendingCall).txId = txIds[index] as string;
    }
    return bytes;
  }

  #pause(delayMs: number): Promise<void> {
    const { io, closing } = this.#context;
    return pause(io, delayMs, { signal: closing, keepAlive: true });
  }
}

function overtakenError(call: PendingCall): DaybookError {
  return new DaybookError(
    'TRANSACTION_CONFLICT',
    'not done; why was lost with a connection, and a later call of the same ordering key is done',
    { details: { txId: call.txId, orderingKey: call.orderingKey } },
  );
}

function errorOf(error: ErrorJson, call: PendingCall): DaybookError {
  const details = { ...error.details, txId: call.txId };
  return DaybookError.fromJSON({ ...error, details });
}

function earliestDeadline(calls: readonly PendingCall[]): number {
  return calls.reduce((least, call) => Math.min(least, call.deadlineMs), Infinity);
}
