import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { runCaptured } from '../../src/cli/testing/run-captured.ts';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';

/* A heavy bulk update on a real node: its worker, its progress, kill -9 in the middle, what is left. */

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

const rows = 40_000;
let directory: string;
let network: NodeRoom.Network;
let client: Client;

beforeAll(async () => {
  directory = mkdtempSync(join(tmpdir(), 'daybook-bulk-process-'));
  network = await startNetwork({ directory, executors: 1, httpPort: 0, tickIntervalMs: 100 });
  const { channel, gateways, signer } = network;
  const file = { version: 1, channel, gateways, mspId: signer.identity.mspId, identity: 'admin' };
  writeFileSync(join(directory, 'network.json'), JSON.stringify(file));
  client = await connect({ gateways, channel, signer, deadlineMs: 60_000 });
  await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
  const fills = Array.from({ length: rows / 500 }, (_, at) =>
    client.submit('bench', 'fill', ['company', String(at * 500), '500']),
  );
  await Promise.all(fills);
}, 120_000);

afterAll(async () => {
  await client.close();
  await network.close();
  rmSync(directory, { recursive: true, force: true });
});

interface Progress {
  readonly position: number;
  readonly rowsSeen: number;
  readonly rowsUpdated: number;
}

async function progress(): Promise<readonly Progress[] | undefined> {
  const { out } = await runCaptured(directory, ['status', '-d', '.', '--json']);
  return out === '' ? undefined : (JSON.parse(out).gateways[0].bulk ?? []);
}

const balance = async (key: string): Promise<string> =>
  (await client.evaluate('bench', 'read', [key])).text();

test('its rows are updated in the background, through kill -9; status shows how far it is', async () => {
  const { position } = await client.submit('bench', 'raise', ['company', '10']);
  // Reads see it at once, and so does what is written now.
  expect(await balance(`company${rows - 1}`)).toBe('10');
  await client.submit('bench', 'raise', ['company', '5']);
  const seen: number[] = [];
  let killed = false;
  const untilMs = performance.now() + 90_000;
  for (;;) {
    const now = await progress();
    if (now?.length === 0) break;
    expect(performance.now()).toBeLessThan(untilMs);
    for (const one of now ?? []) if (one.position === position) seen.push(one.rowsSeen);
    if (!killed && (seen.at(-1) ?? 0) > 5_000) {
      killed = true;
      const { executors } = await network.status();
      process.kill(executors[0]?.pid ?? 0, 'SIGKILL');
      // Far from the end, and not from the beginning again.
      while ((await progress()) === undefined) await sleep(50);
    }
    await sleep(20);
  }
  expect(killed).toBe(true);
  expect(Math.min(...seen.slice(seen.findIndex((count) => count > 5_000)))).toBeGreaterThan(2_000);
  for (const at of [0, 1, 777, rows - 1]) expect(await balance(`company${at}`)).toBe('15');
}, 150_000);

test('the chain switches to the rows, and their files go', async () => {
  const bulk = join(directory, 'executor-1/state/bulk');
  expect(readdirSync(bulk).filter((name) => name.endsWith('.rows'))).toHaveLength(2);
  // Each reads what the one before wrote, so each has a block of its own.
  const moves = Array.from({ length: 220 }, () =>
    client.submit('bench', 'move', ['account0', 'account1', '1']),
  );
  const last = Math.max(...(await Promise.all(moves)).map(({ position }) => position));
  const untilMs = performance.now() + 60_000;
  for (;;) {
    const blocks = (await network.status()).executors[0]?.status?.blocks;
    expect(blocks?.alarm).toBeUndefined();
    if ((blocks?.position ?? 0) > last) break;
    expect(performance.now()).toBeLessThan(untilMs);
    await sleep(100);
  }
  await client.close();
  await network.close();
  expect(existsSync(bulk) ? readdirSync(bulk) : []).toEqual([]);
  const { code, err } = await runCaptured(directory, [
    ...['verify', 'chain', 'executor-1', '--trust', 'identities/msp.json'],
  ]);
  expect({ code, err }).toEqual({ code: 0, err: '' });
}, 150_000);
