import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DaybookError } from '../../src/base/index.ts';
import { realIo } from '../../src/io/index.ts';
import {
  type Feed,
  generateFollowerKey,
  openFollowerService,
  sqliteSink,
  startFollower,
} from '../../src/replication/index.ts';
import { shopOf, shopProcessor, shopTables } from '../../src/replication/testing/shop.ts';
import {
  localFeed,
  memoryDisk,
  type TestCommit,
  TestLedger,
} from '../../src/replication/testing/test-ledger.ts';

const io = realIo();
const subscription = [
  { contract: 'catalog', prefix: 'product/' },
  { contract: 'catalog', prefix: 'category/' },
];

const product = fc
  .record({
    name: fc.string({ maxLength: 6 }),
    price: fc.nat(99),
    tags: fc.uniqueArray(fc.constantFrom('x', 'y', 'z'), { maxLength: 3 }),
  })
  .map((value) => JSON.stringify(value));
const commits: fc.Arbitrary<TestCommit> = fc.dictionary(
  fc.constantFrom('product/1', 'product/2', 'product/3', 'product/4'),
  fc.option(product, { nil: undefined }),
  { minKeys: 1, maxKeys: 3 },
);

/** Loses requests and answers, and repeats answers of earlier pulls. */
function lossy(feed: Feed, fate: () => number): Feed {
  let earlier: Awaited<ReturnType<Feed['pull']>> | undefined;
  const lose = async <T>(work: () => Promise<T>): Promise<T> => {
    const number = fate();
    if (number === 0) throw new DaybookError('PEER_UNREACHABLE', 'request lost');
    const answer = await work();
    if (number === 1) throw new DaybookError('PEER_UNREACHABLE', 'answer lost');
    return answer;
  };
  return {
    ...feed,
    pull: (...args) =>
      lose(async () => {
        const before = earlier;
        earlier = await feed.pull(...args);
        return fate() === 2 && before !== undefined ? before : earlier;
      }),
    scan: (...args) => lose(() => feed.scan(...args)),
    applied: (...args) => lose(() => feed.applied(...args)),
  };
}

describe('SQLite sink', () => {
  it('equals the ledger at its cursor after losses, repetitions and kills, encrypted or not', async () => {
    const { privateKey } = await generateFollowerKey();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(commits, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 8 }),
        fc.array(fc.nat(12), { minLength: 1, maxLength: 40 }),
        fc.boolean(),
        async (entries, fates, encrypted) => {
          const directory = mkdtempSync(join(tmpdir(), 'daybook-sqlite-'));
          const ledger = new TestLedger();
          const service = await openFollowerService({
            io: { ...io, disk: memoryDisk() },
            source: ledger,
            directory: '/f',
            cursorKey: Buffer.alloc(32),
          });
          let at = 0;
          const feed = lossy(localFeed(service), () => fates[at++ % fates.length] as number);
          const start = () =>
            startFollower({
              io,
              name: 'report',
              feed: at > 400 ? localFeed(service) : feed,
              sink: sqliteSink({
                follower: 'report',
                file: join(directory, 'report.db'),
                tables: shopTables,
              }),
              subscription,
              tables: shopTables,
              processor: shopProcessor,
              changesMax: 2,
              waitMs: 5,
              timing: { retryMinMs: 1, retryMaxMs: 3 },
              keys: encrypted ? [privateKey] : [],
            });
          let follower = start();
          for (const [index, entry] of entries.entries()) {
            ledger.append(entry);
            await new Promise((resolve) => setTimeout(resolve, index % 3));
            if (fates[index % fates.length] === 3) {
              await follower.stop();
              follower = start();
            }
          }
          const tail = ledger.entries.length * 4096;
          // Bad luck for ever would prove nothing.
          for (let tries = 0; follower.position !== tail; tries++) {
            expect(tries).toBeLessThan(1_000);
            if (tries === 100) {
              at = 1_000;
              await follower.stop();
              follower = start();
            }
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
          await follower.stop();
          const database = new Database(join(directory, 'report.db'));
          const lines = (sql: string) =>
            (database.prepare(sql).all() as { line: string }[]).map(({ line }) => line).sort();
          const products = lines(
            `SELECT sku || '|' || name || '|' || price || '|' || coalesce(category, '') AS line FROM product`,
          );
          const tags = lines(`SELECT sku || '|' || tag AS line FROM tag`);
          const stored = database.prepare('SELECT position FROM daybook_followers').get();
          database.close();
          rmSync(directory, { recursive: true });
          expect({ products, tags }).toEqual(shopOf(ledger.state));
          expect(stored).toEqual({ position: tail });
        },
      ),
      { numRuns: 8, endOnFailure: true },
    );
  }, 60_000);

  it('fills without rows that refer to nothing', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-sqlite-'));
    const file = join(directory, 'report.db');
    const ledger = new TestLedger();
    ledger.append([
      { 'category/a': '{}', 'product/1': '{"name":"one","price":1,"category":"a"}' },
      { 'product/2': '{"name":"two","price":1,"category":"none","tags":["x"]}' },
    ]);
    const service = await openFollowerService({
      io: { ...io, disk: memoryDisk() },
      source: ledger,
      directory: '/f',
      cursorKey: Buffer.alloc(32),
    });
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
    const service = await openFollowerService({
      io: { ...io, disk: memoryDisk() },
      source: ledger,
      directory: '/f',
      cursorKey: Buffer.alloc(32),
    });
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
