import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { freePort } from '../../src/io/testing/free-ports.ts';
import { command } from './built.ts';

test('a command that waits for an etcd which is not there says so', async () => {
  const url = `etcd://127.0.0.1:${await freePort()}/main`;
  const child = spawn(process.execPath, [command, 'log', 'units', '--log', url], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text) => {
    said += String(text);
  });
  const ended = new Promise((resolve) => child.once('close', (code) => resolve(code)));
  try {
    await Promise.race([ended, sleep(8_000)]);
    expect(said).toMatch(`still waiting for etcd at ${url}`);
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}, 60_000);
