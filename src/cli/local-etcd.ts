import { type ChildProcess, spawn } from 'node:child_process';
import { openSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';

/** A real etcd cluster on this machine, for trying the log on etcd. */
export interface LocalEtcd {
  /** `etcd://host:port,…`. */
  readonly url: string;
  /** Process ids of the members that were started here. */
  readonly pids: readonly number[];
  /** Stops those members. */
  stop(): Promise<void>;
}

const host = '127.0.0.1';
const members = 3;
const readyTimeoutMs = 20_000;
const pollMs = 50;
/** The last members wait for one another in vain; a kill does them no harm. */
const stopTimeoutMs = 1_500;

/**
 * Starts a cluster of three members, or the one that lies in the directory, and waits until all
 * answer. Members that still run, after a kill of whoever started them, are left as they are.
 *
 * @param directory - absolute; data, and logs of the members.
 * @throws {DaybookError} `NOT_FOUND` when etcd is not installed; `TIMEOUT`.
 */
export async function startLocalEtcd(io: Pick<Io, 'disk'>, directory: string): Promise<LocalEtcd> {
  await io.disk.makeDirectory(directory);
  const ports = await portsOf(io, join(directory, 'ports.json'));
  const clientPorts = ports.slice(0, members);
  const peer = (index: number): string => `http://${host}:${ports[members + index]}`;
  const initial = Array.from({ length: members }, (_, at) => `m${at}=${peer(at)}`).join();
  const children: ChildProcess[] = [];
  const stop = (): Promise<void> => stopAll(children);
  try {
    for (const [at, port] of clientPorts.entries()) {
      if (await answers(port)) continue;
      const client = `http://${host}:${port}`;
      children.push(
        await startMember(directory, `m${at}`, [
          `--name=m${at}`,
          `--data-dir=${join(directory, `m${at}`)}`,
          `--listen-client-urls=${client}`,
          `--advertise-client-urls=${client}`,
          `--listen-peer-urls=${peer(at)}`,
          `--initial-advertise-peer-urls=${peer(at)}`,
          `--initial-cluster=${initial}`,
          `--initial-cluster-token=${directory}`,
          '--logger=zap',
          '--log-level=warn',
        ]),
      );
    }
    await allAnswer(clientPorts, directory);
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    url: `etcd://${clientPorts.map((port) => `${host}:${port}`).join()}`,
    pids: children.flatMap(({ pid }) => (pid === undefined ? [] : [pid])),
    stop,
  };
}

function startMember(directory: string, name: string, args: string[]): Promise<ChildProcess> {
  const log = openSync(join(directory, `${name}.log`), 'a');
  // A group of its own: Ctrl-C must not end the log before those who write to it.
  const child = spawn('etcd', args, { stdio: ['ignore', log, log], detached: true });
  return new Promise((resolve, reject) => {
    child.once('spawn', () => resolve(child));
    child.once('error', (cause) =>
      reject(
        new DaybookError(
          'NOT_FOUND',
          'etcd is not installed (Debian: apt install etcd-server etcd-client)',
          { cause },
        ),
      ),
    );
  });
}

async function allAnswer(ports: readonly number[], directory: string): Promise<void> {
  const untilMs = Date.now() + readyTimeoutMs;
  for (const port of ports) {
    while (!(await answers(port))) {
      if (Date.now() > untilMs) {
        throw new DaybookError('TIMEOUT', `etcd does not start; its logs are in ${directory}`);
      }
      await pause(pollMs);
    }
  }
}

/** The same ports as the last time, since members find one another by them. */
async function portsOf(io: Pick<Io, 'disk'>, file: string): Promise<number[]> {
  const known = await io.disk.readFile(file);
  if (known !== undefined) return JSON.parse(known.toString('utf8')) as number[];
  const servers = await Promise.all(Array.from({ length: 2 * members }, listenAnywhere));
  const ports = servers.map(({ port }) => port);
  await Promise.all(servers.map((server) => server.close()));
  await io.disk.writeFile(file, Buffer.from(JSON.stringify(ports)));
  return ports;
}

function listenAnywhere(): Promise<{ port: number; close(): Promise<void> }> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, host, () => {
      const address = server.address();
      const port = typeof address === 'object' && address !== null ? address.port : 0;
      resolve({
        port,
        close: () =>
          new Promise((done) => {
            server.close(() => done());
          }),
      });
    });
  });
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

async function stopAll(children: readonly ChildProcess[]): Promise<void> {
  await Promise.all(
    children.map(async (child) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(() => child.kill('SIGKILL'), stopTimeoutMs);
        child.once('exit', () => {
          clearTimeout(timer);
          resolve();
        });
        child.kill('SIGTERM');
      });
    }),
  );
}

function pause(delayMs: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, delayMs);
  });
}
