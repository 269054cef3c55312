import { ByteReader, ByteWriter, DaybookError } from '../base/index.ts';
import { type Network, type RpcPeer, rpcPeer } from '../io/index.ts';
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
   * A piece of the node's newest snapshot file.
   *
   * @param address - which snapshot: its first address that is not in it.
   * @throws {DaybookError} `NOT_FOUND` when the node does not hold it (any more).
   */
  snapshotPiece(address: Address, offset: number): Promise<Uint8Array>;
}

const methods = { handOver: 220, drain: 221, snapshotPiece: 222 } as const;

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
}

/** Gives orders to the node at a private address. */
export function remoteOrders(network: Network, address: string): NodeOrders {
  const call = async (method: number, payload: Uint8Array): Promise<Buffer> => {
    const peer = rpcPeer(await network.connect(address));
    try {
      return await peer.call(method, [payload]);
    } finally {
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
    snapshotPiece: (snapshot, offset) =>
      call(methods.snapshotPiece, new ByteWriter(16).u64(snapshot).u64(offset).view()),
  };
}
