import { bytestringOf, DaybookError, toDaybookError } from '../base/index.ts';
import { pause } from '../io/index.ts';
import {
  asPosition,
  batchMediaType,
  checkPayload,
  type EndorserTransaction,
  identityBytes,
  isErrorJson,
  type Position,
  signBatch,
} from '../model/index.ts';
import type { PendingCall } from './call.ts';
import type { DeliveryContext } from './delivery.ts';
import { CallResult } from './result.ts';

const statusMs = 2_000;
const pauseMsMin = 5;
const pauseMsMax = 500;

/** What an attempt came to. */
type Step =
  | { readonly kind: 'done' }
  /** Nothing took effect and nothing will: from the beginning, as a new transaction. */
  | { readonly kind: 'again'; readonly error: DaybookError }
  /** It may have taken effect. */
  | { readonly kind: 'unknown'; readonly error: DaybookError };

interface Prepared {
  readonly gateway: string;
  readonly signature: Buffer;
  readonly done: EndorserTransaction;
}

/**
 * Brings one call to its end that is signed singly, in two steps as in Fabric: a node executes and
 * endorses it, then the signature over what came out is sent to the same node. When what it read has
 * changed in between, the call begins again with another nonce: for Fabric's peers, a transaction id
 * is spent once it stands in a block, valid or not. While an answer is missing nothing begins again.
 */
export class SingleDelivery {
  readonly #context: DeliveryContext;
  readonly #call: PendingCall;
  readonly #onUnknown: (call: PendingCall) => void;
  #pauseMs = pauseMsMin;

  /** @param onUnknown - hears of it when the call ends in `OUTCOME_UNKNOWN`. */
  constructor(context: DeliveryContext, call: PendingCall, onUnknown: (call: PendingCall) => void) {
    this.#context = context;
    this.#call = call;
    this.#onUnknown = onUnknown;
  }

  /** Resolves when the call is resolved or rejected. */
  async run(): Promise<void> {
    let error = new DaybookError('TIMEOUT', 'not sent before the deadline');
    while (this.#hasTime()) {
      const step = await this.#try();
      if (step.kind === 'done') return;
      error = step.error;
      if (step.kind === 'unknown') {
        this.#onUnknown(this.#call);
        const { code, message } = error;
        error = new DaybookError(
          'OUTCOME_UNKNOWN',
          `no answer came before the deadline: ${message}`,
          { cause: error, details: { lastCode: code, lastMessage: message } },
        );
        break;
      }
      await this.#pause();
    }
    if (this.#context.closing.aborted && error.code !== 'OUTCOME_UNKNOWN') {
      error = new DaybookError('CLOSED', 'the client was closed');
    }
    // What kept changing until the deadline is a conflict like any other.
    const code = error.code === 'ENDORSEMENT_STALE' ? 'TRANSACTION_CONFLICT' : error.code;
    this.#reject(new DaybookError(code, error.message, { cause: error, details: error.details }));
  }

  async #try(): Promise<Step> {
    const { io, balancer, closing } = this.#context;
    const { gateway, delayMs } = balancer.pick(io.clock.monotonicMs());
    if (delayMs > 0) await pause(io, delayMs, { signal: closing, keepAlive: true });
    let failed = false;
    balancer.started(gateway, 1);
    try {
      const prepared = await this.#prepare(gateway);
      const step = await this.#send(prepared);
      failed = step.kind !== 'done' && step.error.retry === 'same';
      return step;
    } catch (thrown) {
      // Nothing was sent to be committed, whatever happened.
      const error = toDaybookError(thrown);
      failed = error.retry === 'same' || error.code === 'PROOF_NOT_READY';
      if (failed) return { kind: 'again', error };
      this.#reject(error);
      return { kind: 'done' };
    } finally {
      balancer.ended(gateway, 1, failed, io.clock.monotonicMs(), io.random.number());
    }
  }

  /** Has the call executed and endorsed, and signs what came out. */
  async #prepare(gateway: string): Promise<Prepared> {
    const { io, signer, channel, transport, horizon } = this.#context;
    const call = this.#call;
    const { contract, contractVersion, functionName, args, orderingKey } = call;
    const transaction = {
      channel,
      contract,
      contractVersion,
      functionName,
      args,
      nonce: io.random.bytes(24),
      timestampMs: io.clock.nowMs(),
    };
    const calls = [{ transaction, orderingKey }];
    const signed = signBatch(signer, channel, io.random.bytes(16), calls, 'prepare');
    call.transaction = transaction;
    call.txId = signed.txIds[0] as string;
    const answer = await transport.post(gateway, 'prepare', {
      body: signed.bytes,
      contentType: batchMediaType,
      waitMs: this.#waitMs(),
      after: horizon.position,
    });
    const { payload: encoded } = answer as { payload?: unknown };
    if (typeof encoded !== 'string') throw unexpected(gateway);
    const payload = Buffer.from(encoded, 'base64');
    const done = checkPayload(payload, transaction, identityBytes(signer.identity));
    return { gateway, done, signature: signer.sign(payload) };
  }

  /** Sends the signature until it is known what became of it. Never throws. */
  async #send(prepared: Prepared): Promise<Step> {
    const { transport } = this.#context;
    const { gateway, signature, done } = prepared;
    const body = Buffer.from(JSON.stringify({ signature: signature.toString('base64') }));
    let unknown: DaybookError | undefined;
    for (;;) {
      let error: DaybookError;
      try {
        const answer = await transport.post(gateway, `prepared/${this.#call.txId}`, {
          body,
          contentType: 'application/json',
          waitMs: this.#waitMs(),
          after: undefined,
        });
        const outcome = answer as { status?: unknown; position?: unknown; error?: unknown };
        if (outcome.status === 'committed' && typeof outcome.position === 'number') {
          return this.#committed(asPosition(outcome.position), done);
        }
        error = isErrorJson(outcome.error)
          ? DaybookError.fromJSON(outcome.error)
          : unexpected(gateway);
        // An outcome is about this very transaction, and certain unless it says otherwise.
        if (isErrorJson(outcome.error) && error.code !== 'OUTCOME_UNKNOWN') {
          return this.#notDone(error);
        }
        unknown = error;
      } catch (thrown) {
        error = toDaybookError(thrown);
        if (error.code === 'PEER_UNREACHABLE') unknown = error;
        else if (unknown === undefined && error.code !== 'OVERLOADED') {
          // It was never taken. Who does not serve may not do so for long, and others can.
          return this.#notDone(error);
        }
      }
      // The node may be gone, and others know what it wrote.
      const found = unknown === undefined ? undefined : await this.#lookUp(done);
      if (found !== undefined) return found;
      if (!this.#hasTime()) return { kind: unknown === undefined ? 'again' : 'unknown', error };
      await this.#pause();
    }
  }

  /** It has not taken effect and will not: final, or to be begun again. */
  #notDone(error: DaybookError): Step {
    if (error.retry !== 'never') return { kind: 'again', error };
    this.#reject(error);
    return { kind: 'done' };
  }

  /** What the log says about it; `undefined`: nothing yet. */
  async #lookUp(done: EndorserTransaction): Promise<Step | undefined> {
    const { transport, balancer, io } = this.#context;
    const { gateway } = balancer.pick(io.clock.monotonicMs());
    try {
      const path = `transactions/${this.#call.txId}`;
      const status = (await transport.getJson(gateway, path, statusMs)) as {
        valid?: unknown;
        position?: unknown;
        verdict?: unknown;
      };
      if (status.valid === true && typeof status.position === 'number') {
        return this.#committed(asPosition(status.position), done);
      }
      const message = `replay found the record invalid: ${String(status.verdict)}`;
      return { kind: 'again', error: new DaybookError('ENDORSEMENT_STALE', message) };
    } catch {
      return undefined;
    }
  }

  #committed(position: Position, { result }: EndorserTransaction): Step {
    const { horizon } = this.#context;
    if (position > (horizon.position ?? -1)) horizon.position = position;
    this.#call.resolve(new CallResult(this.#call.txId, position, bytestringOf(result)));
    return { kind: 'done' };
  }

  #reject(error: DaybookError): void {
    const { txId } = this.#call;
    const details = txId === '' ? error.details : { ...error.details, txId };
    this.#call.reject(new DaybookError(error.code, error.message, { cause: error.cause, details }));
  }

  #hasTime(): boolean {
    return !this.#context.closing.aborted && this.#restMs() > 0;
  }

  #restMs(): number {
    return this.#call.deadlineMs - this.#context.io.clock.monotonicMs();
  }

  #waitMs(): number {
    return Math.max(1, Math.min(this.#context.attemptMs, this.#restMs()));
  }

  async #pause(): Promise<void> {
    const { io, closing } = this.#context;
    const delayMs = this.#pauseMs * (0.5 + io.random.number());
    this.#pauseMs = Math.min(this.#pauseMs * 2, pauseMsMax);
    const mostMs = Math.max(0, this.#restMs());
    await pause(io, Math.min(delayMs, mostMs), { signal: closing, keepAlive: true });
  }
}

function unexpected(gateway: string): DaybookError {
  return new DaybookError('PEER_UNREACHABLE', `unexpected answer from ${gateway}`, {
    details: { gateway },
  });
}
