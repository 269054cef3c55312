import type { WatchResponse } from '../src/log/etcd/etcd-api.ts';
import { type EtcdMembers, type MemberState, proposalRetryUs } from './etcd-members.ts';
import type { EtcdStore } from './etcd-store.ts';
import type { SimStream } from './etcd-stream.ts';
import type { World } from './world.ts';

/** What opens a watch. */
export interface WatchRequest {
  readonly key: Buffer;
  readonly range_end: Buffer;
  readonly start_revision: number;
  readonly filters: readonly number[];
}

/** Watches of one cluster of etcd: every member tells those who asked it what it has learned. */
export class EtcdWatches {
  readonly #world: World;
  readonly #members: EtcdMembers;
  readonly #store: EtcdStore;

  constructor(world: World, members: EtcdMembers, store: EtcdStore) {
    this.#world = world;
    this.#members = members;
    this.#store = store;
  }

  begin(member: MemberState, stream: SimStream, create: WatchRequest): void {
    stream.watch = {
      from: create.key.toString('latin1'),
      end: create.range_end.toString('latin1'),
      next: create.start_revision,
      deletes: create.filters.length === 0,
    };
    stream.deliver(this.#message([], { created: true }));
    this.#pump(member, stream);
  }

  /** The store has a new revision. */
  tell(): void {
    for (const member of this.#members.all) {
      for (const stream of member.streams) this.#pumpSoon(member, stream);
    }
  }

  #pumpSoon(member: MemberState, stream: SimStream): void {
    if (stream.pumping || stream.watch === undefined) return;
    stream.pumping = true;
    // A member that is cut off does not learn what happens; it goes on when it is not.
    const us = this.#members.isServed(member)
      ? this.#world.chance.between(50, 800)
      : proposalRetryUs;
    this.#world.after(undefined, us, 'etcd watch', () => {
      stream.pumping = false;
      if (!member.streams.has(stream) || !member.alive) return;
      if (this.#members.isServed(member)) this.#pump(member, stream);
      else this.#pumpSoon(member, stream);
    });
  }

  #pump(member: MemberState, stream: SimStream): void {
    const { watch } = stream;
    const { compacted, revision, events } = this.#store;
    if (watch === undefined) return;
    if (!this.#members.isServed(member)) {
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
