import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { command } from './built.ts';

/* Ctrl-C while a command waits for something, and places where a network cannot be. */

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-interrupt-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<{ readonly code: number | null; readonly err: string }>;
}

function start(...args: string[]): Running {
  const child = spawn(process.execPath, [command, ...args], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let err = '';
  child.stderr?.on('data', (text) => {
    err += text;
  });
  return { child, ended: new Promise((done) => child.on('close', (code) => done({ code, err }))) };
}

test('a network whose etcd does not answer can be interrupted at once', async () => {
  const { child, ended } = start('up', '--port', '0', '--log', 'etcd://127.0.0.1:1/main');
  await expect
    .poll(() => existsSync(join(directory, '.daybook/daybook.log')), { timeout: 20_000 })
    .toBe(true);
  const fromMs = Date.now();
  child.kill('SIGINT');
  expect(await ended).toEqual({ code: 130, err: '' });
  // It would wait half a minute for etcd.
  expect(Date.now() - fromMs).toBeLessThan(10_000);
}, 60_000);

test('a port in use is named, with what to do', async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address() as AddressInfo;
  const { code, err } = await start('up', '--executors', '1', '--port', String(port)).ended;
  server.close();
  expect(code).toBe(2);
  expect(err).toMatch(/^LISTEN_FAILED: .*EADDRINUSE.*\n {2}.*--port/);
}, 60_000);

test('a bench that is not there is a wrong command line', async () => {
  const { code, err } = await start('bench', 'nonsense').ended;
  expect(code).toBe(2);
  expect(err).toMatch(/^USAGE: no bench nonsense; benches: .*commit/);
}, 60_000);

test('a directory that cannot be one is named', async () => {
  mkdirSync(join(directory, 'x'));
  writeFileSync(join(directory, 'x/file'), '');
  const { code, err } = await start('up', '--port', '0', '--directory', 'x/file').ended;
  expect(code).toBe(2);
  expect(err).toMatch(/^IO_FAILED: .*x\/file/);
}, 60_000);
