import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { freePort } from '../../src/io/testing/free-ports.ts';
import { command } from './built.ts';

test('a command that waits for an etcd which is not there does not end without a word', async () => {
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
    const code = await Promise.race([ended, sleep(5_000)]);
    // Still waiting, or it has said why not.
    if (code !== undefined)
      expect({ code, said }).toEqual({ code: 3, said: expect.stringMatching(/^TIMEOUT/) });
  } finally {
    child.kill('SIGKILL');
    await ended;
  }
}, 60_000);
