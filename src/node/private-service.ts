import { DaybookError } from '../base/index.ts';
import { type Network, type RpcPeer, rpcPeer } from '../io/index.ts';
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
}

const methods = { handOver: 220, drain: 221 } as const;

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
}

/** Gives orders to the node at a private address. */
export function remoteOrders(network: Network, address: string): NodeOrders {
  const call = async (method: number, payload: Uint8Array): Promise<void> => {
    const peer = rpcPeer(await network.connect(address));
    try {
      await peer.call(method, [payload]);
    } finally {
      peer.close();
    }
  };
  return {
    handOver: (successor) => call(methods.handOver, Buffer.from(successor ?? '', 'utf8')),
    drain: (on) => call(methods.drain, Buffer.of(on ? 1 : 0)),
  };
}
