import { type FollowerEntry, holdOf, neededFrom } from './registry.ts';

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
    | 'parked'
    | 'seenAtMs'
    | 'run'
  > {
  /** Holds everything that it selects before {@link FollowersStatus.tail}, and has nothing parked. */
  readonly inStep: boolean;
  /** Changes that it lacks before the tail; at least so many when `lagExact` is false. */
  readonly lagChanges: number;
  /** False where the rows of a bulk update are lacking, or the log is trimmed: it will fill anew. */
  readonly lagExact: boolean;
  /** Age of the oldest change that it lacks, milliseconds; 0 when it lacks none. */
  readonly lagMs: number;
  /** Not heard of for longer than the lease: the log is not kept for it any more. */
  readonly expired: boolean;
}

/** See {@link FollowerService.status}. */
export interface FollowersStatus {
  /** The answer is about everything before this position. */
  readonly tail: number;
  /** All followers' systems hold everything that they select before `tail`. */
  readonly inStep: boolean;
  /** Everything before this position is in every follower's system; at most `tail`. */
  readonly appliedByAll: number;
  /** The first address of the log that a follower within its lease needs; not set without any. */
  readonly neededFrom?: number;
  readonly followers: readonly FollowerStatus[];
}

/** The answer of all followers together. */
export function summed(tail: number, followers: readonly FollowerStatus[]): FollowersStatus {
  let appliedByAll = tail;
  for (const { lagChanges, lagExact, filling, appliedPosition } of followers) {
    // One that lacks nothing it selects holds everything up to the tail.
    const holdsAll = lagChanges === 0 && lagExact && !filling;
    if (!holdsAll) appliedByAll = Math.min(appliedByAll, appliedPosition);
  }
  const needed = neededFrom(followers.filter(({ expired }) => !expired).map(holdOf));
  return {
    tail,
    inStep: followers.every(({ inStep }) => inStep),
    appliedByAll,
    ...(needed === undefined ? {} : { neededFrom: needed }),
    followers,
  };
}

/**
 * Where followers stand, as several nodes tell it of one position: of each follower the newest word.
 * Answers about an older position are left out.
 */
export function mergeStatus(statuses: readonly FollowersStatus[]): FollowersStatus {
  const tail = Math.max(0, ...statuses.map((status) => status.tail));
  const newest = new Map<string, FollowersStatus['followers'][number]>();
  for (const { followers } of statuses.filter((status) => status.tail === tail)) {
    for (const follower of followers) {
      const other = newest.get(follower.name);
      const later =
        other?.run === follower.run
          ? other.appliedPosition < follower.appliedPosition ||
            (other.appliedPosition === follower.appliedPosition &&
              other.seenAtMs < follower.seenAtMs)
          : other === undefined || other.seenAtMs < follower.seenAtMs;
      if (later) newest.set(follower.name, follower);
    }
  }
  return summed(
    tail,
    [...newest.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  );
}
