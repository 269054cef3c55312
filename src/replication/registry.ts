import { DaybookError, limits } from '../base/index.ts';
import type { Disk } from '../io/index.ts';
import { addressOf, asPosition } from '../model/index.ts';
import type { Subscription } from './subscription.ts';

/** What a node remembers of one follower. */
export interface FollowerEntry {
  readonly name: string;
  /** Who may speak for it; empty: anybody, where reads are open. */
  readonly owner: string;
  readonly subscription: Subscription;
  /** Names one run of the follower's process: within it positions only grow. */
  readonly run: string;
  /** Everything before was sent to it (and asked on from: so it arrived). */
  readonly deliveredPosition: number;
  readonly deliveredAtMs: number;
  /** Everything before is in its system, as it says. */
  readonly appliedPosition: number;
  readonly appliedAtMs: number;
  readonly encrypted: boolean;
  /** Fills its copy anew. */
  readonly filling: boolean;
  /** Entities whose changes its system refused, and that wait there. */
  readonly parked: number;
  readonly seenAtMs: number;
}

/** What a follower says with every request. */
export interface FollowerReport {
  readonly run: string;
  readonly subscription: Subscription;
  readonly delivered: number | undefined;
  readonly applied: number | undefined;
  readonly encrypted: boolean;
  readonly filling: boolean;
  readonly parked: number;
}

/** What a follower still needs of the log, as one node knows it. */
export interface FollowerHold {
  readonly name: string;
  /** The first address that it needs. */
  readonly address: number;
  readonly seenAtMs: number;
}

/** The part of the log that a follower needs. */
export function holdOf({
  name,
  appliedPosition,
  deliveredPosition,
  filling,
  seenAtMs,
}: Omit<FollowerEntry, 'owner' | 'subscription'>): FollowerHold {
  // One that fills will pull on from where its scan began, which is not before this.
  const from = filling ? deliveredPosition : appliedPosition;
  return { name, address: addressOf(asPosition(from)), seenAtMs };
}

/**
 * The first address that any follower needs, by the newest word of each, as several nodes have it;
 * `undefined`: there is no follower.
 */
export function neededFrom(holds: readonly FollowerHold[]): number | undefined {
  const newest = new Map<string, FollowerHold>();
  for (const hold of holds) {
    if ((newest.get(hold.name)?.seenAtMs ?? 0) <= hold.seenAtMs) newest.set(hold.name, hold);
  }
  const addresses = [...newest.values()].map(({ address }) => address);
  return addresses.length === 0 ? undefined : Math.min(...addresses);
}

const formatVersion = 2;

/**
 * The node's account of its followers. Positions within one run of a follower only grow, whatever
 * order its requests arrive in; a new run begins where the follower says, which is lower after its
 * system was restored from a backup.
 */
export class FollowerRegistry {
  readonly #entries: Map<string, FollowerEntry>;
  readonly #leaseMs: number;
  readonly #max: number;
  /** True while there is something that {@link FollowerRegistry.encode} has not given out yet. */
  dirty = false;

  constructor(
    entries: readonly FollowerEntry[],
    leaseMs: number,
    max: number = limits.followersMax,
  ) {
    this.#entries = new Map(entries.map((entry) => [entry.name, entry]));
    this.#leaseMs = leaseMs;
    this.#max = max;
  }

  get(name: string): FollowerEntry | undefined {
    return this.#entries.get(name);
  }

  list(): readonly FollowerEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** True once a follower has not been heard of for the length of the lease. */
  expired(entry: FollowerEntry, nowMs: number): boolean {
    return nowMs - entry.seenAtMs > this.#leaseMs;
  }

  /**
   * Takes a follower's word.
   *
   * @throws {DaybookError} `ACCESS_DENIED` when it belongs to somebody else, `OVERLOADED`
   *   (`followersMax`)
   */
  report(name: string, owner: string, report: FollowerReport, nowMs: number): FollowerEntry {
    const old = this.#entries.get(name);
    this.checkOwner(name, owner);
    if (old === undefined) this.#makeRoom(nowMs);
    const { run, subscription, encrypted, filling, parked } = report;
    const same = old?.run === run ? old : undefined;
    const delivered = Math.max(report.delivered ?? 0, same?.deliveredPosition ?? 0);
    const applied = Math.max(report.applied ?? 0, same?.appliedPosition ?? 0);
    const entry: FollowerEntry = {
      name,
      owner: old?.owner || owner,
      subscription,
      run,
      deliveredPosition: delivered,
      deliveredAtMs: delivered === old?.deliveredPosition ? old.deliveredAtMs : nowMs,
      appliedPosition: applied,
      appliedAtMs: applied === old?.appliedPosition ? old.appliedAtMs : nowMs,
      encrypted,
      filling,
      parked,
      seenAtMs: nowMs,
    };
    this.#entries.set(name, entry);
    this.dirty = true;
    return entry;
  }

  /** @throws {DaybookError} `ACCESS_DENIED` */
  forget(name: string, owner: string): boolean {
    this.checkOwner(name, owner);
    this.dirty = true;
    return this.#entries.delete(name);
  }

  /**
   * Which part of the log followers within their lease still need, as this node knows it.
   *
   * @param most - so many at most, those that need the oldest entries.
   */
  holds(nowMs: number, most: number): FollowerHold[] {
    return [...this.#entries.values()]
      .filter((entry) => !this.expired(entry, nowMs))
      .map(holdOf)
      .sort((a, b) => a.address - b.address)
      .slice(0, most);
  }

  /** Everything, for {@link readRegistry}. */
  encode(): Buffer {
    this.dirty = false;
    return Buffer.from(JSON.stringify({ formatVersion, followers: this.list() }));
  }

  /** @throws {DaybookError} `ACCESS_DENIED` */
  checkOwner(name: string, owner: string): void {
    const old = this.#entries.get(name);
    if (old === undefined || old.owner === '' || old.owner === owner) return;
    throw new DaybookError('ACCESS_DENIED', `follower ${name} belongs to another identity`, {
      details: { follower: name },
    });
  }

  #makeRoom(nowMs: number): void {
    if (this.#entries.size < this.#max) return;
    const expired = [...this.#entries.values()]
      .filter((entry) => this.expired(entry, nowMs))
      .sort((a, b) => a.seenAtMs - b.seenAtMs)[0];
    if (expired === undefined) {
      throw new DaybookError('OVERLOADED', `followersMax is ${this.#max}`, {
        details: { limit: 'followersMax', max: this.#max },
      });
    }
    this.#entries.delete(expired.name);
  }
}

/**
 * Reads a registry's file. A file that cannot be read counts as none: followers tell everything
 * anew with their next request.
 */
export async function readRegistry(
  disk: Disk,
  path: string,
  leaseMs: number,
): Promise<FollowerRegistry> {
  const bytes = await disk.readFile(path);
  try {
    const json = JSON.parse(bytes?.toString('utf8') ?? '{}') as {
      formatVersion?: number;
      followers?: FollowerEntry[];
    };
    return new FollowerRegistry(
      json.formatVersion === formatVersion ? (json.followers ?? []) : [],
      leaseMs,
    );
  } catch {
    return new FollowerRegistry([], leaseMs);
  }
}
