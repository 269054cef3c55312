import { join } from 'node:path';
import { DaybookError, isDaybookError, limits } from '../base/index.ts';
import { packBlocks } from '../blocks/index.ts';
import { pause, rpcPeer } from '../io/index.ts';
import {
  asQuotaReached,
  depose,
  type EtcdLog,
  type Leader,
  listNodes,
  type NodeInfo,
  type Registration,
  register,
  watchLeader,
  watchNodes,
} from '../log/index.ts';
import { type Address, asAddress, type ChannelConfig } from '../model/index.ts';
import type { FollowerHold } from '../replication/index.ts';
import { type ClusterLogOptions, openClusterLog, privateNetwork } from './cluster-log.ts';
import {
  type ExecutorNode,
  type ExecutorNodeOptions,
  type ExecutorNodeStatus,
  startExecutorNode,
} from './executor-node.ts';
import { Housekeeping } from './housekeeping.ts';
import { LeaderSequencer } from './leader-sequencer.ts';
import { type Makers, makersOn } from './makers.ts';
import { insteadOf, type Member, membersOf, successorOf } from './members.ts';
import type { ChainFiles } from './node-blocks.ts';
import { openNodeId } from './node-id.ts';
import { otherChains } from './other-chains.ts';
import { type NodeOrders, servePrivately } from './private-service.ts';
import { keepReclaiming } from './reclaim.ts';
import { answerNodes, type NodeAnswers, type OtherNode } from './repair/other-nodes.ts';
import { type Repeated, repeat } from './repeat.ts';
import { SequencerHost } from './sequencer-host.ts';
import { catchUpBySnapshot, SnapshotFiles } from './snapshots.ts';
import type { TlsFilePaths } from './tls-files.ts';

/** How a node takes part in a network of many machines. Plain JSON. */
export interface ClusterSettings {
  readonly log: ClusterLogOptions;
  /** Address on the private network that the node listens on, and tells the others. */
  readonly privateHost: string;
  /** 0: any free port. */
  readonly privatePort: number;
  /** Files for TLS on the private network, all three; both sides show certificates of `ca`. */
  readonly privateTls?: TlsFilePaths;
  /** Whether the node may lead as sequencer. Default true. */
  readonly candidate?: boolean;
  /** How long a sequencer that died or hangs goes unnoticed; see `Candidate.leaseMs`. */
  readonly leaseMs?: number;
  /** The node that leads writes a tick so often, which ends blocks; see `startTicker`. */
  readonly tickIntervalMs?: number;
  /** How often snapshots and the trim point are looked after, milliseconds. Default 10,000. */
  readonly housekeepingMs?: number;
  /** Entries that a new node rather replays than fetches a snapshot. Default: the limit. */
  readonly joinReplayEntriesMax?: number;
  /** The sequencer moves on to the next node after so long; default: it stays. */
  readonly rotateMs?: number;
}

/** Settings of {@link startClusterNode}. */
export interface ClusterNodeOptions
  extends Omit<
    ExecutorNodeOptions,
    'log' | 'sequencer' | 'nodes' | 'others' | 'otherChains' | 'logWaitsFor' | 'logUnitsAway'
  > {
  readonly cluster: ClusterSettings;
  /** False: the network has no sequencer, executors append at the log's tail. */
  readonly sequencer: boolean;
}

const retryMs = 200;
const logCheckMs = 500;
const housekeepingMsDefault = 10_000;

/**
 * Starts a node of a network of many machines: an executor node over the log on etcd, which is a
 * candidate for the sequencer's place, follows whoever has it, and is known to the other nodes.
 *
 * @throws {DaybookError} as `openClusterLog` and `startExecutorNode`; `NODE_NAME_TAKEN` when another
 *   node runs under the same name; `LOG_QUOTA_REACHED`; `LOG_TRIMMED` when its state is too old for the log, and no node
 *   has a snapshot.
 */
export async function startClusterNode(options: ClusterNodeOptions): Promise<RunningNode> {
  const { cluster } = options;
  const network = await privateNetwork(options.io, cluster.privateTls, options.onEvent);
  const log = await openClusterLog(options.io, cluster.log);
  const node = new ClusterNode({ ...options, io: { ...options.io, network } }, log);
  try {
    await node.start();
    return node;
  } catch (error) {
    await node.close();
    throw asQuotaReached(error);
  }
}

/** See {@link startClusterNode}. */
export type RunningNode = Omit<ExecutorNode, 'refuse'>;

class ClusterNode implements RunningNode, NodeOrders {
  readonly #options: ClusterNodeOptions;
  readonly #log: EtcdLog;
  readonly #makers: Makers;
  readonly #closing = new AbortController();
  /** Aborts when nobody has to be watched any more. */
  readonly #ended = new AbortController();
  readonly #watching: Promise<void>[] = [];
  #members: readonly Member[] = [];
  #id = '';
  #draining = false;
  #nameTaken = false;
  /** Epoch of a leader that there is no way to. */
  #cutOff: number | undefined;
  #whyCutOff = '';
  /** Units of the log that do not answer. */
  #unitsAway: readonly string[] = [];
  #logCheck: Repeated | undefined;
  #listener: { readonly address: string; close(): Promise<void> } | undefined;
  #host: SequencerHost | undefined;
  #leader: LeaderSequencer | undefined;
  #node: ExecutorNode | undefined;
  #registration: Registration | undefined;
  #snapshots: SnapshotFiles | undefined;
  #housekeeping: Housekeeping | undefined;

  get answers(): NodeAnswers | undefined {
    return this.#node?.answers;
  }

  constructor(options: ClusterNodeOptions, log: EtcdLog) {
    this.#options = options;
    this.#log = log;
    this.#makers = makersOn(log);
  }

  get url(): string {
    return this.#started.url;
  }

  get port(): number {
    return this.#started.port;
  }

  async start(): Promise<void> {
    const { io, cluster, onEvent, sequencer } = this.#options;
    const { privateHost, privatePort } = cluster;
    const { directory, channel, name } = this.#options;
    this.#id = await openNodeId(io, directory);
    this.#listener = await io.network.listen(`${privateHost}:${privatePort}`, (connection) => {
      const peer = rpcPeer(connection);
      servePrivately(peer, this, this.#host);
      answerNodes(peer, () => this.answers);
    });
    await keepReclaiming(
      {
        io,
        log: this.#log,
        everyMs: cluster.housekeepingMs ?? housekeepingMsDefault,
        leavesTrimming: () => this.#leavesTrimming,
        onEvent,
      },
      this.#closing.signal,
    );
    // Before anything is written under the name. Without a gateway it is no member yet.
    this.#registration = await register(
      this.#log,
      { name, id: this.#id },
      {
        isOwn: ({ id }) => id === this.#id,
        onTaken: (taken) => this.#onNameTaken(taken),
      },
    );
    const chain = this.#options.blocks !== undefined;
    if (chain) await this.#makers.remember({ name, id: this.#id });
    if (sequencer) this.#takePart(this.#listener.address);
    this.#snapshots = await SnapshotFiles.open(io, join(directory, 'snapshots'), chain);
    await catchUpBySnapshot({
      io,
      log: this.#log,
      channel,
      stateDirectory: join(directory, 'state'),
      snapshots: this.#snapshots,
      chain,
      members: async () => membersOf(await listNodes(this.#log)),
      ...(cluster.joinReplayEntriesMax === undefined
        ? {}
        : { replayEntriesMax: cluster.joinReplayEntriesMax }),
      onEvent,
    });
    this.#node = await startExecutorNode({
      ...this.#options,
      log: this.#log,
      sequencer: this.#leader,
      otherChains: otherChains(io, this.#log, () =>
        this.#members.filter((member) => member.name !== name),
      ),
      others: () => this.#others(),
      logWaitsFor: () => this.#housekeeping?.waitsFor ?? [],
      logUnitsAway: () => this.#unitsAway,
      nodes: () =>
        this.#members.map(({ name, gateway, draining, cutOff }) => ({
          name,
          gateway,
          draining: draining || cutOff !== undefined,
        })),
    });
    this.#tellRefusal();
    this.#logCheck = repeat(io, logCheckMs, async () => this.#checkLog());
    this.#housekeeping = this.#housekeeper(this.#snapshots);
    await this.#registration.update(this.#info());
    this.#watch('nodes', async (signal) => {
      for await (const nodes of watchNodes(this.#log, signal)) this.#onNodes(nodes);
    });
    this.#housekeeping.start();
    onEvent(`answers other nodes at ${this.#listener.address}`);
  }

  status(): ExecutorNodeStatus {
    const leads = this.#host?.metrics();
    const reason = this.#draining ? undefined : this.#refusal();
    return {
      ...this.#started.status(),
      draining: this.#draining,
      ...(reason === undefined ? {} : { refuses: `${reason.code}: ${reason.message}` }),
      ...(leads === undefined ? {} : { leads }),
    };
  }

  async handOver(successor: string | undefined): Promise<void> {
    const { name } = this.#options;
    // What etcd says now: the watch may be a little behind whoever gives the order.
    const members = membersOf(await listNodes(this.#log));
    const to = successor ?? successorOf(members, name);
    if (to === undefined) throw new DaybookError('NOT_FOUND', 'no other node could lead');
    const able = members.some(
      (member) => member.name === to && member.roles.includes('sequencer') && !member.draining,
    );
    if (!able || this.#host === undefined) {
      throw new DaybookError('NOT_FOUND', `no node ${to} that could lead`, {
        details: { node: to },
      });
    }
    if (to !== name) await this.#host.handOver(to);
  }

  async drain(on: boolean): Promise<void> {
    this.#draining = on;
    this.#tellRefusal();
    await this.#registration?.update(this.#info());
    if (on) await this.#host?.withdraw();
    else this.#host?.stand();
  }

  async offerSnapshot(): Promise<Address> {
    const { guard } = this.#started.status();
    if (guard !== undefined && guard.state !== 'serving') {
      throw new DaybookError('NODE_DIVERGED', `${this.#options.name} is not sure of its state`);
    }
    if (this.#housekeeping === undefined) throw new DaybookError('NOT_FOUND', 'no snapshot yet');
    return await this.#housekeeping.offer();
  }

  async snapshotPiece(address: Address, offset: number): Promise<Uint8Array> {
    if (this.#snapshots === undefined) throw new DaybookError('NOT_FOUND', 'no snapshot yet');
    return this.#snapshots.piece(address, offset);
  }

  followerHolds(): readonly FollowerHold[] {
    return this.#started.followerHolds();
  }

  async blocks(from: number): Promise<Uint8Array> {
    return packBlocks(await this.blocksFrom(from));
  }

  async held(): Promise<number> {
    return this.#housekeeping?.held ?? 0;
  }

  blocksFrom(height: number): Promise<readonly Buffer[]> {
    return this.#started.blocksFrom(height);
  }

  saveBlocks(wanted: Address): Promise<Address> {
    return this.#started.saveBlocks(wanted);
  }

  chainFiles(): ChainFiles {
    return this.#started.chainFiles();
  }

  config(): ChannelConfig | undefined {
    return this.#started.config();
  }

  writeSnapshot(path: string): Promise<Address> {
    return this.#started.writeSnapshot(path);
  }

  spoilForTests(...row: Parameters<NonNullable<ExecutorNode['spoilForTests']>>): void {
    this.#started.spoilForTests?.(...row);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#logCheck?.close();
    await this.#housekeeping?.close();
    // Leads until its own work is done: another one may not be there.
    await this.#registration?.close();
    await this.#node?.close();
    await this.#host?.close();
    this.#ended.abort();
    this.#leader?.close();
    await this.#listener?.close();
    await Promise.all(this.#watching);
    await this.#log.close();
  }

  get #started(): ExecutorNode {
    if (this.#node === undefined) throw new DaybookError('CLOSED', 'the node is not started');
    return this.#node;
  }

  /** The other nodes of the channel, as etcd knows them now. */
  async #others(): Promise<OtherNode[]> {
    const { io, name, channel } = this.#options;
    const members = membersOf(await listNodes(this.#log));
    return members
      .filter((member) => member.name !== name && member.channel === channel && member.chain)
      .map((member) => ({
        name: member.name,
        call: async (method, payload) => {
          const peer = rpcPeer(await io.network.connect(member.address));
          try {
            return await peer.call(method, [payload]);
          } finally {
            peer.close();
          }
        },
      }));
  }

  /** In the contest for the sequencer's place, and as a follower of whoever has it. */
  #takePart(address: string): void {
    const { io, name, cluster, onEvent } = this.#options;
    const log = this.#log;
    if (cluster.candidate ?? true) {
      this.#host = new SequencerHost({
        io,
        log,
        candidate: {
          node: name,
          address,
          ...(cluster.leaseMs === undefined ? {} : { leaseMs: cluster.leaseMs }),
        },
        nextAddress: () => this.#node?.status().nextAddress ?? asAddress(0),
        tickIntervalMs: cluster.tickIntervalMs,
        rotateMs: cluster.rotateMs ?? 0,
        successor: () => successorOf(this.#members, name),
        onEvent,
      });
    }
    const leader = new LeaderSequencer({
      io,
      node: name,
      own: this.#host,
      onGone: (gone) => this.#depose(gone),
      onCutOff: (epoch, why) => this.#onCutOff(epoch, why),
    });
    this.#leader = leader;
    this.#watch('leader', async (signal) => {
      for await (const present of watchLeader(log, signal)) {
        // A life before this one left its reign behind.
        if (present?.node === name && present.address !== address) this.#depose(present);
        this.#host?.observe(present);
        leader.setLeader(present);
      }
    });
  }

  #depose(leader: Leader): void {
    this.#options.onEvent(`the sequencer at ${leader.address} is gone`);
    // If it fails, its lease will end.
    depose(this.#log, leader).catch(() => undefined);
  }

  /** Nothing can be done here without the sequencer; at another node it can. */
  #onCutOff(epoch: number | undefined, why: string): void {
    this.#cutOff = epoch;
    this.#whyCutOff = why;
    const { onEvent } = this.#options;
    onEvent(
      epoch === undefined
        ? 'there is a way to the sequencer again'
        : `ALARM takes no transactions: no way to the sequencer of epoch ${epoch}, which leads, at ${why}`,
    );
    this.#tellRefusal();
    if (this.#node === undefined) return;
    this.#registration?.update(this.#info()).catch((error: unknown) => {
      onEvent(`the other nodes cannot be told: ${String(error)}`);
    });
  }

  /** Without one of its units the log does not grow, and nobody can be answered. */
  #checkLog(): void {
    const away = this.#log.unitsAway();
    if (away.join(';') === this.#unitsAway.join(';')) return;
    this.#unitsAway = away;
    const { onEvent } = this.#options;
    if (away.length === 0) onEvent('the log answers again');
    else onEvent(`ALARM takes no transactions: ${silence(away)}`);
    this.#tellRefusal();
  }

  #onNameTaken(taken: boolean): void {
    if (taken === this.#nameTaken) return;
    this.#nameTaken = taken;
    this.#options.onEvent(
      taken ? 'another node runs under the name of this one' : 'this node has its name again',
    );
    this.#tellRefusal();
  }

  /** Why this node takes no transactions; `undefined`: it does. */
  #refusal(): DaybookError | undefined {
    const { name } = this.#options;
    if (this.#nameTaken) {
      return new DaybookError('NODE_NAME_TAKEN', `another node runs under the name ${name}`);
    }
    if (this.#unitsAway.length > 0) {
      return new DaybookError('PEER_UNREACHABLE', silence(this.#unitsAway));
    }
    if (this.#cutOff !== undefined) {
      return new DaybookError(
        'PEER_UNREACHABLE',
        `${name} has no way to the sequencer at ${this.#whyCutOff}`,
      );
    }
    if (this.#draining) return new DaybookError('CLOSED', `${name} takes no new transactions`);
    return undefined;
  }

  #tellRefusal(): void {
    const reason = this.#refusal();
    // A node that drains finishes what it has.
    this.#node?.refuse(reason, reason?.code !== 'CLOSED');
  }

  #onNodes(nodes: readonly NodeInfo[]): void {
    this.#members = membersOf(nodes);
    const { name, onEvent } = this.#options;
    const host = this.#host;
    if (host?.epoch === undefined) return;
    const successor = insteadOf(this.#members, name, host.epoch);
    if (successor === undefined) return;
    onEvent(`most nodes find no way to this one: ${successor} is to lead`);
    host.handOver(successor).catch(() => undefined);
  }

  /** The leader trims. Where nobody leads everybody does: a full log lets nobody become leader. */
  get #leavesTrimming(): boolean {
    return this.#host?.epoch === undefined && this.#leader?.leader !== undefined;
  }

  #housekeeper(snapshots: SnapshotFiles): Housekeeping {
    const { io, name, cluster, blocks, onEvent } = this.#options;
    return new Housekeeping({
      io,
      log: this.#log,
      name,
      snapshots,
      everyMs: cluster.housekeepingMs ?? housekeepingMsDefault,
      joinReplayEntriesMax: cluster.joinReplayEntriesMax ?? limits.joinReplayEntriesMax,
      retention: () => this.#started.config()?.retention,
      nextAddress: () => this.#started.status().nextAddress,
      writeSnapshot: (path) => this.#started.writeSnapshot(path),
      ...(blocks === undefined ? {} : { saveBlocks: (wanted) => this.#started.saveBlocks(wanted) }),
      chainFiles: () => this.#started.chainFiles(),
      info: () => this.#info(),
      tell: async (info) => await this.#registration?.update(info),
      members: () => this.#members,
      makers: this.#makers,
      leavesTrimming: () => this.#leavesTrimming,
      onEvent,
    });
  }

  #info(): Member {
    const { name, channel } = this.#options;
    return {
      name,
      channel,
      gateway: this.#started.url,
      address: this.#listener?.address ?? '',
      roles: this.#host === undefined ? ['executor'] : ['executor', 'sequencer'],
      id: this.#id,
      draining: this.#draining,
      ...(this.#cutOff === undefined ? {} : { cutOff: this.#cutOff }),
      chain: this.#options.blocks !== undefined,
      snapshot: this.#snapshots?.newest ?? 0,
      held: this.#housekeeping?.held ?? 0,
      followers: this.#started.followerHolds(),
    };
  }

  /** Keeps watching until the node closes. */
  #watch(what: string, watch: (signal: AbortSignal) => Promise<void>): void {
    const { signal } = this.#ended;
    const run = async (): Promise<void> => {
      while (!signal.aborted) {
        try {
          await watch(signal);
        } catch (error) {
          if (signal.aborted || isDaybookError(error, 'CLOSED')) return;
          this.#options.onEvent(`cannot watch the ${what}: ${String(error)}`);
        }
        await pause(this.#options.io, retryMs);
      }
    };
    this.#watching.push(run());
  }
}

function silence(units: readonly string[]): string {
  return `no answer from etcd at ${units.join(' and ')}: most of its members must run, and be reachable`;
}
