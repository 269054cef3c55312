import type pg from 'pg';
import { type Client, connect } from '../src/client/index.ts';
import { realIo } from '../src/io/index.ts';
import { httpFeed } from '../src/replication/index.ts';
import {
  noPostgres,
  type PostgresServer,
  startPostgres,
} from '../src/replication/testing/postgres-server.ts';
import { percentile } from './ceiling.ts';
import { type BenchNetwork, startBenchNetwork } from './cluster-under-load.ts';
import { type FollowerProcess, followerProcess } from './sync-follower.ts';
import { openNative } from './sync-native.ts';

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
  seconds: 10,
};

export interface SyncBenchResult extends SyncBenchOptions {
  /** Rows a second into PostgreSQL: through a follower (`apply`), by logical replication (`native`). */
  readonly bulkInserts: Rates;
  readonly thousandRowUpdates: Rates;
  readonly oneRowUpdates: Rates;
  /**
   * At 500 commits a second, milliseconds from the time that the writer put into the log's entry,
   * which is before the entry is durable, until row and cursor are committed in PostgreSQL.
   */
  readonly lagMs: { readonly p50: number; readonly p99: number; readonly commits: number };
  /**
   * 1,000 transactions to three systems, from the first call of the client until the network's
   * account says that all three have applied all of them, milliseconds.
   */
  readonly thousandToThreeMs: number;
}

interface Rates {
  readonly apply: number;
  readonly native: number;
  readonly ratio: number;
}

const note = 'a note of about forty characters, as rows have';

/**
 * A follower against PostgreSQL's own logical replication applying the same changes in the same
 * server (fsync on; both appliers commit with `synchronous_commit = off`, which is the default of
 * both). Our side is a whole network: commits by the SDK, an executor process that makes blocks too,
 * and a follower in a process of its own that pulls over HTTP. For the three rates the changes are
 * committed before either side begins, and what is measured is bringing them into the database, the
 * start of both sides included.
 */
export async function syncBench(
  options: SyncBenchOptions,
  progress: (text: string) => void = () => undefined,
): Promise<SyncBenchResult> {
  const missing = noPostgres();
  if (missing !== undefined) throw new Error(missing);
  const server = await startPostgres([
    'fsync=on',
    'wal_level=logical',
    'max_wal_size=2GB',
    // Or a subscription that is enabled again would wait up to 5 s before it begins.
    'wal_retrieve_retry_interval=10ms',
  ]);
  const network = await startBenchNetwork({ executors: 1 });
  const { gateways, channel, signer } = network.network;
  const client = await connect({ gateways, channel, signer, batchDelayMs: 2 });
  const ledger = { network, client };
  const followers = Array.from({ length: 3 }, followerProcess);
  try {
    const [first] = followers as [FollowerProcess, ...FollowerProcess[]];
    const rates = await measureRates(options, server, ledger, first, progress);
    const lagMs = await measureLag(options.seconds, ledger, first, await server.database('ours'));
    progress(`lag: ${JSON.stringify(lagMs)}`);
    const databases = await Promise.all(['one', 'two', 'three'].map((n) => server.database(n)));
    const thousandToThreeMs = await measureThree(ledger, followers, databases);
    progress(`1,000 changes to three systems: ${thousandToThreeMs} ms`);
    return { ...options, ...rates, lagMs, thousandToThreeMs };
  } finally {
    for (const follower of followers) follower.end();
    await client.close();
    await network.close();
    await server.close();
  }
}

interface Ledger {
  readonly network: BenchNetwork;
  readonly client: Client;
}

async function measureRates(
  { inserts, largeUpdates, smallUpdates }: SyncBenchOptions,
  server: PostgresServer,
  ledger: Ledger,
  follower: FollowerProcess,
  progress: (text: string) => void,
): Promise<Pick<SyncBenchResult, 'bulkInserts' | 'thousandRowUpdates' | 'oneRowUpdates'>> {
  const native = await openNative(
    await server.database('publisher'),
    await server.database('native'),
  );
  const ours = await server.database('ours');
  // Filled while empty, so that what follows comes by changes.
  await follow(ledger, follower, 'ours', ours);
  await follower.until(0);
  await follower.stop();
  const phase = async (
    name: string,
    rows: number,
    sql: (publisher: pg.Client) => Promise<void>,
    commits: Iterable<Rows>,
  ): Promise<Rates> => {
    const nativeMs = await native.run(sql);
    const last = await commitAll(ledger.client, commits);
    await blocksCaughtUp(ledger.network);
    await follow(ledger, follower, 'ours', ours);
    const { elapsedMs: applyMs } = await follower.until(last);
    const { changes } = await follower.stop();
    if (changes !== rows) throw new Error(`${changes} changes came instead of ${rows}`);
    const rates = {
      apply: Math.round((rows / applyMs) * 1000),
      native: Math.round((rows / nativeMs) * 1000),
      ratio: Math.round((nativeMs / applyMs) * 100) / 100,
    };
    progress(`${name}: ${JSON.stringify(rates)}`);
    return rates;
  };
  const bulkInserts = await phase(
    'bulk inserts',
    inserts,
    async (publisher) => {
      await publisher.query(
        `INSERT INTO item SELECT 'i' || n, n, '${note}' FROM generate_series(0, ${inserts - 1}) n`,
      );
    },
    rowsOf(inserts, 1_000, (at) => at, 0),
  );
  const thousandRowUpdates = await phase(
    '1,000-row updates',
    largeUpdates * 1_000,
    async (publisher) => {
      for (let at = 0; at < largeUpdates; at++) {
        const from = (at * 1_000) % inserts;
        await publisher.query(
          `UPDATE item SET value = ${at} + 1000000 WHERE id = ANY(ARRAY(
             SELECT 'i' || n FROM generate_series(${from}, ${from + 999}) n))`,
        );
      }
    },
    rowsOf(largeUpdates * 1_000, 1_000, (at) => at % inserts, 1),
  );
  const oneRowUpdates = await phase(
    '1-row updates',
    smallUpdates,
    async (publisher) => {
      await publisher.query('SET synchronous_commit = off');
      await publisher.query(
        `DO $do$ BEGIN FOR n IN 0..${smallUpdates - 1} LOOP
           UPDATE item SET value = n + 2000000 WHERE id = 'i' || (n * 7919 % ${inserts}); COMMIT;
         END LOOP; END $do$`,
      );
    },
    rowsOf(smallUpdates, 1, (at) => (at * 7919) % inserts, 2),
  );
  await native.close();
  return { bulkInserts, thousandRowUpdates, oneRowUpdates };
}

/** The rows of one transaction: key and content. */
type Rows = readonly (readonly [string, object])[];

function* rowsOf(
  count: number,
  perCommit: number,
  id: (at: number) => number,
  round: number,
): Generator<Rows> {
  for (let first = 0; first < count; first += perCommit) {
    const rows: [string, object][] = [];
    for (let at = first; at < Math.min(count, first + perCommit); at++) {
      const key = `i${id(at)}`;
      rows.push([key, { id: key, value: at + round * 1_000_000, note }]);
    }
    yield rows;
  }
}

/** Commits the rows, each item in a transaction of its own; returns the last position. */
async function commitAll(client: Client, commits: Iterable<Rows>): Promise<number> {
  const inFlightMax = 1_000;
  const rest = commits[Symbol.iterator]();
  let last = 0;
  const worker = async (): Promise<void> => {
    for (let next = rest.next(); next.done !== true; next = rest.next()) {
      const { position } = await client.submit('bench', 'put', [JSON.stringify(next.value)]);
      last = Math.max(last, position);
    }
  };
  await Promise.all(Array.from({ length: inFlightMax }, worker));
  return last;
}

function follow(
  { network: { network } }: Ledger,
  follower: FollowerProcess,
  name: string,
  database: string,
): Promise<void> {
  const { gateways, channel } = network;
  return follower.start({ name, database, gateways, channel });
}

/** The block process works on what was committed before, which would be measured along. */
async function blocksCaughtUp({ network }: BenchNetwork): Promise<void> {
  for (;;) {
    const { executors, tail } = await network.status();
    const behind = executors.some(
      ({ status }) =>
        status?.blocks === undefined || (status.blocks.position ?? 0) < (tail - 2) * 4096,
    );
    if (!behind) return;
    await pause(100);
  }
}

async function measureLag(
  seconds: number,
  ledger: Ledger,
  follower: FollowerProcess,
  database: string,
): Promise<SyncBenchResult['lagMs']> {
  await follow(ledger, follower, 'ours', database);
  const commits = seconds * 500;
  const started = performance.now();
  const answers: Promise<{ position: number }>[] = [];
  while (answers.length < commits) {
    const due = Math.min(commits, Math.floor((performance.now() - started) / 2));
    while (answers.length < due) {
      const key = `i${answers.length % 1_000}`;
      const row = [[key, { id: key, value: answers.length, note }]];
      answers.push(ledger.client.submit('bench', 'put', [JSON.stringify(row)]));
    }
    await pause(1);
  }
  const positions = (await Promise.all(answers)).map(({ position }) => position);
  await follower.until(Math.max(...positions));
  const { lagsMs } = await follower.stop();
  return {
    p50: percentile(lagsMs, 0.5),
    p99: percentile(lagsMs, 0.99),
    commits: lagsMs.length,
  };
}

async function measureThree(
  ledger: Ledger,
  followers: readonly FollowerProcess[],
  databases: readonly string[],
): Promise<number> {
  const { gateways, channel } = ledger.network.network;
  const feed = httpFeed({ io: realIo(), gateways, channel });
  await Promise.all(
    followers.map((follower, at) => follow(ledger, follower, `system${at}`, databases[at] ?? '')),
  );
  await Promise.all(followers.map((follower) => follower.until(0)));
  const started = performance.now();
  const last = await commitAll(
    ledger.client,
    rowsOf(1_000, 1, (at) => at, 3),
  );
  for (;;) {
    const status = await feed.status();
    const told = status.followers.filter(
      ({ name, appliedPosition }) => name.startsWith('system') && appliedPosition > last,
    );
    if (told.length === followers.length) break;
    await pause(5);
  }
  const elapsedMs = performance.now() - started;
  await feed.close();
  await Promise.all(followers.map((follower) => follower.stop()));
  return Math.round(elapsedMs);
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
