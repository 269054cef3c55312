import type { SharedLog } from '../src/log/index.ts';
import { type ChannelConfig, channelConfigDefaults } from '../src/model/index.ts';
import { type Bounds, drawBounds } from './bounds.ts';
import { SimClient } from './client.ts';
import { bulkRowCount } from './contracts.ts';
import type { EtcdQuota } from './etcd-quota.ts';
import { EtcdSide } from './etcd-side.ts';
import { EventReader } from './event-reader.ts';
import { ExecutorMachine } from './executor-machine.ts';
import { FollowerMachine } from './follower-machine.ts';
import { simulatedMsp } from './identity.ts';
import { LedgerModel } from './ledger-model.ts';
import { LogMachine } from './log-machine.ts';
import type { Mutant } from './mutant.ts';
import { Oracle } from './oracle.ts';
import { peersMsp } from './peers.ts';
import type { Chance } from './random.ts';
import type { Repairs } from './repair.ts';
import { type Retention, SimMembers } from './retention.ts';
import { SdkClient } from './sdk-client.ts';
import { SimNetwork } from './sim-network.ts';
import { SourceMachine } from './source-machine.ts';
import type { Workload } from './workload.ts';
import type { World } from './world.ts';

/** One simulated network: the machine of the log, executor machines, clients. */
export interface Cluster {
  readonly world: World;
  readonly network: SimNetwork;
  readonly oracle: Oracle;
  readonly config: ChannelConfig;
  readonly mutant: Mutant;
  /** Where the log lies, when it does not lie on etcd. */
  readonly logMachine: LogMachine;
  /** The log on etcd; `undefined`: it is embedded. */
  readonly etcd: EtcdSide | undefined;
  readonly nodes: readonly ExecutorMachine[];
  readonly clients: readonly SimClient[];
  /** Programs that use the client library. */
  readonly sdkClients: readonly SdkClient[];
  /** Programs that follow contract events. */
  readonly readers: readonly EventReader[];
  readonly followers: readonly FollowerMachine[];
  readonly sources: readonly SourceMachine[];
  readonly workload: Workload;
  /** Numbers of their own for what was added later: other worlds stay what they are. */
  readonly edge: Chance;
  readonly bounds: Bounds;
  /** How the log is kept short; `undefined`: it is kept whole. */
  readonly retention: Retention | undefined;
  /** How much space etcd has; `undefined`: enough. */
  readonly quota: EtcdQuota | undefined;
  /** How nodes compare and mend their states; `undefined`: they do not. */
  readonly repairs: Repairs | undefined;
  /** How far a machine's clock goes wrong, either way. */
  readonly clockStepMsMax: number;
  /** The nodes as they know one another. */
  readonly members: SimMembers;
  /** Of entries before this address some node cannot tell any more. */
  readonly trimmed: { before: number };
  /** Units of money that the workload began with. */
  money: number;
  /** When everything healed. */
  healedUs: number;
  /** Happens once, when a token is on its way to whoever asked for it. */
  afterGrant: ((requester: string) => void) | undefined;
}

/** How large a cluster is. */
export interface ClusterSize {
  readonly nodes: number;
  readonly clients: number;
  readonly sdkClients: number;
  /** Of those, so many sign every call by itself. */
  readonly singles: number;
  readonly readers: number;
  readonly edge: Chance;
  readonly followers: number;
  readonly sources: number;
  readonly workload: Workload;
  /** Clusters of etcd that the log may lie on; 0: it is embedded. */
  readonly units: number;
  readonly retention: Retention | undefined;
  readonly quota: EtcdQuota | undefined;
  readonly repairs: Repairs | undefined;
  readonly clockStepMsMax: number;
}

/** Builds a cluster; nothing runs yet. */
export function buildCluster(world: World, size: ClusterSize, mutant: Mutant): Cluster {
  const { chance } = world;
  const nodes: ExecutorMachine[] = [];
  const clients: SimClient[] = [];
  const sdkClients: SdkClient[] = [];
  const readers: EventReader[] = [];
  const followers: FollowerMachine[] = [];
  const sources: SourceMachine[] = [];
  const names = [simulatedMsp.mspId];
  const config: ChannelConfig = {
    ...channelConfigDefaults,
    channel: 'bank',
    msps: size.repairs === undefined ? [simulatedMsp] : [simulatedMsp, peersMsp],
    access: { submit: names, deploy: names, administer: names },
    exclusiveControl:
      size.workload.kind === 'load' && chance.happens(0.8)
        ? 'interleaved'
        : chance.pick(['transaction', 'batch', 'interleaved'] as const),
    blocks: {
      recordsMax: size.workload.kind === 'load' ? 500 : chance.between(5, 60),
      bytesMax: 64 * 1024,
      // Without it nothing can be signed singly.
      cutBeforeReads: size.workload.kind === 'mixed' && (chance.happens(0.5) || size.singles > 0),
    },
    bulk: {
      // Heavy, or updated at once by every replica.
      heavyRowsMin: chance.pick([bulkRowCount - 2, 10_000]),
      switchAfterBlocks: chance.between(1, 5),
    },
    ...(size.retention === undefined ? {} : { retention: size.retention.log }),
  };
  world.happened(`workload: mode ${config.exclusiveControl}`);
  if (size.workload.kind === 'load') world.happened('workload: full load');
  const base = {
    world,
    network: new SimNetwork(world),
    oracle: new Oracle(
      world,
      new LedgerModel((what) => world.happened(what), size.followers > 0),
      // Where a node may begin with a snapshot, the checks know the log from elsewhere.
      size.retention !== undefined || size.repairs !== undefined,
    ),
    config,
    mutant,
    nodes,
    clients,
    sdkClients,
    readers,
    followers,
    sources,
    workload: size.workload,
    edge: size.edge,
    bounds: drawBounds(world, size.workload.kind === 'mixed', size.edge, size.readers),
    retention: size.retention,
    quota: size.quota,
    repairs: size.repairs,
    clockStepMsMax: size.clockStepMsMax,
    members: new SimMembers(world, size.retention),
    healedUs: Number.POSITIVE_INFINITY,
    money: 0,
    trimmed: { before: 0 },
    afterGrant: undefined,
  };
  const cluster: { logMachine: LogMachine; etcd: EtcdSide | undefined } & typeof base = {
    ...base,
    logMachine: undefined as unknown as LogMachine,
    etcd: undefined,
  };
  cluster.logMachine = new LogMachine(cluster);
  if (size.units > 0) cluster.etcd = new EtcdSide(cluster, size.units);
  for (let number = 0; number < size.nodes; number++) {
    nodes.push(new ExecutorMachine(cluster, number));
  }
  for (let number = 0; number < size.clients; number++) {
    clients.push(new SimClient(cluster, number));
  }
  for (let number = 0; number < size.sdkClients; number++) {
    sdkClients.push(new SdkClient(cluster, number, number < size.singles ? 'single' : 'batch'));
  }
  for (let number = 0; number < size.readers; number++) {
    readers.push(new EventReader(cluster, number));
  }
  for (let number = 0; number < size.followers; number++) {
    followers.push(new FollowerMachine(cluster, number));
  }
  for (let number = 0; number < size.sources; number++) {
    sources.push(new SourceMachine(cluster, number));
  }
  mutant.prepare?.(cluster);
  return cluster;
}

/** The log as those see it who check; `undefined` while its machine is down. */
export async function readLog(cluster: Cluster): Promise<SharedLog | undefined> {
  return cluster.etcd === undefined ? cluster.logMachine.log : await cluster.etcd.read();
}
