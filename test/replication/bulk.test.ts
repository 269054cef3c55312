import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { httpFeed, jsonOf, sqliteSink, startFollower } from '../../src/replication/index.ts';
import { built, root } from '../process/built.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;
const io = realIo();

/* Bulk updates change rows that are not in the log: the copies of them must not drift. */

it('copies follow bulk updates, large and small, and a changed subscription, while calls go on', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-bulk-'));
  const network = await startNetwork({
    directory: join(directory, 'net'),
    executors: 2,
    httpPort: 0,
    tickIntervalMs: 100,
  });
  const { gateways, channel, signer } = network;
  const client = await connect({ gateways, channel, signer, batchDelayMs: 5 });
  const feed = httpFeed({ io, gateways, channel });
  try {
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    // Over so many rows a bulk update is data in the log, and rows take it in the background.
    for (const first of [0, 500, 1000]) {
      await client.submit('bench', 'fill', ['heavy', String(first), '500']);
    }
    await client.submit('bench', 'fill', ['normal', '0', '100']);
    const events: string[] = [];
    const start = (name: string, prefix: string) => {
      const tables = [
        { name: 'account', columns: { id: 'TEXT', balance: 'INTEGER' }, primaryKey: ['id'] },
      ];
      return startFollower({
        io,
        name,
        feed,
        sink: sqliteSink({ follower: name, file: join(directory, `${name}.db`), tables }),
        subscription: [{ contract: 'bench', prefix, fields: ['balance'] }],
        tables,
        processor: (change) => {
          const row = jsonOf<{ balance: number }>(change);
          return row === undefined
            ? [{ op: 'delete', table: 'account', key: { id: change.key } }]
            : [{ op: 'upsert', table: 'account', row: { id: change.key, balance: row.balance } }];
        },
        changesMax: 300,
        waitMs: 500,
        onEvent: (text) => events.push(`${name} ${text}`),
      });
    };
    const followers = { all: start('all', ''), normal: start('normal', 'normal') };
    /** Waits until the account says that all systems hold the same. */
    const settled = async (): Promise<void> => {
      for (let tries = 0; ; tries++) {
        const status = await feed.status();
        if (status.followers.length === 2 && status.inStep) return;
        expect(tries, JSON.stringify(status)).toBeLessThan(300);
        await sleep(50);
      }
    };
    const rows = (name: string) => {
      const database = new Database(join(directory, `${name}.db`), { readonly: true });
      const found = database.prepare('SELECT id, balance FROM account').all() as {
        id: string;
        balance: number;
      }[];
      database.close();
      return new Map(found.map(({ id, balance }) => [id, balance]));
    };
    /** Some rows as the ledger has them. */
    const compare = async (): Promise<void> => {
      const [all, normal] = [rows('all'), rows('normal')];
      expect(all.size).toBe(1_600);
      expect(normal.size).toBe(100);
      const keys = ['heavy0', 'heavy7', 'heavy1499', 'normal0', 'normal99'];
      for (const key of keys) {
        const balance = Number((await client.evaluate('bench', 'read', [key])).text());
        expect([key, all.get(key)]).toEqual([key, balance]);
        if (key.startsWith('normal')) expect([key, normal.get(key)]).toEqual([key, balance]);
      }
    };
    await settled();
    await compare();

    const work: Promise<unknown>[] = [];
    for (let step = 0; step < 60; step++) {
      work.push(client.submit('bench', 'move', [`heavy${step % 9}`, `normal${step % 7}`, '1']));
      if (step === 10) work.push(client.submit('bench', 'raise', ['heavy', '1000']));
      if (step === 25) work.push(client.submit('bench', 'raise', ['normal', '10']));
      if (step === 40) work.push(client.submit('bench', 'raise', ['heavy', '5000']));
      await sleep(10);
    }
    await Promise.all(work);
    await settled();
    await compare();
    expect(rows('all').get('heavy1499')).toBe(6_000);
    expect(rows('normal').get('normal99')).toBe(10);
    const fills = (pattern: RegExp): number => events.filter((text) => pattern.test(text)).length;
    expect(fills(/^all filling.*bulk-update/)).toBeGreaterThan(0);
    // Its rows were not touched by the large ones, and those of a small one are in the log.
    expect(fills(/^normal filling/)).toBe(1);

    // Another subscription, while the follower runs: the copy becomes the new one in one step.
    followers.all.resubscribe([{ contract: 'bench', prefix: 'heavy', fields: ['balance'] }]);
    await client.submit('bench', 'move', ['heavy1', 'normal1', '3']);
    for (let tries = 0; rows('all').size !== 1_500; tries++) {
      expect([1_500, 1_600]).toContain(rows('all').size);
      expect(tries).toBeLessThan(300);
      await sleep(50);
    }
    await settled();
    const balance = Number((await client.evaluate('bench', 'read', ['heavy1'])).text());
    expect(rows('all').get('heavy1')).toBe(balance);
    await followers.all.stop();
    await followers.normal.stop();
  } finally {
    await feed.close();
    await client.close();
    await network.close();
    rmSync(directory, { recursive: true, force: true });
  }
}, 120_000);
