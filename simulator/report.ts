import { execFileSync } from 'node:child_process';
import { type Coverage, missingFrom } from './coverage.ts';
import type { RunOptions, RunReport } from './run.ts';
import type { FailureKind } from './world.ts';

/** What `npm run sim` exits with. */
export const exitCodes: Readonly<Record<FailureKind | 'usage' | 'unequal', number>> = {
  usage: 2,
  crash: 10,
  liveness: 11,
  correctness: 12,
  /** Two runs of one seed differ: the simulator itself is wrong. */
  unequal: 13,
};

/** Prints a run: a line for people, or an object for programs. */
export function printRun(report: RunReport, json: boolean): void {
  const { seed, traceHash, virtualMs, events, counts, coverage, failure, cpuMs } = report;
  const how = failure === undefined ? 'ok' : failure.kind;
  const speed = Math.round(((counts?.valid ?? 0) * 1000) / cpuMs);
  process.stdout.write(
    json
      ? `${JSON.stringify({ seed: hex(seed), how, traceHash, virtualMs, events, speed, counts, coverage })}\n`
      : `seed ${hex(seed)} ${how} trace ${traceHash} virtual ${virtualMs} ms events ${events} ` +
          `${speed} tx/s of processor time ${JSON.stringify(counts ?? {})}\n`,
  );
}

/** Prints what is needed to find the bug; returns the exit code. */
export function explain(report: RunReport, options: RunOptions): number {
  const { failure } = report;
  if (failure === undefined) return 0;
  process.stdout.write(
    `${report.recent.join('\n')}\n\n${failure.stack}\n\n${failure.kind}: ${failure.message}\n` +
      `commit ${commit()}\n${again(options)}\n`,
  );
  return exitCodes[failure.kind];
}

/** Prints that two runs of a seed differ; returns the exit code. */
export function explainUnequal(first: RunReport, second: RunReport, options: RunOptions): number {
  const last = ({ recent }: RunReport): string => recent.slice(-20).join('\n');
  process.stdout.write(
    `the first run ended so:\n${last(first)}\n\nthe second so:\n${last(second)}\n\n` +
      `unequal: traces ${first.traceHash} and ${second.traceHash} of seed ${hex(options.seed)} differ\n` +
      `commit ${commit()}\n${again(options)}\n`,
  );
  return exitCodes.unequal;
}

/** Prints what all seeds together showed. */
export function printCoverage(coverage: Coverage, json: boolean): void {
  if (json) {
    process.stdout.write(`${JSON.stringify({ coverage, never: missingFrom(coverage) })}\n`);
    return;
  }
  const never = missingFrom(coverage);
  const all = Object.keys(coverage).length + never.length;
  process.stdout.write(
    never.length === 0
      ? `all ${all} kinds of happenings occurred\n`
      : `of ${all} kinds of happenings these did not occur:\n  ${never.join('\n  ')}\n`,
  );
}

/** How a seed is written. */
export function hex(seed: number): string {
  return `0x${seed.toString(16)}`;
}

function again({
  seed,
  ticks,
  mutant,
  log,
  workload,
  federation,
  retention,
  rot,
  quota,
  repair,
  singles,
  readers,
}: RunOptions): string {
  const more = [
    mutant === undefined ? '' : ` --mutant=${mutant.name}`,
    federation === true ? ' --federation' : '',
    retention === true ? ' --retention' : '',
    rot === true ? ' --rot' : '',
    quota === true ? ' --quota' : '',
    repair === true ? ' --repair' : '',
    singles === true ? ' --singles' : '',
    readers === true ? ' --readers' : '',
    log === undefined ? '' : ` --log=${log}`,
    workload === undefined ? '' : ` --workload=${workload}`,
  ].join('');
  return `again: npm run sim -- --seed=${hex(seed)} --ticks=${ticks}${more}`;
}

function commit(): string {
  try {
    return execFileSync('git', ['describe', '--always', '--dirty'], { stdio: 'pipe' })
      .toString()
      .trim();
  } catch {
    return 'unknown';
  }
}
