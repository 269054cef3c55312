import { DaybookError, limits, toDaybookError } from '../base/index.ts';
import { abortForMany, type Io, pause, type Timer } from '../io/index.ts';
import type { LogEntry, SharedLog } from '../log/index.ts';
import {
  type Address,
  addressOf,
  asAddress,
  type Batch,
  type ChannelConfig,
  type ContractDefinition,
  type IdentityVerifier,
  nextAddress,
  type Position,
  positionOf,
  type TxId,
} from '../model/index.ts';
import type { State, TransactionStatus } from '../state/index.ts';
import { replayedBefore } from './read-entry.ts';
import { RecentEntries } from './recent-entries.ts';
import { Replay } from './replay.ts';
import type { AppliedEntry, AppliedListener, Replica } from './replica.ts';

/** Settings of {@link openReplica}. */
export interface ReplicaOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly log: SharedLog;
  readonly state: State;
  /** Closes a hole that kept the replica waiting so long. Default 1,000 ms. */
  readonly holeTimeoutMs?: number;
}

/** Applying gives way to other work after so long. */
const sliceMs = 20;
const backoffMinMs = 20;
const backoffMaxMs = 2_000;
/** Filling what is written already does nothing, but costs a request. */
const holesAtOnceMax = 64;
/** Old entries are decoded so many bytes at a time: a whole run of records would outlive its reader. */
const pageBytes = 64 * 1024;

/**
 * Starts to follow the log from where the state stands.
 *
 * Retries after errors of the log, with a growing pause. Stops for good, with
 * {@link Replica.alarm}, when the log is damaged or trimmed before the state's next address.
 */
export function openReplica(options: ReplicaOptions): Replica {
  const replica = new FollowingReplica(options);
  replica.start();
  return replica;
}

interface Waiter {
  readonly position: Position;
  readonly resolve: () => void;
  readonly reject: (error: DaybookError) => void;
  readonly timer: Timer;
}

class FollowingReplica implements Replica {
  readonly state: State;
  readonly #io: Pick<Io, 'clock' | 'timers'>;
  readonly #log: SharedLog;
  readonly #holeTimeoutMs: number;
  readonly #replay: Replay;
  readonly #recent = new RecentEntries();
  /** Those who read along by `readApplied`. */
  #readers = 0;
  readonly #listeners = new Set<AppliedListener>();
  readonly #alarmListeners = new Set<(alarm: Error) => void>();
  readonly #waiters = new Set<Waiter>();
  /** Every reader of old entries listens. */
  readonly #abort = abortForMany();
  /** Called at the next publication or at the end. */
  readonly #wakeups = new Set<() => void>();
  #alarm: DaybookError | undefined;
  #running: Promise<void> = Promise.resolve();
  #holeTimer: Timer | undefined;
  /** Everything before this address was granted, as was said last, and when. */
  #granted = asAddress(0);
  #grantedMs = Number.NEGATIVE_INFINITY;
  /** While holes are being closed: everything before it was granted a whole `holeTimeoutMs` ago. */
  #overdue: Address | undefined;

  constructor(options: ReplicaOptions) {
    this.#io = options.io;
    this.#log = options.log;
    this.state = options.state;
    this.#holeTimeoutMs = options.holeTimeoutMs ?? 1_000;
    this.#replay = new Replay(options.state);
  }

  get nextAddress(): Address {
    return this.state.nextAddress;
  }

  get position(): Position {
    return positionOf(this.state.nextAddress, 0);
  }

  get logTimeMs(): number {
    return this.state.logTimeMs;
  }

  get config(): ChannelConfig | undefined {
    return this.#replay.config;
  }

  get verifier(): IdentityVerifier | undefined {
    return this.#replay.verifier;
  }

  get contracts(): ReadonlyMap<string, ContractDefinition> {
    return this.#replay.contracts;
  }

  get alarm(): Error | undefined {
    return this.#alarm;
  }

  start(): void {
    this.#running = this.#run();
    this.#watchHoles(this.nextAddress);
  }

  onApplied(listener: AppliedListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onAlarm(listener: (alarm: Error) => void): () => void {
    this.#alarmListeners.add(listener);
    return () => this.#alarmListeners.delete(listener);
  }

  waitFor(position: Position, deadlineMs: number): Promise<void> {
    if (this.position >= position) return Promise.resolve();
    const stopped = this.#stopped();
    if (stopped !== undefined) return Promise.reject(stopped);
    if (this.#waiters.size >= limits.replicaWaitersMax) {
      const message = `replicaWaitersMax is ${limits.replicaWaitersMax}`;
      const details = { limit: 'replicaWaitersMax' };
      return Promise.reject(new DaybookError('OVERLOADED', message, { details }));
    }
    return new Promise((resolve, reject) => {
      const leftMs = Math.max(0, deadlineMs - this.#io.clock.monotonicMs());
      const timer = this.#io.timers.after(leftMs, () => {
        this.#waiters.delete(waiter);
        const details = { position, applied: this.position };
        const message = `position ${position} was not applied in time`;
        reject(new DaybookError('TIMEOUT', message, { details }));
      });
      const waiter: Waiter = { position, resolve, reject, timer };
      this.#waiters.add(waiter);
    });
  }

  async *readApplied(
    from: Position,
    signal?: AbortSignal,
  ): AsyncGenerator<readonly AppliedEntry[], void> {
    let address = addressOf(from);
    if (address < this.state.startAddress) {
      throw new DaybookError('LOG_TRIMMED', `this state begins at ${this.state.startAddress}`, {
        details: { address, startAddress: this.state.startAddress },
      });
    }
    this.#readers++;
    try {
      while (signal?.aborted !== true) {
        const recent = this.#recent.from(address);
        if (recent !== undefined && recent.length > 0) {
          address = nextAddress((recent.at(-1) as AppliedEntry).address);
          yield recent;
        } else if (address < this.nextAddress) {
          for await (const entries of this.#readOld(address, signal)) {
            address = nextAddress((entries.at(-1) as AppliedEntry).address);
            yield entries;
          }
        } else {
          const stopped = this.#stopped();
          if (stopped !== undefined) throw stopped;
          await this.#published(signal);
        }
      }
    } finally {
      this.#readers--;
      if (this.#readers === 0) this.#recent.clear();
    }
  }

  expect(end: Address): void {
    this.#granted = end;
    this.#grantedMs = this.#io.clock.monotonicMs();
  }

  status(txId: TxId | Uint8Array): TransactionStatus | undefined {
    return this.state.transaction(txId);
  }

  trustBatch(batch: Batch): void {
    this.#replay.trustBatch(batch);
  }

  async close(): Promise<void> {
    this.#abort.abort();
    this.#holeTimer?.cancel();
    this.#wake();
    await this.#running;
    this.#rejectWaiters(this.#stopped() as DaybookError);
  }

  /** Why nothing will be applied any more. */
  #stopped(): DaybookError | undefined {
    if (this.#alarm !== undefined) return this.#alarm;
    if (!this.#abort.signal.aborted) return undefined;
    return new DaybookError('CLOSED', 'the replica is closed');
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    let backoffMs = backoffMinMs;
    while (!signal.aborted) {
      try {
        for await (const entries of this.#log.follow(this.nextAddress, signal)) {
          backoffMs = backoffMinMs;
          await this.#applyAll(entries);
          if (signal.aborted) return;
        }
        // The log ended quietly without being asked to; ask again, but not in a hurry.
      } catch (error) {
        if (signal.aborted) return;
        const retryable =
          error instanceof DaybookError && error.retry !== 'never' && error.code !== 'INTERNAL';
        if (!retryable) {
          this.#stop(toDaybookError(error));
          return;
        }
      }
      if (signal.aborted) return;
      await this.#pause(backoffMs);
      backoffMs = Math.min(backoffMs * 2, backoffMaxMs);
    }
  }

  async #applyAll(entries: readonly LogEntry[]): Promise<void> {
    let applied: AppliedEntry[] = [];
    let sliceEndMs = this.#io.clock.monotonicMs() + sliceMs;
    for (const entry of entries) {
      // After a reconnection the log may begin with what is applied already.
      if (entry.address < this.nextAddress) continue;
      const replayed = this.#replay.next(entry);
      this.state.apply(replayed.change);
      // Decoded records that nobody reads must die young: kept, they cost more than their replay.
      if (this.#readers > 0) this.#recent.add(replayed.applied, entry.bytes.length);
      applied.push(replayed.applied);
      if (this.state.overloaded || this.#io.clock.monotonicMs() > sliceEndMs) {
        this.#publish(applied);
        applied = [];
        await this.#relief();
        if (this.#abort.signal.aborted) return;
        sliceEndMs = this.#io.clock.monotonicMs() + sliceMs;
      }
    }
    this.#publish(applied);
  }

  /** Lets other work run, and the state's flush catch up. */
  async #relief(): Promise<void> {
    await new Promise<void>((resolve) => this.#io.timers.soon(resolve));
    while (this.state.overloaded && !this.#abort.signal.aborted) {
      await this.state.relieved();
      if (this.state.failure !== undefined) await this.#pause(backoffMaxMs);
    }
  }

  #publish(applied: readonly AppliedEntry[]): void {
    if (applied.length === 0) return;
    for (const listener of this.#listeners) listener(applied);
    const { position } = this;
    for (const waiter of this.#waiters) {
      if (waiter.position > position) continue;
      this.#waiters.delete(waiter);
      waiter.timer.cancel();
      waiter.resolve();
    }
    this.#wake();
  }

  /** Entries that are no longer in memory: log and verdicts are put together again. */
  async *#readOld(
    from: Address,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<readonly AppliedEntry[], void> {
    const abort = new AbortController();
    const stop = (): void => abort.abort();
    signal?.addEventListener('abort', stop);
    this.#abort.signal.addEventListener('abort', stop);
    try {
      for await (const entries of this.#log.follow(from, abort.signal)) {
        const before = entries.filter(({ address }) => address < this.nextAddress);
        for (const page of pagesOf(before)) yield page.map((entry) => this.#again(entry));
        // The page went on beyond what was applied then; meanwhile more may have been.
        if (before.length < entries.length) return;
        const last = entries.at(-1)?.address ?? from;
        if (nextAddress(last) >= this.nextAddress || this.#recent.from(nextAddress(last))) return;
      }
    } finally {
      abort.abort();
      signal?.removeEventListener('abort', stop);
      this.#abort.signal.removeEventListener('abort', stop);
    }
  }

  #again(entry: LogEntry): AppliedEntry {
    const summary = this.state.entry(entry.address);
    if (summary === undefined) {
      throw new DaybookError('LOG_TRIMMED', `nothing is known of entry ${entry.address}`, {
        details: { address: entry.address },
      });
    }
    return replayedBefore(entry, summary.logTimeMs, summary.verdicts);
  }

  /**
   * Closes a hole that keeps everybody waiting: what is written or granted reaches beyond the next
   * address, and nothing came for the whole of `holeTimeoutMs`. Where one is there are often more,
   * of an executor that died with several groups under way: the next time all that are as old go.
   */
  #watchHoles(last: Address): void {
    this.#holeTimer = this.#io.timers.after(this.#holeTimeoutMs, () => {
      const next = this.nextAddress;
      const stuck = next === last || (this.#overdue !== undefined && next < this.#overdue);
      const fills = stuck && !this.state.overloaded;
      if (!fills) this.#overdue = undefined;
      void (fills ? this.#fillHoles(next) : Promise.resolve()).then(() => {
        if (!this.#abort.signal.aborted && this.#alarm === undefined) {
          this.#watchHoles(this.nextAddress);
        }
      });
    });
  }

  async #fillHoles(first: Address): Promise<void> {
    try {
      // Who waits for a grant goes on asking; what was said long ago may be of a reign that is over.
      const isNews = this.#io.clock.monotonicMs() - this.#grantedMs < this.#holeTimeoutMs;
      const end = Math.max(await this.#log.tail(), isNews ? this.#granted : 0);
      const overdue = Math.max(first + 1, this.#overdue ?? 0);
      this.#overdue = end > first ? asAddress(end) : undefined;
      const fills: Promise<void>[] = [];
      const last = Math.min(end, overdue, this.nextAddress + holesAtOnceMax);
      for (let address = this.nextAddress; address < last; address = nextAddress(address)) {
        fills.push(this.#log.fill(address));
      }
      await Promise.all(fills);
    } catch {
      // The log is away for now; the follower meets the same error and deals with it.
    }
  }

  #published(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#wakeups.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#wakeups.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  #wake(): void {
    for (const wake of [...this.#wakeups]) wake();
  }

  #pause(delayMs: number): Promise<void> {
    return pause(this.#io, delayMs, { signal: this.#abort.signal });
  }

  #stop(alarm: DaybookError): void {
    this.#alarm = alarm;
    this.#holeTimer?.cancel();
    for (const listener of this.#alarmListeners) listener(alarm);
    this.#rejectWaiters(alarm);
    this.#wake();
  }

  #rejectWaiters(error: DaybookError): void {
    for (const waiter of this.#waiters) {
      waiter.timer.cancel();
      waiter.reject(error);
    }
    this.#waiters.clear();
  }
}

/** The same entries in pages of at least {@link pageBytes}, but for the last. */
function* pagesOf(entries: readonly LogEntry[]): Generator<readonly LogEntry[], void> {
  let first = 0;
  let bytes = 0;
  for (let at = 0; at < entries.length; at++) {
    bytes += entries[at]?.bytes.length ?? 0;
    if (bytes < pageBytes) continue;
    yield entries.slice(first, at + 1);
    first = at + 1;
    bytes = 0;
  }
  if (first < entries.length) yield entries.slice(first);
}
