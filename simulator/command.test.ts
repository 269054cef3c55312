import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { exitCodes } from './report.ts';

const root = fileURLToPath(new URL('..', import.meta.url));

/** `npm run sim`, as people call it. */
function sim(...args: string[]): Promise<{ code: number; output: string; stdout: string }> {
  const words = ['run', '--silent', 'sim', '--', ...args];
  return new Promise((resolve) => {
    execFile('npm', words, { cwd: root, maxBuffer: 2 ** 26 }, (error, stdout, stderr) =>
      resolve({ code: Number(error?.code ?? 0), output: stdout + stderr, stdout }),
    );
  });
}

const world = ['--seed=0x2', '--ticks=500', '--log=embedded', '--workload=mixed'];

for (const [bug, kind, says] of [
  ['throw-in-a-timer', 'crash', 'nobody catches: TypeError: a program error'],
  ['throw-in-an-event', 'crash', 'world: TypeError: a program error'],
  ['stand-still', 'liveness', 'after all healed'],
  ['turn-round-and-round', 'liveness', 'no time passes'],
  ['lose-a-write', 'correctness', 'I3: '],
  ['real-chance', 'unequal', 'differ'],
] as const) {
  it(`exits with ${exitCodes[kind]} for ${kind} (${bug})`, { timeout: 120_000 }, async () => {
    const { code, output } = await sim(...world, `--mutant=${bug}`);
    expect(output).toContain(`${kind}: `);
    expect(output).toContain(says);
    // Seed and commit, what happened last, and how to see it again.
    expect(output).toMatch(/^commit \S+$/m);
    expect(output).toMatch(/^\d+\.\d{3} ms {2}\w+/m);
    expect(output).toContain(`again: npm run sim -- --seed=0x2 --ticks=500 --mutant=${bug}`);
    expect(code).toBe(exitCodes[kind]);
  });
}

it('exits with 0 when all is well, and tells programs what the seed showed', {
  timeout: 120_000,
}, async () => {
  // What npm itself has to say is not for programs.
  const { code, stdout } = await sim(...world, '--json');
  expect(JSON.parse(stdout)).toMatchObject({
    seed: '0x2',
    how: 'ok',
    coverage: { 'workload: a transfer': expect.any(Number) as number },
  });
  expect(code).toBe(0);
});

it('exits with 2 when asked for nonsense', { timeout: 120_000 }, async () => {
  const { code, output } = await sim('--mutant=no-such-bug');
  expect(output).toContain('--mutant has a value that it does not take');
  expect(output).toContain('usage: npm run sim');
  expect(code).toBe(exitCodes.usage);
});

it('tells its options when asked', { timeout: 120_000 }, async () => {
  const { code, output } = await sim('--help');
  expect(output).toMatch(/^usage: npm run sim/);
  expect(code).toBe(0);
});

it('workers explore together: the first failure ends all, with its seed', {
  timeout: 120_000,
}, async () => {
  const { code, output } = await sim('--minutes=1', '--ticks=300', '--mutant=throw-in-an-event');
  expect(output).toMatch(/^again: npm run sim -- --seed=0x[0-9a-f]+ --ticks=300/m);
  expect(code).toBe(exitCodes.crash);
});
