import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { freePort } from '../../io/testing/free-ports.ts';

/** A PostgreSQL server of a test's own, in a temporary directory, on a free port. */
export interface PostgresServer {
  readonly port: number;
  /** URL of a database; makes it if there is none. */
  database(name: string): Promise<string>;
  /** SIGKILL to the whole server, as if the machine had lost power but for its disk. */
  kill(): Promise<void>;
  start(): Promise<void>;
  close(): Promise<void>;
}

const root = '/usr/lib/postgresql';

/** Where PostgreSQL's programs are; `undefined` when it is not installed. */
export function postgresBinaries(): string | undefined {
  if (!existsSync(root)) return undefined;
  const versions = readdirSync(root).sort((a, b) => Number(b) - Number(a));
  return versions
    .map((version) => `${root}/${version}/bin`)
    .find((bin) => existsSync(`${bin}/initdb`));
}

/** Why there can be no server here; `undefined`: there can. */
export function noPostgres(): string | undefined {
  if (postgresBinaries() === undefined) return 'PostgreSQL is not installed';
  if (process.getuid?.() !== 0) return undefined;
  try {
    userId('-u');
    return undefined;
  } catch {
    return 'there is no user postgres';
  }
}

function userId(what: '-u' | '-g'): number {
  return Number(execFileSync('id', [what, 'postgres'], { stdio: ['ignore', 'pipe', 'ignore'] }));
}

/** Makes a cluster and starts it. */
export async function startPostgres(settings: readonly string[] = []): Promise<PostgresServer> {
  const bin = postgresBinaries();
  if (bin === undefined) throw new Error('PostgreSQL is not installed');
  const directory = mkdtempSync(join(tmpdir(), 'daybook-postgres-'));
  // The server refuses to run as root.
  const user =
    process.getuid?.() === 0 ? { uid: userId('-u'), gid: userId('-g') } : ({} as { uid?: number });
  if (user.uid !== undefined) {
    chownSync(directory, user.uid, userId('-g'));
    chmodSync(directory, 0o700);
  }
  const data = join(directory, 'data');
  execFileSync(
    `${bin}/initdb`,
    ['-D', data, '-U', 'postgres', '-A', 'trust', '--no-sync', '-E', 'UTF8'],
    {
      ...user,
      cwd: '/',
      stdio: 'ignore',
      env: { LC_ALL: 'C', PATH: process.env.PATH ?? '' },
    },
  );
  const port = await freePort();
  let server: ChildProcess | undefined;
  const url = (database: string): string => `postgresql://postgres@127.0.0.1:${port}/${database}`;

  const start = async (): Promise<void> => {
    const args = ['-D', data, '-p', String(port), '-k', directory, '-h', '127.0.0.1'];
    const options = ['fsync=off', 'log_min_messages=fatal', 'shared_buffers=64MB', ...settings];
    server = spawn(`${bin}/postgres`, [...args, ...options.flatMap((option) => ['-c', option])], {
      ...user,
      cwd: '/',
      stdio: 'ignore',
    });
    for (let attempt = 0; ; attempt++) {
      const client = new pg.Client(url('postgres'));
      client.on('error', () => undefined);
      try {
        await client.connect();
        await client.end();
        return;
      } catch (error) {
        await client.end().catch(() => undefined);
        if (attempt > 150) throw error;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  };
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    const running = server;
    server = undefined;
    if (running === undefined || running.exitCode !== null) return;
    const exited = new Promise((resolve) => running.once('exit', resolve));
    running.kill(signal);
    await exited;
  };

  await start();
  return {
    port,
    start,
    database: async (name) => {
      const client = new pg.Client(url('postgres'));
      await client.connect();
      const known = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [name]);
      if (known.rowCount === 0) await client.query(`CREATE DATABASE "${name}"`);
      await client.end();
      return url(name);
    },
    kill: async () => {
      await stop('SIGKILL');
      // Its children notice by themselves that their parent is gone.
      await new Promise((resolve) => setTimeout(resolve, 300));
    },
    close: async () => {
      await stop('SIGQUIT');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
