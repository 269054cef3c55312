import type { NodeInfo } from '../log/index.ts';
import type { LogRetention } from '../model/index.ts';
import { type FollowerHold, neededFrom } from '../replication/index.ts';

/** What a node of a cluster tells the others in the registry. */
export interface Member extends NodeInfo {
  readonly channel: string;
  /** URL of its gateway, for clients. */
  readonly gateway: string;
  /** Where it answers on the private network. */
  readonly address: string;
  readonly roles: readonly ('executor' | 'sequencer')[];
  /** It takes no new transactions. */
  readonly draining: boolean;
  /** Differs between nodes of the same name, and stays when one is started again. */
  readonly id: string;
  /** Epoch of a leader that it finds no way to, though it reaches the log. */
  readonly cutOff?: number;
  /** It makes blocks, so its state can be compared with others. */
  readonly chain?: boolean;
  /** Its newest snapshot: the first address that is not in it; 0 when it has none. */
  readonly snapshot?: number;
  /** Everything before this address is in its snapshot and in its blocks, as it last told. */
  readonly held?: number;
  /** What the followers that asked this node still need of the log. */
  readonly followers?: readonly FollowerHold[];
}

/** The registered nodes that are members of a cluster; others may use the registry too. */
export function membersOf(nodes: readonly NodeInfo[]): Member[] {
  return nodes.filter((node): node is Member => {
    const { gateway, address, roles, draining } = node;
    return (
      typeof gateway === 'string' &&
      typeof address === 'string' &&
      Array.isArray(roles) &&
      typeof draining === 'boolean'
    );
  });
}

/**
 * Who should lead instead of the leader of `epoch`: somebody among those who find no way to it, when
 * they are more than half of all. `undefined`: it should stay. Two nodes that miss each other gain
 * nothing by a change.
 */
export function insteadOf(
  members: readonly Member[],
  leader: string,
  epoch: number,
): string | undefined {
  const cutOff = members.filter((member) => member.cutOff === epoch && member.name !== leader);
  return cutOff.length * 2 > members.length ? successorOf(cutOff, leader) : undefined;
}

/** What a log may be trimmed to. */
export interface TrimPoint {
  /** The first address that stays; not above the log's start where nothing may leave. */
  readonly before: number;
  /** More could leave, were it not that these make blocks and are away, or make none any more. */
  readonly waitsFor: readonly string[];
}

/**
 * The address before which the log may be trimmed: `holders` nodes hold everything before it, and so many
 * of those that make blocks, or all if they are fewer; `entries` entries stay, and what followers need
 * stays within `followerEntries`.
 *
 * @param makers - names of all that make blocks, whether they are there or not: one that comes back needs
 *   the log, or others' blocks.
 */
export function trimPoint(
  members: readonly Member[],
  makers: readonly string[],
  retention: LogRetention,
  { start, tail }: { readonly start: number; readonly tail: number },
): TrimPoint {
  const { entries, holders, followerEntries = 10 * entries } = retention;
  const heldBy = (some: readonly Member[], count: number): number =>
    some.map(({ held = 0 }) => held).sort((a, b) => b - a)[count - 1] ?? 0;
  const needed = neededFrom(members.flatMap((member) => member.followers ?? [])) ?? tail;
  const forFollowers = Math.max(needed, tail - followerEntries);
  const inSnapshots = Math.min(heldBy(members, holders), tail - entries, forFollowers);
  // Who makes no blocks holds none: snapshots alone must not stand for them.
  const there = makersIn(members);
  const away = awayOf(makers, members);
  const copies = Math.min(holders, there.length + away.length);
  const inBlocks = copies === 0 ? tail : heldBy(there, copies);
  return {
    before: Math.max(0, Math.min(inSnapshots, inBlocks)),
    waitsFor: there.length < copies && inSnapshots > start ? away : [],
  };
}

/** Of those that are known to make blocks the ones that are away, or make none any more. */
export function awayOf(makers: readonly string[], members: readonly Member[]): string[] {
  const there = makersIn(members);
  return makers.filter((name) => there.every((maker) => maker.name !== name));
}

/** Those that make blocks. */
export function makersIn(members: readonly Member[]): Member[] {
  return members.filter(({ chain }) => chain === true);
}

/** The next node after `name`, in the order of names, that could lead. */
export function successorOf(members: readonly Member[], name: string): string | undefined {
  const able = members
    .filter((member) => member.roles.includes('sequencer') && !member.draining)
    .map((member) => member.name)
    .filter((other) => other !== name)
    .sort();
  return able.find((other) => other > name) ?? able[0];
}
