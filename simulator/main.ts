import { execFileSync, fork } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mutants, noMutant } from './mutants.ts';
import { type RunOptions, type RunReport, runSeed } from './run.ts';
import type { FailureKind } from './world.ts';

/*
 * npm run sim -- --seed=0x2a [--ticks=5000] [--mutant=NAME]   one seed, twice
 * npm run sim -- --minutes=10 [--ticks=5000] [--workers=2]     fresh seeds, each twice
 */

/** What the process exits with. */
const exitCodes: Readonly<Record<FailureKind | 'usage' | 'unequal', number>> = {
  usage: 2,
  crash: 10,
  liveness: 11,
  correctness: 12,
  /** Two runs of one seed differ: the simulator itself is wrong. */
  unequal: 13,
};

const usage = `usage: npm run sim -- [--seed=N] [--ticks=MS] [--minutes=N] [--workers=N] [--mutant=NAME]
                    [--log=embedded|etcd] [--workload=mixed|load] [--federation]
  --seed     replay this seed, twice; decimal or 0x…
  --ticks    virtual milliseconds in which things break (default 3000)
  --minutes  try fresh seeds for so long (default 1 when there is no seed)
  --workers  processes that try seeds (default 2)
  --log      where the log lies, and
  --workload what clients do, instead of what the seed draws
  --federation  registries under several administrations instead of a ledger
  --mutant   switch a deliberate bug on: ${mutants.map(({ name }) => name).join(', ')}`;

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { stdio: 'pipe' })
      .toString()
      .trim();
  } catch {
    return 'unknown';
  }
}

function hex(seed: number): string {
  return `0x${seed.toString(16)}`;
}

function line(report: RunReport): string {
  const { seed, traceHash, virtualMs, events, counts, failure, cpuMs } = report;
  const how = failure === undefined ? 'ok' : failure.kind;
  const speed = Math.round(((counts?.valid ?? 0) * 1000) / cpuMs);
  return (
    `seed ${hex(seed)} ${how} trace ${traceHash} virtual ${virtualMs} ms events ${events} ` +
    `${speed} tx/s of processor time ${JSON.stringify(counts ?? {})}`
  );
}

/** Prints what is needed to find the bug; returns the exit code. */
function explain(report: RunReport, options: RunOptions): number {
  const { failure } = report;
  if (failure === undefined) return 0;
  const { mutant, log, workload, federation } = options;
  const more = [
    mutant === undefined ? '' : ` --mutant=${mutant.name}`,
    federation === true ? ' --federation' : '',
    log === undefined ? '' : ` --log=${log}`,
    workload === undefined ? '' : ` --workload=${workload}`,
  ].join('');
  process.stdout.write(
    `${report.recent.join('\n')}\n\n${failure.stack}\n\n${failure.kind}: ${failure.message}\n` +
      `commit ${commit()}\nagain: npm run sim -- --seed=${hex(report.seed)} --ticks=${options.ticks}${more}\n`,
  );
  return exitCodes[failure.kind];
}

async function replay(options: RunOptions): Promise<number> {
  const first = await runSeed(options);
  process.stdout.write(`${line(first)}\n`);
  const second = await runSeed(options);
  if (second.traceHash !== first.traceHash) {
    process.stdout.write(`the second run differs: trace ${second.traceHash}\n`);
    return exitCodes.unequal;
  }
  return explain(first, options);
}

async function explore(options: Omit<RunOptions, 'seed'>, minutes: number): Promise<number> {
  const untilMs = Date.now() + minutes * 60_000;
  const startedMs = Date.now();
  let seeds = 0;
  let records = 0;
  let applied = 0;
  while (Date.now() < untilMs) {
    const chosen = { ...options, seed: randomInt(2 ** 32) };
    const report = await runSeed(chosen);
    process.stdout.write(`${line(report)}\n`);
    if (report.failure !== undefined) return explain(report, chosen);
    const again = await runSeed(chosen);
    if (again.traceHash !== report.traceHash) {
      process.stdout.write(`the second run differs: trace ${again.traceHash}\n`);
      return exitCodes.unequal;
    }
    seeds++;
    records += (report.counts?.valid ?? 0) * 2;
    applied += report.recordsApplied * 2;
  }
  const perSecond = (count: number): number =>
    Math.round(count / ((Date.now() - startedMs) / 1000));
  const { user, system } = process.cpuUsage();
  const cpuSeconds = (user + system) / 1e6;
  process.stdout.write(
    `${seeds} seeds, each twice: ${records} transactions committed, ${perSecond(records)} per second ` +
      `(${Math.round(records / cpuSeconds)} per second of processor time); ` +
      `records applied by all replicas ${perSecond(applied)} per second\n`,
  );
  return 0;
}

/** Worlds make much that dies young. */
const execArgv = ['--max-semi-space-size=64'];

/** Several processes explore; the first failure ends all. */
function exploreTogether(workers: number): Promise<number> {
  const children = Array.from({ length: workers }, () =>
    fork(fileURLToPath(import.meta.url), [...process.argv.slice(2), '--workers=1'], { execArgv }),
  );
  let code = 0;
  let left = workers;
  return new Promise((resolve) => {
    for (const child of children) {
      child.once('exit', (exit) => {
        left--;
        if (exit !== 0 && code === 0) {
          code = exit ?? exitCodes.crash;
          for (const other of children) other.kill();
        }
        if (left === 0) resolve(code);
      });
    }
  });
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string' },
      ticks: { type: 'string', default: '3000' },
      minutes: { type: 'string', default: '1' },
      workers: { type: 'string', default: '2' },
      mutant: { type: 'string' },
      log: { type: 'string' },
      workload: { type: 'string' },
      federation: { type: 'boolean' },
    },
  });
  const ticks = Number(values.ticks);
  const minutes = Number(values.minutes);
  const workers = Number(values.workers);
  const mutant =
    values.mutant === undefined ? noMutant : mutants.find(({ name }) => name === values.mutant);
  const seed = values.seed === undefined ? undefined : Number(values.seed);
  const wrong =
    !['embedded', 'etcd', undefined].includes(values.log) ||
    !['mixed', 'load', undefined].includes(values.workload) ||
    !(ticks > 0) ||
    !(minutes > 0) ||
    !(workers >= 1) ||
    mutant === undefined ||
    Number.isNaN(seed);
  if (wrong) {
    process.stderr.write(`${usage}\n`);
    return exitCodes.usage;
  }
  const options = {
    ticks,
    ...(mutant === noMutant ? {} : { mutant }),
    ...(values.federation === undefined ? {} : { federation: values.federation }),
    ...(values.log === undefined ? {} : { log: values.log as 'embedded' | 'etcd' }),
    ...(values.workload === undefined ? {} : { workload: values.workload as 'mixed' | 'load' }),
  };
  if (seed !== undefined) return await replay({ ...options, seed });
  return workers === 1 ? await explore(options, minutes) : await exploreTogether(workers);
}

try {
  process.exitCode = await main();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}\n`);
  process.exitCode = exitCodes.usage;
}
