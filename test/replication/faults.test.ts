import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import Database from 'better-sqlite3';
import fc from 'fast-check';
import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import {
  type FollowerKey,
  generateFollowerKey,
  postgresSink,
  type Sink,
  sqliteSink,
  startFollower,
  type WebhookDelivery,
  webhookSink,
} from '../../src/replication/index.ts';
import { lossy, stateAt, unsteady } from '../../src/replication/testing/faults.ts';
import { noPostgres } from '../../src/replication/testing/postgres-server.ts';
import { shopOf, shopProcessor, shopTables } from '../../src/replication/testing/shop.ts';
import {
  localFeed,
  memoryDisk,
  memoryFollowers,
  type TestCommit,
  TestLedger,
} from '../../src/replication/testing/test-ledger.ts';
import { postgresSuite } from './postgres-suite.ts';

/* Loss, repetition, reordering and crashes, for every kind of sink. */

const io = realIo();
const missing = noPostgres();
if (missing !== undefined) console.warn(`faults of PostgreSQL sinks are skipped: ${missing}`);

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
const history = fc.record({
  entries: fc.array(fc.array(commits, { minLength: 1, maxLength: 3 }), {
    minLength: 1,
    maxLength: 8,
  }),
  fates: fc.array(fc.nat(12), { minLength: 1, maxLength: 40 }),
  encrypted: fc.boolean(),
  /** The log is trimmed behind this entry, so that a follower that is behind fills anew. */
  trim: fc.option(fc.nat(7), { nil: undefined }),
});
type History = typeof history extends fc.Arbitrary<infer T> ? T : never;

interface System {
  sink(): Sink;
  /** What the system holds, and as of which position it says so. */
  content(): Promise<{ at: number; products: string[]; tags: string[] }>;
}

/** Plays a history; whenever the follower is down its system equals the ledger at its cursor. */
async function play(
  system: System,
  { entries, fates, encrypted, trim }: History,
  fenced = true,
): Promise<void> {
  const ledger = new TestLedger();
  const service = await memoryFollowers(ledger);
  const keys: FollowerKey[] = [];
  const rotate = async (): Promise<void> => {
    if (encrypted) keys.unshift((await generateFollowerKey()).privateKey);
  };
  await rotate();
  let at = 0;
  // Bad luck for ever would prove nothing.
  const fate = (): number => (at > 300 ? 12 : (fates[at++ % fates.length] as number));
  const start = () =>
    startFollower({
      io,
      name: 'system',
      feed: lossy(localFeed(service), fate),
      sink: unsteady(system.sink(), fate),
      subscription: [{ contract: 'catalog', prefix: 'product/' }],
      tables: shopTables,
      processor: shopProcessor,
      changesMax: 2,
      waitMs: 5,
      timing: { retryMinMs: 1, retryMaxMs: 3 },
      keys: [...keys],
    });
  const compare = async (): Promise<number> => {
    const { at: position, products, tags } = await system.content();
    expect({ products, tags }).toEqual(shopOf(stateAt(ledger, position)));
    return position;
  };
  let follower = start();
  for (const [index, entry] of entries.entries()) {
    ledger.append(entry);
    if (index === trim) ledger.trimmed = index;
    await sleep(index % 3);
    const number = fates[index % fates.length];
    if (number === 3) {
      await follower.stop();
      await compare();
      await rotate();
      follower = start();
    } else if (number === 5 && fenced) {
      // As after a crash that nobody noticed: two processes, of which one is fenced.
      const old = follower;
      follower = start();
      await sleep(2);
      await old.stop();
    }
  }
  const tail = ledger.entries.length * 4096;
  for (let tries = 0; follower.position !== tail; tries++) {
    expect(tries).toBeLessThan(2_000);
    // The one that is fenced ends; the other goes on, whichever it is.
    if (tries % 100 === 99) {
      await follower.stop();
      at = 1_000;
      follower = start();
    }
    await sleep(5);
  }
  await follower.stop();
  expect(await compare()).toBe(tail);
  await service.close();
}

it('SQLite holds the ledger’s state at its cursor, whatever happens', async () => {
  await fc.assert(
    fc.asyncProperty(history, async (run) => {
      const directory = mkdtempSync(join(tmpdir(), 'daybook-faults-'));
      const file = join(directory, 'report.db');
      await play(
        {
          sink: () => sqliteSink({ follower: 'system', file, tables: shopTables }),
          content: async () => {
            const database = new Database(file);
            const lines = (sql: string) => database.prepare(sql).pluck().all().map(String).sort();
            const known = database
              .prepare("SELECT 1 FROM sqlite_master WHERE name = 'tag'")
              .all().length;
            const content =
              known === 0
                ? { at: 0, products: [], tags: [] }
                : {
                    at: Number(
                      database.prepare('SELECT position FROM daybook_followers').pluck().get() ?? 0,
                    ),
                    products: lines(productsSql),
                    tags: lines(tagsSql),
                  };
            database.close();
            return content;
          },
        },
        run,
        // Its driver waits for a lock without letting the other run, in one process.
        false,
      );
      rmSync(directory, { recursive: true });
    }),
    { numRuns: 10, endOnFailure: true },
  );
}, 90_000);

const productsSql = `SELECT sku || '|' || name || '|' || price || '|' || coalesce(category, '') FROM product`;
const tagsSql = `SELECT sku || '|' || tag FROM tag`;

describe.skipIf(missing !== undefined)('PostgreSQL', () => {
  const server = postgresSuite();

  it('holds the ledger’s state at its cursor, whatever happens', async () => {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(history, async (run) => {
        const url = await server().database(`faults${++count}`);
        const client = new pg.Client(url);
        await client.connect();
        await play(
          {
            sink: () => postgresSink({ follower: 'system', connection: url, tables: shopTables }),
            content: async () => {
              const lines = async (text: string): Promise<string[]> => {
                const { rows } = await client.query<string[]>({ text, rowMode: 'array' });
                return rows.map(([line = '']) => String(line)).sort();
              };
              // Before the first fill there may be no tables.
              const there = await lines("SELECT coalesce(to_regclass('tag')::text, '')");
              if (there[0] === '') return { at: 0, products: [], tags: [] };
              const [position = '0'] = await lines('SELECT position FROM daybook.followers');
              return {
                at: Number(position),
                products: await lines(productsSql),
                tags: await lines(tagsSql),
              };
            },
          },
          run,
        );
        await client.end();
      }),
      { numRuns: 6, endOnFailure: true },
    );
  }, 90_000);
});

describe('webhook', () => {
  let server: Server;
  let hear: (delivery: WebhookDelivery) => number = () => 200;
  beforeAll(async () => {
    server = createServer((request, response) => {
      let body = '';
      request.on('data', (part: Buffer) => {
        body += part.toString();
      });
      request.on('end', () => {
        response.statusCode = hear(JSON.parse(body) as WebhookDelivery);
        response.end();
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  afterAll(() => {
    server.closeAllConnections();
    server.close();
  });

  it('a receiver that heeds positions holds the ledger’s state at the newest, whatever happens', async () => {
    const { port } = server.address() as AddressInfo;
    let count = 0;
    await fc.assert(
      fc.asyncProperty(history, async (run) => {
        /** What the receiver holds, and what a fill that is under way has brought. */
        let rows = new Map<string, { content: string | undefined; position: number }>();
        let filling = new Map<string, { content: string | undefined; position: number }>();
        let at = 0;
        let answers = 0;
        hear = ({ fill, part, position, changes }) => {
          if (run.fates[answers++ % run.fates.length] === 6 && answers < 60) return 503;
          if (part === 1) filling = new Map();
          const into = fill ? filling : rows;
          for (const { key, content, position: revision } of changes) {
            if ((into.get(key)?.position ?? 0) <= revision) {
              into.set(key, { content, position: revision });
            }
          }
          if (fill && position !== undefined) {
            rows = filling;
            filling = new Map();
          }
          at = fill ? (position ?? at) : Math.max(at, position ?? at);
          return 200;
        };
        const disk = memoryDisk();
        const file = `/hook${++count}.json`;
        await play(
          {
            sink: () =>
              webhookSink({
                io: { ...io, disk },
                follower: 'system',
                url: `http://127.0.0.1:${port}/`,
                secret: Buffer.alloc(24, 1).toString('base64'),
                file,
              }),
            content: async () => {
              const state = new Map<string, { content: string }>();
              for (const [key, { content }] of rows) {
                if (content !== undefined) state.set(key, { content });
              }
              // Pages without changes are not delivered, and move the cursor all the same.
              const saved = await disk.readFile(file);
              const text = saved?.toString() ?? '{}';
              const { at: cursor } = JSON.parse(text) as { at?: { position: number } };
              return { at: Math.max(at, cursor?.position ?? 0), ...shopOf(state) };
            },
          },
          run,
          // Nobody stands between two processes and the receiver.
          false,
        );
      }),
      { numRuns: 8, endOnFailure: true },
    );
  }, 90_000);
});
