import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import { sqliteSink, startFollower } from '../../src/replication/index.ts';
import { shopProcessor, shopTables } from '../../src/replication/testing/shop.ts';
import {
  localFeed,
  memoryFollowers,
  TestLedger,
} from '../../src/replication/testing/test-ledger.ts';

const io = realIo();
const subscription = [
  { contract: 'catalog', prefix: 'product/' },
  { contract: 'catalog', prefix: 'category/' },
];

describe('SQLite sink', () => {
  it('fills without rows that refer to nothing', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-sqlite-'));
    const file = join(directory, 'report.db');
    const ledger = new TestLedger();
    ledger.append([
      { 'category/a': '{}', 'product/1': '{"name":"one","price":1,"category":"a"}' },
      { 'product/2': '{"name":"two","price":1,"category":"none","tags":["x"]}' },
    ]);
    const service = await memoryFollowers(ledger);
    const follow = (policy: 'stop' | 'skip') =>
      startFollower({
        io,
        name: 'report',
        feed: localFeed(service),
        sink: sqliteSink({ follower: 'report', file, tables: shopTables }),
        subscription,
        tables: shopTables,
        processor: shopProcessor,
        waitMs: 5,
        policy,
      });
    await expect(follow('stop').ended).rejects.toMatchObject({
      message: expect.stringContaining('product (2)'),
    });
    const follower = follow('skip');
    for (let tries = 0; follower.position !== 4096; tries++) {
      expect(tries).toBeLessThan(400);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    // What is skipped stays out; a newer content of it comes in.
    ledger.append([{ 'product/2': '{"name":"newer","price":1}' }]);
    for (let tries = 0; follower.position !== 2 * 4096; tries++) {
      expect(tries).toBeLessThan(400);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await follower.stop();
    const database = new Database(file);
    expect(database.prepare('SELECT name FROM product ORDER BY sku').pluck().all()).toEqual([
      'one',
      'newer',
    ]);
    expect(database.prepare('SELECT entity FROM daybook_parked').pluck().all()).toEqual([
      'catalog/product/2',
    ]);
    database.close();
    await service.close();
    rmSync(directory, { recursive: true });
  }, 30_000);

  it('parks what it refuses, and takes it back', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-sqlite-'));
    const ledger = new TestLedger();
    const service = await memoryFollowers(ledger);
    let picky = true;
    const start = () =>
      startFollower({
        io,
        name: 'parks',
        feed: localFeed(service),
        sink: sqliteSink({ follower: 'parks', file: join(directory, 'a.db'), tables: shopTables }),
        subscription,
        tables: shopTables,
        processor: (change) => {
          if (picky && change.key === 'product/1') throw new Error('not yet');
          return shopProcessor(change);
        },
        policy: 'park',
        retryParked: true,
        waitMs: 5,
      });
    const reach = async (follower: { position: number | undefined }) => {
      while (follower.position !== ledger.entries.length * 4096) {
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    };
    let follower = start();
    await reach(follower);
    ledger.append([
      { 'product/1': '{"name":"a","price":1}', 'product/2': '{"name":"b","price":2}' },
    ]);
    // Its category does not exist: found only when the transaction ends.
    ledger.append([
      { 'product/3': '{"name":"c","price":3,"category":"none"}' },
      { 'product/1': '{"name":"A","price":1}' },
    ]);
    await reach(follower);
    await follower.stop();
    const names = () => {
      const database = new Database(join(directory, 'a.db'));
      const rows = database.prepare('SELECT name FROM product ORDER BY name').pluck().all();
      const parked = database.prepare('SELECT count(*) FROM daybook_parked').pluck().get();
      database.close();
      return { rows, parked };
    };
    expect(names()).toEqual({ rows: ['b'], parked: 3 });
    picky = false;
    ledger.append([{ 'category/none': '{}' }]);
    follower = start();
    await reach(follower);
    await follower.stop();
    expect(names()).toEqual({ rows: ['A', 'b'], parked: 1 });
    follower = start();
    await reach(follower);
    await follower.stop();
    expect(names()).toEqual({ rows: ['A', 'b', 'c'], parked: 0 });
    rmSync(directory, { recursive: true });
  }, 20_000);
});
