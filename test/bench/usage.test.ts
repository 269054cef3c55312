import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { root } from '../process/built.ts';

test('what is wrong with the options of a bench is JSON where JSON is asked for', () => {
  const run = (...args: string[]): { status: number; stderr: string } => {
    try {
      execFileSync(process.execPath, ['dist/bench/main.js', ...args], { cwd: root, stdio: 'pipe' });
    } catch (error) {
      const { status, stderr } = error as { status: number; stderr: Buffer };
      return { status, stderr: stderr.toString() };
    }
    throw new Error('it ran');
  };
  const plain = run('nope');
  expect(plain.stderr).toMatch(/^USAGE: no bench nope; benches: bulk, commit, /);
  const asked = run('nope', '--json');
  expect(JSON.parse(asked.stderr)).toMatchObject({ error: { code: 'USAGE' } });
  expect(JSON.parse(run('commit', '--json', '--nope', '1').stderr)).toMatchObject({
    error: { code: 'USAGE', message: expect.stringContaining('numbers for') },
  });
  expect([plain.status, asked.status]).toEqual([2, 2]);
}, 60_000);
