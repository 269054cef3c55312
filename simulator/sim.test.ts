import { randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { type Mutant, mutants } from './mutants.ts';
import { type RunReport, runSeed } from './run.ts';

const ticks = 1000;
/** Processor time for fresh seeds. */
const exploreMs = 4_000;

/** Seeds that found a bug once; a change of the simulator makes other worlds of them. */
const knownSeeds: readonly number[] = [1, 3];

function explained({ seed, failure, recent }: RunReport): string {
  if (failure === undefined) return '';
  return `npm run sim -- --seed=${seed} --ticks=${ticks}\n${recent.join('\n')}\n${failure.stack}`;
}

for (const seed of knownSeeds) {
  it(`seed ${seed} passes, twice with the same trace`, { timeout: 120_000 }, async () => {
    const first = await runSeed({ seed, ticks });
    expect(explained(first)).toBe('');
    expect(first.counts?.valid).toBeGreaterThan(50);
    const second = await runSeed({ seed, ticks });
    expect(second.traceHash).toBe(first.traceHash);
    expect(second.events).toBe(first.events);
  });
}

it('different seeds are different worlds', { timeout: 120_000 }, async () => {
  const [one, two] = [
    await runSeed({ seed: 101, ticks: 50 }),
    await runSeed({ seed: 102, ticks: 50 }),
  ];
  expect(explained(one) + explained(two)).toBe('');
  expect(one.traceHash).not.toBe(two.traceHash);
});

it('fresh seeds pass', { timeout: 300_000 }, async () => {
  const start = process.cpuUsage().user;
  do {
    const seed = randomInt(2 ** 32);
    expect(explained(await runSeed({ seed, ticks }))).toBe('');
  } while ((process.cpuUsage().user - start) / 1000 < exploreMs);
});

for (const mutant of mutants) {
  const { name, seedsMax, needs = [] } = mutant;
  it(`finds the bug “${name}” within ${seedsMax} seeds`, { timeout: 300_000 }, async () => {
    for (let seed = 1; seed <= seedsMax; seed++) {
      const { failure } = await runSeed({ seed, ticks, mutant });
      if (failure === undefined) continue;
      expect(failure.kind).not.toBe('crash');
      // It was the bug, not the seed.
      const honest: Mutant = { name: 'none', seedsMax: 0, needs };
      expect(explained(await runSeed({ seed, ticks, mutant: honest }))).toBe('');
      return;
    }
    expect.unreachable(`no seed of ${seedsMax} shows the bug`);
  });
}
