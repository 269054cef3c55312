import { setTimeout as sleep } from 'node:timers/promises';
import { realIo } from '../src/io/index.ts';
import { openClusterAdmin } from '../src/node/index.ts';
import { startCluster } from '../test/etcd/cluster.ts';
import { cpuMsByRole, startBenchNetwork } from './cluster-under-load.ts';
import type { LoadResult } from './load-main.ts';

/** Settings of the `cluster` bench. */
export interface ClusterBenchOptions {
  readonly keys: number;
  readonly seconds: number;
  readonly inFlight: number;
  readonly executorsMax: number;
  /** Members of etcd. */
  readonly members: number;
  /** How often the sequencer's node is killed, and how often the sequencer is moved. */
  readonly kills: number;
}

export const clusterBenchDefaults: ClusterBenchOptions = {
  keys: 100_000,
  seconds: 8,
  inFlight: 2_000,
  executorsMax: 3,
  members: 3,
  kills: 5,
};

/** What the `cluster` bench prints. Rates per second, times in milliseconds. */
export interface ClusterBenchResult {
  readonly rows: readonly {
    readonly executors: number;
    readonly tps: number;
    readonly p50Ms: number;
    readonly p99Ms: number;
    readonly loneP50Ms: number;
    /** CPU time per transaction by process, microseconds. */
    readonly cpuUs: Readonly<Record<string, number>>;
  }[];
  /** From `kill -9` of the sequencer's node until another one reigns, each time. */
  readonly failoverMs: readonly number[];
  readonly settings: ClusterBenchOptions;
}

/**
 * Durable commits through the SDK over HTTP on a network over etcd, with members, nodes and client on
 * the same cores; then how long the network is without a sequencer when its node is killed.
 */
export async function clusterBench(
  settings: ClusterBenchOptions,
  progress: (text: string) => void,
): Promise<ClusterBenchResult> {
  const etcd = await startCluster({ members: settings.members });
  try {
    await etcd.leader();
    const rows: ClusterBenchResult['rows'][number][] = [];
    for (let executors = 1; executors <= settings.executorsMax; executors++) {
      rows.push(await measure(settings, etcd.endpoints, executors));
      progress(JSON.stringify(rows.at(-1)));
    }
    const failoverMs = await failovers(settings, etcd.endpoints);
    return { rows, failoverMs, settings };
  } finally {
    await etcd.stop();
  }
}

function start(
  endpoints: readonly string[],
  executors: number,
  prefix: string,
): ReturnType<typeof startBenchNetwork> {
  return startBenchNetwork({
    executors,
    blocks: false,
    cluster: {
      log: { url: urlOf(endpoints, prefix) },
      privateHost: '127.0.0.1',
      privatePort: 0,
    },
  });
}

function urlOf(endpoints: readonly string[], prefix: string): string {
  return `etcd://${endpoints.join()}/${prefix}`;
}

async function measure(
  { keys, seconds, inFlight }: ClusterBenchOptions,
  endpoints: readonly string[],
  executors: number,
): Promise<ClusterBenchResult['rows'][number]> {
  const bench = await start(endpoints, executors, `rate-${executors}`);
  try {
    await bench.load({ work: 'fill', keys, inFlight: 64 });
    await bench.load({ work: 'move', keys, inFlight, seconds: Math.min(3, seconds) });
    const before = cpuMsByRole(process.pid);
    const load: LoadResult = await bench.load({ work: 'move', keys, inFlight, seconds });
    const cpuUs: Record<string, number> = { client: Math.round(load.clientCpuUs) };
    for (const [role, ms] of cpuMsByRole(process.pid)) {
      cpuUs[role] = Math.round(((ms - (before.get(role) ?? 0)) * 1000) / load.committed);
    }
    const lone = await bench.load({ work: 'move', keys, inFlight: 1, callsMax: 100 });
    const { p50Ms, p99Ms } = load;
    return { executors, tps: Math.round(load.tps), p50Ms, p99Ms, loneP50Ms: lone.p50Ms, cpuUs };
  } finally {
    await bench.close();
  }
}

async function failovers(
  { keys, kills }: ClusterBenchOptions,
  endpoints: readonly string[],
): Promise<number[]> {
  const bench = await start(endpoints, 2, 'failover');
  const admin = await openClusterAdmin(realIo(), { url: urlOf(endpoints, 'failover') });
  try {
    const seconds = 4 * kills + 4;
    const load = bench.load({ work: 'move', keys, inFlight: 100, seconds });
    const took: number[] = [];
    for (let kill = 0; kill < kills; kill++) {
      await sleep(3_000);
      const { leader, executors } = await bench.network.status();
      const pid = executors.find(({ name }) => name === leader?.node)?.pid;
      if (leader === undefined || pid === undefined) continue;
      const killedMs = performance.now();
      process.kill(pid, 'SIGKILL');
      while (((await admin.leader())?.epoch ?? leader.epoch) === leader.epoch) await sleep(5);
      took.push(Math.round(performance.now() - killedMs));
    }
    await load;
    return took;
  } finally {
    await admin.close();
    await bench.close();
  }
}
