import type { NodeInfo } from '../log/index.ts';

/** What a node of a cluster tells the others in the registry. */
export interface Member extends NodeInfo {
  readonly channel: string;
  /** URL of its gateway, for clients. */
  readonly gateway: string;
  /** Where it answers on the private network. */
  readonly address: string;
  readonly roles: readonly ('executor' | 'sequencer')[];
  /** It takes no new transactions. */
  readonly draining: boolean;
}

/** The registered nodes that are members of a cluster; others may use the registry too. */
export function membersOf(nodes: readonly NodeInfo[]): Member[] {
  return nodes.filter((node): node is Member => {
    const { gateway, address, roles, draining } = node;
    return (
      typeof gateway === 'string' &&
      typeof address === 'string' &&
      Array.isArray(roles) &&
      typeof draining === 'boolean'
    );
  });
}

/** The next node after `name`, in the order of names, that could lead. */
export function successorOf(members: readonly Member[], name: string): string | undefined {
  const able = members
    .filter((member) => member.roles.includes('sequencer') && !member.draining)
    .map((member) => member.name)
    .filter((other) => other !== name)
    .sort();
  return able.find((other) => other > name) ?? able[0];
}
