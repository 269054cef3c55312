import { join } from 'node:path';
import { type Bytestring, DaybookError, isDaybookError } from '../base/index.ts';
import { createExecutor, type ExecutorMetrics } from '../executor/index.ts';
import {
  type BlocksHealth,
  type Gateway,
  type GatewayBackend,
  type ListedNode,
  startGateway,
} from '../gateway/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  type Address,
  asAddress,
  asPosition,
  type ChannelConfig,
  positionOf,
} from '../model/index.ts';
import { type AppliedEntry, catchUp, openReplica, type Replica } from '../replica/index.ts';
import {
  EntryWindow,
  type FollowerHold,
  type FollowerService,
  openFollowerService,
} from '../replication/index.ts';
import type { Sequencer, SequencerMetrics } from '../sequencer/index.ts';
import { openState, startSweepProcess, writeSnapshot } from '../state/index.ts';
import { openCursorKey } from './cursor-key.ts';
import {
  type ChainFiles,
  chainDirectory,
  type NodeBlocks,
  type OtherChains,
  type PeerFiles,
  startNodeBlocks,
} from './node-blocks.ts';
import { nodeAnswers } from './repair/answers.ts';
import { startClosedNode } from './repair/closed-node.ts';
import { type GuardStatus, guardedBackend } from './repair/guard.ts';
import {
  type NodeRepair,
  openNodeRepair,
  type RepairSettings,
  repairDefaults,
} from './repair/node-repair.ts';
import type { NodeAnswers, OtherNodes } from './repair/other-nodes.ts';
import { repeat } from './repeat.ts';
import { readTlsFiles } from './tls-files.ts';

/** Settings of {@link startExecutorNode}. */
export interface ExecutorNodeOptions {
  readonly io: Io;
  /** Name of the node: the writer of its entries. */
  readonly name: string;
  /** Absolute path of a directory of its own. */
  readonly directory: string;
  readonly channel: string;
  readonly log: SharedLog;
  /** Without one the executor appends at the log's tail. */
  readonly sequencer: Sequencer | undefined;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /**
   * File of the key that signs followers' cursors, the same for all nodes of a network, so that
   * followers can change nodes. Default: one in the directory.
   */
  readonly cursorKeyFile?: string;
  /** Makes blocks and signs them with this identity; without it the node makes none. */
  readonly blocks?: PeerFiles;
  /** Where blocks come from that the log cannot give any more. */
  readonly otherChains?: OtherChains;
  /** Serves HTTPS with this certificate and key, PEM files. */
  readonly tls?: TlsFiles;
  /** False: reading needs a signed token, too. Default true. */
  readonly openReads?: boolean;
  /** The nodes that clients may use. Default: this one. */
  readonly nodes?: () => readonly ListedNode[];
  /** The other nodes, to compare states with. Without it, and without blocks, nothing is compared. */
  readonly others?: OtherNodes;
  /** On many machines: see {@link BackendHealth}. */
  readonly logWaitsFor?: () => readonly string[];
  readonly logUnitsAway?: () => readonly string[];
  /** How the node looks after its state. */
  readonly repair?: RepairSettings;
  /** Called when the state is wrong, or too old for the log: started again, the node restores it. */
  readonly onDiverged?: () => void;
  readonly onEvent: (text: string) => void;
}

/** A server certificate, with what leads to its root, and its private key: PEM files. */
export interface TlsFiles {
  readonly certificateFile: string;
  readonly keyFile: string;
}

/** What a node tells about itself. */
export interface ExecutorNodeStatus {
  readonly name: string;
  readonly url: string;
  /** The first address that is not applied. */
  readonly nextAddress: Address;
  readonly logTimeMs: number;
  readonly contracts: Readonly<Record<string, string>>;
  readonly executor: ExecutorMetrics;
  /** Where the node's chain stands; `undefined` when it makes none, or opens it still. */
  readonly blocks: BlocksHealth | undefined;
  /** Why the replica stopped for good, if it did. */
  readonly alarm?: string;
  /** On many machines: whether the node takes no new transactions. */
  readonly draining?: boolean;
  /** On many machines: why the node takes no new transactions although it is not draining. */
  readonly refuses?: string;
  /** On many machines: counters of this node's reign, while it leads as sequencer. */
  readonly leads?: SequencerMetrics;
  /** What the node does about its state; `undefined` when nobody looks after it. */
  readonly guard?: GuardStatus;
}

/** An executor node: replica with its own state, executor, gateway. */
export interface ExecutorNode {
  readonly url: string;
  readonly port: number;
  status(): ExecutorNodeStatus;
  /**
   * Answers new transactions with `reason` from now on, or takes them again; reads go on.
   *
   * @param waiting - true: also those that are here and not on their way to the log.
   */
  refuse(reason: DaybookError | undefined, waiting?: boolean): void;
  /** What the followers that asked this node still need of the log. */
  followerHolds(): readonly FollowerHold[];
  /** What it tells other nodes about its state; `undefined`: it does not compare. */
  readonly answers: NodeAnswers | undefined;
  /** The channel's configuration as this node has applied it. */
  config(): ChannelConfig | undefined;
  /**
   * Writes what is applied to a file, durably, while applying goes on.
   *
   * @returns the first address that is not in it.
   */
  writeSnapshot(path: string): Promise<Address>;
  /**
   * Blocks of the node's chain from a height on, as many as come at a time.
   *
   * @throws {DaybookError} `NOT_FOUND` when it makes none, `STATE_DAMAGED`.
   */
  blocksFrom(height: number): Promise<readonly Buffer[]>;
  /**
   * Makes the node's blocks durable, if they reach `wanted`.
   *
   * @returns see `BlockGenerator.savedTo`.
   * @throws {DaybookError} `NOT_FOUND` when it makes none, `PROOF_NOT_READY`, `PEER_UNREACHABLE`.
   */
  saveBlocks(wanted: Address): Promise<Address>;
  /** See `NodeBlocks.files`. */
  chainFiles(): ChainFiles;
  /** For tests of repair only: a row of the state turns wrong in memory. */
  spoilForTests?(key: Bytestring, value: Bytestring): void;
  /** Refuses new work, finishes what is under way, closes everything. */
  close(): Promise<void>;
}

const foundingWaitMs = 30_000;
const savingCheckMs = 1_000;

/**
 * Starts an executor node on a founded log. A node whose state was found wrong has it restored first:
 * then this resolves at once, and the node serves when it agrees with the others again.
 *
 * @throws {DaybookError} `LISTEN_FAILED` when the port cannot be had, `TIMEOUT` when the founding entry
 *   does not arrive, or why the replica stopped.
 */
export async function startExecutorNode(options: ExecutorNodeOptions): Promise<ExecutorNode> {
  const { io, name, directory, channel, others, blocks, onEvent } = options;
  if (others === undefined || blocks === undefined) return await startServing(options, undefined);
  const repair = await openNodeRepair({
    io,
    name,
    channel,
    directory,
    stateDirectory: join(directory, 'state'),
    chainDirectory: chainDirectory(directory),
    others,
    ...options.repair,
    onDiverged: options.onDiverged ?? (() => undefined),
    onEvent,
  });
  if (!repair.asked && !repair.halted) return await startServing(options, repair);
  const tls = options.tls === undefined ? undefined : await serverTls(options, options.tls);
  return await startClosedNode({
    io,
    name,
    channel,
    host: options.host,
    port: options.port,
    ...(tls === undefined ? {} : { tls }),
    repair,
    start: (port) => startServing({ ...options, port }, repair),
    onFailed: options.onDiverged ?? (() => undefined),
    onEvent,
  });
}

async function startServing(
  options: ExecutorNodeOptions,
  repair: NodeRepair | undefined,
): Promise<ExecutorNode> {
  const { io, name, directory, channel, log, sequencer, onEvent } = options;
  const stateDirectory = join(directory, 'state');
  // A snapshot that was offered before a restart; nobody fetches it any more.
  await io.disk.remove(join(directory, 'offers'));
  const state = await openState({
    io,
    directory: stateDirectory,
    startSweeper: () => startSweepProcess(io, stateDirectory),
    keepsUpdatedRows: options.blocks !== undefined,
  });
  const replica = openReplica({ io, log, state });
  let unsaved: string | undefined;
  const savingCheck = repeat(io, savingCheckMs, async () => {
    const now = state.failure?.message;
    const isNews = (now === undefined) !== (unsaved === undefined);
    unsaved = now;
    if (!isNews) return;
    if (now === undefined) onEvent('the state is saved again');
    else
      onEvent(`ALARM the state cannot be saved, and is kept in memory as long as it fits: ${now}`);
  });
  replica.onAlarm((alarm) => {
    onEvent(`replica stopped: ${alarm.message}`);
    // It was away for longer than the log is kept: a start anew begins with a snapshot.
    if (isDaybookError(alarm, 'LOG_TRIMMED')) options.onDiverged?.();
  });
  try {
    await replica.waitFor(asPosition(1), io.clock.monotonicMs() + foundingWaitMs);
    await catchUp(replica, log, io);
    const blocks =
      options.blocks === undefined
        ? undefined
        : startNodeBlocks({
            io,
            replica,
            directory: chainDirectory(directory),
            peer: options.blocks,
            ...(options.otherChains === undefined ? {} : { others: options.otherChains }),
            scrubRowsPerS:
              repair === undefined
                ? 0
                : (options.repair?.scrubRowsPerS ?? repairDefaults.scrubRowsPerS),
            sweepBytesPerS: options.repair?.sweepBytesPerS ?? repairDefaults.sweepBytesPerS,
            onEvent,
          });
    const executor = await createExecutor({
      io,
      name,
      log,
      sequencer,
      replica,
      stateDirectory: join(directory, 'state'),
      endorser: blocks?.endorser,
    }).catch(async (error: unknown) => {
      await blocks?.close();
      throw error;
    });
    const refusing: Refusing = { reason: undefined };
    const base = gatewayBackend(io, channel, replica, executor, {
      refusing,
      unsaved: () => unsaved,
      ...options,
    });
    let gateway: Gateway;
    let followers: FollowerService;
    const window = new EntryWindow(io, {
      nextAddress: () => replica.nextAddress,
      follow: (from, signal) => replica.readApplied(positionOf(from, 0), signal),
    });
    try {
      followers = await openFollowerService({
        io,
        source: {
          ...base,
          read: (from, limit) => window.read(from, limit),
          rows: (start, end, limit) => replica.state.range(start, end, limit),
        },
        directory: join(directory, 'followers'),
        cursorKey: await openCursorKey(
          io,
          options.cursorKeyFile ?? join(directory, 'followers', 'cursor.key'),
        ),
      });
      const unguarded: GatewayBackend = {
        ...base,
        followers,
        ...(blocks === undefined ? {} : { blocks }),
      };
      const backend = repair === undefined ? unguarded : guardedBackend(unguarded, repair.guard);
      const tls = options.tls === undefined ? undefined : await serverTls(options, options.tls);
      gateway = await startGateway({
        io,
        nodeName: name,
        backends: [backend],
        host: options.host,
        port: options.port,
        ...(tls === undefined ? {} : { tls }),
        ...(options.openReads === undefined ? {} : { openReads: options.openReads }),
        nodes:
          options.nodes ??
          (() => [{ name, gateway: gateway.url, draining: refusing.reason !== undefined }]),
        onInternalError: (error) => onEvent(`internal error: ${error.stack ?? error.message}`),
      });
    } catch (error) {
      await blocks?.close();
      await executor.close();
      throw error;
    }
    if (blocks !== undefined) {
      repair?.watch({
        blocks: () => blocks.service(),
        verifier: () => base.verifier(),
        config: () => base.config(),
        replayed: replica.position,
      });
    }
    return {
      url: gateway.url,
      port: gateway.port,
      answers:
        blocks === undefined || repair === undefined
          ? undefined
          : nodeAnswers({
              io,
              name,
              channel,
              directory,
              state,
              guard: repair.guard,
              blocks: () => blocks.service(),
            }),
      status: () => ({
        name,
        url: gateway.url,
        nextAddress: replica.nextAddress,
        logTimeMs: replica.logTimeMs,
        contracts: Object.fromEntries(
          [...replica.contracts].map(([contract, { version }]) => [contract, version]),
        ),
        executor: executor.metrics(),
        blocks: blocks?.health(),
        ...(replica.alarm === undefined ? {} : { alarm: replica.alarm.message }),
        ...(repair === undefined ? {} : { guard: repair.guard.status }),
      }),
      followerHolds: () => followers.holds(),
      config: () => replica.config,
      spoilForTests: (key, value) => state.spoilForTests(key, value),
      writeSnapshot: async (path) =>
        asAddress((await writeSnapshot(state, io.disk, path, channel)).nextAddress),
      refuse: (reason, waiting = false) => {
        refusing.reason = reason;
        if (reason !== undefined && waiting) executor.refuseWaiting(reason);
      },
      blocksFrom: async (height) => await blocksMade(blocks).blocksFrom(height),
      saveBlocks: async (wanted) => await blocksMade(blocks).service().save(wanted),
      chainFiles: () => blocks?.files ?? 'whole',
      close: async () => {
        await savingCheck.close();
        await repair?.close();
        // Ends the long polls, which would hold the gateway.
        await followers.close();
        window.close();
        await gateway.close();
        await blocks?.close();
        await executor.close();
        await replica.close();
        await state.close();
      },
    };
  } catch (error) {
    await savingCheck.close();
    await replica.close();
    await state.close();
    throw error;
  }
}

async function serverTls(
  { io, onEvent }: ExecutorNodeOptions,
  { certificateFile, keyFile }: TlsFiles,
): Promise<{ readonly cert: string; readonly key: string }> {
  const files = { certificate: certificateFile, key: keyFile };
  const { certificate, key } = await readTlsFiles(io, files, onEvent);
  return { cert: String(certificate), key: String(key) };
}

/** @throws {DaybookError} `NOT_FOUND` */
function blocksMade(blocks: NodeBlocks | undefined): NodeBlocks {
  if (blocks === undefined) throw new DaybookError('NOT_FOUND', 'this node makes no blocks');
  return blocks;
}

/** Why new transactions are refused now; `undefined`: they are taken. */
interface Refusing {
  reason: DaybookError | undefined;
}

function gatewayBackend(
  io: Io,
  channel: string,
  replica: Replica,
  executor: GatewayBackend['executor'] & { metrics(): ExecutorMetrics },
  {
    refusing,
    logWaitsFor = () => [],
    unsaved,
    logUnitsAway = () => [],
  }: { refusing: Readonly<Refusing>; unsaved: () => string | undefined } & Pick<
    ExecutorNodeOptions,
    'logWaitsFor' | 'logUnitsAway'
  >,
): GatewayBackend {
  const founded = <T>(value: T | undefined): T => {
    if (value === undefined) throw new DaybookError('CLOSED', 'the channel is not founded');
    return value;
  };
  return {
    channel,
    executor: {
      submit: (batch, deadlineMs, onOutcome) => {
        if (refusing.reason !== undefined) throw refusing.reason;
        executor.submit(batch, deadlineMs, onOutcome);
      },
      evaluate: (query) => executor.evaluate(query),
      prepare: async (batch, waitMs) => {
        if (refusing.reason !== undefined) throw refusing.reason;
        return executor.prepare(batch, waitMs);
      },
      submitPrepared: (txId, signature, deadlineMs, onOutcome) =>
        executor.submitPrepared(txId, signature, deadlineMs, onOutcome),
      close: () => executor.close(),
    },
    config: () => founded(replica.config),
    verifier: () => founded(replica.verifier),
    nextAddress: () => replica.nextAddress,
    logTimeMs: () => replica.logTimeMs,
    waitFor: async (position, waitMs) => {
      try {
        await replica.waitFor(asPosition(position + 1), io.clock.monotonicMs() + waitMs);
        return true;
      } catch (error) {
        if (isDaybookError(error, 'TIMEOUT')) return false;
        throw error;
      }
    },
    status: (txId) => replica.status(txId),
    read: async (from, limit) => {
      const end = Math.min(replica.nextAddress, from + limit);
      const entries: AppliedEntry[] = [];
      if (from >= end) return entries;
      for await (const page of replica.readApplied(positionOf(from, 0))) {
        for (const entry of page) if (entry.address < end) entries.push(entry);
        if ((page.at(-1)?.address ?? 0) + 1 >= end) break;
      }
      return entries;
    },
    follow: (from, signal) => replica.readApplied(positionOf(from, 0), signal),
    contracts: () =>
      [...replica.contracts].map(([name, { version, sequence }]) => ({ name, version, sequence })),
    health: () => {
      const { bulkProgress } = replica.state;
      const waitsFor = logWaitsFor();
      const unitsAway = logUnitsAway();
      const unsavedFor = unsaved();
      const told = {
        ...(bulkProgress.length === 0 ? {} : { bulk: bulkProgress }),
        ...(waitsFor.length === 0 ? {} : { logWaitsFor: waitsFor }),
        ...(unitsAway.length === 0 ? {} : { logUnitsAway: unitsAway }),
        ...(unsavedFor === undefined ? {} : { unsaved: unsavedFor }),
      };
      const reason = replica.alarm ?? refusing.reason;
      if (reason !== undefined) return { ready: false, reason: reason.message, ...told };
      if (unsavedFor !== undefined && replica.state.overloaded) {
        return {
          ready: false,
          reason: 'applies nothing more until it can save its state',
          ...told,
        };
      }
      return { ready: replica.config !== undefined, ...told };
    },
    metrics: () => ({
      nextAddress: replica.nextAddress,
      logWaitsForNodes: logWaitsFor().length,
      logUnitsAway: logUnitsAway().length,
      stateUnsaved: unsaved() === undefined ? 0 : 1,
      ...executor.metrics(),
    }),
  };
}
