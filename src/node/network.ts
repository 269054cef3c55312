import { join } from 'node:path';
import { assert, DaybookError } from '../base/index.ts';
import { type Io, realIo } from '../io/index.ts';
import {
  currentLeader,
  type EtcdLog,
  type Leader,
  openEmbeddedLog,
  type SharedLog,
} from '../log/index.ts';
import {
  channelConfigDefaults,
  type ExclusiveControl,
  type LogRetention,
  type Signer,
} from '../model/index.ts';
import { type LocalSequencer, type SequencerMetrics, startSequencer } from '../sequencer/index.ts';
import { openClusterLog } from './cluster-log.ts';
import type { ClusterSettings } from './cluster-node.ts';
import { openCursorKey } from './cursor-key.ts';
import type { ExecutorNodeStatus, TlsFiles } from './executor-node.ts';
import { foundChannel } from './found-channel.ts';
import { type IdentityDirectory, openIdentities } from './identities.ts';
import type { PeerFiles } from './node-blocks.ts';
import type { RepairSettings } from './repair/node-repair.ts';
import type { Repeated } from './repeat.ts';
import {
  type ReachableExecutor,
  type SupervisedExecutor,
  superviseExecutor,
} from './supervisor.ts';
import { startTicker } from './ticker.ts';

/** Settings of {@link startNetwork}. */
export interface NetworkOptions {
  /** Absolute path; everything of the network lies in it. */
  readonly directory: string;
  /** Executor processes, 1 or more. */
  readonly executors: number;
  /** Port of the first gateway; the next executors take the next ports. 0: any free ones. */
  readonly httpPort: number;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default `main`. */
  readonly channel?: string;
  /** MSP of the development identities. Default `Org1MSP`. */
  readonly mspId?: string;
  /** False: executors append at the log's tail by themselves. Default true. */
  readonly sequencer?: boolean;
  /** For a new channel only. */
  readonly exclusiveControl?: ExclusiveControl;
  /** For a new channel only. */
  readonly transactionLifetimeMs?: number;
  /** For a new channel only: what a log on etcd may forget. */
  readonly retention?: LogRetention;
  /** False: no chain of blocks is made, and no ticks are written. Default true. */
  readonly blocks?: boolean;
  /** How long a record waits at most for the end of its block. Default 1,000 ms. */
  readonly tickIntervalMs?: number;
  /** How nodes look after their states; only nodes that make blocks do. */
  readonly repair?: RepairSettings;
  /** The gateways serve HTTPS. */
  readonly tls?: TlsFiles;
  /** False: reading needs a signed token. Default true. */
  readonly openReads?: boolean;
  /**
   * Many machines: the shared log is on etcd, the sequencer on any of the nodes, and others beside
   * these executors may take part. Then `nodePrefix` must be another one on every machine.
   */
  readonly cluster?: ClusterSettings;
  /** Executors are named with a number after this. Default `executor-`. */
  readonly nodePrefix?: string;
  /** Hears what happens: starts, restarts, alarms. */
  readonly onEvent?: (text: string) => void;
  readonly io?: Io;
}

/** A network on this machine: log and sequencer in this process, executors in their own. */
export interface Network {
  readonly channel: string;
  /** URLs of the executors' gateways. */
  readonly gateways: readonly string[];
  /** The development administrator. */
  readonly signer: Signer;
  readonly certificateFile: string;
  readonly keyFile: string;
  status(): Promise<NetworkStatus>;
  /** Stops executors, sequencer and log, in this order; nothing acknowledged is lost. */
  close(): Promise<void>;
}

/** See {@link Network.status}. */
export interface NetworkStatus {
  readonly channel: string;
  /** The log's first address behind everything written. */
  readonly tail: number;
  readonly sequencer: SequencerMetrics | undefined;
  /** Many machines: who leads as sequencer; `undefined` while nobody does. */
  readonly leader?: Leader;
  readonly executors: readonly {
    readonly name: string;
    readonly url: string;
    readonly pid: number | undefined;
    readonly restarts: number;
    /** `undefined` while the process is not there. */
    readonly status: ExecutorNodeStatus | undefined;
  }[];
}

const adminName = 'admin';
const tickIntervalMsDefault = 1_000;

/**
 * Starts a network on this machine, or opens the one that lies in the directory: embedded log,
 * sequencer, executor processes with their gateways. A new network gets a development authority, an
 * administrator's identity and a channel that trusts them.
 *
 * @throws {DaybookError} `LOG_LOCKED` when it runs already, `LOG_DAMAGED`, `CONFIG_INVALID`,
 *   `LISTEN_FAILED` when a port cannot be had.
 */
export async function startNetwork(options: NetworkOptions): Promise<Network> {
  const { directory, io = realIo(), onEvent = () => undefined } = options;
  assert(options.executors >= 1, 'a network has an executor');
  await io.disk.makeDirectory(directory);
  // Two processes on one state would spoil it, and the names of nodes are their directory's.
  const lock = await io.disk.lock(directory);
  let log: SharedLog | EtcdLog | undefined;
  try {
    log =
      options.cluster === undefined
        ? await openEmbeddedLog({ io, directory: join(directory, 'log') })
        : await openClusterLog(io, options.cluster.log);
    const network = await startOnLog(options, io, log, onEvent);
    return {
      ...network,
      close: async () => {
        await network.close();
        await lock.release();
      },
    };
  } catch (error) {
    await log?.close();
    await lock.release();
    throw error;
  }
}

async function startOnLog(
  options: NetworkOptions,
  io: Io,
  log: SharedLog | EtcdLog,
  onEvent: (text: string) => void,
): Promise<Network> {
  const { cluster, nodePrefix = 'executor-' } = options;
  const peerPrefix = options.nodePrefix === undefined ? 'peer-' : `${nodePrefix}peer-`;
  const { directory, channel = 'main', mspId = 'Org1MSP', host = '127.0.0.1' } = options;
  const identities = await openIdentities(io, join(directory, 'identities'), mspId);
  const known = (await identities.list()).includes(adminName);
  const signer = known
    ? await identities.load(adminName)
    : await identities.create(adminName, { role: 'admin' });
  const { msps } = await foundChannel(
    log,
    {
      ...channelConfigDefaults,
      channel,
      msps: [identities.ca.mspConfig],
      access: { submit: [mspId], deploy: [mspId], administer: [mspId] },
      ...(options.exclusiveControl === undefined
        ? {}
        : { exclusiveControl: options.exclusiveControl }),
      ...(options.transactionLifetimeMs === undefined
        ? {}
        : { transactionLifetimeMs: options.transactionLifetimeMs }),
      ...(options.retention === undefined ? {} : { retention: options.retention }),
    },
    'network',
    io.clock.nowMs(),
  );
  // As it was founded. Replay takes later configurations that an administrator signed, but nothing writes
  // one: whoever lets roots be changed must compare with the newest.
  const trusted = msps.find((msp) => msp.mspId === mspId)?.rootCertificates ?? [];
  if (!trusted.includes(identities.ca.root.certificate)) {
    onEvent(
      `ALARM the authority in ${join(directory, 'identities')} is not the one of ${mspId} that founded ` +
        'the channel: nobody accepts what its identities sign. Copy that folder from where the ' +
        'channel was founded',
    );
  }
  const sequencer: LocalSequencer | undefined =
    (options.sequencer ?? true) && cluster === undefined
      ? await startSequencer({ log })
      : undefined;
  const cursorKeyFile = join(directory, 'followers', 'cursor.key');
  await openCursorKey(io, cursorKeyFile);
  const blocks = options.blocks ?? true;
  const executors: SupervisedExecutor[] = [];
  const names = Array.from({ length: options.executors }, (_, at) => `${nodePrefix}${at + 1}`);
  const closeExecutors = async (): Promise<void> => {
    await Promise.all(executors.map((executor) => executor.close()));
  };
  try {
    for (const [at, name] of names.entries()) {
      const number = at + 1;
      const executor = await superviseExecutor({
        io,
        log: cluster === undefined ? log : undefined,
        sequencer,
        onEvent,
        others: () =>
          names
            .filter((other) => other !== name)
            .map((other) => executors.find((one) => one.name === other) ?? absent(other)),
        executor: {
          name,
          directory: join(directory, name),
          channel,
          sequencer: options.sequencer ?? true,
          ...(cluster === undefined
            ? {}
            : { cluster: clusterSettings(cluster, number, blocks, options.tickIntervalMs) }),
          host,
          port: options.httpPort === 0 ? 0 : options.httpPort + number - 1,
          cursorKeyFile,
          ...(blocks
            ? { blocks: await peerFiles(identities, `${peerPrefix}${number}`, mspId) }
            : {}),
          ...(options.repair === undefined ? {} : { repair: options.repair }),
          ...(options.tls === undefined ? {} : { tls: options.tls }),
          ...(options.openReads === undefined ? {} : { openReads: options.openReads }),
        },
      });
      executors.push(executor);
      onEvent(`${name} serves ${executor.url}`);
    }
  } catch (error) {
    await closeExecutors();
    throw error;
  }
  const { tickIntervalMs: intervalMs } = options;
  // On many machines the sequencer's node writes the ticks.
  const ticker: Repeated | undefined =
    blocks && cluster === undefined
      ? startTicker({
          io,
          log,
          sequencer,
          writer: 'network',
          ...(intervalMs === undefined ? {} : { intervalMs }),
          onError: (message) => onEvent(`no tick: ${message}`),
        })
      : undefined;
  return {
    channel,
    gateways: executors.map(({ url }) => url),
    signer,
    ...identities.files(adminName),
    status: async () => ({
      channel,
      tail: await log.tail(),
      sequencer: sequencer?.metrics(),
      ...('units' in log ? leaderField(await currentLeader(log)) : {}),
      executors: await Promise.all(
        executors.map(async (executor) => ({
          name: executor.name,
          url: executor.url,
          pid: executor.pid(),
          restarts: executor.restarts(),
          status: await executor.status(),
        })),
      ),
    }),
    close: async () => {
      await ticker?.close();
      await closeExecutors();
      await log.close();
    },
  };
}

/** An executor that has not been started yet. */
function absent(name: string): ReachableExecutor {
  return {
    name,
    call: () => Promise.reject(new DaybookError('PEER_UNREACHABLE', `${name} is not there yet`)),
  };
}

function leaderField(leader: Leader | undefined): { leader?: Leader } {
  return leader === undefined ? {} : { leader };
}

/** What the executor of that number gets of the settings that all have. */
function clusterSettings(
  settings: ClusterSettings,
  number: number,
  blocks: boolean,
  tickIntervalMs: number | undefined,
): ClusterSettings {
  const { privatePort } = settings;
  return {
    ...settings,
    privatePort: privatePort === 0 ? 0 : privatePort + number - 1,
    // Without a chain nobody needs ticks.
    ...(blocks ? { tickIntervalMs: tickIntervalMs ?? tickIntervalMsDefault } : {}),
  };
}

/** The identity with which an executor signs its blocks; issued when it is not there yet. */
async function peerFiles(
  identities: IdentityDirectory,
  name: string,
  mspId: string,
): Promise<PeerFiles> {
  if (!(await identities.list()).includes(name)) await identities.create(name, { role: 'peer' });
  return { mspId, ...identities.files(name) };
}
