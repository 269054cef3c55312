import { assert, type Bytestring, DaybookError, limits, toDaybookError } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import {
  type Address,
  asAddress,
  nextAddress,
  type Position,
  positionOf,
  type TxId,
  type VerdictCode,
} from '../model/index.ts';
import {
  type BulkProgress,
  BulkWork,
  type PendingUpdate,
  PendingUpdates,
  type Sweeper,
} from './bulk/index.ts';
import { BulkSweep } from './bulk-sweep.ts';
import { HistoryFile } from './history.ts';
import { openLmdbStore } from './lmdb-store.ts';
import { Overlay } from './overlay.ts';
import { isIndexKey } from './query-index.ts';
import { RowSettler } from './row-settler.ts';
import type {
  EntrySummary,
  HistoryRows,
  Row,
  StateChange,
  StateView,
  TransactionStatus,
} from './state.ts';
import { isTrusted, markClosed, markRunning } from './state-directory.ts';
import type { OpenStore, StateStore, StoredWrite, StoreMeta, StoreSnapshot } from './store.ts';
import { newSalt, TransactionIndex, type TransactionWindow } from './transaction-index.ts';

/** Settings of {@link openState}. */
export interface StateOptions {
  readonly io: Pick<Io, 'disk' | 'timers' | 'random'>;
  /** Absolute path of a directory of its own. */
  readonly directory: string;
  /** Another store than LMDB in `directory`, for tests. */
  readonly store?: StateStore;
  /** Opens another store than LMDB, for the simulator. */
  readonly openStore?: OpenStore;
  /** Flush at the latest after so many writes (`stateFlushWritesMax`). */
  readonly flushWritesMax?: number;
  /** Flush at the latest so long after a change. Default 2,000 ms. */
  readonly flushIntervalMs?: number;
  /** For how long in log time transactions can be looked up at least. Default 24 hours. */
  readonly transactionRetentionMs?: number;
  /**
   * Starts what works out bulk updates' rows beside this thread, once there are any. Without it, or
   * while it is gone, this thread does so.
   */
  readonly startSweeper?: () => Sweeper;
  /** False: nobody makes blocks from the rows that bulk updates changed. Default true. */
  readonly keepsUpdatedRows?: boolean;
  /** Ids per segment of the transaction index. */
  readonly transactionSegmentIdsMax?: number;
}

/** Settings that change what a state's directory holds. */
export type StateSettings = Pick<StateOptions, 'openStore' | 'transactionSegmentIdsMax'>;

/** See {@link State.viewAtBlockEnd}. */
export interface BlockEndView {
  readonly store: StoreSnapshot;
  /** Transactions that may not be repeated. */
  readonly window: TransactionWindow;
}

/** A point in the log up to which (exclusively) something holds. */
export type FlushListener = (position: Position) => void;

/**
 * Opens the state of one replica, or an empty one. A state that cannot be trusted (the machine went
 * down while it was open, or it is damaged) is discarded: it starts empty, to be filled again from
 * a snapshot or the log.
 */
export async function openState(options: StateOptions): Promise<State> {
  const { disk } = options.io;
  const { directory } = options;
  await disk.makeDirectory(directory);
  const discard = async (): Promise<void> => {
    if (options.store !== undefined) {
      throw new DaybookError('STATE_DAMAGED', 'the given store does not fit the directory');
    }
    await disk.remove(directory);
    await disk.makeDirectory(directory);
  };
  if (!(await isTrusted(disk, directory))) await discard();
  await markRunning(disk, directory);
  try {
    return await openParts(options);
  } catch (error) {
    if (toDaybookError(error).code !== 'STATE_DAMAGED' || options.store !== undefined) throw error;
    await discard();
    await markRunning(disk, directory);
    return await openParts(options);
  }
}

async function openParts(options: StateOptions): Promise<State> {
  const { directory } = options;
  const { disk } = options.io;
  await disk.makeDirectory(`${directory}/rows`);
  await disk.makeDirectory(`${directory}/transactions`);
  const openStore =
    options.openStore ?? (() => openLmdbStore(directory, () => disk.availableBytes(directory)));
  const store = options.store ?? openStore(directory);
  try {
    const { meta } = store;
    const history = await HistoryFile.open(disk, `${directory}/history`, meta?.historyBytes ?? 0);
    const transactions = await TransactionIndex.open(
      disk,
      `${directory}/transactions`,
      meta?.transactions,
      meta?.horizonMs ?? 0,
      {
        salt: newSalt(options.io.random),
        ...(options.transactionRetentionMs === undefined
          ? {}
          : { retentionMs: options.transactionRetentionMs }),
        ...(options.transactionSegmentIdsMax === undefined
          ? {}
          : { segmentIdsMax: options.transactionSegmentIdsMax }),
      },
    );
    const saved = meta?.bulkUpdates ?? [];
    const keepsRows = options.keepsUpdatedRows ?? true;
    const bulk = await BulkWork.open(disk, bulkDirectory(directory), saved, keepsRows);
    return new State(options, { store, history, transactions, bulk });
  } catch (error) {
    await store.close();
    throw error;
  }
}

interface Parts {
  readonly store: StateStore;
  readonly history: HistoryFile;
  readonly transactions: TransactionIndex;
  readonly bulk: BulkWork;
}

/** Where a state keeps the rows that bulk updates changed, see `openUpdatedRows`. */
export function bulkDirectory(stateDirectory: string): string {
  return `${stateDirectory}/bulk`;
}

/**
 * The state of one replica: rows with versions, their history, and which transactions took effect.
 * {@link State.apply} is synchronous and touches memory only; what was applied is flushed to the
 * store in the background. After the end of the process the state is exactly what the last flush
 * left, and {@link State.nextAddress} says where the log goes on.
 */
export class State implements StateView {
  readonly #io: Pick<Io, 'disk' | 'timers'>;
  readonly #directory: string;
  readonly #store: StateStore;
  readonly #history: HistoryFile;
  readonly #transactions: TransactionIndex;
  readonly #overlay: Overlay<StoredWrite>;
  readonly #bulk: BulkWork;
  /** The rows with pending bulk updates applied. */
  readonly #view: StateView;
  readonly #flushWritesMax: number;
  readonly #flushIntervalMs: number;
  readonly #settler: RowSettler;
  readonly #sweep: BulkSweep;
  readonly #flushing = new Set<FlushListener>();
  readonly #flushed = new Set<FlushListener>();
  readonly #bulkDone = new Set<(position: Position) => void>();
  #entries: EntrySummary[] = [];
  #flushedEntries: readonly EntrySummary[] = [];
  #transactionsPending = 0;
  #nextAddress: Address;
  #startAddress: Address;
  #logTimeMs: number;
  #horizonMs: number;
  #flush: Promise<void> | undefined;
  #timer: Timer | undefined;
  #closed = false;
  /** Everything below is in the store. */
  #flushedTo: Position;
  /** Everything applied is in blocks that are closed. */
  #atBlockEnd = false;
  readonly #blockEndWaiters = new Set<() => void>();
  /** Why the last flush failed; the next one tries again. */
  #failure: DaybookError | undefined;

  /** @internal use {@link openState} */
  constructor(options: StateOptions, parts: Parts) {
    this.#io = options.io;
    this.#directory = options.directory;
    this.#store = parts.store;
    this.#history = parts.history;
    this.#transactions = parts.transactions;
    this.#overlay = new Overlay(parts.store);
    this.#bulk = parts.bulk;
    this.#view = parts.bulk.pending.view(this.#overlay);
    const rowParts = { ...parts, overlay: this.#overlay };
    this.#settler = new RowSettler(rowParts);
    this.#sweep = new BulkSweep({
      io: options.io,
      parts: rowParts,
      settler: this.#settler,
      startSweeper: options.startSweeper,
      flushedTo: () => this.#flushedTo,
      flush: async () => {
        await this.#startFlush();
        return this.#failure === undefined ? undefined : this.#flushIntervalMs;
      },
    });
    this.#flushWritesMax = options.flushWritesMax ?? limits.stateFlushWritesMax;
    this.#flushIntervalMs = options.flushIntervalMs ?? 2_000;
    const { meta } = parts.store;
    this.#nextAddress = meta?.nextAddress ?? asAddress(0);
    this.#startAddress = meta?.startAddress ?? asAddress(0);
    this.#logTimeMs = meta?.logTimeMs ?? 0;
    this.#horizonMs = meta?.horizonMs ?? 0;
    this.#flushedTo = positionOf(this.#nextAddress, 0);
    this.#sweep.start();
  }

  /** The first address that is not applied. */
  get nextAddress(): Address {
    return this.#nextAddress;
  }

  /** The first address this state can tell of: 0, or where the snapshot was that it came from. */
  get startAddress(): Address {
    return this.#startAddress;
  }

  /** Log time after the last applied entry. */
  get logTimeMs(): number {
    return this.#logTimeMs;
  }

  /** See `StateChange.horizonMs`. */
  get horizonMs(): number {
    return this.#horizonMs;
  }

  /** True while too much waits for a flush: wait for {@link State.relieved} before applying on. */
  get overloaded(): boolean {
    return (
      this.#overlay.size > limits.stateUnflushedWritesMax ||
      this.#overlay.bytes > limits.stateUnflushedBytesMax ||
      this.#transactions.full ||
      this.#history.pendingBytes > historyPendingBytesMax
    );
  }

  /** Why nothing can be flushed at the moment, e.g. `DISK_FULL`; it is tried again on and on. */
  get failure(): DaybookError | undefined {
    return this.#failure;
  }

  get(key: Bytestring): Row | undefined {
    return this.#view.get(key);
  }

  range(start: Bytestring, end: Bytestring, limit?: number): Row[] {
    return this.#view.range(start, end, limit);
  }

  version(key: Bytestring): Position | undefined {
    if (this.#bulk.covers(key)) return this.get(key)?.version;
    const write = this.#overlay.peek(key);
    if (write !== undefined) return write.value === undefined ? undefined : write.version;
    const row = this.#store.look(key);
    if (row === undefined) return undefined;
    this.#settler.noteHead(key, row.head);
    return row.version;
  }

  /** Where a transaction stands; `undefined` when it is unknown or long ago. */
  transaction(txId: TxId | Uint8Array): TransactionStatus | undefined {
    return this.#transactions.find(txId);
  }

  /** True when a transaction took effect. Exact for timestamps at or above the horizon. */
  isCommitted(txId: Uint8Array): boolean {
    return this.#transactions.isCommitted(txId);
  }

  /** What was found about the entry at an address; `undefined` before `startAddress` or ahead. */
  entry(address: Address): EntrySummary | undefined {
    for (const entries of [this.#entries, this.#flushedEntries]) {
      const first = entries[0];
      if (first !== undefined && address >= first.address) {
        const found = entries[address - first.address];
        if (found !== undefined) return found;
      }
    }
    return address < this.#nextAddress ? this.#store.entry(address) : undefined;
  }

  /**
   * Versions of a key, newest first, at most `limit`; `bookmark` from the page before.
   *
   * @throws {DaybookError} `INVALID_ARGUMENT` for a bookmark that no page had.
   */
  history(key: Bytestring, limit: number, bookmark = ''): HistoryRows {
    if (bookmark === '' && this.#bulk.covers(key))
      this.#settler.settle(key, Number.POSITIVE_INFINITY);
    const head =
      bookmark === ''
        ? (this.#overlay.peek(key)?.head ?? this.#store.head(key))
        : historyHead(bookmark);
    const { rows, next } = this.#history.read(head, Math.min(limit, limits.pageRowsMax));
    return { rows, bookmark: next === 0 ? '' : String(next) };
  }

  /** Applies what one entry does. Entries come in address order without gaps. */
  apply(change: StateChange): void {
    assert(!this.#closed, 'the state is closed');
    assert(change.address === this.#nextAddress, `entry ${change.address} is out of order`);
    const { records, timestampsMs } = change;
    const jobs = (change.bulkUpdates ?? []).map((recorded) => this.#bulk.add(recorded));
    let at = 0;
    for (const write of change.writes) {
      const { key, version } = write;
      while (at < records.length - 1 && records[at]?.position !== version) at++;
      const written = records[at];
      write.head = 0;
      if (this.#bulk.covers(key)) this.#settler.settle(key, version);
      if (written !== undefined && !isIndexKey(key)) {
        write.head = this.#history.append(
          this.#settler.head(key),
          version,
          timestampsMs[at] as number,
          written.record.txId,
          write.value,
        );
      }
      this.#overlay.set(write as StoredWrite);
    }
    for (const job of jobs) if (!job.update.recorded.heavy) this.#sweep.sweepNow(job);
    let allValid = true;
    for (let index = 0; index < records.length; index++) {
      const { position, record, verdict } = records[index] as (typeof records)[number];
      this.#transactions.add(record.txId, timestampsMs[index] as number, position, verdict);
      if (verdict !== 0) allValid = false;
    }
    this.#transactionsPending += records.length;
    const { address, logTimeMs } = change;
    // A configuration stands alone in its block; what is neither leaves the end where it is.
    const ends = change.endsBlock === true || change.configVerdict !== undefined;
    this.#atBlockEnd = ends || (this.#atBlockEnd && records.length === 0);
    const verdicts =
      (change.configVerdict ?? 0) !== 0
        ? [change.configVerdict as VerdictCode]
        : allValid
          ? undefined
          : records.map(({ verdict }) => verdict);
    this.#entries.push({ address, logTimeMs, verdicts });
    this.#settler.clearHeads();
    this.#nextAddress = nextAddress(address);
    this.#logTimeMs = logTimeMs;
    this.#horizonMs = change.horizonMs;
    if (
      this.#overlay.openSize >= this.#flushWritesMax ||
      this.#overlay.openBytes >= limits.stateFlushBytesMax ||
      this.#transactionsPending >= limits.stateFlushTransactionsMax ||
      this.#entries.length >= limits.stateFlushTransactionsMax ||
      (this.#blockEndWaiters.size > 0 && this.#isAtBlockEnd)
    ) {
      void this.#startFlush();
    } else {
      this.#timer ??= this.#io.timers.after(this.#flushIntervalMs, () => {
        this.#timer = undefined;
        void this.#startFlush();
      });
    }
  }

  /**
   * Brings everything applied so far into the store.
   *
   * @throws {DaybookError} `IO_FAILED`, `DISK_FULL`: nothing is lost, try again.
   */
  async flush(): Promise<void> {
    while (this.#flush !== undefined) await this.#flush;
    if (this.#entries.length > 0 || this.#flushedEntries.length > 0) await this.#startFlush();
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves once {@link State.overloaded} is false, or the flush under way has failed. */
  async relieved(): Promise<void> {
    if (!this.overloaded) return;
    await (this.#flush ?? this.#startFlush());
  }

  /**
   * Calls back when a flush begins, with the position below which it will cover all writes: the
   * moment to `seal` another overlay on the same store.
   *
   * @returns a function that ends it.
   */
  onFlushing(listener: FlushListener): () => void {
    this.#flushing.add(listener);
    return () => this.#flushing.delete(listener);
  }

  /** Calls back when all writes below a position are in the store. */
  onFlushed(listener: FlushListener): () => void {
    this.#flushed.add(listener);
    return () => this.#flushed.delete(listener);
  }

  /** Where it lies. */
  get directory(): string {
    return this.#directory;
  }

  /** Where the rows lie that each bulk update changed, see `openUpdatedRows`. */
  get bulkDirectory(): string {
    return bulkDirectory(this.#directory);
  }

  /** Bulk updates that not all rows in the store have taken, in log order. */
  get pendingUpdates(): readonly PendingUpdate[] {
    return this.#bulk.pending.all;
  }

  /** How far each of them has come. */
  get bulkProgress(): readonly BulkProgress[] {
    return this.#bulk.progress;
  }

  /** Calls back when all rows have taken the bulk update at a position, in the store too. */
  onBulkDone(listener: (position: Position) => void): () => void {
    this.#bulkDone.add(listener);
    return () => this.#bulkDone.delete(listener);
  }

  /**
   * The parts that a snapshot is made of; everything applied is flushed first. Rows of the store
   * need `settled`, which applies what they have not taken of bulk updates.
   */
  async snapshotParts(): Promise<
    Pick<Parts, 'store' | 'transactions'> & { settled: (row: Row, before: number) => Row }
  > {
    await this.flush();
    const pending = new PendingUpdates();
    for (const update of this.#bulk.pending.all) pending.add(update);
    return {
      store: this.#store,
      transactions: this.#transactions,
      settled: (row, before) => pending.row(row, before),
    };
  }

  /**
   * A view of the store at the end of a block, with no bulk update under way: what a state root
   * stands for. It comes with the next `tick` entry that leaves time for it; release it soon.
   *
   * @throws {DaybookError} `TIMEOUT` after `waitMs`.
   */
  viewAtBlockEnd(waitMs: number): Promise<BlockEndView> {
    const view = (): BlockEndView => ({
      store: this.#store.snapshot(),
      window: this.#transactions.window(),
    });
    const unflushed = this.#entries.length + this.#flushedEntries.length;
    const idle = this.#flush === undefined && unflushed === 0;
    if (idle && this.#isAtBlockEnd) return Promise.resolve(view());
    return new Promise((resolve, reject) => {
      const take = (): void => {
        timer.cancel();
        resolve(view());
      };
      const timer = this.#io.timers.after(waitMs, () => {
        this.#blockEndWaiters.delete(take);
        reject(new DaybookError('TIMEOUT', 'no block ended without a bulk update under way'));
      });
      this.#blockEndWaiters.add(take);
      if (this.#isAtBlockEnd) void this.#startFlush();
    });
  }

  /** Tells that no record before this address is in an open block: after a restart nobody knows. */
  noteBlockEnd(address: Address): void {
    if (address === this.#nextAddress) this.#atBlockEnd = true;
  }

  get #isAtBlockEnd(): boolean {
    return this.#atBlockEnd && this.#bulk.jobs.length === 0;
  }

  /**
   * For tests of repair only: a row turns wrong in memory, as by a flipped bit, and is served and
   * flushed so. Its version stays.
   */
  spoilForTests(key: Bytestring, value: Bytestring): void {
    const row = this.get(key);
    if (row !== undefined) this.#overlay.set({ ...row, value, head: this.#settler.head(key) });
  }

  /** Flushes and closes. */
  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#sweep.stop();
    await this.flush();
    this.#closed = true;
    this.#timer?.cancel();
    await this.#store.close();
    await this.#history.close();
    await this.#transactions.close();
    await this.#bulk.close();
    await markClosed(this.#io.disk, this.#directory);
  }

  #startFlush(): Promise<void> {
    this.#flush ??= this.#runFlush()
      .then(
        () => {
          this.#failure = undefined;
        },
        (error: unknown) => {
          this.#failure = toDaybookError(error, 'IO_FAILED');
          this.#timer ??= this.#io.timers.after(this.#flushIntervalMs, () => {
            this.#timer = undefined;
            if (!this.#closed) void this.#startFlush();
          });
        },
      )
      .finally(() => {
        this.#flush = undefined;
      });
    return this.#flush;
  }

  async #runFlush(): Promise<void> {
    const position = positionOf(this.#nextAddress, 0);
    const writes = this.#overlay.seal();
    const entries = [...this.#flushedEntries, ...this.#entries];
    this.#flushedEntries = entries;
    this.#entries = [];
    this.#transactionsPending = 0;
    const atBlockEnd = this.#isAtBlockEnd;
    const meta = {
      formatVersion: 1 as const,
      nextAddress: this.#nextAddress,
      startAddress: this.#startAddress,
      logTimeMs: this.#logTimeMs,
      horizonMs: this.#horizonMs,
    };
    for (const listener of this.#flushing) listener(position);
    // All take what they have at this very moment, so they fit `meta`.
    const swept = this.#bulk.jobs.filter((job) => job.swept);
    const bulkSave = this.#bulk.save();
    const historyFlush = this.#history.flush();
    const transactionsFlush = this.#transactions.flush(meta.logTimeMs, meta.horizonMs);
    const flushed = settled(historyFlush, transactionsFlush);
    const [[historyBytes, transactions], bulkUpdates] = await settled(flushed, bulkSave);
    const complete: StoreMeta = {
      ...meta,
      historyBytes,
      transactions: transactions.files,
      ...(bulkUpdates.length === 0 ? {} : { bulkUpdates }),
    };
    await this.#store.commit({ writes, entries, meta: complete });
    this.#overlay.dropSealed();
    this.#flushedEntries = [];
    await transactions.expired();
    this.#flushedTo = position;
    if (atBlockEnd) {
      for (const take of this.#blockEndWaiters) take();
      this.#blockEndWaiters.clear();
    }
    for (const listener of this.#flushed) listener(position);
    await this.#bulk.complete(swept);
    for (const { update } of swept) {
      for (const listener of this.#bulkDone) listener(update.position);
    }
    this.#sweep.start();
  }
}

const historyPendingBytesMax = 256 * 1024 * 1024;

/** Waits for both, also when one fails: nothing may go on in the background. */
async function settled<A, B>(first: Promise<A>, second: Promise<B>): Promise<[A, B]> {
  const [a, b] = await Promise.allSettled([first, second]);
  if (a.status === 'rejected') throw a.reason;
  if (b.status === 'rejected') throw b.reason;
  return [a.value, b.value];
}

function historyHead(bookmark: string): number {
  const head = Number(bookmark);
  if (!Number.isSafeInteger(head) || head <= 0) {
    throw new DaybookError('INVALID_ARGUMENT', 'not a history bookmark', {
      details: { what: 'bookmark' },
    });
  }
  return head;
}
