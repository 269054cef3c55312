import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type FollowersStatus, generateFollowerKey } from '../../src/replication/index.ts';
import {
  noPostgres,
  type PostgresServer,
  startPostgres,
} from '../../src/replication/testing/postgres-server.ts';
import { command, root } from '../process/built.ts';

/* Source, network and followers as an operator runs them, each killed under load. */

const missing = noPostgres();
if (missing !== undefined) console.warn(`followers on the command line are skipped: ${missing}`);

describe.skipIf(missing !== undefined)('followers on the command line', () => {
  let postgres: PostgresServer;
  const directory = mkdtempSync(join(tmpdir(), 'daybook-followers-'));
  const children = new Set<ChildProcess>();

  beforeAll(async () => {
    postgres = await startPostgres();
  }, 60_000);
  afterAll(async () => {
    for (const child of children) child.kill('SIGTERM');
    await Promise.all([...children].map((child) => exitOf(child)));
    await postgres.close();
    rmSync(directory, { recursive: true, force: true });
  }, 60_000);

  const exitOf = (child: ChildProcess): Promise<void> =>
    child.exitCode !== null || child.signalCode !== null
      ? Promise.resolve()
      : new Promise((resolve) => child.once('exit', () => resolve()));

  /** A command that runs until it is stopped; resolves when it has said `ready`. */
  const start = async (ready: RegExp, ...args: string[]): Promise<ChildProcess> => {
    const child = spawn(process.execPath, [command, ...args, '-d', join(directory, 'net')], {
      cwd: directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    children.add(child);
    child.once('exit', () => children.delete(child));
    let said = '';
    await new Promise<void>((resolve, reject) => {
      const hear = (chunk: unknown): void => {
        said += String(chunk);
        if (ready.test(said)) resolve();
      };
      child.stdout.on('data', hear);
      child.stderr.on('data', hear);
      child.once('exit', (code) => reject(new Error(`${args[0]} ended with ${code}: ${said}`)));
    });
    return child;
  };

  /** A command that comes to its end. */
  const run = (...args: string[]): Promise<string> =>
    new Promise((resolve, reject) => {
      execFile(
        process.execPath,
        [command, ...args, '-d', join(directory, 'net')],
        { cwd: directory },
        (error, out, err) =>
          error === null ? resolve(out) : reject(new Error(`${args[0]}: ${err}`)),
      );
    });

  const executorsOf = (pid: number): number[] =>
    execFileSync('ps', ['-o', 'pid=,args=', '--ppid', String(pid)], { encoding: 'utf8' })
      .split('\n')
      .filter((line) => line.includes('executor-main'))
      .map((line) => Number.parseInt(line, 10));

  const kill = async (child: ChildProcess): Promise<void> => {
    child.kill('SIGKILL');
    await exitOf(child);
  };

  it('all systems come to hold the same, whoever is killed', async () => {
    const catalog = await postgres.database('catalog');
    const shop = await postgres.database('shop');
    const { privateKey } = await generateFollowerKey();
    const follower = (config: object): string =>
      `export const follower = { ...${JSON.stringify(config)}, processor: (change) => {
         const sku = Number(change.key.slice('product/'.length));
         if (change.content === undefined) return [{ op: 'delete', table: 'product', key: { sku } }];
         const { name, price } = JSON.parse(change.content);
         return [{ op: 'upsert', table: 'product', row: { sku, name, price } }];
       } };`;
    const common = {
      subscription: [{ contract: 'capture', prefix: 'product/' }],
      tables: [
        {
          name: 'product',
          columns: { sku: 'integer', name: 'text', price: 'integer' },
          primaryKey: ['sku'],
        },
      ],
    };
    const files: Readonly<Record<string, string>> = {
      source: `export const source = ${JSON.stringify({
        name: 'catalog',
        connection: catalog,
        tables: [{ table: 'product', key: ['sku'] }],
      })};`,
      shop: follower({
        ...common,
        name: 'shop',
        sink: { kind: 'postgres', connection: shop },
        keys: [privateKey],
      }),
      report: follower({ ...common, name: 'report', sink: { kind: 'sqlite', file: 'report.db' } }),
    };
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(join(directory, `${name}.ts`), text);
    }

    /** Runs SQL on the catalogue; false when the database was not there. */
    const sql = async (text: string): Promise<pg.QueryResult | undefined> => {
      const client = new pg.Client(catalog);
      client.on('error', () => undefined);
      try {
        await client.connect();
        return await client.query(text);
      } catch {
        return undefined;
      } finally {
        await client.end().catch(() => undefined);
      }
    };
    await sql(`CREATE TABLE product (sku integer PRIMARY KEY, name text, price integer);
      INSERT INTO product SELECT n, 'product ' || n, 1 FROM generate_series(1, 300) n`);

    const network = await start(/gateways/, 'up', '--executors', '2', '--port', '0', '--json');
    await run('contract', 'deploy', join(root, 'examples/contracts/capture'));
    const install = ['source', 'install', '--config', 'source.ts', '--json'];
    expect(JSON.parse(await run(...install))).toEqual({ source: 'catalog', rowsTakenOver: 300 });
    await start(/capturing/, 'source', 'run', '--config', 'source.ts');
    const follow = (name: string) => start(/follows/, 'follow', '--config', `${name}.ts`);
    const following = { shop: await follow('shop'), report: await follow('report') };

    // Edits without a pause, while everything is killed.
    const writing = new AbortController();
    let edits = 0;
    const writer = (async () => {
      for (let step = 0; !writing.signal.aborted; step++) {
        const done = await sql(`BEGIN;
          UPDATE product SET price = ${step} WHERE sku % 7 = ${step % 7} AND sku < 100;
          DELETE FROM product WHERE sku = ${(step * 31) % 300};
          INSERT INTO product VALUES (${(step * 17) % 300}, 'again ${step}', ${step})
            ON CONFLICT (sku) DO UPDATE SET name = excluded.name;
          COMMIT`);
        if (done !== undefined) edits++;
        await sleep(10);
      }
    })();
    await sleep(1_500);
    for (const [round, name] of (['shop', 'report', 'shop'] as const).entries()) {
      await kill(following[name]);
      if (round === 0) {
        // SIGKILL to the server: source, capture and the shop lose it.
        await postgres.kill();
        await sleep(500);
        await postgres.start();
      } else {
        const executors = executorsOf(network.pid ?? 0);
        expect(executors).toHaveLength(2);
        process.kill(executors[round % 2] ?? 0, 'SIGKILL');
      }
      await sleep(400);
      following[name] = await follow(name);
      await sleep(600);
    }
    writing.abort();
    await writer;
    expect(edits).toBeGreaterThan(20);

    const followers = async (): Promise<FollowersStatus> =>
      JSON.parse(await run('followers', '--json')) as FollowersStatus;
    let status = await followers();
    for (let tries = 0; ; tries++) {
      const outbox = await sql('SELECT 1 FROM daybook.outbox LIMIT 1');
      status = await followers();
      if (outbox?.rowCount === 0 && status.inStep) break;
      expect(tries, JSON.stringify(status)).toBeLessThan(60);
      await sleep(250);
    }
    expect(status).toMatchObject({
      inStep: true,
      appliedByAll: status.tail,
      followers: [
        { name: 'report', lagChanges: 0, encrypted: false },
        { name: 'shop', lagChanges: 0, encrypted: true },
      ],
    });
    expect(await run('followers')).toMatch(/All systems hold the same data, as of address \d+/);

    const select = 'SELECT sku, name, price FROM product ORDER BY sku';
    const expected = (await sql(select))?.rows;
    const client = new pg.Client(shop);
    await client.connect();
    expect((await client.query(select)).rows).toEqual(expected);
    await client.end();
    const report = new Database(join(directory, 'report.db'), { readonly: true });
    expect(report.prepare(select).all()).toEqual(expected);
    report.close();

    // Without its triggers the database is as it was.
    await run('source', 'remove', '--config', 'source.ts');
    await sql("UPDATE product SET name = 'unheard'");
    expect((await sql('SELECT 1 FROM daybook.outbox'))?.rowCount).toBe(0);
    // A follower that was forgotten is out of the account.
    await kill(following.report);
    await run('followers', '--forget', 'report');
    expect((await followers()).followers.map(({ name }) => name)).toEqual(['shop']);
    await expect(run('followers', '--forget', 'report')).rejects.toThrow(/NOT_FOUND/);
  }, 150_000);
});
