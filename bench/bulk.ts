import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, connect } from '../src/client/index.ts';
import { bundleContract } from '../src/contract/index.ts';
import { realIo } from '../src/io/index.ts';
import { openEmbeddedLog } from '../src/log/index.ts';
import {
  asAddress,
  bulkRuleDefaults,
  decodeChannelConfig,
  decodeEntry,
  encodeChannelConfig,
  encodeEntry,
} from '../src/model/index.ts';
import { type Network, startNetwork } from '../src/node/index.ts';
import { percentile } from './ceiling.ts';
import { repositoryPath } from './cluster-under-load.ts';

/** Settings of the `bulk` bench. */
export interface BulkBenchOptions {
  /** Rows that the bulk update changes. */
  readonly rows: number;
  /** Rows that the other transactions move amounts between. */
  readonly accounts: number;
  /** Clients that send the other transactions, one at a time each. */
  readonly clients: number;
  /** Pause of each client between two transactions. */
  readonly pauseMs: number;
  /** Length of the measurement without a bulk update. */
  readonly idleSeconds: number;
  readonly loneCalls: number;
}

/** Full size, as the figures in `docs/bulk-updates.md` were measured. */
export const bulkBenchDefaults: BulkBenchOptions = {
  rows: 1_000_000,
  accounts: 100_000,
  clients: 16,
  pauseMs: 20,
  idleSeconds: 20,
  loneCalls: 300,
};

/** What the `bulk` bench prints. Times in milliseconds. */
export interface BulkBenchResult {
  readonly rows: number;
  /** From submitting the heavy update to its commit, alone. */
  readonly bulkCommitMs: number;
  /** The same of a small transaction, p50. */
  readonly loneP50Ms: number;
  /** p99 of small transactions while rows take the update in the background. */
  readonly otherP99Ms: number;
  /** Their p99 without it. */
  readonly idleP99Ms: number;
  /** Their p99 while the same update is applied as a normal one. */
  readonly normalOtherP99Ms: number;
  readonly normalCommitMs: number;
  readonly backgroundRowsPerS: number;
  readonly backgroundMs: number;
  /** Small transactions per second with and without the background work. */
  readonly otherTps: number;
  readonly idleTps: number;
  readonly settings: BulkBenchOptions;
}

/** A bulk update over many rows beside small transactions; once deferred, once not. */
export async function bulkBench(
  settings: BulkBenchOptions,
  progress: (text: string) => void,
): Promise<BulkBenchResult> {
  const heavy = await withNetwork(settings, bulkRuleDefaults.heavyRowsMin, progress, measureHeavy);
  progress('the same as a normal update');
  const normal = await withNetwork(
    settings,
    Number.MAX_SAFE_INTEGER,
    progress,
    async ({ client }) => {
      const load = new PacedLoad(client, settings);
      await sleep(500);
      load.reset();
      const committed = await timed(() => raise(client));
      await load.stop();
      return { normalCommitMs: committed, normalOtherP99Ms: load.p99Ms };
    },
  );
  return { rows: settings.rows, ...heavy, ...normal, settings };
}

type Heavy = Omit<BulkBenchResult, 'rows' | 'normalOtherP99Ms' | 'normalCommitMs' | 'settings'>;

async function measureHeavy(
  { client, gateway }: BenchChannel,
  settings: BulkBenchOptions,
  progress: (text: string) => void,
): Promise<Heavy> {
  progress('a first bulk update, to warm up');
  await raise(client, 'account');
  while (!(await isDone(gateway))) await sleep(50);
  progress('lone transactions');
  const lone: number[] = [];
  for (let call = 0; call < settings.loneCalls; call++) {
    lone.push(await timed(() => move(client, settings.accounts)));
  }
  progress(`small transactions alone for ${settings.idleSeconds} s`);
  const load = new PacedLoad(client, settings);
  await sleep(2_000);
  load.reset();
  await sleep(settings.idleSeconds * 1000);
  const idle = { p99Ms: load.p99Ms, tps: load.tps };
  await load.stop();
  const bulkCommitMs = await timed(() => raise(client));
  progress(`committed in ${bulkCommitMs.toFixed(1)} ms; background`);
  const during = new PacedLoad(client, settings);
  const started = performance.now();
  while (!(await isDone(gateway))) await sleep(50);
  const backgroundMs = performance.now() - started;
  const other = { p99Ms: during.p99Ms, tps: during.tps };
  await during.stop();
  return {
    bulkCommitMs,
    loneP50Ms: percentile(lone, 0.5),
    otherP99Ms: other.p99Ms,
    idleP99Ms: idle.p99Ms,
    backgroundRowsPerS: Math.round((settings.rows * 1000) / backgroundMs),
    backgroundMs: Math.round(backgroundMs),
    otherTps: Math.round(other.tps),
    idleTps: Math.round(idle.tps),
  };
}

/** Clients that each send a small transaction, wait for it, pause, and so on. */
class PacedLoad {
  readonly #workers: Promise<void>[];
  #latencies: number[] = [];
  #since = performance.now();
  #stopped = false;

  constructor(client: Client, settings: BulkBenchOptions) {
    this.#workers = Array.from({ length: settings.clients }, async () => {
      await sleep(Math.random() * settings.pauseMs);
      while (!this.#stopped) {
        this.#latencies.push(await timed(() => move(client, settings.accounts)));
        await sleep(settings.pauseMs);
      }
    });
  }

  get p99Ms(): number {
    return percentile(this.#latencies, 0.99);
  }

  get tps(): number {
    return (this.#latencies.length * 1000) / (performance.now() - this.#since);
  }

  reset(): void {
    this.#latencies = [];
    this.#since = performance.now();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
  }
}

interface BenchChannel {
  readonly client: Client;
  readonly gateway: string;
}

async function withNetwork<T>(
  settings: BulkBenchOptions,
  heavyRowsMin: number,
  progress: (text: string) => void,
  measure: (
    channel: BenchChannel,
    settings: BulkBenchOptions,
    progress: (text: string) => void,
  ) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(process.env.DAYBOOK_BENCH_DIR ?? tmpdir(), 'daybook-bulk-'));
  const start = (): Promise<Network> => startNetwork({ directory, executors: 1, httpPort: 0 });
  let network = await start();
  await network.close();
  await foundAgain(directory, heavyRowsMin);
  network = await start();
  try {
    const { gateways, channel, signer } = network;
    const client = await connect({ gateways, channel, signer });
    try {
      await client.deploy(await bundleContract(repositoryPath('examples/contracts/bench')));
      progress(`filling ${settings.rows} rows`);
      await fill(client, 'company', settings.rows);
      await fill(client, 'account', settings.accounts);
      const [gateway = ''] = gateways;
      return await measure({ client, gateway }, settings, progress);
    } finally {
      await client.close();
    }
  } finally {
    await network.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Founds the channel once more, with the same identities and another rule for bulk updates. */
async function foundAgain(directory: string, heavyRowsMin: number): Promise<void> {
  const io = realIo();
  const logDirectory = join(directory, 'log');
  const old = await openEmbeddedLog({ io, directory: logDirectory });
  const entry = decodeEntry((await old.read(asAddress(0))).bytes);
  await old.close();
  if (entry.kind !== 'config') throw new Error('a log begins with a configuration');
  const config = decodeChannelConfig(entry.config);
  const bulk = { ...bulkRuleDefaults, heavyRowsMin };
  for (const path of [logDirectory, ...executorDirectories(directory)]) {
    rmSync(path, { recursive: true, force: true });
  }
  const log = await openEmbeddedLog({ io, directory: logDirectory });
  const founding = encodeEntry({ ...entry, config: encodeChannelConfig({ ...config, bulk }) });
  await log.write({ epoch: await log.epoch(), address: asAddress(0) }, founding);
  await log.close();
}

function executorDirectories(directory: string): string[] {
  return readdirSync(directory)
    .filter((name) => name.startsWith('executor-'))
    .map((name) => join(directory, name));
}

/** Whether no bulk update is on its way through the rows. */
async function isDone(gateway: string): Promise<boolean> {
  const answer = await fetch(`${gateway}/health`);
  const { channels } = (await answer.json()) as { channels: { bulk?: unknown }[] };
  return channels.every(({ bulk }) => bulk === undefined);
}

const fillRowsPerCall = 500;

async function fill(client: Client, prefix: string, rows: number): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < rows) {
      const first = next;
      next += fillRowsPerCall;
      const count = Math.min(fillRowsPerCall, rows - first);
      await client.submit('bench', 'fill', [prefix, String(first), String(count)]);
    }
  };
  await Promise.all(Array.from({ length: 16 }, worker));
}

async function move(client: Client, accounts: number): Promise<void> {
  const from = Math.floor(Math.random() * accounts);
  const to = (from + 1 + Math.floor(Math.random() * (accounts - 1))) % accounts;
  await client.submit('bench', 'move', [`account${from}`, `account${to}`, '1']);
}

async function raise(client: Client, prefix = 'company'): Promise<void> {
  await client.submit('bench', 'raise', [prefix, '10']);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}
