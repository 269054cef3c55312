import { assert, type Bytestring, DaybookError, limits } from '../base/index.ts';
import type { Io } from '../io/index.ts';
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
  type BulkWork,
  type PendingUpdate,
  PendingUpdates,
  type Sweeper,
} from './bulk/index.ts';
import { BulkSweep } from './bulk-sweep.ts';
import { Flusher, type FlushListener } from './flusher.ts';
import type { HistoryFile } from './history.ts';
import { Overlay } from './overlay.ts';
import { isIndexKey } from './query-index.ts';
import { type RowParts, RowSettler } from './row-settler.ts';
import type {
  EntrySummary,
  HistoryRows,
  Row,
  StateChange,
  StateView,
  TransactionStatus,
} from './state.ts';
import { markClosed } from './state-directory.ts';
import type { OpenStore, StateStore, StoredWrite, StoreSnapshot } from './store.ts';
import type { TransactionIndex, TransactionWindow } from './transaction-index.ts';

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

/** What lies in a state's directory. */
export interface StateParts extends Omit<RowParts, 'overlay'> {
  readonly transactions: TransactionIndex;
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
  readonly #settler: RowSettler;
  readonly #sweep: BulkSweep;
  readonly #flusher: Flusher;
  #nextAddress: Address;
  #startAddress: Address;
  #logTimeMs: number;
  #horizonMs: number;
  #closed = false;

  /** @internal use {@link openState} */
  constructor(options: StateOptions, parts: StateParts) {
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
    const intervalMs = options.flushIntervalMs ?? 2_000;
    this.#sweep = new BulkSweep({
      io: options.io,
      parts: rowParts,
      settler: this.#settler,
      startSweeper: options.startSweeper,
      flushedTo: () => this.#flusher.flushedTo,
      flush: async () => {
        await this.#flusher.once();
        return this.#flusher.failure === undefined ? undefined : intervalMs;
      },
    });
    const { meta } = parts.store;
    this.#nextAddress = meta?.nextAddress ?? asAddress(0);
    this.#startAddress = meta?.startAddress ?? asAddress(0);
    this.#logTimeMs = meta?.logTimeMs ?? 0;
    this.#horizonMs = meta?.horizonMs ?? 0;
    this.#flusher = new Flusher({
      io: options.io,
      parts: rowParts,
      flushedTo: positionOf(this.#nextAddress, 0),
      applied: () => ({
        formatVersion: 1,
        nextAddress: this.#nextAddress,
        startAddress: this.#startAddress,
        logTimeMs: this.#logTimeMs,
        horizonMs: this.#horizonMs,
      }),
      writesMax: options.flushWritesMax ?? limits.stateFlushWritesMax,
      intervalMs,
      onDone: () => this.#sweep.start(),
    });
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
    return this.#flusher.failure;
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
    if (address >= this.#nextAddress) return undefined;
    return this.#flusher.entry(address) ?? this.#store.entry(address);
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
    const { address, logTimeMs } = change;
    const verdicts =
      (change.configVerdict ?? 0) !== 0
        ? [change.configVerdict as VerdictCode]
        : allValid
          ? undefined
          : records.map(({ verdict }) => verdict);
    this.#settler.clearHeads();
    this.#nextAddress = nextAddress(address);
    this.#logTimeMs = logTimeMs;
    this.#horizonMs = change.horizonMs;
    // A configuration stands alone in its block.
    const endsBlock = change.endsBlock === true || change.configVerdict !== undefined;
    this.#flusher.applied({ address, logTimeMs, verdicts }, records.length, endsBlock);
  }

  /**
   * Brings everything applied so far into the store.
   *
   * @throws {DaybookError} `IO_FAILED`, `DISK_FULL`: nothing is lost, try again.
   */
  flush(): Promise<void> {
    return this.#flusher.flush();
  }

  /** Resolves once {@link State.overloaded} is false, or the flush under way has failed. */
  async relieved(): Promise<void> {
    if (!this.overloaded) return;
    await this.#flusher.once();
  }

  /**
   * Calls back when a flush begins, with the position below which it will cover all writes: the
   * moment to `seal` another overlay on the same store.
   *
   * @returns a function that ends it.
   */
  onFlushing(listener: FlushListener): () => void {
    return this.#flusher.onFlushing(listener);
  }

  /** Calls back when all writes below a position are in the store. */
  onFlushed(listener: FlushListener): () => void {
    return this.#flusher.onFlushed(listener);
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
    return this.#flusher.onBulkDone(listener);
  }

  /**
   * The parts that a snapshot is made of; everything applied is flushed first. Rows of the store
   * need `settled`, which applies what they have not taken of bulk updates.
   */
  async snapshotParts(): Promise<
    Pick<StateParts, 'store' | 'transactions'> & { settled: (row: Row, before: number) => Row }
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
    return new Promise((resolve, reject) => {
      const timer = this.#io.timers.after(waitMs, () => {
        end();
        reject(new DaybookError('TIMEOUT', 'no block ended without a bulk update under way'));
      });
      const end = this.#flusher.atBlockEnd(() => {
        timer.cancel();
        resolve({ store: this.#store.snapshot(), window: this.#transactions.window() });
      });
    });
  }

  /** Tells that no record before this address is in an open block: after a restart nobody knows. */
  noteBlockEnd(address: Address): void {
    if (address === this.#nextAddress) this.#flusher.noteBlockEnd();
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
    this.#flusher.close();
    await this.#store.close();
    await this.#history.close();
    await this.#transactions.close();
    await this.#bulk.close();
    await markClosed(this.#io.disk, this.#directory);
  }
}

const historyPendingBytesMax = 256 * 1024 * 1024;

function historyHead(bookmark: string): number {
  const head = Number(bookmark);
  if (!Number.isSafeInteger(head) || head <= 0) {
    throw new DaybookError('INVALID_ARGUMENT', 'not a history bookmark', {
      details: { what: 'bookmark' },
    });
  }
  return head;
}
