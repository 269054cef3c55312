import { ceilingTps, fsyncP50Ms } from './ceiling.ts';
import { cpuMsByRole, residentMiB, startBenchNetwork } from './cluster-under-load.ts';

/** Settings of the `commit` bench. */
export interface CommitBenchOptions {
  readonly keys: number;
  readonly seconds: number;
  readonly inFlight: number;
  readonly executors: number;
  readonly hotClients: number;
  readonly hotKeys: number;
  readonly loneCalls: number;
  /** 1: every executor also makes blocks, in a process of its own on the same cores. */
  readonly blocks: number;
}

/** Full size, as the figures in the README were measured. */
export const commitBenchDefaults: CommitBenchOptions = {
  keys: 1_000_000,
  seconds: 15,
  inFlight: 6_000,
  executors: 1,
  hotClients: 64,
  hotKeys: 10,
  loneCalls: 300,
  blocks: 0,
};

/** What the `commit` bench prints. Rates per second, times in milliseconds. */
export interface CommitBenchResult {
  readonly tps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly loneP50Ms: number;
  readonly fsyncP50Ms: number;
  readonly hotTps: number;
  readonly hotConflictsSeen: number;
  readonly hotFailed: number;
  readonly ceilingTps: number;
  readonly rssMiB: number;
  /** CPU time per transaction by process in the random phase (but the client's: with its warm-up), microseconds. */
  readonly cpuUs: Readonly<Record<string, number>>;
  readonly settings: CommitBenchOptions;
}

/**
 * Durable commits of signed batches through the SDK over HTTP, from another process on the same
 * cores: two reads and two writes per call over `keys` accounts; then lone calls; then many clients
 * on few keys.
 */
export async function commitBench(
  settings: CommitBenchOptions,
  progress: (text: string) => void,
): Promise<CommitBenchResult> {
  const bench = await startBenchNetwork({
    executors: settings.executors,
    blocks: settings.blocks !== 0,
  });
  try {
    progress(`filling ${settings.keys} accounts`);
    await bench.load({ work: 'fill', keys: settings.keys, inFlight: 64 });
    const fsync = await fsyncP50Ms(bench.directory);
    const { keys, seconds, inFlight } = settings;
    progress(`random keys for ${seconds} s, after a warm-up`);
    const before = cpuMsByRole(process.pid);
    const warmUpSeconds = Math.min(10, seconds);
    const random = await bench.load({ work: 'move', keys, inFlight, seconds, warmUpSeconds });
    const cpuUs: Record<string, number> = { client: Math.round(random.clientCpuUs) };
    for (const [role, ms] of cpuMsByRole(process.pid)) {
      cpuUs[role] = Math.round(
        ((ms - (before.get(role) ?? 0)) * 1000) / (random.committed + random.warmUpCommitted),
      );
    }
    progress(`${Math.round(random.tps)} transactions/s; lone calls`);
    const lone = await bench.load({
      work: 'move',
      keys,
      inFlight: 1,
      callsMax: settings.loneCalls,
    });
    progress(`${settings.hotClients} clients on ${settings.hotKeys} keys`);
    const hot = await bench.load({
      work: 'move',
      keys: settings.hotKeys,
      inFlight: settings.hotClients,
      seconds: Math.min(8, seconds),
    });
    const rssMiB = residentMiB(process.pid);
    progress('reference');
    return {
      tps: Math.round(random.tps),
      p50Ms: random.p50Ms,
      p99Ms: random.p99Ms,
      loneP50Ms: lone.p50Ms,
      fsyncP50Ms: fsync,
      hotTps: Math.round(hot.tps),
      hotConflictsSeen: hot.conflictsSeen,
      hotFailed: hot.failed,
      ceilingTps: Math.round(await ceilingTps(bench.directory, keys, Math.min(5, seconds))),
      rssMiB: Math.round(rssMiB),
      cpuUs,
      settings,
    };
  } finally {
    await bench.close();
  }
}
