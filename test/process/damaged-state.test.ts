import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { built, root } from './built.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

test.each([
  ['first', 0],
  ['later', 2],
])(
  'a store whose %s pages are gone is set aside and made again from the log',
  async (_which, page) => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-damaged-'));
    const events: string[] = [];
    const start = (): Promise<NodeRoom.Network> =>
      startNetwork({
        directory,
        executors: 1,
        httpPort: 0,
        blocks: false,
        onEvent: (text) => events.push(text),
      });
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
