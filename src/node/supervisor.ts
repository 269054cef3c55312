import { join } from 'node:path';
import { ByteReader, DaybookError, limits } from '../base/index.ts';
import { type Child, type Io, type RpcPeer, rpcPeer } from '../io/index.ts';
import { type SharedLog, serveLog } from '../log/index.ts';
import { type Sequencer, serveSequencer } from '../sequencer/index.ts';
import {
  controlMethods,
  type ExecutorProcessOptions,
  fromPayload,
  type Started,
  toPayload,
} from './control.ts';
import type { ExecutorNodeStatus } from './executor-node.ts';
import { isNodeMethod } from './repair/other-nodes.ts';

/** Settings of {@link superviseExecutor}. */
export interface SupervisorOptions {
  readonly io: Io;
  /** Served to the process; on many machines it has the log elsewhere. */
  readonly log: SharedLog | undefined;
  readonly sequencer: Sequencer | undefined;
  readonly executor: ExecutorProcessOptions;
  /** The other executors that compare their states with this one. */
  readonly others?: () => readonly ReachableExecutor[];
  readonly onEvent: (text: string) => void;
}

/** An executor that others may ask, whether or not its process is there. */
export interface ReachableExecutor {
  readonly name: string;
  /** @throws {DaybookError} `PEER_UNREACHABLE` while its process is not there. */
  call(method: number, payload: Uint8Array): Promise<Buffer>;
}

/** An executor process that is started again whenever it ends. */
export interface SupervisedExecutor extends ReachableExecutor {
  /** The same after every restart. */
  readonly url: string;
  /** Of the running process; `undefined` between two. */
  pid(): number | undefined;
  readonly restarts: () => number;
  /** `undefined` while the process is not there, or does not answer. */
  status(): Promise<ExecutorNodeStatus | undefined>;
  close(): Promise<void>;
}

/**
 * Room for the records that are under way: with the default of 16 MiB many of them survive into the
 * old generation, which costs a quarter more CPU time in replay.
 */
const nodeOptions = ['--max-semi-space-size=64'];
const restartDelayMinMs = 100;
const restartDelayMaxMs = 5_000;
/** A process that lived so long starts over with the shortest delay, and without suspicion. */
const stableMs = 30_000;
/** Crashes in native code in a row, each so soon after it served, that the store is held to blame for. */
const crashesMax = 3;
const stopTimeoutMs = 15_000;
const statusTimeoutMs = 1_000;

/** A full heap ends a process by SIGABRT, too, but is told by its name. */
function isNativeCrash(reason: string): boolean {
  return /^signal (SIGSEGV|SIGBUS|SIGABRT)$/.test(reason);
}

/** What LMDB says when it meets a page that cannot be right. */
function unreadableStore(started: Started): string | undefined {
  const message = 'error' in started ? started.error.message : '';
  return /^MDB_(CORRUPTED|PAGE_NOTFOUND|INVALID)/.test(message) ? message : undefined;
}

/**
 * Starts an executor process and keeps it running.
 *
 * @throws {DaybookError} what kept the first process from starting.
 */
export async function superviseExecutor(options: SupervisorOptions): Promise<SupervisedExecutor> {
  const { io, log, sequencer, onEvent } = options;
  const { name } = options.executor;
  let executor = options.executor;
  let child: Child | undefined;
  let peer: RpcPeer | undefined;
  let restarts = 0;
  let delayMs = restartDelayMinMs;
  let closing = false;
  /** The process has said that it serves. */
  let serves = false;
  let ended: () => void = () => undefined;
  /** Why the process crashed in native code before it served; `undefined`: it did not. */
  let crash: string | undefined;
  /** Since when it serves, and how often in a row it crashed soon after it did. */
  let servesSinceMs = 0;
  let crashes = 0;
  let wasSetAside = false;

  const launch = async (): Promise<Started> => {
    const startedMs = io.clock.monotonicMs();
    const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const process = io.processes.spawn(new URL(`./executor-main.${suffix}`, import.meta.url), {
      args: [JSON.stringify(executor)],
      nodeOptions,
      heapFull: `${name}: out of memory: its JavaScript heap is full; NODE_OPTIONS=--max-old-space-size=MIB gives it more`,
    });
    const connection = rpcPeer(process.connection);
    if (log !== undefined) serveLog(log, connection);
    if (sequencer !== undefined) serveSequencer(sequencer, connection);
    connection.onPush(controlMethods.event, (text) => {
      onEvent(`${name}: ${fromPayload<string>(text)}`);
    });
    passOn(connection, options.others ?? (() => []));
    child = process;
    peer = connection;
    return new Promise((resolve) => {
      connection.handle(controlMethods.started, (payload) => {
        serves = true;
        servesSinceMs = io.clock.monotonicMs();
        resolve(fromPayload<Started>(payload));
        return [];
      });
      process.onExit((reason) => {
        if (isNativeCrash(reason)) {
          if (!serves) crash = reason;
          else if (io.clock.monotonicMs() - servesSinceMs < stableMs) crashes++;
          else crashes = 1;
        } else crashes = 0;
        child = undefined;
        peer = undefined;
        serves = false;
        resolve({ error: { code: 'IO_FAILED', message: `${name} ended: ${reason}` } });
        ended();
        if (closing) return;
        onEvent(`${name} ended: ${reason}`);
        if (io.clock.monotonicMs() - startedMs > stableMs) delayMs = restartDelayMinMs;
      });
    });
  };
  const restart = (): void => {
    if (closing) return;
    io.timers.after(delayMs, () => {
      if (closing) return;
      restarts++;
      void run();
    });
    delayMs = Math.min(delayMs * 2, restartDelayMaxMs);
  };
  /**
   * A store that is damaged badly enough takes its process with it before anybody can refuse it. It is
   * kept, once, and made again from a snapshot and the log.
   */
  const setStateAside = async (reason: string): Promise<boolean> => {
    const state = join(executor.directory, 'state');
    const aside = join(executor.directory, 'state-damaged');
    if ((await io.disk.list(state)).length === 0) return false;
    await io.disk.remove(aside);
    await io.disk.rename(state, aside);
    onEvent(
      `${name}: ALARM it cannot serve from its store (${reason}): the state is set aside as ${aside}, and ` +
        'made again',
    );
    return true;
  };
  const start = async (): Promise<Started> => {
    if (crashes >= crashesMax && !wasSetAside) {
      // It may be something else; then it goes on, and the store is left alone.
      wasSetAside = true;
      await setStateAside(`it crashed ${crashes} times in a row soon after it served`);
    }
    crash = undefined;
    const started = await launch();
    // What the closure above assigns, the compiler does not see.
    const reason = (crash as string | undefined) ?? unreadableStore(started);
    if (reason === undefined || closing) return started;
    await new Promise<unknown>((resolve) => {
      if (child === undefined) resolve(undefined);
      else child.onExit(resolve);
      child?.kill();
    });
    return (await setStateAside(reason)) ? await launch() : started;
  };
  const run = async (): Promise<Started> => {
    const started = await start();
    if ('error' in started) {
      if (restarts > 0) {
        onEvent(`${name} does not start: ${started.error.message}`);
        child?.kill();
        restart();
      }
      return started;
    }
    // The next process takes the same port, so that clients find it again.
    executor = { ...executor, port: started.port };
    const process = child;
    if (process === undefined) restart();
    else process.onExit(restart);
    return started;
  };

  const first = await run();
  if ('error' in first) {
    closing = true;
    (child as Child | undefined)?.kill();
    throw DaybookError.fromJSON(first.error);
  }
  return {
    name,
    url: first.url,
    pid: () => child?.pid,
    restarts: () => restarts,
    call: async (method, payload) => {
      if (!serves || peer === undefined) {
        throw new DaybookError('PEER_UNREACHABLE', `${name} is not there`);
      }
      return await peer.call(method, [payload]);
    },
    status: async () => {
      if (!serves) return undefined;
      try {
        // A process that hangs must not hold up what is to be said about the others.
        const silence = new Promise<undefined>((resolve) => {
          io.timers.after(statusTimeoutMs, () => resolve(undefined));
        });
        const answer = await Promise.race([peer?.call(controlMethods.status, []), silence]);
        return answer === undefined ? undefined : fromPayload<ExecutorNodeStatus>(answer);
      } catch {
        return undefined;
      }
    },
    close: async () => {
      closing = true;
      const process = child;
      if (process === undefined) return;
      const exited = new Promise<void>((resolve) => {
        ended = resolve;
      });
      const timer = io.timers.after(stopTimeoutMs, () => process.kill());
      await peer?.call(controlMethods.stop, []).catch(() => undefined);
      process.kill();
      await exited;
      timer.cancel();
    },
  };
}

/** Passes on what the executor at this connection asks the others. */
function passOn(connection: RpcPeer, others: () => readonly ReachableExecutor[]): void {
  connection.handle(controlMethods.others, () => toPayload(others().map(({ name }) => name)));
  connection.handle(controlMethods.relay, async (payload) => {
    const reader = new ByteReader(payload, 'call to another executor');
    const method = reader.u64();
    const name = reader.text(limits.nameBytesMax);
    const other = others().find((one) => one.name === name);
    if (other === undefined || !isNodeMethod(method)) {
      throw new DaybookError('NOT_FOUND', `no executor ${name} to ask`, { details: { name } });
    }
    return [await other.call(method, reader.raw(reader.remaining))];
  });
}
