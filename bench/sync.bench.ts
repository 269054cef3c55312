import pg from 'pg';
import { realIo } from '../src/io/index.ts';
import {
  jsonOf,
  openFollowerService,
  postgresSink,
  type Sink,
  startFollower,
  type TableDeclaration,
} from '../src/replication/index.ts';
import { noPostgres, startPostgres } from '../src/replication/testing/postgres-server.ts';
import {
  localFeed,
  memoryDisk,
  type TestCommit,
  TestLedger,
} from '../src/replication/testing/test-ledger.ts';

export interface SyncBenchOptions {
  readonly inserts: number;
  /** Transactions of 1,000 rows. */
  readonly largeUpdates: number;
  readonly smallUpdates: number;
  /** Seconds of 500 commits a second, for the lag. */
  readonly seconds: number;
}

export const syncBenchDefaults: SyncBenchOptions = {
  inserts: 200_000,
  largeUpdates: 100,
  smallUpdates: 60_000,
  seconds: 5,
};

export interface SyncBenchResult extends SyncBenchOptions {
  /** Rows a second into PostgreSQL: through a follower (`apply`), by logical replication (`native`). */
  readonly bulkInserts: Rates;
  readonly thousandRowUpdates: Rates;
  readonly oneRowUpdates: Rates;
  /** From commit to applied at 500 commits a second, milliseconds. */
  readonly lagMs: { readonly p50: number; readonly p99: number };
  /** 1,000 changes to three systems, with all confirmations, milliseconds. */
  readonly thousandToThreeMs: number;
}

interface Rates {
  readonly apply: number;
  readonly native: number;
  readonly ratio: number;
}

const table: TableDeclaration = {
  name: 'item',
  columns: { id: 'text', value: 'integer', note: 'text' },
  primaryKey: ['id'],
};
const note = 'a note of about forty characters, as rows have';
const io = realIo();
const entryCommits = 200;

/**
 * A follower against PostgreSQL's own logical replication applying the same changes into the same
 * server. The ledger is one in memory, without executors and HTTP: both sides begin with changes
 * that are committed already, and what is measured is bringing them into the database. Pages are
 * encoded and decoded as on the wire.
 */
export async function syncBench(
  options: SyncBenchOptions,
  progress: (text: string) => void = () => undefined,
): Promise<SyncBenchResult> {
  const missing = noPostgres();
  if (missing !== undefined) throw new Error(missing);
  const server = await startPostgres([
    'wal_level=logical',
    'max_wal_size=2GB',
    // Or a subscription that is enabled again would wait up to 5 s before it begins.
    'wal_retrieve_retry_interval=10ms',
  ]);
  try {
    const native = await openNative(
      await server.database('publisher'),
      await server.database('native'),
    );
    const ours = await openOurs(await server.database('ours'));
    const phase = async (
      name: string,
      rows: number,
      sql: (client: pg.Client) => Promise<void>,
      commits: Iterable<TestCommit>,
    ): Promise<Rates> => {
      const nativeMs = await native.run(sql);
      const applyMs = await ours.run(commits);
      const apply = Math.round((rows / applyMs) * 1000);
      const rates = {
        apply,
        native: Math.round((rows / nativeMs) * 1000),
        ratio: round(nativeMs / applyMs),
      };
      progress(`${name}: ${JSON.stringify(rates)}`);
      return rates;
    };
    const { inserts, largeUpdates, smallUpdates, seconds } = options;
    const bulkInserts = await phase(
      'bulk inserts',
      inserts,
      async (client) => {
        await client.query(
          `INSERT INTO item SELECT 'i' || n, n, '${note}' FROM generate_series(0, ${inserts - 1}) n`,
        );
      },
      commitsOf(inserts, 1_000, (at) => at, 0),
    );
    const thousandRowUpdates = await phase(
      '1,000-row updates',
      largeUpdates * 1_000,
      async (client) => {
        for (let at = 0; at < largeUpdates; at++) {
          const from = (at * 1_000) % inserts;
          await client.query(
            `UPDATE item SET value = ${at} + 1000000 WHERE id = ANY(ARRAY(
               SELECT 'i' || n FROM generate_series(${from}, ${from + 999}) n))`,
          );
        }
      },
      commitsOf(largeUpdates * 1_000, 1_000, (at) => at % inserts, 1),
    );
    const oneRowUpdates = await phase(
      '1-row updates',
      smallUpdates,
      async (client) => {
        await client.query('SET synchronous_commit = off');
        await client.query(
          `DO $do$ BEGIN FOR n IN 0..${smallUpdates - 1} LOOP
             UPDATE item SET value = n + 2000000 WHERE id = 'i' || (n * 7919 % ${inserts}); COMMIT;
           END LOOP; END $do$`,
        );
      },
      commitsOf(smallUpdates, 1, (at) => (at * 7919) % inserts, 2),
    );
    await native.close();
    const lagMs = await measureLag(await server.database('lag'), seconds);
    progress(`lag: ${JSON.stringify(lagMs)}`);
    const three = await Promise.all(['one', 'two', 'three'].map((name) => server.database(name)));
    const thousandToThreeMs = await measureThree(three);
    progress(`1,000 changes to three systems: ${thousandToThreeMs} ms`);
    return { ...options, bulkInserts, thousandRowUpdates, oneRowUpdates, lagMs, thousandToThreeMs };
  } finally {
    await server.close();
  }
}

function* commitsOf(
  rows: number,
  perCommit: number,
  id: (at: number) => number,
  round: number,
): Generator<TestCommit> {
  for (let at = 0; at < rows; at += perCommit) {
    const commit: Record<string, string> = {};
    for (let row = at; row < Math.min(rows, at + perCommit); row++) {
      const key = `i${id(row)}`;
      commit[key] = JSON.stringify({ id: key, value: row + round * 1_000_000, note });
    }
    yield commit;
  }
}

async function openNative(publisherUrl: string, subscriberUrl: string) {
  const publisher = await client(publisherUrl);
  const subscriber = await client(subscriberUrl);
  const create = 'CREATE TABLE item (id text PRIMARY KEY, value integer, note text)';
  await publisher.query(`${create}; CREATE PUBLICATION bench FOR TABLE item`);
  await publisher.query("SELECT pg_create_logical_replication_slot('bench', 'pgoutput')");
  await subscriber.query(create);
  await subscriber.query(
    `CREATE SUBSCRIPTION bench CONNECTION '${publisherUrl}' PUBLICATION bench
     WITH (create_slot = false, slot_name = 'bench', enabled = false, copy_data = false)`,
  );
  let rounds = 0;
  return {
    run: async (change: (publisher: pg.Client) => Promise<void>): Promise<number> => {
      await change(publisher);
      const marker = `done-${++rounds}`;
      await publisher.query(`INSERT INTO item VALUES ('${marker}', 0, '')`);
      const started = performance.now();
      await subscriber.query('ALTER SUBSCRIPTION bench ENABLE');
      for (;;) {
        const found = await subscriber.query('SELECT 1 FROM item WHERE id = $1', [marker]);
        if (found.rowCount === 1) break;
        await pause(5);
      }
      const elapsedMs = performance.now() - started;
      await subscriber.query('ALTER SUBSCRIPTION bench DISABLE');
      await pause(500);
      return elapsedMs;
    },
    close: async (): Promise<void> => {
      await subscriber.query('ALTER SUBSCRIPTION bench SET (slot_name = NONE)');
      await subscriber.query('DROP SUBSCRIPTION bench');
      await publisher.query("SELECT pg_drop_replication_slot('bench')");
      await Promise.all([publisher.end(), subscriber.end()]);
    },
  };
}

function service(ledger: TestLedger) {
  return openFollowerService({
    io: { ...io, disk: memoryDisk() },
    source: ledger,
    directory: '/f',
    cursorKey: Buffer.alloc(32),
  });
}

type Service = Awaited<ReturnType<typeof service>>;

function follow(followers: Service, name: string, sink: Sink) {
  return startFollower({
    io,
    name,
    sink,
    feed: localFeed(followers),
    subscription: [{ contract: 'catalog' }],
    tables: [table],
    processor: (change) => {
      const row = jsonOf<{ id: string; value: number; note: string }>(change);
      return row === undefined
        ? [{ op: 'delete', table: 'item', key: { id: change.key } }]
        : [{ op: 'upsert', table: 'item', row: { ...row } }];
    },
    changesMax: 10_000,
  });
}

const sinkOf = (follower: string, connection: string): Sink =>
  postgresSink({ follower, connection, tables: [table] });
const tailOf = (ledger: TestLedger): number => ledger.entries.length * 4096;

async function reach(ledger: TestLedger, follower: { readonly position: number | undefined }) {
  while (follower.position !== tailOf(ledger)) await pause(2);
}

async function openOurs(url: string) {
  const ledger = new TestLedger();
  const followers = await service(ledger);
  // Filled while empty, so that what follows comes by changes.
  const first = follow(followers, 'bench', sinkOf('bench', url));
  await reach(ledger, first);
  await first.stop();
  return {
    run: async (commits: Iterable<TestCommit>): Promise<number> => {
      let entry: TestCommit[] = [];
      for (const commit of commits) {
        entry.push(commit);
        if (entry.length === entryCommits) {
          ledger.append(entry);
          entry = [];
        }
      }
      ledger.append(entry);
      const started = performance.now();
      const follower = follow(followers, 'bench', sinkOf('bench', url));
      await reach(ledger, follower);
      const elapsedMs = performance.now() - started;
      await follower.stop();
      return elapsedMs;
    },
  };
}

async function measureLag(url: string, seconds: number): Promise<{ p50: number; p99: number }> {
  const ledger = new TestLedger();
  const followers = await service(ledger);
  const committed = new Map<number, number>();
  const lags: number[] = [];
  const sink = sinkOf('lag', url);
  const timed: Sink = {
    open: () => sink.open(),
    tryOut: (...args) => sink.tryOut(...args),
    fill: (...args) => sink.fill(...args),
    readParked: () => sink.readParked(),
    unpark: (...args) => sink.unpark(...args),
    close: () => sink.close(),
    apply: async (from, batch, at) => {
      await sink.apply(from, batch, at);
      const now = performance.now();
      for (const { change } of batch.changes) {
        lags.push(now - (committed.get(change.position) ?? now));
      }
    },
  };
  const follower = follow(followers, 'lag', timed);
  await reach(ledger, follower);
  const started = performance.now();
  for (let at = 0; at < seconds * 500; ) {
    const due = Math.min(seconds * 500, Math.floor((performance.now() - started) / 2));
    for (; at < due; at++) {
      committed.set(tailOf(ledger), performance.now());
      const key = `i${at % 1000}`;
      ledger.append([{ [key]: JSON.stringify({ id: key, value: at, note }) }]);
    }
    await pause(1);
  }
  await reach(ledger, follower);
  await follower.stop();
  lags.sort((a, b) => a - b);
  const quantile = (part: number): number => round(lags[Math.floor(lags.length * part)] ?? 0);
  return { p50: quantile(0.5), p99: quantile(0.99) };
}

async function measureThree(urls: readonly string[]): Promise<number> {
  const ledger = new TestLedger();
  const followers = await service(ledger);
  const running = urls.map((url, at) => follow(followers, `f${at}`, sinkOf(`f${at}`, url)));
  await Promise.all(running.map((follower) => reach(ledger, follower)));
  const started = performance.now();
  for (const commit of commitsOf(1_000, 1, (at) => at, 0)) ledger.append([commit]);
  for (;;) {
    const status = await followers.status();
    const done = status.followers.every((one) => one.appliedPosition === tailOf(ledger));
    if (done && status.followers.length === 3) break;
    await pause(5);
  }
  const elapsedMs = performance.now() - started;
  await Promise.all(running.map((follower) => follower.stop()));
  return Math.round(elapsedMs);
}

async function client(url: string): Promise<pg.Client> {
  const made = new pg.Client(url);
  await made.connect();
  return made;
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const round = (value: number): number => Math.round(value * 100) / 100;
