import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { command, root } from './built.ts';

/*
 * What the README promises, done the way it says: with the built command, on a real network.
 * `npm test` builds first; alone, run `npm run build` before.
 */

const readme = readFileSync(join(root, 'README.md'), 'utf8');

interface Demo {
  readonly gateways: readonly string[];
  readonly channel: string;
  readonly contract: { readonly deployed: boolean };
  readonly transfer: { readonly txId: string };
  readonly refused: { readonly code: string };
  readonly balances: { readonly alice: string; readonly bob: string };
}

let directory: string;
let network: ChildProcess;
let demo: Demo;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-readme-'));
  demo = await startDemo();
}, 60_000);

afterAll(() => {
  signal('SIGKILL');
  rmSync(directory, { recursive: true, force: true });
});

async function startDemo(): Promise<Demo> {
  network = spawn(process.execPath, [command, 'demo', '--port', '0', '--json'], {
    cwd: directory,
    stdio: ['ignore', 'pipe', 'pipe'],
    // A process group of its own, to be interrupted as a terminal does it.
    detached: true,
  });
  let errors = '';
  network.stderr?.on('data', (text) => {
    errors += text;
  });
  const lines = createInterface({ input: network.stdout as NodeJS.ReadableStream });
  return new Promise((resolve, reject) => {
    lines.once('line', (line) => resolve(JSON.parse(line)));
    network.once('exit', (code) => reject(new Error(`demo ended with ${code}: ${errors}`)));
  });
}

/** To every process of the network, as Ctrl-C does. */
function signal(name: 'SIGINT' | 'SIGKILL'): void {
  if (network.pid !== undefined && network.exitCode === null) process.kill(-network.pid, name);
}

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { cwd: directory, timeout: 60_000 }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, out, err });
    });
  });
}

/** The shell blocks under a heading, with the exit code that their info string announces. */
function shellBlocks(heading: string): { line: string; exit: number }[] {
  const section = readme.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  return [...section.matchAll(/```sh(?: exit=(\d+))?\n(.*?)```/gs)].flatMap(
    ([, exit = '0', text = '']) =>
      text
        .trim()
        .split('\n')
        .map((line) => ({ line, exit: Number(exit) })),
  );
}

test('npm start commits, and refuses what nobody can pay', () => {
  expect(demo).toMatchObject({
    contract: { deployed: true },
    refused: { code: 'CONTRACT_REJECTED' },
    transfer: { txId: expect.stringMatching(/^[0-9a-f]{64}$/) },
  });
  expect(Number(demo.balances.alice) + Number(demo.balances.bob)).toBe(150);
});

test('npx may execute the built command, also one that was built anew', () => {
  expect(statSync(command).mode & 0o111).toBe(0o111);
});

test('every command of the tour works', async () => {
  const blocks = shellBlocks('Tour');
  expect(blocks.length).toBeGreaterThan(10);
  const outputs = new Map<string, string>();
  for (const { line, exit } of blocks) {
    expect(line).toMatch(/^npx daybook /);
    const ran = await run([command, ...line.split(' ').slice(2)]);
    expect({ line, code: ran.code, err: ran.err }).toEqual({
      line,
      code: exit,
      err: exit === 0 ? '' : expect.stringMatching(/^[A-Z_]+: /),
    });
    outputs.set(line, ran.out);
  }
  expect(outputs.get('npx daybook evaluate bank balance carol')).toBe('87.5\n');
  expect(outputs.get('npx daybook log tail --lines 3')).toContain('bank.transfer(carol');
  expect(outputs.get('npx daybook contract list')).toContain('my-contract');
}, 120_000);

test('a transaction can be looked up by its id', async () => {
  const { code, out } = await run([command, 'tx', demo.transfer.txId, '--json']);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ txId: demo.transfer.txId, valid: true });
  const unknown = await run([command, 'tx', '0'.repeat(64)]);
  expect(unknown).toMatchObject({ code: 1, err: expect.stringMatching(/^TRANSACTION_UNKNOWN: /) });
}, 30_000);

test('the program in the README is the one in examples, and works', async () => {
  const [, file = '', code] = /```ts file=(\S+)\n(.*?)```/s.exec(readme) ?? [];
  expect(code).toBe(readFileSync(join(root, file), 'utf8'));
  // The network of this test has other ports than `npm start`.
  const compiled = readFileSync(join(root, 'dist', file.replace(/\.ts$/, '.js')), 'utf8');
  const program = join(root, 'dist', file.replace(/main\.ts$/, `readme-test-${process.pid}.js`));
  writeFileSync(
    program,
    compiled
      .replace('http://127.0.0.1:4270', demo.gateways[0] ?? '')
      .replace('http://127.0.0.1:4271', demo.gateways[1] ?? ''),
  );
  try {
    const ran = await run([program]);
    expect(ran).toMatchObject({ code: 0, err: '' });
    expect(ran.out).toMatch(/^transaction [0-9a-f]{64} stands at position \d+\nbob has [\d.]+\n$/);
  } finally {
    rmSync(program);
  }
}, 30_000);

test('Ctrl-C stops the network, and it goes on where it stopped', async () => {
  const stopped = new Promise<number | null>((resolve) => network.once('exit', resolve));
  signal('SIGINT');
  expect(await stopped).toBe(0);
  expect((await run([command, 'status'])).code).toBe(3);
  const again = await startDemo();
  expect(again.contract.deployed).toBe(false);
  const carol = await run([command, 'evaluate', 'bank', 'balance', 'carol']);
  expect(carol).toMatchObject({ code: 0, out: '87.5\n' });
}, 60_000);
