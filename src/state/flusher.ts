import { type DaybookError, limits, toDaybookError } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import { type Address, type Position, positionOf } from '../model/index.ts';
import type { RowParts } from './row-settler.ts';
import type { EntrySummary } from './state.ts';
import type { StoreMeta } from './store.ts';
import type { TransactionIndex } from './transaction-index.ts';

/** A point in the log up to which (exclusively) something holds. */
export type FlushListener = (position: Position) => void;

/** How far a state has applied the log, as its store will say it. */
export type AppliedMeta = Omit<StoreMeta, 'historyBytes' | 'transactions' | 'bulkUpdates'>;

/** What a {@link Flusher} works with. */
export interface FlusherOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly parts: RowParts & { readonly transactions: TransactionIndex };
  /** Where the store stands. */
  readonly flushedTo: Position;
  readonly applied: () => AppliedMeta;
  /** Flush at the latest after so many writes. */
  readonly writesMax: number;
  /** Flush at the latest so long after a change; and the pause after a flush that failed. */
  readonly intervalMs: number;
  /** Called after every flush. */
  readonly onDone: () => void;
}

/**
 * Brings what a state has applied into its store, in the background: all of it at once, together
 * with what the store knows about itself. One flush at a time; one that failed is tried again.
 */
export class Flusher {
  readonly #options: FlusherOptions;
  readonly #beginning = new Set<FlushListener>();
  readonly #done = new Set<FlushListener>();
  readonly #bulkDone = new Set<FlushListener>();
  /** Of what was applied since the last flush began. */
  #entries: EntrySummary[] = [];
  #transactions = 0;
  /** Of the flush under way, or of one that failed. */
  #sealed: readonly EntrySummary[] = [];
  #running: Promise<void> | undefined;
  #timer: Timer | undefined;
  #failure: DaybookError | undefined;
  #flushedTo: Position;
  /** Everything applied is in blocks that are closed. */
  #atBlockEnd = false;
  readonly #blockEndWaiters = new Set<() => void>();
  #closed = false;

  constructor(options: FlusherOptions) {
    this.#options = options;
    this.#flushedTo = options.flushedTo;
  }

  /** Everything below is in the store. */
  get flushedTo(): Position {
    return this.#flushedTo;
  }

  /** Why the last flush failed. */
  get failure(): DaybookError | undefined {
    return this.#failure;
  }

  /** An entry that is not in the store yet. */
  entry(address: Address): EntrySummary | undefined {
    for (const entries of [this.#entries, this.#sealed]) {
      const first = entries[0];
      if (first === undefined || address < first.address) continue;
      const found = entries[address - first.address];
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /**
   * An entry was applied, with so many transactions.
   *
   * @param endsBlock - no block is open behind it.
   */
  applied(entry: EntrySummary, transactions: number, endsBlock: boolean): void {
    this.#entries.push(entry);
    this.#transactions += transactions;
    // What has no records and is no end leaves it where it is.
    this.#atBlockEnd = endsBlock || (this.#atBlockEnd && transactions === 0);
    const { overlay } = this.#options.parts;
    const isDue =
      overlay.openSize >= this.#options.writesMax ||
      overlay.openBytes >= limits.stateFlushBytesMax ||
      this.#transactions >= limits.stateFlushTransactionsMax ||
      this.#entries.length >= limits.stateFlushTransactionsMax ||
      (this.#blockEndWaiters.size > 0 && this.#isAtBlockEnd);
    if (isDue) void this.once();
    else this.#later();
  }

  /**
   * Brings everything applied so far into the store.
   *
   * @throws {DaybookError} `IO_FAILED`, `DISK_FULL`: nothing is lost, try again.
   */
  async flush(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    if (this.#unflushed > 0) await this.once();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when the flush under way, or else one that begins now, has ended, well or not. */
  once(): Promise<void> {
    this.#running ??= this.#run()
      .then(
        () => {
          this.#failure = undefined;
        },
        (error: unknown) => {
          this.#failure = toDaybookError(error, 'IO_FAILED');
          this.#later();
        },
      )
      .finally(() => {
        this.#running = undefined;
      });
    return this.#running;
  }

  /** See `State.onFlushing`. */
  onFlushing(listener: FlushListener): () => void {
    return listenTo(this.#beginning, listener);
  }

  /** See `State.onFlushed`. */
  onFlushed(listener: FlushListener): () => void {
    return listenTo(this.#done, listener);
  }

  /** See `State.onBulkDone`. */
  onBulkDone(listener: FlushListener): () => void {
    return listenTo(this.#bulkDone, listener);
  }

  /** See `State.noteBlockEnd`. */
  noteBlockEnd(): void {
    this.#atBlockEnd = true;
  }

  /**
   * Calls back once, at a moment when all that was applied is in the store, at the end of a block and
   * with no bulk update under way: at once, or with a flush to come.
   *
   * @returns a function that ends the wait.
   */
  atBlockEnd(take: () => void): () => void {
    if (this.#running === undefined && this.#unflushed === 0 && this.#isAtBlockEnd) {
      take();
      return () => undefined;
    }
    const end = listenTo(this.#blockEndWaiters, take);
    if (this.#isAtBlockEnd) void this.once();
    return end;
  }

  /** Nothing is begun any more. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  get #unflushed(): number {
    return this.#entries.length + this.#sealed.length;
  }

  get #isAtBlockEnd(): boolean {
    return this.#atBlockEnd && this.#options.parts.bulk.jobs.length === 0;
  }

  #later(): void {
    this.#timer ??= this.#options.io.timers.after(this.#options.intervalMs, () => {
      this.#timer = undefined;
      if (!this.#closed) void this.once();
    });
  }

  async #run(): Promise<void> {
    const { store, overlay, history, transactions, bulk } = this.#options.parts;
    const applied = this.#options.applied();
    const position = positionOf(applied.nextAddress, 0);
    const writes = overlay.seal();
    const entries = [...this.#sealed, ...this.#entries];
    this.#sealed = entries;
    this.#entries = [];
    this.#transactions = 0;
    const isAtBlockEnd = this.#isAtBlockEnd;
    for (const listener of this.#beginning) listener(position);
    // All take what they have at this very moment, so they fit what was applied.
    const swept = bulk.jobs.filter((job) => job.swept);
    const bulkSave = bulk.save();
    const historyFlush = history.flush();
    const transactionsFlush = transactions.flush(applied.logTimeMs, applied.horizonMs);
    const flushed = settled(historyFlush, transactionsFlush);
    const [[historyBytes, index], bulkUpdates] = await settled(flushed, bulkSave);
    const meta: StoreMeta = {
      ...applied,
      historyBytes,
      transactions: index.files,
      ...(bulkUpdates.length === 0 ? {} : { bulkUpdates }),
    };
    await store.commit({ writes, entries, meta });
    overlay.dropSealed();
    this.#sealed = [];
    await index.expired();
    this.#flushedTo = position;
    if (isAtBlockEnd) {
      for (const take of this.#blockEndWaiters) take();
      this.#blockEndWaiters.clear();
    }
    for (const listener of this.#done) listener(position);
    await bulk.complete(swept);
    for (const { update } of swept) {
      for (const listener of this.#bulkDone) listener(update.position);
    }
    this.#options.onDone();
  }
}

function listenTo<T>(listeners: Set<T>, listener: T): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Waits for both, also when one fails: nothing may go on in the background. */
async function settled<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'rejected') throw a.reason;
  if (b.status === 'rejected') throw b.reason;
  return [a.value, b.value];
}
