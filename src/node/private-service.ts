import { ByteReader, ByteWriter, DaybookError } from '../base/index.ts';
import { type Io, type RpcPeer, rpcPeer } from '../io/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { type Sequencer, serveSequencer } from '../sequencer/index.ts';

/*
 * What a node answers on the private network, to other nodes and to operators' commands: requests
 * to its sequencer, and orders to the node itself. Whoever reaches the address may give them.
 */

/** Orders to a node. */
export interface NodeOrders {
  /** Gives the sequencer's place to `successor`, or to any other node. */
  handOver(successor: string | undefined): Promise<void>;
  /** Takes no new transactions from now on, or takes them again. */
  drain(on: boolean): Promise<void>;
  /**
   * Offers a snapshot, for a node that joins: the newest one, or a new one when the log has grown much
   * since.
   *
   * @returns the first address that is not in it.
   * @throws {DaybookError} `NODE_DIVERGED` when its state is in doubt.
   */
  offerSnapshot(): Promise<Address>;
  /**
   * A piece of a snapshot file of the node.
   *
   * @param address - which snapshot: its first address that is not in it.
   * @throws {DaybookError} `NOT_FOUND` when the node does not hold it (any more).
   */
  snapshotPiece(address: Address, offset: number): Promise<Uint8Array>;
  /**
   * Blocks of the node's chain from a height on, as many as come at a time; none when it has no more.
   *
   * @returns see `packBlocks`.
   * @throws {DaybookError} `NOT_FOUND` when it makes none.
   */
  blocks(from: number): Promise<Uint8Array>;
  /** The address before which everything is here to stay, in a snapshot and in blocks. */
  held(): Promise<number>;
}

const methods = {
  handOver: 220,
  drain: 221,
  snapshotPiece: 222,
  blocks: 223,
  held: 224,
  offer: 225,
} as const;

/** Answers one connection. */
export function servePrivately(
  peer: RpcPeer,
  orders: NodeOrders,
  sequencer: Sequencer | undefined,
): void {
  if (sequencer !== undefined) serveSequencer(sequencer, peer);
  peer.handle(methods.handOver, async (payload) => {
    const successor = payload.toString('utf8');
    await orders.handOver(successor === '' ? undefined : successor);
    return [];
  });
  peer.handle(methods.drain, async (payload) => {
    if (payload.length !== 1) throw new DaybookError('MALFORMED', 'one byte says on or off');
    await orders.drain(payload[0] === 1);
    return [];
  });
  peer.handle(methods.snapshotPiece, async (payload) => {
    const reader = new ByteReader(payload, 'snapshot request');
    return [await orders.snapshotPiece(asAddress(reader.u64()), reader.u64())];
  });
  peer.handle(methods.blocks, async (payload) => [
    await orders.blocks(new ByteReader(payload, 'blocks request').u64()),
  ]);
  peer.handle(methods.offer, async () => [
    new ByteWriter(8).u64(await orders.offerSnapshot()).view(),
  ]);
  peer.handle(methods.held, async () => [new ByteWriter(8).u64(await orders.held()).view()]);
}

/** A node that does not answer for so long will not. */
const answerTimeoutMs = 15_000;
/** Writing a snapshot takes its time. */
const offerTimeoutMs = 300_000;

/**
 * Gives orders to the node at a private address. They throw what the node throws, and
 * `PEER_UNREACHABLE` when there is no way to it, or no answer.
 */
export function remoteOrders(io: Pick<Io, 'network' | 'timers'>, address: string): NodeOrders {
  const call = async (
    method: number,
    payload: Uint8Array,
    timeoutMs = answerTimeoutMs,
  ): Promise<Buffer> => {
    const peer = rpcPeer(await io.network.connect(address));
    const timer = io.timers.after(timeoutMs, () => peer.close(), { keepAlive: true });
    try {
      return await peer.call(method, [payload]);
    } finally {
      timer.cancel();
      peer.close();
    }
  };
  return {
    handOver: async (successor) => {
      await call(methods.handOver, Buffer.from(successor ?? '', 'utf8'));
    },
    drain: async (on) => {
      await call(methods.drain, Buffer.of(on ? 1 : 0));
    },
    offerSnapshot: async () => {
      const answer = await call(methods.offer, new Uint8Array(), offerTimeoutMs);
      return asAddress(new ByteReader(answer, 'offer').u64());
    },
    snapshotPiece: (snapshot, offset) =>
      call(methods.snapshotPiece, new ByteWriter(16).u64(snapshot).u64(offset).view()),
    blocks: (from) => call(methods.blocks, new ByteWriter(8).u64(from).view()),
    held: async () => new ByteReader(await call(methods.held, new Uint8Array()), 'held').u64(),
  };
}
