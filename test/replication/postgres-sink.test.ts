import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import { postgresSink, startFollower } from '../../src/replication/index.ts';
import { noPostgres } from '../../src/replication/testing/postgres-server.ts';
import { shopOf, shopProcessor, shopTables } from '../../src/replication/testing/shop.ts';
import {
  localFeed,
  memoryFollowers,
  TestLedger,
} from '../../src/replication/testing/test-ledger.ts';
import { postgresSuite } from './postgres-suite.ts';

const missing = noPostgres();
if (missing !== undefined) console.warn(`PostgreSQL tests are skipped: ${missing}`);

const io = realIo();
const subscription = [{ contract: 'catalog' }];
const product = (name: string, rest: object = {}): string =>
  JSON.stringify({ name, price: 1, ...rest });

describe.skipIf(missing !== undefined)('PostgreSQL sink', () => {
  const server = postgresSuite();

  const service = (ledger: TestLedger) => memoryFollowers(ledger);
  const follow = async (
    ledger: TestLedger,
    name: string,
    options: Partial<Parameters<typeof startFollower>[0]> = {},
  ) => {
    const followers = await service(ledger);
    const url = await server().database(name);
    const events: string[] = [];
    const follower = startFollower({
      io,
      name,
      feed: localFeed(followers),
      sink: postgresSink({ follower: name, connection: url, tables: shopTables }),
      subscription,
      tables: shopTables,
      processor: shopProcessor,
      waitMs: 200,
      timing: { retryMinMs: 20, retryMaxMs: 200 },
      onEvent: (text) => events.push(text),
      ...options,
    });
    return { follower, followers, url, events };
  };
  const until = async (what: () => boolean | Promise<boolean>): Promise<void> => {
    for (let tries = 0; tries < 400; tries++) {
      if (await what()) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error('it did not come');
  };
  const tail = (ledger: TestLedger): number => ledger.entries.length * 4096;
  const shop = async (url: string) => {
    const client = new pg.Client(url);
    await client.connect();
    const products = await client.query(
      `SELECT sku || '|' || name || '|' || price || '|' || coalesce(category, '') AS line FROM product`,
    );
    const tags = await client.query(`SELECT sku || '|' || tag AS line FROM tag`);
    const parked = await client.query(
      'SELECT key, reason, waits FROM daybook.parked ORDER BY position',
    );
    await client.end();
    const lines = (rows: { line: string }[]) => rows.map(({ line }) => line).sort();
    return { products: lines(products.rows), tags: lines(tags.rows), parked: parked.rows };
  };
  const expectEqual = async (ledger: TestLedger, url: string): Promise<void> => {
    const { products, tags } = await shop(url);
    expect({ products, tags }).toEqual(shopOf(ledger.state));
  };

  it('fills, follows, and equals the ledger', async () => {
    const ledger = new TestLedger();
    ledger.append([
      { 'category/a': '{}', 'product/1': product('one', { category: 'a', tags: ['x', 'y'] }) },
      { 'product/2': product('tab\tand\nline\\', { tags: ['x'] }) },
    ]);
    const { follower, followers, url } = await follow(ledger, 'fills');
    await until(() => follower.position === tail(ledger));
    await expectEqual(ledger, url);
    // One commit that deletes a parent with its child, moves a tag, and orders child before parent.
    ledger.append([
      { 'product/1': product('one', { tags: ['y', 'z'] }), 'category/a': undefined },
      { 'product/3': product('three', { category: 'b' }), 'category/b': '{}' },
      { 'product/2': undefined },
    ]);
    ledger.append([
      { 'product/2': product('again') },
      { 'product/2': product('and again', { tags: ['q'] }) },
    ]);
    await until(() => follower.position === tail(ledger));
    await expectEqual(ledger, url);
    await until(async () => (await followers.status()).followers[0]?.inStep === true);
    expect(await followers.status()).toMatchObject({
      tail: tail(ledger),
      appliedByAll: tail(ledger),
      followers: [{ name: 'fills', appliedPosition: tail(ledger), lagChanges: 0, lagMs: 0 }],
    });
    await follower.stop();
  }, 30_000);

  it('writes large pages by COPY, small ones by arrays, alike', async () => {
    const ledger = new TestLedger();
    const { follower, url } = await follow(ledger, 'large');
    await until(() => follower.position === 0);
    const commits = Array.from({ length: 600 }, (_, at) => ({
      [`product/${at % 450}`]:
        at % 7 === 3 ? undefined : product(`n${at}\t\\N`, { tags: [`t${at % 5}`] }),
    }));
    ledger.append(commits);
    await until(() => follower.position === tail(ledger));
    await expectEqual(ledger, url);
    await follower.stop();
  }, 30_000);

  it('parks a poison record and its successors, and takes them back', async () => {
    const ledger = new TestLedger();
    const { follower, url } = await follow(ledger, 'parks', { policy: 'park' });
    await until(() => follower.position === 0);
    const bad = JSON.stringify({ name: 'bad', price: 'no number' });
    ledger.append([
      ...Array.from({ length: 150 }, (_, at) => ({ [`product/${at}`]: product(`n${at}`) })),
      { 'product/x': bad },
      { 'product/y': 'no JSON' },
      { 'product/3': product('later') },
    ]);
    // Before the successor comes: of several contents in one page only the newest is written.
    await until(() => follower.position === tail(ledger));
    ledger.append([{ 'product/x': product('good', { tags: ['t'] }) }]);
    await until(() => follower.position === tail(ledger));
    ledger.append([{ 'product/x': product('better') }]);
    await until(() => follower.position === tail(ledger));
    const found = await shop(url);
    expect(found.products).toHaveLength(150);
    expect(found.products).toContain('3|later|1|');
    expect(found.parked.map(({ key }) => key)).toEqual([
      'product/x',
      'product/y',
      'product/x',
      'product/x',
    ]);
    expect(found.parked[0]?.reason).toMatch(/numeric/);
    expect(found.parked[1]?.reason).toMatch(/processor/);
    await follower.stop();
    // The database learns to take it.
    const client = new pg.Client(url);
    await client.connect();
    await client.query('ALTER TABLE product ALTER price TYPE text');
    await client.end();
    const tables = shopTables.map((table) =>
      table.name === 'product' ? { ...table, columns: { ...table.columns, price: 'text' } } : table,
    );
    const again = await follow(ledger, 'parks', {
      policy: 'park',
      retryParked: true,
      tables,
      sink: postgresSink({ follower: 'parks', connection: url, tables }),
    });
    await until(() => again.follower.position === tail(ledger));
    const after = await shop(url);
    expect(after.products).toContain('x|better|1|');
    expect(after.parked.map(({ key }) => key)).toEqual(['product/y']);
    await again.follower.stop();
  }, 30_000);

  it('stops at a poison record, or skips it, as it is told', async () => {
    const ledger = new TestLedger();
    ledger.append([{ 'product/0': product('zero') }]);
    const stopping = await follow(ledger, 'stops');
    await until(() => stopping.follower.position === tail(ledger));
    // A child without its parent: only the end of the transaction finds that.
    ledger.append([
      { 'product/1': product('one') },
      { 'product/2': product('two', { category: 'none' }) },
      { 'product/3': product('three') },
    ]);
    await expect(stopping.follower.ended).rejects.toMatchObject({
      code: 'SINK_REFUSED',
      details: { change: '4097/catalog/product/2' },
    });
    expect((await shop(stopping.url)).products).toEqual(['0|zero|1|']);
    const skipping = await follow(ledger, 'stops', { policy: 'skip' });
    await until(() => skipping.follower.position === tail(ledger));
    const found = await shop(skipping.url);
    expect(found.products).toEqual(['0|zero|1|', '1|one|1|', '3|three|1|']);
    expect(found.parked).toMatchObject([{ key: 'product/2', waits: false }]);
    await skipping.follower.stop();
  }, 30_000);

  it('fills without rows that refer to nothing, and says which changes they come from', async () => {
    const ledger = new TestLedger();
    ledger.append([
      { 'category/a': '{}', 'product/1': product('one', { category: 'a' }) },
      { 'product/2': product('two', { category: 'none', tags: ['x'] }) },
      { 'product/3': product('three') },
    ]);
    const stopping = await follow(ledger, 'orphans');
    await expect(stopping.follower.ended).rejects.toMatchObject({
      code: 'SINK_REFUSED',
      message: expect.stringContaining('product (2)'),
    });
    const parking = await follow(ledger, 'orphans', { policy: 'park' });
    await until(() => parking.follower.position === tail(ledger));
    const found = await shop(parking.url);
    expect(found.products).toEqual(['1|one|1|a', '3|three|1|']);
    // The tag of the product went with it: it is of the same change.
    expect(found.tags).toEqual([]);
    expect(found.parked).toMatchObject([{ key: 'product/2', waits: true }]);
    await until(async () => (await parking.followers.status()).followers[0]?.parked === 1);
    expect(await parking.followers.status()).toMatchObject({ inStep: false });
    // Its parent comes, and another change of it behind the parked one.
    ledger.append([
      { 'category/none': '{}' },
      { 'product/2': product('newer', { category: 'none' }) },
    ]);
    await until(() => parking.follower.position === tail(ledger));
    await parking.follower.stop();
    const again = await follow(ledger, 'orphans', { policy: 'park', retryParked: true });
    await until(async () => (await again.followers.status()).followers[0]?.inStep === true);
    await expectEqual(ledger, again.url);
    await again.follower.stop();
  }, 30_000);

  it('fills anew when the log is trimmed or the subscription changes, without ghosts', async () => {
    const ledger = new TestLedger();
    ledger.append([{ 'product/1': product('one') }, { 'product/2': product('two') }]);
    const first = await follow(ledger, 'refill');
    await until(() => first.follower.position === tail(ledger));
    await first.follower.stop();
    ledger.append([{ 'product/1': undefined }, { 'product/3': product('three') }]);
    ledger.append([{ 'product/4': product('four') }]);
    ledger.trimmed = 2;
    const second = await follow(ledger, 'refill');
    await until(() => second.follower.position === tail(ledger));
    await expectEqual(ledger, second.url);
    expect(second.events.join()).toContain('log-trimmed');
    await second.follower.stop();
    const third = await follow(ledger, 'refill', {
      subscription: [{ contract: 'catalog', prefix: 'product/3' }],
    });
    await until(() => third.events.join().includes('subscription-changed'));
    await until(async () => (await shop(third.url)).products.length === 1);
    await third.follower.stop();
  }, 30_000);

  it('lets one process of a follower write', async () => {
    const ledger = new TestLedger();
    ledger.append([{ 'product/1': product('one') }]);
    const one = await follow(ledger, 'twice');
    await until(() => one.follower.position === tail(ledger));
    const other = await follow(ledger, 'twice');
    await until(() => other.follower.position === tail(ledger));
    for (let at = 0; at < 20; at++) {
      ledger.append([{ [`product/${at}`]: product(`round ${at}`) }]);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await until(
      () => one.follower.position === tail(ledger) && other.follower.position === tail(ledger),
    );
    await expectEqual(ledger, one.url);
    await one.follower.stop();
    await other.follower.stop();
  }, 30_000);

  it('goes on after its database was killed, again and again', async () => {
    const ledger = new TestLedger();
    const { follower, url } = await follow(ledger, 'killed');
    for (let round = 0; round < 2; round++) {
      const writing = (async () => {
        for (let at = 0; at < 60; at++) {
          ledger.append([
            { [`product/${at % 17}`]: at % 5 === 4 ? undefined : product(`r${round}a${at}`) },
          ]);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      })();
      await new Promise((resolve) => setTimeout(resolve, 100));
      await server().kill();
      await writing;
      await server().start();
      await until(() => follower.position === tail(ledger));
      await expectEqual(ledger, url);
    }
    await follower.stop();
  }, 60_000);
});
