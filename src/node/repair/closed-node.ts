import { DaybookError, toDaybookError } from '../../base/index.ts';
import { idleMetrics } from '../../executor/index.ts';
import { type Gateway, startGateway } from '../../gateway/index.ts';
import type { Io } from '../../io/index.ts';
import { asAddress } from '../../model/index.ts';
import type { ExecutorNode } from '../executor-node.ts';
import { closedBackend } from './guard.ts';
import type { NodeRepair } from './node-repair.ts';

/** Settings of {@link startClosedNode}. */
export interface ClosedNodeOptions {
  readonly io: Io;
  readonly name: string;
  readonly channel: string;
  readonly host: string;
  readonly port: number;
  readonly tls?: { readonly cert: string; readonly key: string };
  readonly repair: NodeRepair;
  /** Starts the node that serves, on this port. */
  readonly start: (port: number) => Promise<ExecutorNode>;
  /** Called when it does not: the process had better be started again. */
  readonly onFailed: () => void;
  readonly onEvent: (text: string) => void;
}

/**
 * A node that has no state to serve from: its gateway says so to clients, who go on elsewhere. While
 * the state is being restored it waits for that, and then becomes a node like others; a node that
 * halted stays as it is.
 */
export async function startClosedNode(options: ClosedNodeOptions): Promise<ExecutorNode> {
  const { io, name, channel, host, port, tls, repair, onEvent } = options;
  const gateway: Gateway = await startGateway({
    io,
    nodeName: name,
    backends: [closedBackend(channel, repair.guard)],
    host,
    port,
    ...(tls === undefined ? {} : { tls }),
  });
  const { url, port: ownPort } = gateway;
  let node: ExecutorNode | undefined;
  let failure: DaybookError | undefined;
  let refusal: DaybookError | undefined;
  const restore = async (): Promise<void> => {
    if (repair.halted) return;
    await repair.restore();
    await gateway.close();
    node = await options.start(ownPort);
    if (refusal !== undefined) node.refuse(refusal);
  };
  const running = restore().catch((error: unknown) => {
    failure = toDaybookError(error);
    if (failure.code === 'CLOSED') return;
    onEvent(`the restored node does not start: ${failure.message}`);
    options.onFailed();
  });
  const started = (): ExecutorNode => {
    if (node === undefined) throw new DaybookError('CLOSED', 'the node does not serve');
    return node;
  };
  return {
    url,
    port: ownPort,
    get answers() {
      return node?.answers;
    },
    status: () =>
      node?.status() ?? {
        name,
        url,
        nextAddress: asAddress(0),
        logTimeMs: 0,
        contracts: {},
        executor: idleMetrics,
        blocks: undefined,
        guard: repair.guard.status,
        ...(failure === undefined ? {} : { alarm: failure.message }),
      },
    refuse: (reason, waiting) => {
      refusal = reason;
      node?.refuse(reason, waiting);
    },
    followerHolds: () => node?.followerHolds() ?? [],
    blocksFrom: async (height) => await started().blocksFrom(height),
    saveBlocks: async (wanted) => await started().saveBlocks(wanted),
    chainFiles: () => node?.chainFiles() ?? 'unknown',
    config: () => node?.config(),
    writeSnapshot: (path) => started().writeSnapshot(path),
    close: async () => {
      await repair.close();
      await running;
      await gateway.close();
      await node?.close();
    },
  };
}
