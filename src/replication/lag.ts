import type { Journal } from './journal.ts';
import type { CompiledSubscription } from './subscription.ts';

/** What a follower lacks of the ledger up to a position. */
export interface Lag {
  /** Selected changes that it lacks. */
  readonly changes: number;
  /** Bulk updates among what it lacks: their rows are not counted. */
  readonly bulkUpdates: number;
  /** False: at least so many; there was no time to look through all of the log. */
  readonly exact: boolean;
  /** Log time of the first commit that it lacks. */
  readonly sinceMs: number | undefined;
}

interface Tally {
  readonly digest: string;
  /** What is counted: positions `from` to `to`. */
  from: number;
  to: number;
  changes: number;
  bulkUpdates: number;
  sinceMs: number | undefined;
}

/**
 * Counts what followers lack. What was counted once is remembered, so each part of the log is looked
 * through twice for a follower at most: when it appears, and when the follower has passed it.
 */
export class LagCounter {
  readonly #journal: Pick<Journal, 'count' | 'firstMs'>;
  readonly #tallies = new Map<string, Tally>();

  constructor(journal: Pick<Journal, 'count' | 'firstMs'>) {
    this.#journal = journal;
  }

  /**
   * What the follower lacks between two positions.
   *
   * @param goOn - false when time is up; the next call goes on from there.
   * @throws {DaybookError} `FOLLOWER_REFILL` when the log does not reach back so far.
   */
  async lag(
    follower: string,
    subscription: CompiledSubscription,
    from: number,
    to: number,
    goOn: () => boolean,
  ): Promise<Lag> {
    const tally =
      (await this.#known(follower, subscription, from, to, goOn)) ??
      this.#fresh(follower, subscription.digest, from);
    const more = await this.#journal.count(subscription, tally.to, to, goOn);
    if (tally.changes + tally.bulkUpdates === 0) tally.sinceMs = more.sinceMs;
    tally.to = more.reached;
    tally.changes += more.changes;
    tally.bulkUpdates += more.bulkUpdates;
    if (tally.changes + tally.bulkUpdates > 0) {
      tally.sinceMs ??= await this.#journal.firstMs(subscription, tally.from, tally.to, goOn);
    }
    const { changes, bulkUpdates, sinceMs } = tally;
    return { changes, bulkUpdates, exact: tally.to >= to && tally.from === from, sinceMs };
  }

  forget(follower: string): void {
    this.#tallies.delete(follower);
  }

  #fresh(follower: string, digest: string, from: number): Tally {
    const tally = { digest, from, to: from, changes: 0, bulkUpdates: 0, sinceMs: undefined };
    this.#tallies.set(follower, tally);
    return tally;
  }

  /** The tally of the follower, brought forward to where it stands now. */
  async #known(
    follower: string,
    subscription: CompiledSubscription,
    from: number,
    to: number,
    goOn: () => boolean,
  ): Promise<Tally | undefined> {
    const tally = this.#tallies.get(follower);
    if (tally === undefined || tally.digest !== subscription.digest) return undefined;
    if (from < tally.from || from > tally.to || tally.to > to) return undefined;
    if (from === tally.from) return tally;
    if (tally.changes > 0 || tally.bulkUpdates > 0) {
      try {
        const passed = await this.#journal.count(subscription, tally.from, from, goOn);
        tally.changes -= passed.changes;
        tally.bulkUpdates -= passed.bulkUpdates;
        tally.from = passed.reached;
        if (passed.reached < from) return tally;
      } catch {
        // What the follower has passed may be trimmed.
        return undefined;
      }
    }
    tally.from = from;
    tally.sinceMs = undefined;
    return tally;
  }
}
