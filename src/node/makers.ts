import {
  type EtcdLog,
  forgetNode,
  type RememberedNode,
  rememberedNodes,
  rememberNode,
} from '../log/index.ts';

/**
 * Who makes blocks, known for good: a lease ends while its node is away, and the log must not lose
 * meanwhile what the node's chain needs to go on.
 */
export interface Makers {
  /** Their names, of those that are there and of those that are not. */
  names(): Promise<readonly string[]>;
  /** @throws {DaybookError} `OVERLOADED` when there is no room. */
  remember(node: RememberedNode): Promise<void>;
  forget(name: string): Promise<void>;
}

/** The makers as etcd keeps them. */
export function makersOn(log: EtcdLog): Makers {
  return {
    names: async () => (await rememberedNodes(log)).map(({ name }) => name),
    remember: (node) => rememberNode(log, node),
    forget: (name) => forgetNode(log, name),
  };
}
