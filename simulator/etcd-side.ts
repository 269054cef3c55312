import { DaybookError, isDaybookError } from '../src/base/index.ts';
import { type Io, rpcPeer } from '../src/io/index.ts';
import { EtcdLog } from '../src/log/etcd/etcd-log.ts';
import {
  type ConnectMember,
  depose,
  type LogEntry,
  type SharedLog,
  watchLeader,
} from '../src/log/index.ts';
import { type Address, asAddress } from '../src/model/index.ts';
import { LeaderSequencer } from '../src/node/leader-sequencer.ts';
import { keepReclaiming } from '../src/node/reclaim.ts';
import { SequencerHost } from '../src/node/sequencer-host.ts';
import { type Sequencer, serveSequencer } from '../src/sequencer/index.ts';
import type { Cluster } from './cluster.ts';
import { EtcdShortage } from './etcd-quota.ts';
import { foundingEntry } from './founding.ts';
import { plain } from './mutant.ts';
import { SimDisk } from './sim-disk.ts';
import { SimEtcdCluster } from './sim-etcd.ts';
import { simIo } from './sim-io.ts';
import { strikingSequencer } from './striking-sequencer.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** What a node works with. */
export interface NodeLog {
  readonly log: SharedLog;
  readonly sequencer: Sequencer;
  /** Leads as sequencer now. */
  handOver(successor: string | undefined): Promise<void>;
  /** Why the node takes no calls. */
  refusal(): DaybookError | undefined;
}

const timeouts = {
  attemptTimeoutMs: 400,
  callTimeoutMs: 8_000,
  followCheckMs: 300,
  reconfigureTimeoutMs: 1_000,
};
const retryMs = 200;

/** The log on etcd: clusters of a model of etcd, and nodes that share the sequencer's place. */
export class EtcdSide {
  readonly clusters: readonly SimEtcdCluster[];
  /** How the clusters run out of space; `undefined`: they do not. */
  readonly shortage: EtcdShortage | undefined;
  readonly #cluster: Cluster;
  readonly #disk: SimDisk;
  #reader: SharedLog | undefined;
  #changing = false;

  constructor(cluster: Cluster, units: number) {
    this.#cluster = cluster;
    this.#disk = new SimDisk(cluster.world);
    this.clusters = Array.from(
      { length: units },
      (_, at) => new SimEtcdCluster(cluster.world, cluster.network, at),
    );
    const { quota } = cluster;
    this.shortage = quota && new EtcdShortage(cluster, this.clusters, quota);
  }

  /** The log as those see it who check. */
  async read(): Promise<SharedLog> {
    this.#reader ??= this.#patient(await this.#open('checker'));
    return this.#reader;
  }

  /** Asks again while entries are deleted for want of space. */
  #patient(log: SharedLog): SharedLog {
    const read = async (address: Address): Promise<LogEntry> => {
      for (;;) {
        try {
          return await log.read(address);
        } catch (error) {
          if (!isDaybookError(error, 'OVERLOADED')) throw error;
          await this.#cluster.world.sleep(undefined, 50_000);
        }
      }
    };
    return this.#cluster.quota === undefined ? log : { ...plain(log), read };
  }

  /** Opens the log for a node, which becomes a candidate for the sequencer's place. */
  async openNode(
    name: string,
    process: SimProcess,
    io: Io,
    nextAddress: () => Address,
  ): Promise<NodeLog> {
    const { world, mutant, nodes, config, repairs, retention } = this.#cluster;
    const etcdLog = await EtcdLog.open(
      { ...io, connectMember: this.#connector(process) },
      {
        ...this.#settings,
        units: this.#unitsOf(this.clusters.slice(0, 1)),
      },
    );
    const own: { host?: SequencerHost; leader?: LeaderSequencer } = {};
    const { quota } = this.#cluster;
    if (quota !== undefined) {
      const everyMs = quota.trimEveryMs;
      const leavesTrimming = (): boolean =>
        own.host?.epoch === undefined && own.leader?.leader !== undefined;
      const onEvent = (text: string): void => world.note(`${name} ${text}`);
      const options = { io, log: etcdLog, everyMs, leavesTrimming, onEvent };
      await keepReclaiming(options, new AbortController().signal);
    }
    if ((await etcdLog.tail()) === 0) {
      const token = { epoch: await etcdLog.epoch(), address: asAddress(0) };
      await etcdLog.write(token, foundingEntry(config, io)).catch((error: unknown) => {
        if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN', 'LOG_EPOCH_SEALED')) throw error;
      });
    }
    const address = `${name}:${process.name}`;
    const others = nodes.map((node) => node.name).filter((other) => other !== name);
    const host = new SequencerHost({
      io,
      log: etcdLog,
      candidate: { node: name, address },
      nextAddress,
      tickIntervalMs: repairs?.tickIntervalMs ?? retention?.chains?.tickIntervalMs,
      rotateMs: 0,
      successor: () => others[0],
      onEvent: (text) => world.note(`${name} ${text}`),
    });
    own.host = host;
    const striking = strikingSequencer(this.#cluster, host);
    const granting = mutant.sequencer?.(striking, this.#cluster) ?? striking;
    await io.network.listen(address, (connection) => serveSequencer(granting, rpcPeer(connection)));
    let cutOff: number | undefined;
    const leader = new LeaderSequencer({
      io,
      node: name,
      own: granting,
      onGone: (gone) => {
        depose(etcdLog, gone).catch(() => undefined);
      },
      onCutOff: (epoch) => {
        cutOff = epoch;
      },
    });
    own.leader = leader;
    const follow = async (): Promise<void> => {
      for await (const present of watchLeader(etcdLog, new AbortController().signal)) {
        if (present?.node === name && present.address !== address) {
          depose(etcdLog, present).catch(() => undefined);
        }
        host.observe(present);
        leader.setLeader(present);
      }
    };
    this.#keepOn(process, io, follow);
    const told = this.shortage?.told(process, etcdLog) ?? etcdLog;
    return {
      log: mutant.log?.(told, this.#cluster) ?? told,
      sequencer: leader,
      handOver: (successor) => host.handOver(successor),
      refusal: () =>
        cutOff === undefined
          ? undefined
          : new DaybookError('PEER_UNREACHABLE', `${name} has no way to the sequencer`),
    };
  }

  /** Puts new entries on other units, in another order, from now on. */
  async changeLayout(): Promise<void> {
    if (this.#changing) return;
    this.#changing = true;
    const { world } = this.#cluster;
    const { chance } = world;
    const wanted = this.clusters.filter(() => chance.happens(0.6));
    if (wanted.length === 0) wanted.push(chance.pick(this.clusters));
    world.note(`layout: ${wanted.map(({ members: { name } }) => name).join(' ')}`);
    try {
      const log = await this.#open('admin');
      const { generation } = await log.setUnits(this.#unitsOf(wanted));
      world.happened('log: the layout changes');
      world.note(`layout ${generation} is in force`);
      await log.close();
    } catch (error) {
      if (!isDaybookError(error)) throw error;
      world.note(`the layout was not changed: ${error.code}`);
    } finally {
      this.#changing = false;
    }
  }

  heal(): void {
    for (const cluster of this.clusters) cluster.members.heal();
    this.shortage?.heal();
  }

  get #settings(): typeof timeouts & { readonly quotaBytes?: number } {
    const { quota } = this.#cluster;
    return quota === undefined ? timeouts : { ...timeouts, quotaBytes: quota.toldBytes };
  }

  #open(name: string): Promise<EtcdLog> {
    const { world, network } = this.#cluster;
    const process = world.spawn(name, name);
    const io = simIo(world, process, this.#disk, network);
    const units = this.#unitsOf(this.clusters.slice(0, 1));
    return EtcdLog.open(
      { ...io, connectMember: this.#connector(process) },
      { ...this.#settings, units },
    );
  }

  #connector(process: SimProcess): ConnectMember {
    return (endpoint) => {
      const cluster = this.clusters.find((one) => one.has(endpoint));
      if (cluster === undefined) throw new SimulationFailure('crash', `no member at ${endpoint}`);
      const connected = cluster.connect(process, endpoint);
      const member = this.#cluster.mutant.member?.(connected) ?? connected;
      return this.shortage?.watched(process, member) ?? member;
    };
  }

  #unitsOf(clusters: readonly SimEtcdCluster[]): { endpoints: readonly string[] }[] {
    return clusters.map(({ endpoints }) => ({ endpoints }));
  }

  /** As a node does with everything that it watches. */
  #keepOn(process: SimProcess, io: Io, task: () => Promise<void>): void {
    task().catch((error: unknown) => {
      if (!isDaybookError(error) || error.code === 'INTERNAL') {
        this.#cluster.world.fail(
          new SimulationFailure('crash', `${process.name}: ${String(error)}`, error),
        );
        return;
      }
      io.timers.after(retryMs, () => this.#keepOn(process, io, task));
    });
  }
}
