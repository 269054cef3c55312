import type { MemberStream } from '../src/log/index.ts';
import { EtcdFailure, grpcStatus } from './etcd-store.ts';
import type { SimNetwork } from './sim-network.ts';
import type { SimProcess, World } from './world.ts';

/** Where a call or a stream comes from. */
export interface Caller {
  readonly process: SimProcess;
  /** The connection was closed by the caller. */
  closed: boolean;
}

/** A member as its streams know it. */
export interface StreamEnd {
  /** The machine's name on the network. */
  readonly machine: string;
  readonly streams: Set<SimStream>;
}

/** What a stream watches. */
export interface Watch {
  readonly from: string;
  readonly end: string;
  next: number;
  readonly deletes: boolean;
}

/** A stream between a caller and a member; messages of one direction stay in order. */
export class SimStream implements MemberStream {
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #caller: Caller;
  readonly #member: StreamEnd;
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
    member: StreamEnd,
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
export function travel(
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
