import { join } from 'node:path';
import { DaybookError, isDaybookError } from '../base/index.ts';
import { createExecutor, type ExecutorMetrics } from '../executor/index.ts';
import { type Gateway, type GatewayBackend, startGateway } from '../gateway/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { type Address, asPosition, positionOf } from '../model/index.ts';
import { type AppliedEntry, openReplica, type Replica } from '../replica/index.ts';
import { type FollowerService, openFollowerService } from '../replication/index.ts';
import type { Sequencer } from '../sequencer/index.ts';
import { openState } from '../state/index.ts';
import { openCursorKey } from './cursor-key.ts';

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
  readonly onEvent: (text: string) => void;
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
  /** Why the replica stopped for good, if it did. */
  readonly alarm?: string;
}

/** An executor node: replica with its own state, executor, gateway. */
export interface ExecutorNode {
  readonly url: string;
  readonly port: number;
  status(): ExecutorNodeStatus;
  /** Refuses new work, finishes what is under way, closes everything. */
  close(): Promise<void>;
}

const foundingWaitMs = 30_000;

/**
 * Starts an executor node on a founded log.
 *
 * @throws {DaybookError} `IO_FAILED` when the port cannot be had, `TIMEOUT` when the founding entry
 *   does not arrive, or why the replica stopped.
 */
export async function startExecutorNode(options: ExecutorNodeOptions): Promise<ExecutorNode> {
  const { io, name, directory, channel, log, sequencer, onEvent } = options;
  const state = await openState({ io, directory: join(directory, 'state') });
  const replica = openReplica({ io, log, state });
  replica.onAlarm((alarm) => onEvent(`replica stopped: ${alarm.message}`));
  try {
    await replica.waitFor(asPosition(1), io.clock.monotonicMs() + foundingWaitMs);
    const executor = await createExecutor({
      io,
      name,
      log,
      sequencer,
      replica,
      stateDirectory: join(directory, 'state'),
    });
    const base = gatewayBackend(io, channel, replica, executor);
    let gateway: Gateway;
    let followers: FollowerService;
    try {
      followers = await openFollowerService({
        io,
        source: {
          ...base,
          rows: (start, end, limit) => replica.state.range(start, end, limit),
          logTimeMs: () => replica.logTimeMs,
        },
        directory: join(directory, 'followers'),
        cursorKey: await openCursorKey(
          io,
          options.cursorKeyFile ?? join(directory, 'followers', 'cursor.key'),
        ),
      });
      const backend: GatewayBackend = { ...base, followers };
      gateway = await startGateway({
        io,
        nodeName: name,
        backends: [backend],
        host: options.host,
        port: options.port,
        onInternalError: (error) => onEvent(`internal error: ${error.stack ?? error.message}`),
      });
    } catch (error) {
      await executor.close();
      throw error;
    }
    return {
      url: gateway.url,
      port: gateway.port,
      status: () => ({
        name,
        url: gateway.url,
        nextAddress: replica.nextAddress,
        logTimeMs: replica.logTimeMs,
        contracts: Object.fromEntries(
          [...replica.contracts].map(([contract, { version }]) => [contract, version]),
        ),
        executor: executor.metrics(),
        ...(replica.alarm === undefined ? {} : { alarm: replica.alarm.message }),
      }),
      close: async () => {
        // Ends the long polls, which would hold the gateway.
        await followers.close();
        await gateway.close();
        await executor.close();
        await replica.close();
        await state.close();
      },
    };
  } catch (error) {
    await replica.close();
    await state.close();
    throw error;
  }
}

function gatewayBackend(
  io: Io,
  channel: string,
  replica: Replica,
  executor: GatewayBackend['executor'] & { metrics(): ExecutorMetrics },
): GatewayBackend {
  const founded = <T>(value: T | undefined): T => {
    if (value === undefined) throw new DaybookError('CLOSED', 'the channel is not founded');
    return value;
  };
  return {
    channel,
    executor,
    config: () => founded(replica.config),
    verifier: () => founded(replica.verifier),
    nextAddress: () => replica.nextAddress,
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
    health: () =>
      replica.alarm === undefined
        ? { ready: replica.config !== undefined }
        : { ready: false, reason: replica.alarm.message },
    metrics: () => ({ nextAddress: replica.nextAddress, ...executor.metrics() }),
  };
}
