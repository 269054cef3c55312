import { DaybookError, toDaybookError } from '../base/index.ts';
import { type Io, pause, type Timer } from '../io/index.ts';
import type { ChangeRecord } from './change.ts';
import type { FollowerKey } from './encryption.ts';
import type { Feed, FollowerIntroduction } from './feed.ts';
import {
  FollowerCore,
  type FollowerEffect,
  type FollowerEvent,
  type FollowerTiming,
  type SinkPosition,
} from './follower-core.ts';
import type { Page } from './page.ts';
import { behindParked, PoisonFilter, type PoisonPolicy } from './poison.ts';
import type { Processor, TableDeclaration } from './processor.ts';
import { orphanName } from './sinks/orphans.ts';
import type { FillBatch, ParkedChange, Sink, SinkBatch } from './sinks/sink.ts';
import type { Subscription } from './subscription.ts';

/** Settings of {@link startFollower}. */
export interface FollowerOptions {
  readonly io: Pick<Io, 'clock' | 'timers' | 'random'>;
  /** Name in the ledger's account; one process at a time. */
  readonly name: string;
  readonly feed: Feed;
  readonly sink: Sink;
  readonly subscription: Subscription;
  /** The tables that the processor writes to, parents first; none for sinks without tables. */
  readonly tables?: readonly TableDeclaration[];
  readonly processor?: Processor;
  /** What happens to changes that cannot be applied. Default `stop`. */
  readonly policy?: PoisonPolicy;
  /** Tries parked changes again at the start. */
  readonly retryParked?: boolean;
  /** Private keys, the current one first: pages are then encrypted. */
  readonly keys?: readonly FollowerKey[];
  /** Most changes in a page. Default 10,000. */
  readonly changesMax?: number;
  /** How long a pull waits at the tail, milliseconds. Default 20,000. */
  readonly waitMs?: number;
  readonly timing?: Partial<FollowerTiming>;
  /** Hears what happens beside pages: fills, failures, parked changes. */
  readonly onEvent?: (text: string) => void;
}

/** A follower that runs. */
export interface Follower {
  /** Everything before is in the system; `undefined` before the first fill. */
  readonly position: number | undefined;
  /** Changes that went into the system since the start. */
  readonly changes: number;
  /** Resolves after `stop`; rejects with what ended the follower. */
  readonly ended: Promise<void>;
  /**
   * Changes what it wants to hear of while it runs: the copy is filled anew, readers see the old one
   * until then.
   */
  resubscribe(subscription: Subscription): void;
  /** Ends after what is being written. */
  stop(): Promise<void>;
}

const fillAttempts = 5;
const fillPauseMs = 500;

/**
 * Keeps a system in step with the ledger: fills it if it must, then posts changes in order, and
 * goes on through outages on both sides.
 */
export function startFollower(options: FollowerOptions): Follower {
  const follower = new RunningFollower(options);
  follower.event({ type: 'tick' });
  return follower;
}

class RunningFollower implements Follower {
  readonly ended: Promise<void>;
  changes = 0;
  readonly #options: FollowerOptions;
  readonly #core: FollowerCore;
  readonly #run: string;
  readonly #abort = new AbortController();
  readonly #busy = new Set<Promise<void>>();
  #poison: PoisonFilter;
  #subscription: Subscription;
  #retryParked: boolean;
  #filling = false;
  #wakeTimer: Timer | undefined;
  #wakeAtMs = Number.POSITIVE_INFINITY;
  #end: (error: DaybookError | undefined) => void = () => undefined;

  constructor(options: FollowerOptions) {
    this.#options = options;
    this.#subscription = options.subscription;
    this.#core = new FollowerCore(options.timing);
    this.#run = options.io.random.bytes(8).toString('hex');
    this.#poison = this.#filter([]);
    this.#retryParked = options.retryParked ?? false;
    this.ended = new Promise((resolve, reject) => {
      this.#end = (error) => (error === undefined ? resolve() : reject(error));
    });
    // Whoever waits hears of it; nobody need wait.
    this.ended.catch(() => undefined);
  }

  get position(): number | undefined {
    return this.#core.position;
  }

  resubscribe(subscription: Subscription): void {
    // The next pull brings it to the ledger, which finds that the cursor is of another.
    this.#subscription = subscription;
  }

  async stop(): Promise<void> {
    this.event({ type: 'stop' });
    await this.ended.catch(() => undefined);
  }

  event(event: FollowerEvent): void {
    for (const effect of this.#core.step(event, this.#options.io.clock.monotonicMs())) {
      this.#do(effect);
    }
  }

  #do(effect: FollowerEffect): void {
    const { io } = this.#options;
    switch (effect.type) {
      case 'wake': {
        // One timer is enough: at its tick the core says when to wake next.
        if (this.#wakeAtMs <= effect.atMs) return;
        this.#wakeTimer?.cancel();
        this.#wakeAtMs = effect.atMs;
        const delayMs = Math.max(1, Math.ceil(effect.atMs - io.clock.monotonicMs()));
        const tick = (): void => {
          this.#wakeAtMs = Number.POSITIVE_INFINITY;
          this.event({ type: 'tick' });
        };
        this.#wakeTimer = io.timers.after(delayMs, tick, { keepAlive: true });
        return;
      }
      case 'stopped':
        this.#stopped(effect.error);
        return;
      case 'open':
        this.#answer('openFailed', async () => ({ type: 'opened', at: await this.#open() }));
        return;
      case 'fill':
        this.#note(`filling the copy (${effect.reason})`);
        this.#answer('fillFailed', async () => ({ type: 'filled', at: await this.#fill() }));
        return;
      case 'pull':
        this.#answer('pullFailed', async () => {
          const page = await this.#pull(effect.at, this.#options.waitMs ?? 20_000);
          // The system may be busy with the page before.
          this.#poison.prepare(page.changes);
          return { type: 'pulled', page };
        });
        return;
      case 'apply':
        this.#answer('applyFailed', async () => {
          await this.#apply(effect.page);
          return { type: 'applied', position: effect.page.next };
        });
        return;
      case 'confirm':
        this.#answer('confirmFailed', async () => ({
          type: 'confirmed',
          position: await this.#options.feed.applied(this.#introduction(), this.#abort.signal),
        }));
        return;
    }
  }

  /** Does the work of an effect; its event, or that of its failure, comes after. */
  #answer(
    failure: 'openFailed' | 'fillFailed' | 'pullFailed' | 'applyFailed' | 'confirmFailed',
    work: () => Promise<FollowerEvent>,
  ): void {
    const task = work().then(
      (event) => {
        this.#busy.delete(task);
        this.event(event);
      },
      (thrown: unknown) => {
        this.#busy.delete(task);
        const error = toDaybookError(thrown);
        if (!this.#abort.signal.aborted && failure !== 'confirmFailed') {
          this.#note(`${failure}: ${error.code} ${error.message}`);
        }
        this.event(failure === 'confirmFailed' ? { type: failure } : { type: failure, error });
      },
    );
    // A question to the ledger may stay without an answer; the system must not be left in between.
    if (failure !== 'pullFailed' && failure !== 'confirmFailed') this.#busy.add(task);
  }

  async #open(): Promise<SinkPosition | undefined> {
    const { sink } = this.#options;
    const { at, parked } = await sink.open();
    this.#poison = this.#filter(parked);
    if (this.#retryParked && parked.length > 0) await this.#unpark(parked);
    this.#retryParked = false;
    return at;
  }

  async #unpark(entities: readonly string[]): Promise<void> {
    const { sink } = this.#options;
    const taken = (await sink.readParked()).map(({ change }) => change);
    this.#poison.released(entities);
    const batch = this.#batch(taken);
    await this.#withPoison(batch, (left) => sink.unpark(left, taken));
    this.#note(`tried ${taken.length} parked changes again`);
  }

  async #apply(page: Page): Promise<void> {
    const { sink } = this.#options;
    const at = { position: page.next, cursor: page.cursor };
    await this.#withPoison(this.#batch(page.changes), (batch) => sink.apply(page.from, batch, at));
    this.changes += page.changes.length;
  }

  async #withPoison(batch: SinkBatch, write: (batch: SinkBatch) => Promise<void>): Promise<void> {
    try {
      await write(batch);
    } catch (error) {
      if (!(error instanceof DaybookError) || error.code !== 'SINK_REFUSED') throw error;
      await write(await this.#isolate(batch, error));
    }
  }

  async #isolate(batch: SinkBatch, error: DaybookError): Promise<SinkBatch> {
    const left = await this.#poison.isolate(this.#options.sink, batch, error);
    const known = new Set(batch.parked);
    this.#noteLeftOut(left.parked.filter((one) => !known.has(one)));
    return left;
  }

  #batch(changes: readonly ChangeRecord[]): SinkBatch {
    const batch = this.#poison.batch(changes);
    this.#noteLeftOut(batch.parked);
    return batch;
  }

  #noteLeftOut(parked: readonly ParkedChange[]): void {
    for (const { change, reason } of parked) {
      // One that is behind a parked one has been said with it.
      if (reason === behindParked) continue;
      this.#note(`left out ${change.contract}/${change.key} of ${change.position}: ${reason}`);
    }
  }

  /**
   * A fill whose references do not hold in the end is made again without the changes that wrote the
   * rows to blame: which they are is known only when all is there.
   */
  async #fill(): Promise<SinkPosition> {
    this.#filling = true;
    const orphans = new Set<string>();
    try {
      for (let pass = 1; ; pass++) {
        this.#poison = this.#filter([], orphans);
        const known = orphans.size;
        try {
          const at = await this.#options.sink.fill(this.#fillBatches(), {
            refused: (batch, error) => this.#isolate(batch, error),
            orphans: (rows) => {
              for (const row of rows) orphans.add(orphanName(row));
            },
          });
          this.#poison = this.#filter(this.#poison.parked);
          return at;
        } catch (error) {
          const { policy = 'stop' } = this.#options;
          if (orphans.size === known || policy === 'stop' || pass >= fillAttempts) throw error;
          this.#note(`${orphans.size} rows refer to rows that are not there; filling without them`);
        }
      }
    } finally {
      this.#filling = false;
    }
  }

  /**
   * The scanned rows, then the changes since the scan began, up to where every node was that
   * answered for it: from there on the system holds one moment of the ledger.
   */
  async *#fillBatches(): AsyncGenerator<FillBatch> {
    const { feed } = this.#options;
    const { signal } = this.#abort;
    // One for the whole fill, whatever it is changed to meanwhile.
    const subscription = this.#subscription;
    let from: number | undefined;
    let resume: string | undefined;
    let at: SinkPosition = { position: 0, cursor: '' };
    let end = 0;
    do {
      const scan = await this.#persist(() =>
        feed.scan(this.#introduction(subscription), from, resume, signal),
      );
      from ??= scan.page.from;
      end = Math.max(end, scan.page.tail);
      at = { position: from, cursor: scan.page.cursor };
      resume = scan.resume;
      this.changes += scan.page.changes.length;
      yield { ...this.#batch(scan.page.changes), revisionMax: from - 1 };
    } while (resume !== undefined);
    while (at.position < end) {
      const before = at;
      const page = await this.#persist(() => this.#pull(before, 1_000, subscription));
      at = { position: page.next, cursor: page.cursor };
      this.changes += page.changes.length;
      yield { ...this.#batch(page.changes), revisionMax: Number.MAX_SAFE_INTEGER };
    }
    yield { changes: [], parked: [], revisionMax: Number.MAX_SAFE_INTEGER, at };
  }

  /** A fill takes long: one lost answer should not end it. */
  async #persist<T>(work: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await work();
      } catch (error) {
        const { retry } = toDaybookError(error);
        if (attempt >= fillAttempts || retry !== 'same' || this.#abort.signal.aborted) throw error;
        await pause(this.#options.io, fillPauseMs * attempt, { keepAlive: true });
      }
    }
  }

  #pull(at: SinkPosition, waitMs: number, subscription?: Subscription): Promise<Page> {
    return this.#options.feed.pull(
      this.#introduction(subscription),
      at.cursor,
      at.position,
      waitMs,
      this.#abort.signal,
    );
  }

  #introduction(subscription = this.#subscription): FollowerIntroduction {
    const { name, keys = [], changesMax = 10_000 } = this.#options;
    return {
      follower: name,
      run: this.#run,
      subscription,
      applied: this.#core.position,
      keys,
      changesMax,
      filling: this.#filling,
      parked: this.#poison.parkedCount,
    };
  }

  #filter(parked: readonly string[], orphans?: ReadonlySet<string>): PoisonFilter {
    const { processor = () => [], tables = [], policy = 'stop' } = this.#options;
    return new PoisonFilter(processor, tables, policy, parked, orphans);
  }

  #note(text: string): void {
    this.#options.onEvent?.(text);
  }

  #stopped(error: DaybookError | undefined): void {
    this.#abort.abort();
    // Nothing may write into the system after the end; a page under way comes to its end first.
    void Promise.allSettled([...this.#busy])
      .then(() => this.#options.sink.close())
      .catch(() => undefined)
      .then(() => this.#end(error));
  }
}
