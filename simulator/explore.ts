import { type ChildProcess, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { addCoverage, type Coverage } from './coverage.ts';
import { exitCodes, explain, explainUnequal, hex, printCoverage, printRun } from './report.ts';
import { type RunOptions, runSeed } from './run.ts';

/** What {@link explore} does. */
export interface ExploreOptions {
  readonly run: Omit<RunOptions, 'seed'>;
  readonly minutes: number;
  readonly json: boolean;
}

/** What a worker tells the process that started it. */
type WorkerMessage =
  | { readonly begins: number }
  | { readonly lives: true }
  | { readonly coverage: Coverage };

const livesMs = 10_000;
/** A worker that says nothing for so long is in a loop that never ends. */
const stuckMs = 5 * 60_000;
/**
 * Of a process that runs worlds: they make much that dies young; threads that collect it would take
 * the core of another worker; what a world has left is rather collected after the next one than
 * during this one; and code that runs now and then is not worth the time of the optimizing compiler,
 * which took a tenth of all processor time. `npm run sim` starts its own with the same.
 */
export const workerFlags = [
  '--max-semi-space-size=64',
  '--single-threaded-gc',
  '--initial-heap-size=1024',
  '--interrupt-budget=200000',
];

/** Fresh seeds, each twice, until the time is up or one fails. @returns the exit code. */
export async function explore({ run, minutes, json }: ExploreOptions): Promise<number> {
  const startedMs = Date.now();
  const untilMs = startedMs + minutes * 60_000;
  const coverage: Coverage = {};
  const heart = setInterval(() => tell({ lives: true }), livesMs);
  heart.unref();
  let seeds = 0;
  let records = 0;
  let applied = 0;
  while (Date.now() < untilMs) {
    const chosen = { ...run, seed: randomInt(2 ** 32) };
    tell({ begins: chosen.seed });
    const first = await runSeed(chosen);
    printRun(first, json);
    if (first.failure !== undefined) return explain(first, chosen);
    const second = await runSeed(chosen);
    if (second.traceHash !== first.traceHash) return explainUnequal(first, second, chosen);
    addCoverage(coverage, first.coverage);
    seeds++;
    records += (first.counts?.valid ?? 0) * 2;
    applied += first.recordsApplied * 2;
  }
  const perSecond = (count: number): number =>
    Math.round(count / ((Date.now() - startedMs) / 1000));
  const { user, system } = process.cpuUsage();
  const cpuSeconds = (user + system) / 1e6;
  if (!json) {
    process.stdout.write(
      `${seeds} seeds, each twice: ${records} transactions committed, ${perSecond(records)} per second ` +
        `(${Math.round(records / cpuSeconds)} per second of processor time); ` +
        `records applied by all replicas ${perSecond(applied)} per second\n`,
    );
  }
  if (process.send === undefined) printCoverage(coverage, json);
  else tell({ coverage });
  return 0;
}

/** Several processes explore; the first failure ends all. @returns its exit code, or 0. */
export function exploreTogether(workers: number, json: boolean): Promise<number> {
  const script = process.argv[1] ?? '';
  const children = Array.from({ length: workers }, () =>
    fork(script, [...process.argv.slice(2), '--workers=1'], { execArgv: workerFlags }),
  );
  const total: Coverage = {};
  let code = 0;
  let left = workers;
  const end = (failed: number): void => {
    if (code !== 0) return;
    code = failed;
    for (const child of children) child.kill('SIGKILL');
  };
  return new Promise((resolve) => {
    for (const child of children) {
      const seedOf = watch(child, total, end);
      child.once('exit', (exit, signal) => {
        left--;
        if (signal !== null && code === 0) {
          process.stdout.write(`crash: the process of seed ${seedOf()} ended by ${signal}\n`);
        }
        if (exit !== 0) end(exit ?? exitCodes.crash);
        if (left > 0) return;
        if (code === 0) printCoverage(total, json);
        resolve(code);
      });
    }
  });
}

/** Takes what a worker tells, and ends the one that is stuck. @returns the seed that it is at. */
function watch(child: ChildProcess, total: Coverage, end: (code: number) => void): () => string {
  let seed = 'none';
  let timer: NodeJS.Timeout | undefined;
  const stuck = (): void => {
    process.stdout.write(`liveness: seed ${seed} is in a loop that never ends\n`);
    end(exitCodes.liveness);
  };
  child.on('message', (message: WorkerMessage) => {
    if ('coverage' in message) addCoverage(total, message.coverage);
    if ('begins' in message) seed = hex(message.begins);
    clearTimeout(timer);
    timer = setTimeout(stuck, stuckMs);
  });
  child.once('exit', () => clearTimeout(timer));
  return () => seed;
}

function tell(message: WorkerMessage): void {
  process.send?.(message);
}
