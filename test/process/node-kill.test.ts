import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { freePort } from '../../src/io/testing/free-ports.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, command, root } from './built.ts';
import { discrepancies, startTellers } from './transfers.ts';

/*
 * Bad days of a network on one machine: the whole node killed, or one of its executors, while
 * tellers transfer money. Nothing acknowledged may be lost, nothing may take effect twice.
 */

const { openIdentities, startNetwork } = (await import(
  built('src/node/index.js')
)) as typeof NodeRoom;
const { realIo } = await import('../../src/io/index.ts');

const directories: string[] = [];
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) killGroup(child);
  for (const directory of directories.splice(0))
    rmSync(directory, { recursive: true, force: true });
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-kill-'));
  directories.push(directory);
  return directory;
}

function killGroup(child: ChildProcess): void {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  process.kill(-child.pid, 'SIGKILL');
}

/** Starts `daybook up` as the leader of a process group; resolves when its gateways are there. */
async function up(directory: string, port: number): Promise<ChildProcess> {
  const child = spawn(
    process.execPath,
    [
      command,
      'up',
      '--directory',
      directory,
      '--port',
      String(port),
      '--executors',
      '1',
      '--no-blocks',
      '--json',
    ],
    { stdio: ['ignore', 'pipe', 'pipe'], detached: true },
  );
  children.push(child);
  let errors = '';
  child.stderr.on('data', (text) => {
    errors += String(text);
  });
  await new Promise<void>((resolve, reject) => {
    child.stdout.once('data', () => resolve());
    child.once('exit', (code) => reject(new Error(`daybook up ended with ${code}: ${errors}`)));
  });
  return child;
}

test('kill -9 of the node under load, 50 times: nothing acknowledged is lost or doubled', async () => {
  const kills = 50;
  const directory = temporaryDirectory();
  const port = await freePort();
  let node = await up(directory, port);
  const signer = await (
    await openIdentities(realIo(), join(directory, 'identities'), 'Org1MSP')
  ).load('admin');
  const client = await connect({
    gateways: [`http://127.0.0.1:${port}`],
    channel: 'main',
    signer,
    deadlineMs: 60_000,
  });
  await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
  const tellers = startTellers(client, 16);
  let slowestStartMs = 0;
  const acknowledged = (): number =>
    tellers.told.reduce((sum, each) => sum + each.acknowledged.length, 0);
  for (let kill = 0; kill < kills; kill++) {
    // Most often under load; now and then while the node is still coming up.
    const before = acknowledged();
    while (kill % 10 !== 9 && acknowledged() === before) await sleep(5);
    await sleep((kill * 137) % 400);
    killGroup(node);
    const started = performance.now();
    node = await up(directory, port);
    slowestStartMs = Math.max(slowestStartMs, performance.now() - started);
  }
  await tellers.stop();
  expect(acknowledged()).toBeGreaterThan(kills);
  expect(await discrepancies(client, tellers.told)).toEqual([]);
  await client.close();
  process.stderr.write(
    `${kills} kills, ${acknowledged()} acknowledged, slowest start ${Math.round(slowestStartMs)} ms\n`,
  );
}, 1_200_000);

test('kill -9 of one of two executors, again and again: the other goes on, nothing is lost', async () => {
  const network = await startNetwork({
    directory: temporaryDirectory(),
    executors: 2,
    httpPort: 0,
  });
  const client = await connect({
    gateways: network.gateways,
    channel: network.channel,
    signer: network.signer,
    deadlineMs: 60_000,
  });
  try {
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const tellers = startTellers(client, 16);
    for (let kill = 0; kill < 12; kill++) {
      await sleep(200 + ((kill * 211) % 700));
      const { executors } = await network.status();
      const pid = executors[(kill * 7) % 3 === 0 ? 0 : 1]?.pid;
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    }
    await tellers.stop();
    expect(await discrepancies(client, tellers.told)).toEqual([]);
    // Both are back and have the same state.
    const until = performance.now() + 30_000;
    for (;;) {
      const { executors, tail } = await network.status();
      const level = executors.every(({ status }) => status?.nextAddress === tail);
      if (level || performance.now() > until) {
        expect(executors.map(({ status }) => status?.nextAddress)).toEqual([tail, tail]);
        expect(executors.reduce((sum, { restarts }) => sum + restarts, 0)).toBeGreaterThan(3);
        break;
      }
      await sleep(100);
    }
    for (const gateway of network.gateways) {
      const one = await connect({
        gateways: [gateway],
        channel: network.channel,
        signer: network.signer,
      });
      expect(await discrepancies(one, tellers.told)).toEqual([]);
      await one.close();
    }
  } finally {
    await client.close();
    await network.close();
  }
}, 300_000);
