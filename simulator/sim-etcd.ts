import type { CallName, Calls, RequestOp, WatchResponse } from '../src/log/etcd/etcd-api.ts';
import type { Member, MemberStream } from '../src/log/index.ts';
import { EtcdSpace } from './etcd-space.ts';
import { EtcdFailure, EtcdStore, grpcStatus } from './etcd-store.ts';
import { chanceOf } from './random.ts';
import type { SimNetwork } from './sim-network.ts';
import type { SimProcess, World } from './world.ts';

/** What is wrong with a cluster of etcd. */
export interface EtcdFaults {
  /** Probability that a call is carried out and its answer lost. */
  lostAnswers: number;
  /** Probability that a write takes 20–300 ms to reach a majority's disks. */
  slow: number;
  /** Probability that a member does not make its file anew when it is told to. */
  defragmentFails: number;
}

const membersPerUnit = 3;
const alarmActivate = 1;
const alarmDeactivate = 2;
const alarmNoSpace = 1;
/** A member without a way to the leader keeps a request for so long before it gives up. */
const proposalTimeoutUs = 3_000_000;
const proposalRetryUs = 40_000;
const leaderlessUs = 400_000;

interface MemberState {
  /** The machine's name on the network. */
  readonly machine: string;
  readonly id: string;
  readonly at: number;
  alive: boolean;
  /** How often it was killed. */
  deaths: number;
  /** While it makes its file anew it answers nobody. */
  busyUntilUs: number;
  readonly streams: Set<SimStream>;
}

interface Lease {
  readonly id: string;
  readonly ttlUs: number;
  expiresAtUs: number;
}

/** Where a call or a stream comes from. */
interface Caller {
  readonly process: SimProcess;
  /** The connection was closed by the caller. */
  closed: boolean;
}

/**
 * One cluster of etcd: three members with one replicated store. What a majority has accepted is
 * never lost; when a call is applied, if at all, lies between its sending and long after its answer
 * was given up. Members can die, be cut off from their leader or from callers, and lose the leader.
 */
export class SimEtcdCluster {
  readonly name: string;
  readonly endpoints: readonly string[];
  readonly faults: EtcdFaults = { lostAnswers: 0, slow: 0, defragmentFails: 0 };
  readonly space: EtcdSpace;
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #store: EtcdStore;
  readonly #members: readonly MemberState[];
  readonly #leases = new Map<string, Lease>();
  #leader = 0;
  /** Goes up with every election: what was proposed before one may be lost with it. */
  #term = 1;
  #leaderFromUs = 0;
  #electAtNextWrite = false;
  #nextLease = 1;

  constructor(world: World, network: SimNetwork, number: number) {
    this.#world = world;
    this.#network = network;
    this.name = `etcd${number}`;
    this.#store = new EtcdStore(String(1000 + number));
    this.#members = Array.from({ length: membersPerUnit }, (_, at) => ({
      machine: `${this.name}-${at}`,
      id: String(number * 10 + at + 1),
      at,
      alive: true,
      deaths: 0,
      busyUntilUs: 0,
      streams: new Set<SimStream>(),
    }));
    this.endpoints = this.#members.map(({ machine }) => `${machine}:2379`);
    this.space = new EtcdSpace(membersPerUnit, chanceOf(number));
  }

  /** Machines of the members, as the network names them. */
  get machines(): readonly string[] {
    return this.#members.map(({ machine }) => machine);
  }

  has(endpoint: string): boolean {
    return this.endpoints.includes(endpoint);
  }

  /** Connects a process to one member. */
  connect(process: SimProcess, endpoint: string): Member {
    const member = this.#members[this.endpoints.indexOf(endpoint)] as MemberState;
    const caller: Caller = { process, closed: false };
    const streams = new Set<SimStream>();
    return {
      endpoint,
      call: (name, request, { timeoutMs }) => this.#call(caller, member, name, request, timeoutMs),
      stream: (method) => {
        const stream = new SimStream(this.#world, this.#network, caller, member, {
          open: (opened, message) => this.#onStream(method, member, opened, message),
        });
        streams.add(stream);
        return stream;
      },
      close: () => {
        caller.closed = true;
        for (const stream of streams) stream.cancel();
      },
    };
  }

  /** Ends one member's process for a while; at most one at a time is dead. */
  killMember(forUs: number): void {
    if (this.#members.some(({ alive }) => !alive)) return;
    this.#kill(this.#world.chance.below(membersPerUnit), forUs);
  }

  /** Ends the process of a member that is about to make its file anew. */
  killWhoDefragments(forUs: number): void {
    const busy = this.#members.find(({ busyUntilUs }) => busyUntilUs > this.#world.nowUs);
    if (busy !== undefined) this.#kill(busy.at, forUs);
  }

  #kill(at: number, forUs: number): void {
    const { chance } = this.#world;
    if (this.#members.some(({ alive }) => !alive)) return;
    const member = this.#members[at] as MemberState;
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

  /** A member learns nothing for a while, and what it missed is compacted away. */
  leaveBehind(forUs: number): void {
    const { chance, nowUs } = this.#world;
    const watched = this.#members.filter(({ streams }) => streams.size > 0);
    const member = chance.pick(watched.length > 0 ? watched : this.#members);
    if (member === this.#members[this.#leader]) this.#elect(10_000);
    const { machine } = member;
    this.#world.note(`${machine} learns nothing for ${forUs / 1000} ms`);
    for (const other of this.#members) {
      if (other.machine === machine) continue;
      this.#network.link(machine, other.machine).blockedUntilUs = nowUs + forUs;
      this.#network.link(other.machine, machine).blockedUntilUs = nowUs + forUs;
    }
    this.#world.after(undefined, 0.9 * forUs, 'compact', () => this.compact());
  }

  /** Ends a lease as if its owner had been silent: a stalled leader, a wrong clock. */
  expireLease(): void {
    const ids = [...this.#leases.keys()];
    if (ids.length === 0) return;
    const id = this.#world.chance.pick(ids);
    this.#world.happened('etcd: a lease ends early');
    this.#world.note(`${this.name}: lease ${id} ends early`);
    this.#expire(id);
  }

  /** What others do who use the cluster, too. @param done - told whether it was done. */
  others(op: RequestOp, done: (isDone: boolean) => void): void {
    const member = this.#world.chance.pick(this.#members);
    const untilUs = this.#world.nowUs + proposalTimeoutUs;
    this.#propose(member, 'txn', untilUs, (carryOut) => {
      try {
        if (carryOut !== undefined) this.#apply('txn', { compare: [], success: [op] }, member);
      } catch (error) {
        if (!(error instanceof EtcdFailure)) throw error;
        this.#world.happened('etcd: others find no space');
      }
      done(carryOut !== undefined);
    });
  }

  /** Forgets all changes so far: watches that are behind are cancelled. */
  compact(): void {
    const { revision, compacted } = this.#store;
    if (revision <= compacted) return;
    this.#world.happened('etcd: a compaction');
    this.#world.note(`${this.name} is compacted at ${revision}`);
    this.#compact(revision, 0);
  }

  /** As whoever looks after the cluster does when there is space again. */
  liftAlarm(): void {
    for (const at of this.space.alarms) this.space.lift(at);
  }

  heal(): void {
    this.#electAtNextWrite = false;
    this.faults.lostAnswers = 0;
    this.faults.slow = 0;
    this.faults.defragmentFails = 0;
    for (const member of this.#members) member.alive = true;
  }

  #elect(leaderlessForUs: number): void {
    const { chance, nowUs } = this.#world;
    const candidates = this.#members.flatMap(({ alive }, at) =>
      alive && at !== this.#leader ? [at] : [],
    );
    if (candidates.length > 0) this.#leader = chance.pick(candidates);
    this.#term++;
    this.#leaderFromUs = Math.max(this.#leaderFromUs, nowUs + leaderlessForUs);
    this.#world.happened('etcd: a new leader');
    this.#world.note(`${this.name} has a new leader in ${leaderlessForUs / 1000} ms`);
    // A new leader gives every lease its whole time again.
    for (const lease of this.#leases.values()) lease.expiresAtUs = this.#leaderFromUs + lease.ttlUs;
    if (leaderlessForUs < leaderlessUs) return;
    for (const member of this.#members) {
      for (const stream of [...member.streams]) stream.fail('etcdserver: no leader');
    }
  }

  /** True when a member's requests reach the leader, and the leader a majority. */
  #isServed(member: MemberState): boolean {
    const { nowUs } = this.#world;
    const leader = this.#members[this.#leader] as MemberState;
    if (!leader.alive || nowUs < this.#leaderFromUs) return false;
    if (!this.#passes(member, leader)) return false;
    let reached = 0;
    for (const other of this.#members) if (other.alive && this.#passes(leader, other)) reached++;
    return reached * 2 > membersPerUnit;
  }

  #passes(one: MemberState, other: MemberState): boolean {
    const { nowUs } = this.#world;
    if (one === other) return true;
    const there = this.#network.link(one.machine, other.machine);
    const back = this.#network.link(other.machine, one.machine);
    return Math.max(there.blockedUntilUs, back.blockedUntilUs) <= nowUs;
  }

  #call<Name extends CallName>(
    caller: Caller,
    member: MemberState,
    name: Name,
    request: Calls[Name]['request'],
    timeoutMs: number,
  ): Promise<Calls[Name]['response']> {
    const world = this.#world;
    const { process } = caller;
    return new Promise((resolve, reject) => {
      const fail = (code: number, details: string): void => reject(new EtcdFailure(code, details));
      world.after(process, timeoutMs * 1000, 'etcd timeout', () =>
        fail(grpcStatus.deadlineExceeded, 'Deadline exceeded'),
      );
      travel(world, this.#network, process.machine, member.machine, () => {
        const answer = (settle: () => void): void =>
          travel(world, this.#network, member.machine, process.machine, () =>
            world.after(process, 0, 'etcd answer', () => {
              if (caller.closed) fail(grpcStatus.cancelled, 'cancelled');
              else settle();
            }),
          );
        const cost = this.space.costOf(name, request);
        if (member.alive && !this.space.hasRoom(member.at, cost, world.nowUs)) {
          this.#raiseAlarm(member, () => answer(() => reject(noSpace())));
          return;
        }
        this.#propose(member, name, world.nowUs + proposalTimeoutUs, (carryOut) => {
          if (carryOut === undefined) {
            answer(() => fail(grpcStatus.unavailable, 'etcdserver: request timed out'));
            return;
          }
          try {
            const response = this.#apply(name, request, member);
            if (carryOut === 'silently') return;
            answer(() => resolve(response));
          } catch (error) {
            if (!(error instanceof EtcdFailure)) throw error;
            answer(() => reject(error));
          }
        });
      });
    });
  }

  /** Calls back when a majority has it: to be carried out, or `undefined` when it came to nothing. */
  #propose(
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
        this.#propose(member, name, untilUs, decided),
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
    if (!this.#isServed(member)) {
      world.happened('etcd: a member without a way to the leader');
      if (world.nowUs >= untilUs) decided(undefined);
      else {
        world.after(undefined, proposalRetryUs, 'etcd waits', () =>
          this.#propose(member, name, untilUs, decided),
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

  /** Tells all members that one has no space left. */
  #raiseAlarm(member: MemberState, told: () => void): void {
    const untilUs = this.#world.nowUs + proposalTimeoutUs;
    this.#propose(member, 'alarm', untilUs, (carryOut) => {
      if (carryOut !== undefined && this.space.raise(member.at)) {
        this.#world.happened('etcd: no space');
        this.#world.note(`${member.machine} has no space left`);
      }
      told();
    });
  }

  /** @throws {EtcdFailure}, also when what was asked for is done but a quota is passed by it. */
  #apply<Name extends CallName>(
    name: Name,
    request: Calls[Name]['request'],
    member: MemberState,
  ): Calls[Name]['response'] {
    const { nowUs } = this.#world;
    const cost = this.space.costOf(name, request);
    if (cost > 0 && this.space.alarms.length > 0) throw noSpace();
    const crowded = this.#members.filter(
      ({ alive, at }) => alive && !this.space.hasRoom(at, cost, nowUs),
    );
    const before = this.#store.revision;
    const response = this.#perform(name, request, member);
    if (this.#store.revision !== before) this.#changed();
    for (const each of crowded) this.#raiseAlarm(each, () => undefined);
    if (crowded.includes(member)) {
      this.#world.happened('etcd: a put is done and refused for want of space');
      throw noSpace();
    }
    return response as Calls[Name]['response'];
  }

  /** The store has a new revision. */
  #changed(): void {
    this.space.grown(this.#world.nowUs, this.#store.takeGrowth());
    this.#tellWatchers();
  }

  #compact(revision: number, member: number): void {
    this.space.compacted(this.#world.nowUs, this.#store.compact(revision), member);
  }

  #perform(name: CallName, request: object, { id, at }: MemberState): object {
    const store = this.#store;
    const single = (op: object): object => store.txn({ compare: [], success: [op] }, id);
    switch (name) {
      case 'range':
        return store.range(request as Calls['range']['request'], id);
      case 'txn': {
        const answer = store.txn(request as Calls['txn']['request'], id);
        if (!answer.succeeded) this.#world.happened('etcd: a transaction fails its comparison');
        return answer;
      }
      case 'put':
        return single({ request_put: request });
      case 'deleteRange':
        single({ request_delete_range: request });
        return { header: store.header(id), deleted: '0' };
      case 'compact':
        this.#compact(Number((request as Calls['compact']['request']).revision), at);
        return { header: store.header(id) };
      case 'leaseGrant':
        return this.#grant(request as Calls['leaseGrant']['request'], id);
      case 'leaseRevoke': {
        const { ID } = request as Calls['leaseRevoke']['request'];
        if (!this.#leases.delete(ID)) {
          throw new EtcdFailure(grpcStatus.notFound, 'etcdserver: requested lease not found');
        }
        store.endLease(ID);
        return { header: store.header(id) };
      }
      case 'status': {
        const { fileBytes, usedBytes } = this.space.sizes(at, this.#world.nowUs);
        return {
          header: store.header(id),
          version: '3.4.23',
          dbSize: String(fileBytes),
          dbSizeInUse: String(usedBytes),
          leader: (this.#members[this.#leader] as MemberState).id,
        };
      }
      case 'defragment':
        if (this.#world.chance.happens(this.faults.defragmentFails)) {
          this.#world.happened('etcd: a defragmentation fails');
          throw new EtcdFailure(grpcStatus.unknown, 'write: no space left on device');
        }
        this.space.defragmented(at, this.#world.nowUs);
        this.#world.happened('etcd: defragmented');
        return { header: store.header(id) };
      case 'alarm':
        return { header: store.header(id), alarms: this.#alarm(request) };
      case 'authenticate':
        throw new EtcdFailure(grpcStatus.unimplemented, 'the model has no users');
    }
  }

  /** Those that were raised or lifted, or all of them. */
  #alarm(request: object): Calls['alarm']['response']['alarms'] {
    const { action, memberID } = request as Calls['alarm']['request'];
    const { space } = this;
    const named = this.#members.filter(({ id }) => id === memberID).map(({ at }) => at);
    const told =
      action === alarmActivate || action === alarmDeactivate
        ? named.filter((at) => space.alarms.includes(at) === (action === alarmDeactivate))
        : space.alarms;
    for (const at of named) {
      if (action === alarmActivate) space.raise(at);
      if (action === alarmDeactivate) space.lift(at);
    }
    return told.map((at) => ({
      memberID: (this.#members[at] as MemberState).id,
      alarm: alarmNoSpace,
    }));
  }

  #grant({ TTL, ID }: Calls['leaseGrant']['request'], memberId: string): object {
    const id = ID ?? String(this.#nextLease++);
    // etcd's least time to live is one and a half election timeouts.
    const seconds = Math.max(2, TTL);
    const ttlUs = seconds * 1_000_000;
    const lease = { id, ttlUs, expiresAtUs: this.#world.nowUs + ttlUs };
    this.#leases.set(id, lease);
    this.#store.grantLease(id);
    this.#watchLease(lease);
    return { header: this.#store.header(memberId), ID: id, TTL: String(seconds) };
  }

  #watchLease(lease: Lease): void {
    this.#world.after(undefined, lease.expiresAtUs - this.#world.nowUs, 'lease', () => {
      if (this.#leases.get(lease.id) !== lease) return;
      // Only a leader that reaches a majority ends leases.
      const leader = this.#members[this.#leader] as MemberState;
      if (lease.expiresAtUs > this.#world.nowUs) this.#watchLease(lease);
      else if (this.#isServed(leader)) {
        this.#world.happened('etcd: a lease expires');
        this.#world.note(`${this.name}: lease ${lease.id} has expired`);
        this.#expire(lease.id);
      } else {
        lease.expiresAtUs = this.#world.nowUs + proposalRetryUs;
        this.#watchLease(lease);
      }
    });
  }

  #expire(id: string): void {
    this.#leases.delete(id);
    const before = this.#store.revision;
    this.#store.endLease(id);
    if (this.#store.revision !== before) this.#changed();
  }

  #onStream(
    method: 'watch' | 'leaseKeepAlive',
    member: MemberState,
    stream: SimStream,
    message: object,
  ): void {
    if (!member.alive) {
      stream.fail('connection refused');
      return;
    }
    if (method === 'leaseKeepAlive') {
      this.#keepAlive(member, stream, (message as { ID: string }).ID);
      return;
    }
    const { create_request: create } = message as { create_request: WatchRequest };
    stream.watch = {
      from: create.key.toString('latin1'),
      end: create.range_end.toString('latin1'),
      next: create.start_revision,
      deletes: create.filters.length === 0,
    };
    stream.deliver(this.#message([], { created: true }));
    this.#pump(member, stream);
  }

  #keepAlive(member: MemberState, stream: SimStream, id: string): void {
    this.#propose(member, 'leaseGrant', this.#world.nowUs + proposalTimeoutUs, (carryOut) => {
      if (carryOut === undefined) return;
      const lease = this.#leases.get(id);
      if (lease !== undefined) lease.expiresAtUs = this.#world.nowUs + lease.ttlUs;
      if (carryOut === 'silently') return;
      const seconds = lease === undefined ? 0 : lease.ttlUs / 1_000_000;
      stream.deliver({ ID: id, TTL: String(seconds) });
    });
  }

  #tellWatchers(): void {
    for (const member of this.#members) {
      for (const stream of member.streams) this.#pumpSoon(member, stream);
    }
  }

  #pumpSoon(member: MemberState, stream: SimStream): void {
    if (stream.pumping || stream.watch === undefined) return;
    stream.pumping = true;
    // A member that is cut off does not learn what happens; it goes on when it is not.
    const us = this.#isServed(member) ? this.#world.chance.between(50, 800) : proposalRetryUs;
    this.#world.after(undefined, us, 'etcd watch', () => {
      stream.pumping = false;
      if (!member.streams.has(stream) || !member.alive) return;
      if (this.#isServed(member)) this.#pump(member, stream);
      else this.#pumpSoon(member, stream);
    });
  }

  #pump(member: MemberState, stream: SimStream): void {
    const { watch } = stream;
    const { compacted, revision, events } = this.#store;
    if (watch === undefined) return;
    if (!this.#isServed(member)) {
      this.#pumpSoon(member, stream);
      return;
    }
    if (watch.next <= compacted) {
      this.#world.happened('etcd: a watch is cancelled by a compaction');
      const canceled = { canceled: true, compact_revision: String(compacted) };
      stream.deliver(this.#message([], canceled));
      stream.watch = undefined;
      return;
    }
    const found = events.filter(
      (event) =>
        event.revision >= watch.next &&
        event.key >= watch.from &&
        event.key < watch.end &&
        (event.type === 'put' || watch.deletes),
    );
    watch.next = revision + 1;
    if (found.length === 0) return;
    stream.deliver(
      this.#message(
        found.map(({ type, kv }) => ({ type: type === 'put' ? 0 : 1, kv })),
        {},
      ),
    );
  }

  #message(events: WatchResponse['events'], rest: Partial<WatchResponse>): WatchResponse {
    return {
      header: this.#store.header('0'),
      created: false,
      canceled: false,
      compact_revision: '0',
      cancel_reason: '',
      events,
      ...rest,
    };
  }
}

interface WatchRequest {
  readonly key: Buffer;
  readonly range_end: Buffer;
  readonly start_revision: number;
  readonly filters: readonly number[];
}

interface Watch {
  readonly from: string;
  readonly end: string;
  next: number;
  readonly deletes: boolean;
}

/** A stream between a caller and a member; messages of one direction stay in order. */
class SimStream implements MemberStream {
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #caller: Caller;
  readonly #member: MemberState;
  readonly #open: (stream: SimStream, message: object) => void;
  readonly #listeners: { event: string; listener: (argument: never) => void }[] = [];
  readonly #incoming: object[] = [];
  #ended = false;
  watch: Watch | undefined;
  pumping = false;

  constructor(
    world: World,
    network: SimNetwork,
    caller: Caller,
    member: MemberState,
    { open }: { readonly open: (stream: SimStream, message: object) => void },
  ) {
    this.#world = world;
    this.#network = network;
    this.#caller = caller;
    this.#member = member;
    this.#open = open;
    member.streams.add(this);
    caller.process.onDeath.push(() => this.cancel());
  }

  on(event: 'data' | 'error' | 'end', listener: (argument: never) => void): void {
    this.#listeners.push({ event, listener });
  }

  write(message: object): void {
    travel(this.#world, this.#network, this.#caller.process.machine, this.#member.machine, () => {
      if (!this.#ended) this.#open(this, message);
    });
  }

  cancel(): void {
    this.#ended = true;
    this.#member.streams.delete(this);
  }

  /** Towards the caller. */
  deliver(message: object): void {
    this.#incoming.push(message);
    const { machine } = this.#caller.process;
    travel(this.#world, this.#network, this.#member.machine, machine, () => {
      this.#world.after(this.#caller.process, 0, 'etcd message', () => {
        const next = this.#incoming.shift();
        if (!this.#ended && next !== undefined) this.#emit('data', next);
      });
    });
  }

  fail(details: string): void {
    this.#member.streams.delete(this);
    this.#world.after(this.#caller.process, 500, 'etcd stream ends', () => {
      if (this.#ended) return;
      this.#ended = true;
      this.#emit('error', new EtcdFailure(grpcStatus.unavailable, details));
    });
  }

  #emit(event: string, argument: unknown): void {
    for (const known of [...this.#listeners]) {
      if (known.event === event) known.listener(argument as never);
    }
  }
}

/** Passes a link, when it can: a blocked one holds things up. */
function travel(
  world: World,
  network: SimNetwork,
  from: string,
  to: string,
  arrived: () => void,
): void {
  const link = network.link(from, to);
  if (link.blockedUntilUs > world.nowUs) {
    world.after(undefined, 50_000, 'blocked', () => travel(world, network, from, to, arrived));
    return;
  }
  const us = link.delayUs + world.chance.below(link.delayUs + 1);
  world.after(undefined, us, 'network', () => arrived());
}

function noSpace(): EtcdFailure {
  return new EtcdFailure(grpcStatus.resourceExhausted, 'etcdserver: mvcc: database space exceeded');
}
