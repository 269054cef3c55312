import { ByteReader, ByteWriter, isDaybookError, toDaybookError } from '../src/base/index.ts';
import { createExecutor, type RunningExecutor } from '../src/executor/index.ts';
import { inlineProcesses } from '../src/executor/testing/inline-processes.ts';
import { type Child, type Io, type RpcPeer, rpcPeer } from '../src/io/index.ts';
import { remoteLog, type SharedLog } from '../src/log/index.ts';
import {
  type Address,
  asAddress,
  asPosition,
  beginOutcomes,
  encodeOutcome,
  verifyBatch,
} from '../src/model/index.ts';
import type { Member } from '../src/node/members.ts';
import { catchUp, openReplica, type Replica } from '../src/replica/index.ts';
import { remoteSequencer, type Sequencer } from '../src/sequencer/index.ts';
import { type MemoryStore, openState, type State } from '../src/state/index.ts';
import { BlockMachine, chainDirectory } from './block-machine.ts';
import type { Cluster } from './cluster.ts';
import { simulatedRuntime } from './contracts.ts';
import type { NodeLog } from './etcd-side.ts';
import { openFollowers } from './follower-machine.ts';
import {
  gatewayAddress,
  type Served,
  serveClients,
  submitWatched,
  verifierOf,
} from './gateway-model.ts';
import { GatewayRoutes } from './gateway-routes.ts';
import { simulatedSigner } from './identity.ts';
import { decodeOnce, verifyOnce } from './load-batches.ts';
import { logAddress } from './log-machine.ts';
import { peerSigner } from './peers.ts';
import { NodeCare } from './repair.ts';
import { comeBack, keepHouse, snapshotFiles } from './retention.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** The method by which clients hand in a batch: u32 milliseconds to the deadline, signed batch. */
export const submitMethod = 200;

const restartMs = 100;
const foundingWaitMs = 30_000;
const stateDirectory = '/state';

/** A machine with one executor node: replica, state, executor, and its contract process. */
export class ExecutorMachine {
  readonly name: string;
  readonly address: string;
  readonly disk: SimDisk;
  /** What makes blocks beside it. */
  readonly blocks: BlockMachine | undefined;
  readonly #care: NodeCare;
  /** How it looks after its state; `undefined`: it does not. */
  readonly care: NodeCare | undefined;
  readonly #cluster: Cluster;
  #process: SimProcess | undefined;
  #starts = 0;
  /** Of the running process. */
  replica: Replica | undefined;
  state: State | undefined;
  executor: RunningExecutor | undefined;
  routes: GatewayRoutes | undefined;
  #children: readonly Child[] = [];
  #withoutSequencer = false;
  #nodeLog: NodeLog | undefined;
  /** It does not start before. */
  #awayUntilUs = 0;

  constructor(cluster: Cluster, number: number) {
    this.#cluster = cluster;
    this.name = `node${number}`;
    this.address = `${this.name}:1`;
    this.disk = new SimDisk(cluster.world);
    // Under full load they cost more than commits do; the last check makes blocks there.
    const { workload, retention, repairs } = cluster;
    this.#care = new NodeCare(cluster, this.name, this.disk);
    this.care = repairs && this.#care;
    const plain = retention !== undefined && retention.chains?.plain.includes(number) !== false;
    if (workload.kind === 'mixed' && !plain) {
      const signer = repairs === undefined ? simulatedSigner : peerSigner(number);
      const parts = { disk: this.disk, signer, care: this.#care };
      this.blocks = new BlockMachine(cluster, this.name, parts);
    }
  }

  /** It has been started once. */
  get hasJoined(): boolean {
    return this.#starts > 0;
  }

  get process(): SimProcess | undefined {
    return this.#process;
  }

  /** Starts the process; `withoutSequencer`: it appends at the log's tail by itself. */
  start(): void {
    if (this.#process?.alive === true) return;
    const { world, members } = this.#cluster;
    if (world.nowUs < this.#awayUntilUs) return;
    const process = world.spawn(this.name, `${this.name}.${this.#starts++}`);
    process.clockOffsetMs = world.chance.between(-400, 400);
    this.#process = process;
    process.onDeath.push(() => {
      this.replica = undefined;
      this.state = undefined;
      this.executor = undefined;
      this.routes = undefined;
      this.#nodeLog = undefined;
      this.#children = [];
      this.#care.lost();
      members.lost(this.name);
    });
    this.#cluster.oracle.started(this.name);
    this.#boot(process).catch((error: unknown) => {
      const failure = toDaybookError(error);
      world.note(`${process.name} does not start: ${failure.message}`);
      if (failure.code === 'INTERNAL') {
        world.fail(new SimulationFailure('crash', `${process.name}: ${failure.message}`, error));
      }
      this.crash(false);
    });
  }

  crash(power: boolean): void {
    const { world } = this.#cluster;
    const process = this.#process;
    if (process !== undefined) {
      if (process.alive) world.note(`${process.name} ${power ? 'loses power' : 'is killed'}`);
      world.kill(process);
    }
    if (power) {
      this.blocks?.losePower();
      world.happened('process: power failure');
      const torn = this.disk.powerFailure();
      if (torn.some((path) => path.startsWith(chainDirectory))) {
        world.happened('blocks: files are torn by a power failure');
      }
    }
    world.after(undefined, restartMs * 1000, 'restart', () => this.start());
  }

  /** Is away for a while. @param ms - from now on. */
  stayAway(ms: number): void {
    const { world } = this.#cluster;
    world.note(`${this.name} is away for ${ms} ms`);
    if (this.#process?.alive === true) this.crash(false);
    this.#awayUntilUs = world.nowUs + ms * 1000;
    world.after(undefined, ms * 1000, 'return', () => this.start());
  }

  /** Another machine takes its place: with nothing on its disk. */
  loseDisk(): void {
    this.#cluster.world.happened('snapshot: a node loses its disk');
    this.replace();
  }

  /** Its place is taken by a machine with nothing on its disk. */
  replace(): void {
    this.#cluster.world.note(`${this.name} loses its disk`);
    this.crash(true);
    this.disk.wipe('');
    this.#care.replaced();
    this.blocks?.replaced();
  }

  /** A bit rots in a snapshot file, and the state is gone. */
  rotSnapshot(): void {
    const path = this.disk.rot(snapshotFiles);
    if (path === undefined) return;
    this.#cluster.world.note(`a bit of ${path} of ${this.name} rots`);
    this.crash(true);
  }

  /** Kills the contract process; the executor starts another. */
  crashContracts(): void {
    this.#cluster.world.happened('process: contracts killed');
    this.#cluster.world.note(`${this.name}: the contract process is killed`);
    this.#children.at(-1)?.kill();
  }

  /** Starts again with the sequencer, or without. */
  useSequencer(use: boolean): void {
    if (this.#withoutSequencer === !use) return;
    this.#withoutSequencer = !use;
    if (this.#process?.alive === true) this.crash(false);
  }

  /** Works as it should again; a stretch without the sequencer ends. */
  heal(): void {
    this.blocks?.heal();
    if (this.#awayUntilUs > this.#cluster.world.nowUs) {
      this.#awayUntilUs = 0;
      this.start();
    }
    if (!this.#withoutSequencer) return;
    this.#withoutSequencer = false;
    if (this.#process?.alive === true) this.crash(false);
  }

  async #boot(process: SimProcess): Promise<void> {
    const { world, network, oracle, mutant } = this.#cluster;
    const io = simIo(world, process, this.disk, network);
    const { log: whole, sequencer } = await this.#openLog(process, io);
    const watched = oracle.watch(this.name, whole);
    const sleep = (us: number): Promise<void> => world.sleep(process, us);
    const log = mutant.nodeLog?.(watched, sleep) ?? watched;
    const { openStore } = this.#care.stores;
    const stateSettings = {
      openStore,
      // Small enough to be sealed now and then.
      transactionSegmentIdsMax: this.#cluster.workload.kind === 'load' ? 32_768 : 1024,
    };
    const { name } = this;
    const parts = {
      cluster: this.#cluster,
      name,
      id: process.name,
      makesBlocks: this.blocks !== undefined,
      io,
      log,
      stateDirectory,
      stateSettings,
    };
    const onRestored = (): void => this.blocks?.replaced();
    const settings = { process, io, stateDirectory, chainDirectory, stateSettings, onRestored };
    if (this.care !== undefined && !(await this.care.open(settings, () => this.crash(false))))
      return;
    const { retention } = this.#cluster;
    const snapshots = retention === undefined ? undefined : await comeBack(parts);
    const state = await openState({
      io,
      directory: stateDirectory,
      ...stateSettings,
      flushIntervalMs: 200,
    });
    mutant.state?.(state, this.name);
    const replica = openReplica({ io, log, state, holeTimeoutMs: 500 });
    replica.onAlarm((alarm) => {
      const message = `${process.name}: the replica stopped: ${alarm.message}`;
      if (retention === undefined || !isDaybookError(alarm, 'LOG_TRIMMED')) {
        world.fail(new SimulationFailure('correctness', message, alarm));
        return;
      }
      // As in production: the process ends, and the next one begins with a snapshot.
      world.note(message);
      world.happened('snapshot: a node was away for longer than the log is kept');
      world.after(process, 0, 'too old', () => this.crash(false));
    });
    replica.onApplied((entries) => oracle.applied(this.name, entries));
    const { trimmed, bounds } = this.#cluster;
    trimmed.before = Math.max(trimmed.before, state.startAddress);
    await replica.waitFor(asPosition(1), io.clock.monotonicMs() + foundingWaitMs);
    if (mutant.servesEarly !== true) await catchUp(replica, log, io);
    const inline = inlineProcesses(io, openStore(stateDirectory) as MemoryStore, simulatedRuntime);
    const created = await createExecutor({
      io: { ...io, processes: inline },
      name: this.name,
      log,
      sequencer: this.#withoutSequencer ? undefined : sequencer,
      replica: mutant.executorReplica?.(replica, log) ?? replica,
      stateDirectory,
      transactionsMax: mutant.admitsAll === true ? Number.MAX_SAFE_INTEGER : bounds.transactionsMax,
      ...(this.blocks === undefined ? {} : { endorser: this.blocks.endorser }),
      ...(mutant.endorsesAll === true
        ? {}
        : {
            preparedTransactionsMax: bounds.preparedTransactionsMax,
            preparedLifetimeMs: bounds.preparedLifetimeMs,
          }),
    });
    const executor = mutant.executor?.(created) ?? created;
    this.state = state;
    this.replica = replica;
    this.executor = executor;
    this.#children = inline.children;
    world.note(
      `${process.name} runs from ${replica.nextAddress}${this.#withoutSequencer ? ' without a sequencer' : ''}`,
    );
    const { guard } = this.#care;
    const routes = new GatewayRoutes(this.#cluster, {
      name: this.name,
      io,
      replica,
      executor,
      guard,
    });
    this.routes = routes;
    const served: Served = {
      routes,
      name: this.name,
      executor: this.#care.guarded(executor),
      replica,
      isAlone: this.#withoutSequencer,
      io,
      refusal: () => this.#nodeLog?.refusal() ?? this.#care.refusal,
      answering: () => this.#care.answering(),
    };
    const followers =
      this.#cluster.followers.length === 0
        ? undefined
        : await openFollowers(
            this.#cluster,
            io,
            mutant.followersReplica?.(replica, log) ?? replica,
          );
    if (retention !== undefined && snapshots !== undefined) {
      const holds = (): Member['followers'] => followers?.service.holds();
      const { blocks } = this;
      await keepHouse(parts, retention, snapshots, { state, replica, blocks }, holds);
    }
    await io.network.listen(this.address, (connection) => {
      const client = rpcPeer(connection);
      this.#serve(client, served);
      followers?.serve(client);
    });
    const { blocks } = this;
    if (blocks !== undefined) {
      await blocks.start(process, io, replica, log);
      await this.care?.watch({ io, state, replica, blocks: () => blocks.open });
    }
    const { sdkClients, sources, readers } = this.#cluster;
    if (sdkClients.length + sources.length + readers.length > 0) {
      await io.network.listen(gatewayAddress(this.name), (connection) =>
        serveClients(this.#cluster, served, connection),
      );
    }
  }

  async #openLog(
    process: SimProcess,
    io: Io,
  ): Promise<{ readonly log: SharedLog; readonly sequencer: Sequencer }> {
    const { world, etcd } = this.#cluster;
    if (etcd !== undefined) {
      const next = (): Address => this.replica?.nextAddress ?? asAddress(0);
      this.#nodeLog = await etcd.openNode(this.name, process, io, next);
      return this.#nodeLog;
    }
    const peer = rpcPeer(await io.network.connect(logAddress));
    // As in production: a process whose connection to the log closes ends, and is started again.
    peer.onClose(() => world.after(process, 0, 'log gone', () => this.crash(false)));
    return { log: remoteLog(peer), sequencer: remoteSequencer(peer) };
  }

  /** Gives the sequencer's place to another, if this node has it. */
  async handOver(): Promise<void> {
    try {
      await this.#nodeLog?.handOver(undefined);
    } catch (error) {
      if (!isDaybookError(error)) throw error;
    }
  }

  /** Stands for the gateway: checks the batch, hands it over, sends all outcomes in one answer. */
  #serve(client: RpcPeer, served: Served): void {
    const { clock } = served.io;
    client.handle(submitMethod, (payload) => {
      const reader = new ByteReader(payload, 'submit');
      const deadlineMs = clock.monotonicMs() + reader.u32();
      const bytes = reader.raw(reader.remaining);
      const batch = decodeOnce(bytes);
      this.#cluster.oracle.received(batch.batchId);
      const refusal = served.refusal();
      if (refusal !== undefined) throw refusal;
      const verifier = verifierOf(served.replica);
      verifyOnce(bytes, () => verifyBatch(batch, verifier, 'submit'));
      return new Promise((resolve, reject) => {
        const outcomes = new ByteWriter(32 * batch.items.length);
        beginOutcomes(outcomes);
        let missing = batch.items.length;
        try {
          submitWatched(this.#cluster, served, batch, deadlineMs, (index, outcome) => {
            encodeOutcome(outcomes, index, outcome);
            missing--;
            if (missing === 0) resolve([outcomes.view()]);
          });
        } catch (error) {
          if (!isDaybookError(error)) this.#cluster.world.fail(error);
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }
}
