import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

const directory = mkdtempSync(join(tmpdir(), 'daybook-full-'));
const isMounted = mountSmallDisk();
if (!isMounted) console.warn('skipped: file systems cannot be mounted here');

function mountSmallDisk(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', directory], {
      stdio: 'ignore',
    });
    return true;
  } catch {
    return false;
  }
}

afterAll(() => {
  if (isMounted) execFileSync('umount', ['-l', directory]);
  rmSync(directory, { recursive: true, force: true });
});

describe.skipIf(!isMounted)('a node whose disk is full', () => {
  test('says so, and goes on by itself when there is room again: state and blocks', async () => {
    const events: string[] = [];
    const heard = (pattern: RegExp): Promise<void> =>
      vi.waitFor(() => expect(events).toContainEqual(expect.stringMatching(pattern)), 60_000);
    const network = await startNetwork({
      directory: join(directory, 'network'),
      executors: 1,
      httpPort: 0,
      tickIntervalMs: 200,
      onEvent: (text) => events.push(text),
    });
    const client = await connect(network);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const height = async (): Promise<number> => {
      const health = (await (await fetch(`${network.gateways[0]}/health`)).json()) as {
        channels: { blocks?: { height: number } }[];
      };
      return health.channels[0]?.blocks?.height ?? 0;
    };
    await vi.waitFor(async () => expect(await height()).toBeGreaterThan(1), 60_000);

    const filler = join(directory, 'filler');
    // The network takes some of it meanwhile.
    expect(() => writeFileSync(filler, Buffer.alloc(200 * 1024 * 1024))).toThrow(/ENOSPC/);
    // The log has room in the segment that it made before,
    // the file of blocks in its last page only.
    for (let call = 0; call < 20; call++) await client.submit('bench', 'move', ['a', 'b', '1']);
    await heard(/ALARM no more blocks are made: DISK_FULL/);
    await heard(/ALARM the state cannot be saved/);
    const stood = await height();
    truncateSync(filler, 0);
    await heard(/the state is saved again/);
    await heard(/blocks are made again/);
    await client.submit('bench', 'move', ['a', 'b', '1']);
    await vi.waitFor(async () => expect(await height()).toBeGreaterThan(stood), 60_000);
    await client.close();
    await network.close();
  }, 240_000);
});
