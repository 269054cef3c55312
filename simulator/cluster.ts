import { type ChannelConfig, channelConfigDefaults } from '../src/model/index.ts';
import { SimClient } from './client.ts';
import { bulkRowCount } from './contracts.ts';
import { ExecutorMachine } from './executor-machine.ts';
import { simulatedMsp } from './identity.ts';
import { LogMachine } from './log-machine.ts';
import type { Mutant } from './mutants.ts';
import { Oracle } from './oracle.ts';
import { SimNetwork } from './sim-network.ts';
import type { Workload } from './workload.ts';
import type { World } from './world.ts';

/** One simulated network: the machine of the log, executor machines, clients. */
export interface Cluster {
  readonly world: World;
  readonly network: SimNetwork;
  readonly oracle: Oracle;
  readonly config: ChannelConfig;
  readonly mutant: Mutant;
  readonly logMachine: LogMachine;
  readonly nodes: readonly ExecutorMachine[];
  readonly clients: readonly SimClient[];
  readonly workload: Workload;
  /** Units of money that the workload began with. */
  money: number;
}

/** How large a cluster is. */
export interface ClusterSize {
  readonly nodes: number;
  readonly clients: number;
  readonly workload: Workload;
}

/** Builds a cluster; nothing runs yet. */
export function buildCluster(world: World, size: ClusterSize, mutant: Mutant): Cluster {
  const { chance } = world;
  const nodes: ExecutorMachine[] = [];
  const clients: SimClient[] = [];
  const names = [simulatedMsp.mspId];
  const config: ChannelConfig = {
    ...channelConfigDefaults,
    channel: 'bank',
    msps: [simulatedMsp],
    access: { submit: names, deploy: names, administer: names },
    exclusiveControl: chance.pick(['transaction', 'batch', 'interleaved'] as const),
    blocks: {
      recordsMax: size.workload.kind === 'load' ? 500 : chance.between(5, 60),
      bytesMax: 64 * 1024,
      cutBeforeReads: size.workload.kind === 'mixed' && chance.happens(0.5),
    },
    bulk: {
      // Heavy, or updated at once by every replica.
      heavyRowsMin: chance.pick([bulkRowCount - 2, 10_000]),
      switchAfterBlocks: chance.between(1, 5),
    },
  };
  const base = {
    world,
    network: new SimNetwork(world),
    oracle: new Oracle(world),
    config,
    mutant,
    nodes,
    clients,
    workload: size.workload,
    money: 0,
  };
  const cluster: { logMachine: LogMachine } & typeof base = {
    ...base,
    logMachine: undefined as unknown as LogMachine,
  };
  cluster.logMachine = new LogMachine(cluster);
  for (let number = 0; number < size.nodes; number++) {
    nodes.push(new ExecutorMachine(cluster, number));
  }
  for (let number = 0; number < size.clients; number++) {
    clients.push(new SimClient(cluster, number));
  }
  mutant.prepare?.(cluster);
  return cluster;
}
