import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { workerFlags } from '../simulator/explore.ts';
import { sha256 } from '../src/model/index.ts';

/** Settings of {@link simulatorBench}. */
export interface SimulatorBenchSettings {
  /** Worlds of the load workload: seeds from {@link SimulatorBenchSettings.seed} on. */
  readonly worlds: number;
  /** How often all of them run in the one process; the second half counts, when the code is warm. */
  readonly rounds: number;
  /** Virtual milliseconds in which things break. */
  readonly ticks: number;
  readonly seed: number;
}

/** A cluster of one node, without locks; `--worlds 6 --seed 100 --rounds 4` has all kinds. */
export const simulatorBenchDefaults: SimulatorBenchSettings = {
  worlds: 1,
  rounds: 12,
  ticks: 700,
  seed: 102,
};

/** One run of one world. */
export interface SimulatorWorldRun {
  readonly round: number;
  readonly seed: number;
  /** Valid in the log at the end, each counted once. */
  readonly transactions: number;
  /** Records that all replicas together applied, replays after restarts included. */
  readonly applied: number;
  readonly traceHash: string;
  /** Processor time, user and system: set-up, faults, checks and garbage collection included. */
  readonly cpuMs: number;
}

/** Rates are transactions per second of processor time, in the warm rounds. */
export interface SimulatorBenchResult extends SimulatorBenchSettings {
  /** Of all worlds together. */
  readonly perCpuSecond: number;
  /** Of the fastest world in its fastest warm round. */
  readonly perCpuSecondBest: number;
  /** Of the slowest world in its slowest warm round. */
  readonly perCpuSecondWorst: number;
  /** Of all worlds in the first round, when the code is cold. */
  readonly perCpuSecondCold: number;
  readonly appliedPerCpuSecond: number;
  /** The reference: one SHA-256 of 300 bytes. */
  readonly sha256Us: number;
  /** Processor time of a transaction in the warm rounds over that of the reference. */
  readonly ratio: number;
}

/**
 * How many transactions the simulator gets through: worlds under load, again and again in one
 * process, with all faults and checks.
 *
 * @throws {Error} when a world fails or two runs of a seed differ.
 */
export async function simulatorBench(
  settings: SimulatorBenchSettings,
  progress: (text: string) => void = () => undefined,
): Promise<SimulatorBenchResult> {
  const runs: SimulatorWorldRun[] = [];
  const child = fork(
    fileURLToPath(new URL('simulator-main.js', import.meta.url)),
    [JSON.stringify(settings)],
    { execArgv: workerFlags },
  );
  child.on('message', (run: SimulatorWorldRun) => {
    runs.push(run);
    const { seed, transactions, applied } = run;
    progress(
      `seed ${seed}: ${transactions} transactions, applied ${applied} times, ` +
        `${rate([run])} per second of processor time`,
    );
  });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`the process of the worlds ended with ${code}`);
  for (const { seed, traceHash } of runs) {
    if (runs.some((other) => other.seed === seed && other.traceHash !== traceHash)) {
      throw new Error(`two runs of seed ${seed} differ`);
    }
  }
  const warm = runs.filter(({ round }) => round >= Math.floor(settings.rounds / 2));
  const cold = runs.filter(({ round }) => round === 0);
  const hashUs = sha256Us();
  const perCpuSecond = rate(warm);
  return {
    ...settings,
    perCpuSecond,
    perCpuSecondBest: Math.max(...warm.map((run) => rate([run]))),
    perCpuSecondWorst: Math.min(...warm.map((run) => rate([run]))),
    perCpuSecondCold: rate(cold),
    appliedPerCpuSecond: Math.round((sum(warm, 'applied') * 1000) / sum(warm, 'cpuMs')),
    sha256Us: Math.round(hashUs * 100) / 100,
    ratio: Math.round((1e6 / perCpuSecond / hashUs) * 10) / 10,
  };
}

function rate(runs: readonly SimulatorWorldRun[]): number {
  return Math.round((sum(runs, 'transactions') * 1000) / sum(runs, 'cpuMs'));
}

function sum(
  runs: readonly SimulatorWorldRun[],
  what: 'transactions' | 'applied' | 'cpuMs',
): number {
  return runs.reduce((total, run) => total + run[what], 0);
}

function sha256Us(): number {
  const bytes = Buffer.alloc(300, 7);
  const count = 200_000;
  const before = process.cpuUsage();
  for (let at = 0; at < count; at++) sha256(bytes);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / count;
}
