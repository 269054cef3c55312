import { setTimeout as sleep } from 'node:timers/promises';
import { realIo } from '../src/io/index.ts';
import { openClusterAdmin } from '../src/node/index.ts';
import { startCluster } from '../test/etcd/cluster.ts';
import {
  type BenchNetwork,
  contractProcesses,
  cpuMsByRole,
  startBenchNetwork,
} from './cluster-under-load.ts';
import { limitCpu } from './cpu-share.ts';
import { compareEngine, type EngineRow } from './engine-rates.ts';
import { benchQuotaBytes } from './etcd.bench.ts';
import type { LoadResult } from './load-main.ts';

/** Settings of the `cluster` bench. */
export interface ClusterBenchOptions {
  readonly keys: number;
  /** Time per measurement of a network. */
  readonly seconds: number;
  readonly inFlight: number;
  readonly executorsMax: number;
  /** Members of etcd. */
  readonly members: number;
  /** How often the sequencer's node is killed. */
  readonly kills: number;
  /** Time per case of the log's comparison with a bare client, milliseconds; 0: left out. */
  readonly engineMs: number;
  /** CPU time that one call of the contract-bound load takes, milliseconds. */
  readonly contractMs: number;
  /**
   * Share of a core that every contract process gets under the contract-bound load, as if each were
   * a slow machine: so the machine has room for all of them, for etcd and for the client.
   */
  readonly contractCores: number;
}

export const clusterBenchDefaults: ClusterBenchOptions = {
  keys: 100_000,
  seconds: 8,
  inFlight: 2_000,
  executorsMax: 3,
  members: 3,
  kills: 5,
  engineMs: 2_000,
  contractMs: 10,
  contractCores: 0.3,
};

/** Rates per second, times in milliseconds. */
export interface ClusterRow {
  readonly executors: number;
  readonly tps: number;
  /** `tps` divided by that of one executor. */
  readonly ratio: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly failed: number;
  /** CPU time per transaction by process, warm-up included (but the client's), microseconds. */
  readonly cpuUs: Readonly<Record<string, number>>;
}

/** What the `cluster` bench prints. */
export interface ClusterBenchResult {
  /** The log against a bare client of etcd that puts the same entries on the same cluster. */
  readonly engine: readonly EngineRow[];
  /** The least of `engine`'s ratios. */
  readonly engineRatioMin: number | undefined;
  /** The contract decides how many: every contract process has `contractCores` of a core. */
  readonly contractBound: readonly ClusterRow[];
  /** The same contract with all the cores that there are: the last executors find none left. */
  readonly contractBoundFree: readonly ClusterRow[];
  /** Two reads and two writes, as many as possible. */
  readonly commits: readonly ClusterRow[];
  /** One call after the other, on an idle network. */
  readonly lone: { readonly p50Ms: number; readonly p99Ms: number };
  /** After `kill -9` of the sequencer's node under load, each time. */
  readonly failover: readonly {
    /** Until another node reigned. */
    readonly reignMs: number;
    /** The longest time in which no client got an acknowledgement. */
    readonly stallMs: number;
  }[];
  readonly failoverStallMs: number | undefined;
  readonly settings: ClusterBenchOptions;
}

/**
 * A network over etcd, with members, nodes and client on the same cores: the log's own speed against
 * a bare client, durable commits through the SDK over HTTP with one and more executors, and how long
 * nothing is acknowledged when the sequencer's node is killed.
 */
export async function clusterBench(
  settings: ClusterBenchOptions,
  progress: (text: string) => void,
): Promise<ClusterBenchResult> {
  const { members, engineMs, executorsMax, contractCores } = settings;
  const etcd = await startCluster({ members, quotaBytes: benchQuotaBytes });
  try {
    await etcd.leader();
    const bench = new ClusterBench(settings, etcd.endpoints, progress);
    const engine = engineMs === 0 ? [] : await bench.engine();
    const [contractBound, contractBoundFree, commits]: ClusterRow[][] = [[], [], []];
    const lone = { p50Ms: Number.NaN, p99Ms: Number.NaN };
    for (let executors = 1; executors <= executorsMax; executors++) {
      await bench.withNetwork(executors, async (network) => {
        contractBound?.push(await bench.burn(network, executors, contractCores));
        contractBoundFree?.push(await bench.burn(network, executors, 1));
        commits?.push(await bench.commits(network, executors));
        if (executors === 1) Object.assign(lone, await bench.lone(network));
      });
    }
    const failover = await bench.failovers();
    return {
      engine,
      engineRatioMin: least(engine.map(({ ratio }) => ratio)),
      contractBound: withRatios(contractBound ?? []),
      contractBoundFree: withRatios(contractBoundFree ?? []),
      commits: withRatios(commits ?? []),
      lone,
      failover,
      failoverStallMs: least(
        failover.map(({ stallMs }) => -stallMs),
        -1,
      ),
      settings,
    };
  } finally {
    await etcd.stop();
  }
}

type Load = Omit<Parameters<BenchNetwork['load']>[0], 'keys'>;

class ClusterBench {
  readonly #settings: ClusterBenchOptions;
  readonly #endpoints: readonly string[];
  readonly #progress: (text: string) => void;
  readonly #rounds: number;

  constructor(
    settings: ClusterBenchOptions,
    endpoints: readonly string[],
    progress: (text: string) => void,
  ) {
    this.#settings = settings;
    this.#endpoints = endpoints;
    this.#progress = progress;
    this.#rounds = roundsFor(settings.contractMs);
  }

  engine(): Promise<EngineRow[]> {
    const cases = [
      { entryBytes: 1024, inFlight: 1 },
      { entryBytes: 1024, inFlight: 256 },
      { entryBytes: 64 * 1024, inFlight: 1 },
      { entryBytes: 64 * 1024, inFlight: 8 },
      { entryBytes: 64 * 1024, inFlight: 32 },
    ];
    const { engineMs: caseMs } = this.#settings;
    const endpoints = this.#endpoints;
    const options = { endpoints, quotaBytes: benchQuotaBytes, prefix: 'engine/', cases, caseMs };
    return compareEngine(options, this.#progress);
  }

  async withNetwork(
    executors: number,
    work: (network: BenchNetwork) => Promise<void>,
  ): Promise<void> {
    const network = await this.#start(executors, `rate-${executors}`);
    try {
      const { keys } = this.#settings;
      await network.load({ work: 'fill', keys, inFlight: 64 });
      await work(network);
    } finally {
      await network.close();
    }
  }

  /** The contract-bound load. */
  async burn(network: BenchNetwork, executors: number, cores: number): Promise<ClusterRow> {
    const release = limitCpu(contractProcesses(process.pid), cores);
    try {
      const load = { work: 'burn' as const, rounds: this.#rounds, inFlight: 16 * executors };
      return await this.#row(network, executors, load);
    } finally {
      release();
    }
  }

  async commits(network: BenchNetwork, executors: number): Promise<ClusterRow> {
    const { inFlight } = this.#settings;
    return this.#row(network, executors, { work: 'move', inFlight });
  }

  async lone(network: BenchNetwork): Promise<{ p50Ms: number; p99Ms: number }> {
    const { p50Ms, p99Ms } = await this.#load(network, {
      work: 'move',
      inFlight: 1,
      callsMax: 200,
    });
    return { p50Ms: round(p50Ms), p99Ms: round(p99Ms) };
  }

  async failovers(): Promise<ClusterBenchResult['failover'][number][]> {
    const { keys, kills } = this.#settings;
    if (kills === 0) return [];
    const network = await this.#start(2, 'failover');
    const admin = await openClusterAdmin(realIo(), { url: this.#url('failover') });
    try {
      const seconds = 4 * kills + 4;
      const loading = network.load({ work: 'move', keys, inFlight: 100, seconds });
      const killed: { atMs: number; reignMs: number }[] = [];
      for (let kill = 0; kill < kills; kill++) {
        await sleep(3_000);
        const { leader, executors } = await network.network.status();
        const pid = executors.find(({ name }) => name === leader?.node)?.pid;
        if (leader === undefined || pid === undefined) continue;
        const atMs = epochMs();
        process.kill(pid, 'SIGKILL');
        while (((await admin.leader())?.epoch ?? leader.epoch) === leader.epoch) await sleep(5);
        killed.push({ atMs, reignMs: Math.round(epochMs() - atMs) });
      }
      const { gaps } = await loading;
      return killed.map(({ atMs, reignMs }, index) => {
        const untilMs = killed[index + 1]?.atMs ?? Number.POSITIVE_INFINITY;
        const after = gaps.filter((gap) => gap.atMs + gap.ms > atMs && gap.atMs < untilMs);
        return { reignMs, stallMs: Math.round(Math.max(0, ...after.map(({ ms }) => ms))) };
      });
    } finally {
      await admin.close();
      await network.close();
    }
  }

  async #row(network: BenchNetwork, executors: number, load: Load): Promise<ClusterRow> {
    const before = cpuMsByRole(process.pid);
    const { seconds } = this.#settings;
    const warmUpSeconds = Math.min(3, seconds);
    const result = await this.#load(network, { ...load, seconds, warmUpSeconds });
    const cpuUs: Record<string, number> = { client: Math.round(result.clientCpuUs) };
    for (const [role, ms] of cpuMsByRole(process.pid)) {
      const committed = result.committed + result.warmUpCommitted;
      cpuUs[role] = Math.round(((ms - (before.get(role) ?? 0)) * 1000) / committed);
    }
    const { tps, p50Ms, p99Ms, failed } = result;
    const row = {
      executors,
      tps: Math.round(tps),
      ratio: Number.NaN,
      p50Ms: round(p50Ms),
      p99Ms: round(p99Ms),
      failed,
      cpuUs,
    };
    this.#progress(`${load.work} ${JSON.stringify(row)}`);
    return row;
  }

  #load(network: BenchNetwork, load: Load): Promise<LoadResult> {
    return network.load({ ...load, keys: this.#settings.keys });
  }

  #start(executors: number, prefix: string): Promise<BenchNetwork> {
    return startBenchNetwork({
      executors,
      blocks: false,
      cluster: {
        log: { url: this.#url(prefix) },
        privateHost: '127.0.0.1',
        privatePort: 0,
      },
    });
  }

  #url(prefix: string): string {
    return `etcd://${this.#endpoints.join()}/${prefix}`;
  }
}

/** How many steps of the contract's loop take `ms` on this machine. */
function roundsFor(ms: number): number {
  const steps = (rounds: number): number => {
    let seed = 1;
    for (let left = rounds; left > 0; left--) seed = (Math.imul(seed, 1103515245) + 12345) | 0;
    return seed;
  };
  const rounds = 1_000_000;
  let fastestMs = Number.POSITIVE_INFINITY;
  for (let attempt = 0; attempt < 20; attempt++) {
    const started = performance.now();
    steps(rounds);
    fastestMs = Math.min(fastestMs, performance.now() - started);
  }
  return Math.max(1, Math.round((rounds * ms) / fastestMs));
}

function withRatios(rows: readonly ClusterRow[]): ClusterRow[] {
  const one = rows[0]?.tps ?? Number.NaN;
  return rows.map((row) => ({ ...row, ratio: round(row.tps / one) }));
}

function least(values: readonly number[], sign = 1): number | undefined {
  return values.length === 0 ? undefined : Math.min(...values) * sign;
}

function epochMs(): number {
  return performance.timeOrigin + performance.now();
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
