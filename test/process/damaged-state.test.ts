import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

/** One executor on a data directory. @param events - hears what the network tells. */
function startIn(directory: string, events: string[]): Promise<NodeRoom.Network> {
  return startNetwork({
    directory,
    executors: 1,
    httpPort: 0,
    blocks: false,
    onEvent: (text) => events.push(text),
  });
}

test.each([
  ['first', 0],
  ['later', 2],
])(
  'a store whose %s pages are gone is set aside and made again from the log',
  async (_which, page) => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-damaged-'));
    const events: string[] = [];
    const start = (): Promise<NodeRoom.Network> => startIn(directory, events);
    const first = await start();
    const writer = await connect(first);
    await writer.deploy(await bundleContract(join(root, 'examples/contracts/bank')));
    await writer.submit('bank', 'open', ['alice', 'Alice', '7']);
    await writer.close();
    await first.close();

    const node = join(directory, 'executor-1');
    const file = await open(join(node, 'state/rows/data.mdb'), 'r+');
    await file.write(Buffer.alloc(16 * 4096, 0x5a), 0, 16 * 4096, page * 4096);
    await file.close();

    const second = await start();
    const reader = await connect(second);
    expect((await reader.evaluate('bank', 'balance', ['alice'])).text()).toBe('7');
    // Whether the store is refused or crashes depends on which pages are gone.
    const alarms = events.filter((text) => text.includes('ALARM'));
    if (page === 0) {
      expect(alarms).toEqual([
        expect.stringMatching(/cannot serve from its store .*: the state is set/),
      ]);
      expect(existsSync(join(node, 'state-damaged/rows/data.mdb'))).toBe(true);
    }
    await reader.close();
    await second.close();
    rmSync(directory, { recursive: true, force: true });
  },
  60_000,
);

test('a heap that is full is no damage', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-heap-'));
  const events: string[] = [];
  const start = (): Promise<NodeRoom.Network> => startIn(directory, events);
  await (await start()).close();
  vi.stubEnv('NODE_OPTIONS', '--max-old-space-size=10');
  await expect(start()).rejects.toMatchObject({
    code: 'IO_FAILED',
    message: expect.stringMatching(/its heap is full \(SIGABRT\)/),
  });
  vi.unstubAllEnvs();
  expect(events.filter((text) => text.includes('ALARM'))).toEqual([]);
  expect(existsSync(join(directory, 'executor-1/state-damaged'))).toBe(false);
  await (await start()).close();
  rmSync(directory, { recursive: true, force: true });
}, 60_000);

test('a node that crashes again and again soon after it serves gets its state made anew, once', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-crashing-'));
  const events: string[] = [];
  const network = await startIn(directory, events);
  for (let crash = 1; crash <= 4; crash++) {
    const { pid = 0 } = (await network.status()).executors[0] ?? {};
    process.kill(pid, 'SIGSEGV');
    await vi.waitFor(
      async () => {
        const [executor] = (await network.status()).executors;
        expect(executor?.restarts).toBe(crash);
        expect(executor?.status).toBeDefined();
      },
      { timeout: 40_000 },
    );
    const aside = events.filter((text) => text.includes('ALARM'));
    expect(aside).toHaveLength(crash < 3 ? 0 : 1);
    expect(existsSync(join(directory, 'executor-1/state-damaged'))).toBe(crash >= 3);
  }
  await network.close();
  rmSync(directory, { recursive: true, force: true });
}, 180_000);
