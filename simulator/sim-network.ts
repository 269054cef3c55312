import { DaybookError, limits } from '../src/base/index.ts';
import type { Connection, Listener, Network } from '../src/io/index.ts';
import type { SimProcess, World } from './world.ts';

/** One direction between two machines. */
export interface Link {
  /** Latency is `delayUs` plus up to as much again. */
  delayUs: number;
  /** Nothing passes before this time (a partition, a clogged switch); TCP delivers it then. */
  blockedUntilUs: number;
  /** Probability per frame that the connection is reset, losing what is under way. */
  resets: number;
  /** Frames sent so far, and the youngest that arrived. */
  sent: number;
  arrived: number;
}

const usualDelayUs = 60;
const pipeDelayUs = 20;
const blockedConnectTimeoutUs = 2_000_000;
/** A connection that is blocked for so long is given up by both sides. */
const stalledResetUs = 8_000_000;

/** Connections between machines: ordered within one, reliable until closed, in whatever time. */
export class SimNetwork {
  readonly #world: World;
  readonly #links = new Map<string, Link>();
  readonly #listeners = new Map<
    string,
    { readonly process: SimProcess; readonly accept: (connection: Connection) => void }
  >();
  readonly #open = new Set<End>();

  constructor(world: World) {
    this.#world = world;
  }

  link(from: string, to: string): Link {
    const name = `${from}>${to}`;
    let link = this.#links.get(name);
    if (link === undefined) {
      link = { delayUs: usualDelayUs, blockedUntilUs: 0, resets: 0, sent: 0, arrived: 0 };
      this.#links.set(name, link);
    }
    return link;
  }

  /** Both ends of a pipe between a process and its child, which no fault of the network touches. */
  pair(parent: SimProcess, child: SimProcess): [Connection, Connection] {
    const link: Link = { delayUs: pipeDelayUs, blockedUntilUs: 0, resets: 0, sent: 0, arrived: 0 };
    const near = new End(this.#world, parent, link, this.#open);
    const far = new End(this.#world, child, { ...link }, this.#open);
    near.join(far);
    far.join(near);
    return [near, far];
  }

  heal(): void {
    for (const link of this.#links.values()) {
      link.delayUs = usualDelayUs;
      link.blockedUntilUs = 0;
      link.resets = 0;
    }
    for (const end of this.#open) end.pump();
  }

  of(process: SimProcess): Network {
    return {
      connect: (address) => this.#connect(process, address),
      listen: async (address, accept): Promise<Listener> => {
        if (this.#listeners.get(address)?.process.alive === true) {
          throw new DaybookError('IO_FAILED', `${address} is in use`);
        }
        this.#listeners.set(address, { process, accept });
        return {
          address,
          close: async () => {
            this.#listeners.delete(address);
          },
        };
      },
    };
  }

  #connect(process: SimProcess, address: string): Promise<Connection> {
    const world = this.#world;
    return new Promise((resolve, reject) => {
      const machine = this.#listeners.get(address)?.process.machine ?? process.machine;
      const there = this.link(process.machine, machine);
      const back = this.link(machine, process.machine);
      const refuse = (): void =>
        reject(new DaybookError('PEER_UNREACHABLE', `cannot connect to ${address}`));
      const cause = Object.assign(new Error('connection refused'), { code: 'ECONNREFUSED' });
      const refuseAtOnce = (): void =>
        reject(new DaybookError('PEER_UNREACHABLE', `nothing listens at ${address}`, { cause }));
      if (Math.max(there.blockedUntilUs, back.blockedUntilUs) > world.nowUs) {
        world.after(process, blockedConnectTimeoutUs, 'connect timeout', refuse);
        return;
      }
      world.after(undefined, there.delayUs + back.delayUs, 'connect', () => {
        const listener = this.#listeners.get(address);
        if (listener?.process.alive !== true) {
          world.after(process, 0, 'refused', refuseAtOnce);
          return;
        }
        const near = new End(world, process, there, this.#open);
        const far = new End(world, listener.process, back, this.#open);
        near.join(far);
        far.join(near);
        world.after(listener.process, 0, 'accept', () => listener.accept(far));
        world.after(process, 0, 'connected', () => resolve(near));
      });
    });
  }
}

interface Frame {
  readonly atUs: number;
  /** Number on its link. */
  readonly number: number;
  /** `undefined`: the end of the stream. */
  readonly bytes: Buffer | undefined;
}

/** One end of a connection, with the frames that it has under way to the other. */
class End implements Connection {
  readonly #world: World;
  readonly #process: SimProcess;
  readonly #link: Link;
  readonly #all: Set<End>;
  #peer: End | undefined;
  #outgoing: Frame[] = [];
  #bytesUnderWay = 0;
  #lastAtUs = 0;
  #pumping = false;
  #blockedSinceUs: number | undefined;
  #overMark = false;
  #closed = false;
  #closeTold = false;
  #cause: Error | undefined;
  readonly #early: Buffer[] = [];
  #onFrame: ((frame: Buffer) => void) | undefined;
  #onClose: ((cause: Error | undefined) => void) | undefined;
  #onDrain: (() => void) | undefined;

  constructor(world: World, process: SimProcess, link: Link, all: Set<End>) {
    this.#world = world;
    this.#process = process;
    this.#link = link;
    this.#all = all;
    all.add(this);
    process.onDeath.push(() => this.#die());
  }

  join(peer: End): void {
    this.#peer = peer;
  }

  send(parts: readonly Uint8Array[]): boolean {
    if (this.#closed) return false;
    const bytes = Buffer.concat(parts);
    if (bytes.length > limits.frameBytesMax) {
      throw new DaybookError('LIMIT_EXCEEDED', `a frame of ${bytes.length} bytes`, {
        details: { limit: 'frameBytesMax', max: limits.frameBytesMax, actual: bytes.length },
      });
    }
    if (this.#world.chance.happens(this.#link.resets)) {
      this.#world.happened('network: a connection is reset');
      this.#world.note(`${this.#process.name}: a connection is reset`);
      this.reset();
      return false;
    }
    this.#enqueue(bytes);
    this.#bytesUnderWay += bytes.length;
    if (this.#bytesUnderWay <= limits.sendBufferBytesMark) return true;
    this.#overMark = true;
    if (this.#bytesUnderWay > limits.sendBufferBytesMax) this.reset();
    return false;
  }

  onFrame(listener: (frame: Buffer) => void): void {
    this.#onFrame = listener;
    for (const frame of this.#early.splice(0)) listener(frame);
  }

  onClose(listener: (cause: Error | undefined) => void): void {
    this.#onClose = listener;
    if (this.#closed) this.#tellClose();
  }

  onDrain(listener: () => void): void {
    this.#onDrain = listener;
  }

  close(): void {
    if (this.#closed) return;
    this.#enqueue(undefined);
    this.#shut(undefined);
  }

  /** Breaks it at once, at both ends. */
  reset(): void {
    const cause = new Error('connection reset');
    this.#lose();
    this.#all.delete(this);
    const peer = this.#peer;
    if (peer !== undefined) {
      peer.#lose();
      this.#all.delete(peer);
      peer.#shut(cause);
    }
    this.#shut(cause);
  }

  /** Delivers what is due. */
  pump(): void {
    if (this.#pumping) return;
    const head = this.#outgoing[0];
    if (head === undefined) return;
    const { nowUs } = this.#world;
    let waitUs = Math.max(0, head.atUs - nowUs);
    if (this.#link.blockedUntilUs > nowUs) {
      if (this.#blockedSinceUs === undefined) {
        this.#blockedSinceUs = nowUs;
        this.#world.happened('network: a frame waits for a partition to end');
      }
      if (nowUs - this.#blockedSinceUs > stalledResetUs) {
        this.reset();
        return;
      }
      waitUs = Math.max(waitUs, 50_000);
    } else {
      this.#blockedSinceUs = undefined;
      if (waitUs === 0) {
        this.#deliver();
        this.pump();
        return;
      }
    }
    this.#pumping = true;
    this.#world.after(undefined, waitUs, 'network', () => {
      this.#pumping = false;
      this.pump();
    });
  }

  #enqueue(bytes: Buffer | undefined): void {
    const { delayUs } = this.#link;
    const at = this.#world.nowUs + delayUs + this.#world.chance.below(delayUs + 1);
    // Sent later arrives later, on one connection.
    this.#lastAtUs = Math.max(this.#lastAtUs, at);
    this.#outgoing.push({ atUs: this.#lastAtUs, number: this.#link.sent++, bytes });
    this.pump();
  }

  #deliver(): void {
    const frame = this.#outgoing.shift();
    const peer = this.#peer;
    if (frame === undefined || peer === undefined) return;
    if (frame.bytes === undefined) {
      this.#all.delete(this);
      this.#world.after(peer.#process, 0, 'closed', () => peer.#shut(undefined));
      return;
    }
    const { bytes, number } = frame;
    const link = this.#link;
    if (number < link.arrived) this.#world.happened('network: a frame overtakes an older one');
    else link.arrived = number;
    if (link.delayUs > usualDelayUs) this.#world.happened('network: a slow link');
    this.#bytesUnderWay -= bytes.length;
    if (this.#overMark && this.#bytesUnderWay === 0) {
      this.#overMark = false;
      this.#world.after(this.#process, 0, 'drain', () => this.#onDrain?.());
    }
    this.#world.after(peer.#process, 0, 'frame', () => {
      if (peer.#closed) return;
      if (peer.#onFrame === undefined) peer.#early.push(bytes);
      else peer.#onFrame(bytes);
    });
  }

  /** What is under way does not arrive. */
  #lose(): void {
    if (this.#outgoing.some(({ bytes }) => bytes !== undefined)) {
      this.#world.happened('network: a frame is lost with its connection');
    }
    this.#outgoing = [];
  }

  #die(): void {
    if (this.#closed) return;
    this.#closed = true;
    // What a dead process had sent may still arrive, or be dropped with its socket.
    if (this.#world.chance.happens(0.5)) this.#lose();
    this.#enqueue(undefined);
  }

  #shut(cause: Error | undefined): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cause = cause;
    if (this.#onClose !== undefined) this.#tellClose();
  }

  #tellClose(): void {
    if (this.#closeTold) return;
    this.#closeTold = true;
    this.#world.after(this.#process, 0, 'close', () => this.#onClose?.(this.#cause));
  }
}
