import { DaybookError, limits } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import { asPosition } from '../model/index.ts';
import { compactMediaType, encodeCompactPage } from './compact-page.ts';
import { signCursor, verifyCursor } from './cursor.ts';
import { encryptedMediaType, encryptPage, type FollowerKey } from './encryption.ts';
import { Journal, type JournalSource, type PageSize } from './journal.ts';
import { type Lag, LagCounter } from './lag.ts';
import { encodePage, type Page, pageMediaType } from './page.ts';
import {
  type FollowerEntry,
  type FollowerHold,
  type FollowerRegistry,
  readRegistry,
} from './registry.ts';
import { type FollowerStatus, type FollowersStatus, summed } from './status.ts';
import {
  type CompiledSubscription,
  compileSubscription,
  type Subscription,
} from './subscription.ts';
import { xmlMediaType, xmlPage } from './xml-page.ts';

/** Settings of {@link openFollowerService}. */
export interface FollowerServiceOptions {
  readonly io: Pick<Io, 'clock' | 'timers' | 'disk'>;
  readonly source: JournalSource;
  /** Absolute path of a directory of its own. */
  readonly directory: string;
  /** Signs cursors; the same on all nodes of a network, so that followers can change nodes. */
  readonly cursorKey: Uint8Array;
  /** How long the log is kept for a follower that is not heard of. Default 7 days. */
  readonly leaseMs?: number;
}

/** What a follower sends with every request. */
export interface FollowerRequest {
  /** Names one run of the follower's process. */
  readonly run: string;
  readonly subscription: Subscription;
  /** Everything before this position is in the follower's system. */
  readonly applied?: number;
  /** Its copy is being filled anew. */
  readonly filling?: boolean;
  /** Entities whose changes are parked. */
  readonly parked?: number;
  /** Encrypt for this public key. */
  readonly key?: FollowerKey;
  /** Most changes in the answer; a commit is never split. Default 1,000. */
  readonly changesMax?: number;
  /** Of the page, before it is encrypted. Default `json`. */
  readonly format?: PageFormat;
}

/** `json`: NDJSON; `compact`: `compactMediaType`; `xml`: of a pull only, a scan answers NDJSON. */
export type PageFormat = 'json' | 'compact' | 'xml';

/** Asks for the changes after a cursor. */
export interface PullRequest extends FollowerRequest {
  /** From the page before, or the scan. Without one the pull begins at the start of the log. */
  readonly cursor?: string;
  /** How long to wait at the tail, milliseconds. */
  readonly waitMs?: number;
}

/** Asks for rows of the state. */
export interface ScanRequest extends FollowerRequest {
  /** From the page before. */
  readonly from?: number;
  readonly resume?: string;
}

/** A page as it goes over the wire. */
export interface PageAnswer {
  readonly mediaType: string;
  readonly body: string;
}

const defaultLeaseMs = 7 * 24 * 3_600_000;
const saveEveryMs = 1_000;
const lagMsMax = 1_000;
const statusWaitMs = 5_000;
const compiledMax = 64;

/**
 * Opens the ledger's side of replication on one node. A follower costs the node one line of its
 * registry; all else it needs is in the log, and it says it anew with every request, so any node
 * can answer it.
 */
export async function openFollowerService(
  options: FollowerServiceOptions,
): Promise<FollowerService> {
  const { io, directory, leaseMs = defaultLeaseMs } = options;
  await io.disk.makeDirectory(directory);
  const file = `${directory}/followers.json`;
  return new FollowerService(options, file, await readRegistry(io.disk, file, leaseMs));
}

/** Answers followers of one channel. */
export class FollowerService {
  readonly #options: FollowerServiceOptions;
  readonly #file: string;
  readonly #registry: FollowerRegistry;
  readonly #journal: Journal;
  readonly #lags: LagCounter;
  readonly #compiled = new Map<string, CompiledSubscription>();
  /** Pulls and scans by follower. */
  readonly #underWay = new Map<string, number>();
  #status: Promise<unknown> = Promise.resolve();
  #timer: Timer | undefined;
  #saving: Promise<void> = Promise.resolve();
  #closed = false;
  #end: () => void = () => undefined;

  /** @internal use {@link openFollowerService} */
  constructor(options: FollowerServiceOptions, file: string, registry: FollowerRegistry) {
    this.#options = options;
    this.#file = file;
    this.#registry = registry;
    this.#journal = new Journal(
      options.source,
      new Promise((resolve) => {
        this.#end = resolve;
      }),
    );
    this.#lags = new LagCounter(this.#journal);
  }

  /**
   * The page after the request's cursor.
   *
   * @throws {DaybookError} `FOLLOWER_REFILL`, `CURSOR_INVALID`, `ACCESS_DENIED`, `MALFORMED`,
   *   `OVERLOADED` (`followerPullsMax`, `followerPullsEachMax`, `followersMax`)
   */
  async pull(name: string, owner: string, request: PullRequest): Promise<PageAnswer> {
    const subscription = this.#compile(request.subscription);
    const from = this.#from(name, request.cursor, subscription);
    this.#report(name, owner, request, from);
    const waitMs = Math.min(request.waitMs ?? 0, limits.followerWaitMsMax);
    const page = await this.#bounded(name, () =>
      this.#journal.page(subscription, from, sizeOf(request), waitMs),
    );
    const cursor = this.#cursor(name, subscription, page.next);
    const whole = { ...page, cursor };
    const answer =
      request.format === 'xml'
        ? { mediaType: xmlMediaType, body: xmlPage(whole) }
        : written(whole, request);
    return this.#answer(name, request, page.from, answer);
  }

  /**
   * The next rows of the state. The page's `cursor` is the one to pull on from after the scan.
   *
   * @throws {DaybookError} as {@link FollowerService.pull}; `TIMEOUT`
   */
  async scan(name: string, owner: string, request: ScanRequest): Promise<PageAnswer> {
    const subscription = this.#compile(request.subscription);
    this.#report(name, owner, { ...request, filling: true }, undefined);
    const { from: first, resume: at } = request;
    const { from, tail, rows, resume } = await this.#bounded(name, () =>
      this.#journal.scan(subscription, first, at, sizeOf(request)),
    );
    const cursor = this.#cursor(name, subscription, from);
    const page = { from, next: from, cursor, tail, changes: rows };
    const head = `${JSON.stringify({ resume: resume ?? null })}\n`;
    const { mediaType, body } = written(page, request);
    return this.#answer(name, request, from, { mediaType, body: head + body });
  }

  /**
   * Takes a follower's word on what its system holds.
   *
   * @returns what the node now has in its account: repeat until it is as high as what was sent.
   */
  applied(name: string, owner: string, request: FollowerRequest): { confirmed: number } {
    this.#compile(request.subscription);
    return { confirmed: this.#report(name, owner, request, undefined).appliedPosition };
  }

  /**
   * Where every follower stands.
   *
   * @param at - the position that the answer is about, so that several nodes' answers are about the
   *   same; this node catches up with it first, for 5 s at most. Default: all that is applied here.
   */
  status(at?: number): Promise<FollowersStatus> {
    return this.#bounded('', () => this.#inTurn(() => this.#statusAt(at)));
  }

  async #statusAt(at: number | undefined): Promise<FollowersStatus> {
    const { clock } = this.#options.io;
    if (at !== undefined && at > this.#journal.tail) {
      await this.#options.source.waitFor(asPosition(at - 1), statusWaitMs);
    }
    const tail = Math.min(at ?? Number.MAX_SAFE_INTEGER, this.#journal.tail);
    const nowMs = clock.nowMs();
    const followers: FollowerStatus[] = [];
    const untilMs = clock.monotonicMs() + lagMsMax;
    const goOn = (): boolean => clock.monotonicMs() < untilMs;
    for (const entry of this.#registry.list()) {
      const { owner: _owner, subscription: _subscription, ...shown } = entry;
      const lag = await this.#lag(entry, tail, goOn);
      const lagExact = lag.exact && lag.bulkUpdates === 0;
      followers.push({
        ...shown,
        inStep: !entry.filling && entry.parked === 0 && lag.changes === 0 && lagExact,
        lagChanges: lag.changes,
        lagExact,
        lagMs: lag.sinceMs === undefined ? 0 : Math.max(0, nowMs - lag.sinceMs),
        expired: this.#registry.expired(entry, nowMs),
      });
    }
    return summed(tail, followers);
  }

  /** One after another: counting reads the log. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#status.then(work);
    this.#status = result.catch(() => undefined);
    return result;
  }

  /** Forgets a follower; its next request makes it known again. */
  forget(name: string, owner: string): boolean {
    const known = this.#registry.forget(name, owner);
    this.#lags.forget(name);
    this.#saveSoon();
    return known;
  }

  /** What followers within their lease still need of the log, as this node knows it. */
  holds(): FollowerHold[] {
    return this.#registry.holds(this.#options.io.clock.nowMs(), limits.followerHoldsMax);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#end();
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#save();
    await this.#saving;
  }

  async #lag(
    { name, subscription, appliedPosition }: FollowerEntry,
    to: number,
    goOn: () => boolean,
  ): Promise<Lag> {
    const compiled = this.#compile(subscription);
    const from = Math.min(appliedPosition, to);
    try {
      return await this.#lags.lag(name, compiled, from, to, goOn);
    } catch {
      // The log does not reach back so far.
      return { changes: 0, bulkUpdates: 0, exact: false, sinceMs: undefined };
    }
  }

  async #answer(
    name: string,
    { key }: FollowerRequest,
    from: number,
    answer: PageAnswer,
  ): Promise<PageAnswer> {
    if (key === undefined) return answer;
    const { channel } = this.#options.source;
    const body = await encryptPage(answer.body, key, { channel, follower: name, from });
    return { mediaType: encryptedMediaType, body };
  }

  #from(name: string, cursor: string | undefined, subscription: CompiledSubscription): number {
    if (cursor === undefined) return 0;
    const { channel } = this.#options.source;
    const known = verifyCursor(cursor, this.#options.cursorKey, { channel, follower: name });
    if (known.subscription !== subscription.digest) {
      throw new DaybookError('FOLLOWER_REFILL', 'the subscription has changed', {
        details: { reason: 'subscription-changed', from: known.position },
      });
    }
    return known.position;
  }

  #cursor(follower: string, { digest }: CompiledSubscription, position: number): string {
    const { cursorKey, source } = this.#options;
    const cursor = { channel: source.channel, follower, subscription: digest, position };
    return signCursor(cursor, cursorKey);
  }

  #report(
    name: string,
    owner: string,
    request: FollowerRequest,
    delivered: number | undefined,
  ): FollowerEntry {
    const { run, subscription, applied, key, filling = false, parked = 0 } = request;
    const nowMs = this.#options.io.clock.nowMs();
    const encrypted = key !== undefined;
    const report = { run, subscription, delivered, applied, encrypted, filling, parked };
    const entry = this.#registry.report(name, owner, report, nowMs);
    this.#saveSoon();
    return entry;
  }

  /** One follower must not take the place of the others. */
  async #bounded<T>(name: string, work: () => Promise<T>): Promise<T> {
    const own = this.#underWay.get(name) ?? 0;
    let all = 0;
    for (const count of this.#underWay.values()) all += count;
    if (all >= limits.followerPullsMax) throw overloaded('followerPullsMax');
    if (own >= limits.followerPullsEachMax) throw overloaded('followerPullsEachMax');
    this.#underWay.set(name, own + 1);
    try {
      return await work();
    } finally {
      const left = (this.#underWay.get(name) ?? 1) - 1;
      if (left === 0) this.#underWay.delete(name);
      else this.#underWay.set(name, left);
    }
  }

  #compile(subscription: Subscription): CompiledSubscription {
    const text = JSON.stringify(subscription) ?? '';
    const known = this.#compiled.get(text);
    if (known !== undefined) return known;
    const compiled = compileSubscription(subscription);
    if (this.#compiled.size >= compiledMax) this.#compiled.clear();
    this.#compiled.set(text, compiled);
    return compiled;
  }

  #saveSoon(): void {
    if (this.#closed) return;
    this.#timer ??= this.#options.io.timers.after(saveEveryMs, () => {
      this.#timer = undefined;
      this.#save();
    });
  }

  #save(): void {
    if (!this.#registry.dirty) return;
    const bytes = this.#registry.encode();
    this.#saving = this.#saving
      .then(() => this.#options.io.disk.writeFile(this.#file, bytes))
      .catch(() => {
        // What is lost here the followers say again with their next request.
        this.#registry.dirty = true;
      });
  }
}

function written(page: Page, { format }: FollowerRequest): PageAnswer {
  return format === 'compact'
    ? { mediaType: compactMediaType, body: encodeCompactPage(page) }
    : { mediaType: pageMediaType, body: encodePage(page) };
}

function overloaded(limit: 'followerPullsMax' | 'followerPullsEachMax'): DaybookError {
  const max = limits[limit];
  return new DaybookError('OVERLOADED', `${limit} is ${max}`, { details: { limit, max } });
}

function sizeOf({ changesMax = 1_000 }: FollowerRequest): PageSize {
  return {
    changesMax: Math.min(changesMax, limits.followerPageChangesMax),
    bytesMax: limits.followerPageBytesMax,
  };
}
