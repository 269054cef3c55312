import type { CallName, Calls, RequestOp } from '../src/log/etcd/etcd-api.ts';
import type { Member } from '../src/log/index.ts';
import { EtcdLeases } from './etcd-leases.ts';
import {
  EtcdMembers,
  type MemberState,
  membersPerUnit,
  proposalTimeoutUs,
} from './etcd-members.ts';
import { EtcdSpace } from './etcd-space.ts';
import { EtcdFailure, EtcdStore, grpcStatus } from './etcd-store.ts';
import { type Caller, SimStream, travel } from './etcd-stream.ts';
import { EtcdWatches, type WatchRequest } from './etcd-watches.ts';
import { chanceOf } from './random.ts';
import type { SimNetwork } from './sim-network.ts';
import type { SimProcess, World } from './world.ts';

const alarmActivate = 1;
const alarmDeactivate = 2;
const alarmNoSpace = 1;

/**
 * One cluster of etcd: three members with one replicated store. What a majority has accepted is
 * never lost; when a call is applied, if at all, lies between its sending and long after its answer
 * was given up. Members can die, be cut off from their leader or from callers, and lose the leader.
 */
export class SimEtcdCluster {
  readonly endpoints: readonly string[];
  readonly members: EtcdMembers;
  readonly leases: EtcdLeases;
  readonly space: EtcdSpace;
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #store: EtcdStore;
  readonly #watches: EtcdWatches;

  constructor(world: World, network: SimNetwork, number: number) {
    this.#world = world;
    this.#network = network;
    this.#store = new EtcdStore(String(1000 + number));
    this.members = new EtcdMembers(world, network, number, (fromUs) => this.leases.elected(fromUs));
    this.leases = new EtcdLeases(world, this.members, this.#store, () => this.#changed());
    this.#watches = new EtcdWatches(world, this.members, this.#store);
    this.endpoints = this.members.all.map(({ machine }) => `${machine}:2379`);
    this.space = new EtcdSpace(membersPerUnit, chanceOf(number));
  }

  /** Machines of the members, as the network names them. */
  get machines(): readonly string[] {
    return this.members.all.map(({ machine }) => machine);
  }

  has(endpoint: string): boolean {
    return this.endpoints.includes(endpoint);
  }

  /** Connects a process to one member. */
  connect(process: SimProcess, endpoint: string): Member {
    const member = this.members.all[this.endpoints.indexOf(endpoint)] as MemberState;
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

  /** What others do who use the cluster, too. @param done - told whether it was done. */
  others(op: RequestOp, done: (isDone: boolean) => void): void {
    const member = this.#world.chance.pick(this.members.all);
    const untilUs = this.#world.nowUs + proposalTimeoutUs;
    this.members.propose(member, 'txn', untilUs, (carryOut) => {
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
    this.#world.note(`${this.members.name} is compacted at ${revision}`);
    this.#compact(revision, 0);
  }

  /** As whoever looks after the cluster does when there is space again. */
  liftAlarm(): void {
    for (const at of this.space.alarms) this.space.lift(at);
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
        this.members.propose(member, name, world.nowUs + proposalTimeoutUs, (carryOut) => {
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

  /** Tells all members that one has no space left. */
  #raiseAlarm(member: MemberState, told: () => void): void {
    const untilUs = this.#world.nowUs + proposalTimeoutUs;
    this.members.propose(member, 'alarm', untilUs, (carryOut) => {
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
    const crowded = this.members.all.filter(
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
    this.#watches.tell();
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
        return this.leases.grant(request as Calls['leaseGrant']['request'], id);
      case 'leaseRevoke':
        this.leases.revoke((request as Calls['leaseRevoke']['request']).ID);
        return { header: store.header(id) };
      case 'status': {
        const { fileBytes, usedBytes } = this.space.sizes(at, this.#world.nowUs);
        return {
          header: store.header(id),
          version: '3.4.23',
          dbSize: String(fileBytes),
          dbSizeInUse: String(usedBytes),
          leader: this.members.leader.id,
        };
      }
      case 'defragment':
        if (this.#world.chance.happens(this.members.faults.defragmentFails)) {
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
    const named = this.members.all.filter(({ id }) => id === memberID).map(({ at }) => at);
    const told =
      action === alarmActivate || action === alarmDeactivate
        ? named.filter((at) => space.alarms.includes(at) === (action === alarmDeactivate))
        : space.alarms;
    for (const at of named) {
      if (action === alarmActivate) space.raise(at);
      if (action === alarmDeactivate) space.lift(at);
    }
    return told.map((at) => ({
      memberID: (this.members.all[at] as MemberState).id,
      alarm: alarmNoSpace,
    }));
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
      this.leases.keepAlive(member, stream, (message as { ID: string }).ID);
      return;
    }
    const { create_request: create } = message as { create_request: WatchRequest };
    this.#watches.begin(member, stream, create);
  }
}

function noSpace(): EtcdFailure {
  return new EtcdFailure(grpcStatus.resourceExhausted, 'etcdserver: mvcc: database space exceeded');
}
