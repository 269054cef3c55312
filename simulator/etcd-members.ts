import type { CallName } from '../src/log/etcd/etcd-api.ts';
import type { SimStream, StreamEnd } from './etcd-stream.ts';
import type { SimNetwork } from './sim-network.ts';
import type { World } from './world.ts';

/** What is wrong with a cluster of etcd. */
export interface EtcdFaults {
  /** Probability that a call is carried out and its answer lost. */
  lostAnswers: number;
  /** Probability that a write takes 20–300 ms to reach a majority's disks. */
  slow: number;
  /** Probability that a member does not make its file anew when it is told to. */
  defragmentFails: number;
}

/** Members of one cluster. */
export const membersPerUnit = 3;
/** A member without a way to the leader keeps a request for so long before it gives up. */
export const proposalTimeoutUs = 3_000_000;
/** Until a member that cannot reach the leader tries again. */
export const proposalRetryUs = 40_000;
const leaderlessUs = 400_000;

/** One member. */
export interface MemberState extends StreamEnd {
  readonly id: string;
  readonly at: number;
  alive: boolean;
  /** How often it was killed. */
  deaths: number;
  /** While it makes its file anew it answers nobody. */
  busyUntilUs: number;
}

/**
 * The members of one cluster of etcd and how they agree: who leads, who reaches whom, and whether a
 * proposal is accepted by a majority. What was proposed before an election may be lost with it.
 */
export class EtcdMembers {
  /** Of the cluster. */
  readonly name: string;
  readonly all: readonly MemberState[];
  readonly faults: EtcdFaults = { lostAnswers: 0, slow: 0, defragmentFails: 0 };
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #elected: (fromUs: number) => void;
  #leader = 0;
  /** Goes up with every election: what was proposed before one may be lost with it. */
  #term = 1;
  #leaderFromUs = 0;
  #electAtNextWrite = false;

  /**
   * @param number - of the cluster.
   * @param elected - told from when on a new leader serves.
   */
  constructor(
    world: World,
    network: SimNetwork,
    number: number,
    elected: (fromUs: number) => void,
  ) {
    this.#world = world;
    this.#network = network;
    this.name = `etcd${number}`;
    this.#elected = elected;
    this.all = Array.from({ length: membersPerUnit }, (_, at) => ({
      machine: `${this.name}-${at}`,
      id: String(number * 10 + at + 1),
      at,
      alive: true,
      deaths: 0,
      busyUntilUs: 0,
      streams: new Set<SimStream>(),
    }));
  }

  get leader(): MemberState {
    return this.all[this.#leader] as MemberState;
  }

  /** Ends one member's process for a while; at most one at a time is dead. */
  killOne(forUs: number): void {
    if (this.all.some(({ alive }) => !alive)) return;
    this.#kill(this.#world.chance.below(membersPerUnit), forUs);
  }

  /** Ends the process of a member that is about to make its file anew. */
  killWhoDefragments(forUs: number): void {
    const busy = this.all.find(({ busyUntilUs }) => busyUntilUs > this.#world.nowUs);
    if (busy !== undefined) this.#kill(busy.at, forUs);
  }

  #kill(at: number, forUs: number): void {
    const { chance } = this.#world;
    if (this.all.some(({ alive }) => !alive)) return;
    const member = this.all[at] as MemberState;
    this.#world.happened('etcd: a member is killed');
    this.#world.note(`${member.machine} is killed for ${forUs / 1000} ms`);
    member.alive = false;
    member.deaths++;
    for (const stream of [...member.streams]) stream.fail('the member is gone');
    if (at === this.#leader) this.#elect(chance.between(200_000, 1_500_000));
    this.#world.after(undefined, forUs, 'etcd restart', () => {
      member.alive = true;
    });
  }

  /** Another member leads, now or while the next write is under way: it may be done, or not. */
  changeLeader(): void {
    if (this.#world.chance.happens(0.5)) this.#electAtNextWrite = true;
    else this.#elect(this.#world.chance.between(10_000, 1_200_000));
  }

  /** A member learns nothing for a while. @param compact - makes everybody forget what it missed. */
  leaveBehind(forUs: number, compact: () => void): void {
    const { chance, nowUs } = this.#world;
    const watched = this.all.filter(({ streams }) => streams.size > 0);
    const member = chance.pick(watched.length > 0 ? watched : this.all);
    if (member === this.leader) this.#elect(10_000);
    const { machine } = member;
    this.#world.note(`${machine} learns nothing for ${forUs / 1000} ms`);
    for (const other of this.all) {
      if (other.machine === machine) continue;
      this.#network.link(machine, other.machine).blockedUntilUs = nowUs + forUs;
      this.#network.link(other.machine, machine).blockedUntilUs = nowUs + forUs;
    }
    this.#world.after(undefined, 0.9 * forUs, 'compact', compact);
  }

  /** All that is wrong ends. */
  heal(): void {
    this.#electAtNextWrite = false;
    this.faults.lostAnswers = 0;
    this.faults.slow = 0;
    this.faults.defragmentFails = 0;
    for (const member of this.all) member.alive = true;
  }

  #elect(leaderlessForUs: number): void {
    const { chance, nowUs } = this.#world;
    const candidates = this.all.flatMap(({ alive }, at) =>
      alive && at !== this.#leader ? [at] : [],
    );
    if (candidates.length > 0) this.#leader = chance.pick(candidates);
    this.#term++;
    this.#leaderFromUs = Math.max(this.#leaderFromUs, nowUs + leaderlessForUs);
    this.#world.happened('etcd: a new leader');
    this.#world.note(`${this.name} has a new leader in ${leaderlessForUs / 1000} ms`);
    this.#elected(this.#leaderFromUs);
    if (leaderlessForUs < leaderlessUs) return;
    for (const member of this.all) {
      for (const stream of [...member.streams]) stream.fail('etcdserver: no leader');
    }
  }

  /** True when a member's requests reach the leader, and the leader a majority. */
  isServed(member: MemberState): boolean {
    const { nowUs } = this.#world;
    const { leader } = this;
    if (!leader.alive || nowUs < this.#leaderFromUs) return false;
    if (!this.#passes(member, leader)) return false;
    let reached = 0;
    for (const other of this.all) if (other.alive && this.#passes(leader, other)) reached++;
    return reached * 2 > membersPerUnit;
  }

  #passes(one: MemberState, other: MemberState): boolean {
    const { nowUs } = this.#world;
    if (one === other) return true;
    const there = this.#network.link(one.machine, other.machine);
    const back = this.#network.link(other.machine, one.machine);
    return Math.max(there.blockedUntilUs, back.blockedUntilUs) <= nowUs;
  }

  /** Calls back when a majority has it: to be carried out, or `undefined` when it came to nothing. */
  propose(
    member: MemberState,
    name: CallName,
    untilUs: number,
    decided: (carryOut: 'aloud' | 'silently' | undefined) => void,
  ): void {
    const world = this.#world;
    const { chance } = world;
    if (!member.alive) {
      decided(undefined);
      return;
    }
    if (member.busyUntilUs > world.nowUs) {
      world.after(undefined, member.busyUntilUs - world.nowUs, 'etcd is busy', () =>
        this.propose(member, name, untilUs, decided),
      );
      return;
    }
    if (name === 'status') {
      decided('aloud');
      return;
    }
    if (name === 'defragment') {
      this.#takeTime(member, decided);
      return;
    }
    if (!this.isServed(member)) {
      world.happened('etcd: a member without a way to the leader');
      if (world.nowUs >= untilUs) decided(undefined);
      else {
        world.after(undefined, proposalRetryUs, 'etcd waits', () =>
          this.propose(member, name, untilUs, decided),
        );
      }
      return;
    }
    const term = this.#term;
    const isRead = name === 'range';
    const slow = !isRead && chance.happens(this.faults.slow);
    const us = slow ? chance.between(20_000, 300_000) : chance.between(isRead ? 100 : 400, 1_500);
    if (!isRead && this.#electAtNextWrite) {
      this.#electAtNextWrite = false;
      this.#elect(chance.between(10_000, 1_200_000));
    }
    world.after(undefined, us, 'etcd commits', () => {
      // Of what an old leader had proposed the new one may know or not.
      if (term !== this.#term && chance.happens(0.5)) {
        world.happened('etcd: a proposal dies with its leader');
        decided(undefined);
      } else if (!member.alive || chance.happens(this.faults.lostAnswers)) {
        world.happened('etcd: an answer is lost');
        decided('silently');
      } else decided('aloud');
    });
  }

  /** A member makes its file anew, and does nothing else meanwhile. */
  #takeTime(member: MemberState, done: (carryOut: 'aloud' | undefined) => void): void {
    const { deaths } = member;
    const us = this.#world.chance.between(5_000, 150_000);
    member.busyUntilUs = this.#world.nowUs + us;
    this.#world.after(undefined, us, 'etcd defragments', () => {
      const isWhole = member.alive && member.deaths === deaths;
      if (!isWhole) this.#world.happened('etcd: a defragmentation is cut short');
      done(isWhole ? 'aloud' : undefined);
    });
  }
}
