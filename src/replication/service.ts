import { DaybookError, limits } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import { signCursor, verifyCursor } from './cursor.ts';
import { encryptedMediaType, encryptPage, type FollowerKey } from './encryption.ts';
import { Journal, type JournalSource, type PageSize } from './journal.ts';
import { encodePage, pageMediaType } from './page.ts';
import { type FollowerEntry, type FollowerRegistry, readRegistry } from './registry.ts';
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
  /** Encrypt for this public key. */
  readonly key?: FollowerKey;
  /** Most changes in the answer; a commit is never split. Default 1,000. */
  readonly changesMax?: number;
}

/** Asks for the changes after a cursor. */
export interface PullRequest extends FollowerRequest {
  /** From the page before, or the scan. Without one the pull begins at the start of the log. */
  readonly cursor?: string;
  /** How long to wait at the tail, milliseconds. */
  readonly waitMs?: number;
  readonly format?: 'json' | 'xml';
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

/** One follower as `daybook followers` shows it. */
export interface FollowerStatus
  extends Pick<
    FollowerEntry,
    | 'name'
    | 'deliveredPosition'
    | 'deliveredAtMs'
    | 'appliedPosition'
    | 'appliedAtMs'
    | 'encrypted'
    | 'filling'
    | 'seenAtMs'
    | 'run'
  > {
  /** Holds all that the node that answers has applied. */
  readonly inStep: boolean;
  /** Changes that it lacks; at least so many when `lagExact` is false. */
  readonly lagChanges: number;
  readonly lagExact: boolean;
  /** Age of the oldest change that it lacks, milliseconds; 0 when it lacks none. */
  readonly lagMs: number;
  /** Not heard of for longer than the lease: the log is not kept for it any more. */
  readonly expired: boolean;
}

/** See {@link FollowerService.status}. */
export interface FollowersStatus {
  /** First position that this node has not applied. */
  readonly tail: number;
  /** Everything before this position is in every follower's system. */
  readonly appliedByAll: number;
  readonly followers: readonly FollowerStatus[];
}

const defaultLeaseMs = 7 * 24 * 3_600_000;
const saveEveryMs = 1_000;
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
  readonly #compiled = new Map<string, CompiledSubscription>();
  #underWay = 0;
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
  }

  /**
   * The page after the request's cursor.
   *
   * @throws {DaybookError} `FOLLOWER_REFILL`, `CURSOR_INVALID`, `ACCESS_DENIED`, `MALFORMED`,
   *   `OVERLOADED` (`followerPullsMax`, `followersMax`)
   */
  async pull(name: string, owner: string, request: PullRequest): Promise<PageAnswer> {
    const subscription = this.#compile(request.subscription);
    const from = this.#from(name, request.cursor, subscription);
    this.#report(name, owner, request, from);
    const waitMs = Math.min(request.waitMs ?? 0, limits.followerWaitMsMax);
    const page = await this.#bounded(() =>
      this.#journal.page(subscription, from, sizeOf(request), waitMs),
    );
    const cursor = this.#cursor(name, subscription, page.next);
    const whole = { ...page, cursor };
    const xml = request.format === 'xml';
    return this.#answer(name, request, page.from, {
      mediaType: xml ? xmlMediaType : pageMediaType,
      body: xml ? xmlPage(whole) : encodePage(whole),
    });
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
    const { from, tail, rows, resume } = await this.#bounded(() =>
      this.#journal.scan(subscription, first, at, sizeOf(request)),
    );
    const cursor = this.#cursor(name, subscription, from);
    const page = { from, next: from, cursor, tail, changes: rows };
    const head = `${JSON.stringify({ resume: resume ?? null })}\n`;
    return this.#answer(name, request, from, {
      mediaType: pageMediaType,
      body: head + encodePage(page),
    });
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

  /** Where every follower stands. */
  async status(): Promise<FollowersStatus> {
    const nowMs = this.#options.io.clock.nowMs();
    const { tail } = this.#journal;
    const followers: FollowerStatus[] = [];
    for (const entry of this.#registry.list()) {
      const { owner: _owner, subscription, ...shown } = entry;
      const lag = await this.#lag(subscription, entry.appliedPosition);
      followers.push({
        ...shown,
        inStep: !entry.filling && lag.changes === 0 && lag.exact,
        lagChanges: lag.changes,
        lagExact: lag.exact,
        lagMs: lag.sinceMs === undefined ? 0 : Math.max(0, nowMs - lag.sinceMs),
        expired: this.#registry.expired(entry, nowMs),
      });
    }
    return {
      tail,
      // A follower that lacks nothing it selects holds everything up to the tail.
      appliedByAll: followers.reduce(
        (least, f) => Math.min(least, f.inStep ? tail : f.appliedPosition),
        tail,
      ),
      followers,
    };
  }

  /** Forgets a follower; its next request makes it known again. */
  forget(name: string, owner: string): boolean {
    const known = this.#registry.forget(name, owner);
    this.#saveSoon();
    return known;
  }

  /** Address before which the log is of no use to any follower within its lease. */
  retainFrom(): number | undefined {
    return this.#registry.retainFrom(this.#options.io.clock.nowMs());
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
    subscription: Subscription,
    from: number,
  ): Promise<{ changes: number; exact: boolean; sinceMs: number | undefined }> {
    try {
      return await this.#journal.lag(this.#compile(subscription), from);
    } catch {
      // The log does not reach back so far.
      return { changes: 0, exact: false, sinceMs: undefined };
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
    const { run, subscription, applied, key, filling = false } = request;
    const nowMs = this.#options.io.clock.nowMs();
    const report = { run, subscription, delivered, applied, encrypted: key !== undefined, filling };
    const entry = this.#registry.report(name, owner, report, nowMs);
    this.#saveSoon();
    return entry;
  }

  async #bounded<T>(work: () => Promise<T>): Promise<T> {
    const max = limits.followerPullsMax;
    if (this.#underWay >= max) {
      throw new DaybookError('OVERLOADED', `followerPullsMax is ${max}`, {
        details: { limit: 'followerPullsMax', max },
      });
    }
    this.#underWay++;
    try {
      return await work();
    } finally {
      this.#underWay--;
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

function sizeOf({ changesMax = 1_000 }: FollowerRequest): PageSize {
  return {
    changesMax: Math.min(changesMax, limits.followerPageChangesMax),
    bytesMax: limits.followerPageBytesMax,
  };
}
