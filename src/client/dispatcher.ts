import { DaybookError, limits } from '../base/index.ts';
import type { Timer } from '../io/index.ts';
import type { PendingCall } from './call.ts';
import { CallQueue } from './call-queue.ts';
import { Delivery, type DeliveryContext } from './delivery.ts';
import type { Settings } from './options.ts';
import { SingleDelivery } from './single-delivery.ts';

const batchBytes = limits.batchBytesMax / 4;

/** Collects calls into batches and has them delivered; keeps the calls under way bounded. */
export class Dispatcher {
  readonly #context: DeliveryContext;
  readonly #settings: Settings;
  readonly #queue: CallQueue<PendingCall>;
  #inFlight = 0;
  #waiting: PendingCall[] = [];
  #pumping = false;
  #overdue = false;
  #timer: Timer | undefined;
  #onIdle: (() => void)[] = [];

  constructor(context: DeliveryContext, settings: Settings) {
    this.#context = context;
    this.#settings = settings;
    this.#queue = new CallQueue({
      // Signed singly, every call travels alone.
      batchCount: context.mode === 'single' ? 1 : settings.batchCount,
      batchBytes,
      batchesMax: settings.batchesPerGateway * settings.gateways.length,
    });
  }

  /**
   * Takes a call; it is resolved or rejected later.
   *
   * @throws {DaybookError} `OVERLOADED`
   */
  add(call: PendingCall): void {
    const { transactionsInFlightMax, whenFull } = this.#settings;
    if (this.#inFlight < transactionsInFlightMax) {
      this.#enter(call);
      return;
    }
    const full = (limit: string, max: number): DaybookError =>
      new DaybookError('OVERLOADED', 'too many calls under way', { details: { limit, max } });
    if (whenFull === 'reject') {
      throw full('clientTransactionsInFlightMax', transactionsInFlightMax);
    }
    const waitingMax = limits.clientTransactionsWaitingMax;
    if (this.#waiting.length >= waitingMax) {
      throw full('clientTransactionsWaitingMax', waitingMax);
    }
    this.#waiting.push(call);
  }

  /** Resolves when no call is under way. */
  idle(): Promise<void> {
    if (this.#inFlight === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  /** Rejects every call that is in no batch yet. */
  rejectWaiting(error: DaybookError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const call of waiting) call.reject(error);
    for (const call of this.#queue.removeAll()) this.#drop(call, error);
    this.#timer?.cancel();
  }

  #enter(call: PendingCall): void {
    this.#inFlight++;
    this.#queue.push(call);
    this.#pumpSoon();
  }

  #pumpSoon(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    // At the end of the turn, so that calls made together travel together.
    this.#context.io.timers.soon(() => {
      this.#pumping = false;
      this.#pump();
    });
  }

  #pump(): void {
    for (;;) {
      const batch = this.#queue.next(this.#overdue);
      if (batch === undefined) break;
      void this.#deliver(batch);
    }
    if (this.#queue.ready === 0) {
      this.#overdue = false;
      this.#timer?.cancel();
      this.#timer = undefined;
    } else if (!this.#overdue) {
      this.#timer ??= this.#context.io.timers.after(this.#settings.batchDelayMs, () => {
        this.#timer = undefined;
        this.#overdue = true;
        this.#pump();
      });
    }
  }

  async #deliver(batch: readonly PendingCall[]): Promise<void> {
    try {
      await this.#deliveryOf(batch).run();
    } catch (cause) {
      const error = new DaybookError('INTERNAL', 'the batch could not be delivered', { cause });
      for (const call of batch) call.reject(error);
    }
    this.#queue.ended(batch);
    this.#leave(batch.length);
    this.#pumpSoon();
  }

  #deliveryOf(batch: readonly PendingCall[]): { run(): Promise<void> } {
    const [call] = batch;
    return this.#context.mode === 'single' && call !== undefined
      ? new SingleDelivery(this.#context, call, this.#onUnknown)
      : new Delivery(this.#context, batch, this.#onUnknown);
  }

  #leave(count: number): void {
    this.#inFlight -= count;
    const { transactionsInFlightMax } = this.#settings;
    const room = Math.min(this.#waiting.length, transactionsInFlightMax - this.#inFlight);
    if (room > 0) {
      for (const call of this.#waiting.slice(0, room)) this.#enter(call);
      this.#waiting = this.#waiting.slice(room);
    }
    if (this.#inFlight > 0) return;
    for (const resolve of this.#onIdle) resolve();
    this.#onIdle = [];
  }

  /**
   * A call whose outcome is unknown may still take effect, so what waits behind it in its order
   * must not be sent: it could overtake.
   */
  readonly #onUnknown = (unknown: PendingCall): void => {
    const { orderingKey, txId } = unknown;
    if (orderingKey === '') return;
    const error = new DaybookError(
      'TIMEOUT',
      'not sent: an earlier call with the same ordering key has an unknown outcome',
      { details: { orderingKey, unknownTxId: txId } },
    );
    for (const call of this.#queue.removeKey(orderingKey)) this.#drop(call, error);
    const isBehind = (call: PendingCall): boolean => call.orderingKey === orderingKey;
    for (const call of this.#waiting.filter(isBehind)) call.reject(error);
    this.#waiting = this.#waiting.filter((call) => !isBehind(call));
  };

  #drop(call: PendingCall, error: DaybookError): void {
    call.reject(error);
    this.#leave(1);
  }
}
