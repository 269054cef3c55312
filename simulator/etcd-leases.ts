import type { Calls } from '../src/log/etcd/etcd-api.ts';
import {
  type EtcdMembers,
  type MemberState,
  proposalRetryUs,
  proposalTimeoutUs,
} from './etcd-members.ts';
import { EtcdFailure, type EtcdStore, grpcStatus } from './etcd-store.ts';
import type { SimStream } from './etcd-stream.ts';
import type { World } from './world.ts';

interface Lease {
  readonly id: string;
  readonly ttlUs: number;
  expiresAtUs: number;
}

/** Leases of one cluster of etcd: they end when nobody renews them, as the leader sees it. */
export class EtcdLeases {
  readonly #world: World;
  readonly #members: EtcdMembers;
  readonly #store: EtcdStore;
  readonly #changed: () => void;
  readonly #leases = new Map<string, Lease>();
  #next = 1;

  /** @param changed - told when keys went with a lease. */
  constructor(world: World, members: EtcdMembers, store: EtcdStore, changed: () => void) {
    this.#world = world;
    this.#members = members;
    this.#store = store;
    this.#changed = changed;
  }

  /** A new leader gives every lease its whole time again. */
  elected(leaderFromUs: number): void {
    for (const lease of this.#leases.values()) lease.expiresAtUs = leaderFromUs + lease.ttlUs;
  }

  /** Ends a lease as if its owner had been silent: a stalled leader, a wrong clock. */
  expireOne(): void {
    const ids = [...this.#leases.keys()];
    if (ids.length === 0) return;
    const id = this.#world.chance.pick(ids);
    this.#world.happened('etcd: a lease ends early');
    this.#world.note(`${this.#members.name}: lease ${id} ends early`);
    this.#expire(id);
  }

  grant({ TTL, ID }: Calls['leaseGrant']['request'], memberId: string): object {
    const id = ID ?? String(this.#next++);
    // etcd's least time to live is one and a half election timeouts.
    const seconds = Math.max(2, TTL);
    const ttlUs = seconds * 1_000_000;
    const lease = { id, ttlUs, expiresAtUs: this.#world.nowUs + ttlUs };
    this.#leases.set(id, lease);
    this.#store.grantLease(id);
    this.#watch(lease);
    return { header: this.#store.header(memberId), ID: id, TTL: String(seconds) };
  }

  #watch(lease: Lease): void {
    this.#world.after(undefined, lease.expiresAtUs - this.#world.nowUs, 'lease', () => {
      if (this.#leases.get(lease.id) !== lease) return;
      // Only a leader that reaches a majority ends leases.
      if (lease.expiresAtUs > this.#world.nowUs) this.#watch(lease);
      else if (this.#members.isServed(this.#members.leader)) {
        this.#world.happened('etcd: a lease expires');
        this.#world.note(`${this.#members.name}: lease ${lease.id} has expired`);
        this.#expire(lease.id);
      } else {
        lease.expiresAtUs = this.#world.nowUs + proposalRetryUs;
        this.#watch(lease);
      }
    });
  }

  #expire(id: string): void {
    this.#leases.delete(id);
    const before = this.#store.revision;
    this.#store.endLease(id);
    if (this.#store.revision !== before) this.#changed();
  }

  /** @throws {EtcdFailure} when there is no such lease. */
  revoke(id: string): void {
    if (!this.#leases.delete(id)) {
      throw new EtcdFailure(grpcStatus.notFound, 'etcdserver: requested lease not found');
    }
    this.#store.endLease(id);
  }

  keepAlive(member: MemberState, stream: SimStream, id: string): void {
    this.#members.propose(
      member,
      'leaseGrant',
      this.#world.nowUs + proposalTimeoutUs,
      (carryOut) => {
        if (carryOut === undefined) return;
        const lease = this.#leases.get(id);
        if (lease !== undefined) lease.expiresAtUs = this.#world.nowUs + lease.ttlUs;
        if (carryOut === 'silently') return;
        const seconds = lease === undefined ? 0 : lease.ttlUs / 1_000_000;
        stream.deliver({ ID: id, TTL: String(seconds) });
      },
    );
  }
}
