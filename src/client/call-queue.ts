/*
 * Which calls go into the next batch, and when. A plain state machine: calls and ended batches go
 * in, batches come out. The rules:
 *
 * - A full batch leaves at once while fewer than `batchesMax` are under way.
 * - Fewer calls leave when fewer than two batches are under way (an idle client never waits), or
 *   when the oldest call has waited for the batch delay.
 * - Calls with the same ordering key are in at most one batch under way; in it they stand in the
 *   order in which they came.
 */

/** What the queue needs to know of a call. */
export interface QueuedCall {
  /** Empty: no order. */
  readonly orderingKey: string;
  /** Estimate of the bytes it adds to a batch. */
  readonly bytes: number;
}

/** See {@link CallQueue}. */
export interface CallQueueOptions {
  readonly batchCount: number;
  readonly batchBytes: number;
  /** Batches under way at the same time. */
  readonly batchesMax: number;
}

const eagerBatches = 2;

/** Calls on their way into batches. */
export class CallQueue<Call extends QueuedCall> {
  readonly #options: CallQueueOptions;
  #queue: Call[] = [];
  /** Index of the first call in `#queue`: shifting an array for each call would cost more. */
  #head = 0;
  /** Calls whose key is under way, in order; a key under way always has its list here. */
  readonly #parked = new Map<string, Call[]>();
  /** Calls that were parked and may go now; older than anything in `#queue` with their keys. */
  #freed: Call[] = [];
  #underWay = 0;

  constructor(options: CallQueueOptions) {
    this.#options = options;
  }

  /** Calls to look at for the next batch. */
  get ready(): number {
    return this.#freed.length + this.#queue.length - this.#head;
  }

  push(call: Call): void {
    // Never straight to the parked ones: an older call of the same key may still stand here.
    this.#queue.push(call);
  }

  /** @param overdue - whether the oldest call has waited for the batch delay. */
  next(overdue: boolean): Call[] | undefined {
    if (this.#underWay >= this.#options.batchesMax) return undefined;
    const eager = overdue || this.#underWay < eagerBatches;
    if (!eager && this.ready < this.#options.batchCount) return undefined;
    const batch = this.#take();
    if (batch.length === 0) return undefined;
    this.#underWay++;
    return batch;
  }

  /** Frees the keys of a batch from {@link CallQueue.next}, all of whose calls have ended. */
  ended(batch: readonly Call[]): void {
    this.#underWay--;
    for (const { orderingKey } of batch) {
      if (orderingKey === '') continue;
      const parked = this.#parked.get(orderingKey);
      if (parked === undefined) continue;
      this.#parked.delete(orderingKey);
      for (const call of parked) this.#freed.push(call);
    }
  }

  /** Takes out all waiting calls of a key, in order. */
  removeKey(orderingKey: string): Call[] {
    const isOther = (call: Call): boolean => call.orderingKey !== orderingKey;
    const parked = this.#parked.get(orderingKey) ?? [];
    if (parked.length > 0) this.#parked.set(orderingKey, []);
    const waiting = [...this.#freed, ...this.#queue.slice(this.#head)];
    const removed = waiting.filter((call) => !isOther(call));
    this.#freed = this.#freed.filter(isOther);
    this.#queue = this.#queue.slice(this.#head).filter(isOther);
    this.#head = 0;
    return [...parked, ...removed];
  }

  /** Takes out everything that waits. */
  removeAll(): Call[] {
    const all = [...this.#freed, ...this.#queue.slice(this.#head)];
    for (const [key, parked] of this.#parked) {
      all.push(...parked);
      this.#parked.set(key, []);
    }
    this.#freed = [];
    this.#queue = [];
    this.#head = 0;
    return all;
  }

  #take(): Call[] {
    const { batchCount, batchBytes } = this.#options;
    const batch: Call[] = [];
    const keys = new Set<string>();
    let bytes = 0;
    while (batch.length < batchCount) {
      const call = this.#freed[0] ?? this.#queue[this.#head];
      if (call === undefined) break;
      const { orderingKey } = call;
      const parked =
        orderingKey === '' || keys.has(orderingKey) ? undefined : this.#parked.get(orderingKey);
      if (parked === undefined) {
        if (batch.length > 0 && bytes + call.bytes > batchBytes) break;
        bytes += call.bytes;
        batch.push(call);
        if (orderingKey !== '') keys.add(orderingKey);
      } else {
        parked.push(call);
      }
      if (this.#freed.length > 0) this.#freed.shift();
      else this.#advance();
    }
    for (const key of keys) this.#parked.set(key, []);
    return batch;
  }

  #advance(): void {
    this.#head++;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head >= 4096 && this.#head * 2 > this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }
}
