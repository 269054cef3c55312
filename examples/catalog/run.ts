import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { type Child, pause, realIo } from '../../src/io/index.ts';
import { startNetwork } from '../../src/node/index.ts';
import {
  httpFeed,
  installSource,
  type SinkConfig,
  startCapture,
} from '../../src/replication/index.ts';
import type { PostgresServer } from '../../src/replication/testing/postgres-server.ts';
import { type CatalogData, catalogSql, edit, loadCatalog } from './catalog.ts';
import { differences } from './compare.ts';
import type { systems } from './systems.ts';

/** What {@link runCatalog} tells. */
export interface CatalogResult {
  readonly rowsTakenOver: number;
  /** From the end of the installation until all three systems hold all. */
  readonly firstFillMs: number;
  readonly edits: number;
  /** From the last edit until all three agree, though one was dead meanwhile. */
  readonly catchUpMs: number;
  /** Empty: all systems hold what the catalogue holds. */
  readonly differences: readonly string[];
  readonly changesCaptured: number;
}

const tables = [
  { table: 'category', key: ['id'] },
  { table: 'subcategory', key: ['parent', 'child'] },
  { table: 'store', key: ['id'] },
];
const io = realIo();
const root = fileURLToPath(new URL('../..', import.meta.url));
const contractFolder = join(root.replace(/dist\/$/, ''), 'examples/contracts/capture');

/**
 * A catalogue is kept in one system and posted to three others by way of the ledger, while people
 * edit it; then one of the three is killed for a while, an executor with it, and catches up.
 *
 * @param directory - absolute, empty.
 */
export async function runCatalog(
  postgres: PostgresServer,
  directory: string,
  data: CatalogData,
  edits: number,
  say: (text: string) => void,
): Promise<CatalogResult> {
  const places = {
    catalog: await postgres.database('catalog'),
    shop: await postgres.database('shop'),
    search: await postgres.database('search'),
    report: join(directory, 'report.db'),
  };
  const catalog = new pg.Client(places.catalog);
  catalog.on('error', () => undefined);
  await catalog.connect();
  await catalog.query(catalogSql);
  await loadCatalog(catalog, data);
  const network = await startNetwork({
    directory: join(directory, 'net'),
    executors: 2,
    httpPort: 0,
  });
  const { gateways, channel, signer } = network;
  const client = await connect({ gateways, channel, signer });
  await client.deploy(await bundleContract(contractFolder));
  const source = { connection: places.catalog, source: 'catalog' };
  const rowsTakenOver = await installSource({ ...source, tables });
  say(`the catalogue has an outbox; ${rowsTakenOver} rows are taken over`);

  const sinks: Record<keyof typeof systems, SinkConfig> = {
    shop: { kind: 'postgres', connection: places.shop },
    search: { kind: 'postgres', connection: places.search },
    report: { kind: 'sqlite', file: places.report },
  };
  const start = (system: keyof typeof systems): Child => {
    const suffix = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    return io.processes.spawn(new URL(`./follower-main.${suffix}`, import.meta.url), {
      args: [JSON.stringify({ system, sink: sinks[system], gateways, channel })],
    });
  };
  const feed = httpFeed({ io, gateways, channel, signer });
  const startedMs = io.clock.monotonicMs();
  const capture = startCapture({ ...source, io, contract: 'capture', ledger: client });
  const followers = { shop: start('shop'), search: start('search'), report: start('report') };
  const settled = async (): Promise<void> => {
    const deadlineMs = io.clock.monotonicMs() + 120_000;
    for (;;) {
      const outbox = await catalog.query('SELECT 1 FROM daybook.outbox LIMIT 1');
      const status = await feed.status();
      const known = status.followers.length === 3;
      if (outbox.rowCount === 0 && known && status.followers.every((f) => f.inStep)) return;
      if (io.clock.monotonicMs() > deadlineMs) throw new Error('the systems do not come together');
      await pause(io, 100, { keepAlive: true });
    }
  };
  try {
    await settled();
    const firstFillMs = io.clock.monotonicMs() - startedMs;
    say(`all three systems hold it after ${(firstFillMs / 1000).toFixed(1)} s`);

    for (let step = 0; step < edits; step++) {
      if (step === Math.floor(edits / 3)) {
        followers.search.kill();
        const [executor] = (await network.status()).executors;
        if (executor?.pid !== undefined) process.kill(executor.pid, 'SIGKILL');
        say('the search system’s follower and an executor are killed');
      }
      if (step === Math.floor((2 * edits) / 3)) {
        followers.search = start('search');
        say('the search system’s follower is back');
      }
      await edit(catalog, step);
    }
    const editedMs = io.clock.monotonicMs();
    await settled();
    const catchUpMs = io.clock.monotonicMs() - editedMs;
    const found = await differences(places);
    say(found.length === 0 ? 'all systems hold the same' : `they differ: ${found.join(', ')}`);
    return {
      rowsTakenOver,
      firstFillMs,
      edits,
      catchUpMs,
      differences: found,
      changesCaptured: capture.captured,
    };
  } finally {
    for (const follower of Object.values(followers)) follower.kill();
    await capture.stop();
    await feed.close();
    await client.close();
    await network.close();
    await catalog.end();
  }
}
