import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { DaybookError } from '../../base/index.ts';
import type { BlockStatus } from '../../blocks/index.ts';
import { realIo } from '../../io/index.ts';
import {
  asPosition,
  type ChannelConfig,
  channelConfigDefaults,
  IdentityVerifier,
} from '../../model/index.ts';
import { openNodeRepair, type WatchedNode } from './node-repair.ts';
import type { OtherNode } from './other-nodes.ts';

const config: ChannelConfig = {
  ...channelConfigDefaults,
  channel: 'bank',
  msps: [],
  access: { submit: [], deploy: [], administer: [] },
};
const mismatch = new DaybookError('BLOCK_MISMATCH', 'block 10 is not what the log says');
const status = { height: 10, position: 9, records: 9, blockHash: '', stateRoot: '' } as BlockStatus;

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-repair-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** Looks after a node with these blocks and so many others, until it diverges or some time is over. */
async function watched(
  blocks: WatchedNode['blocks'],
  others: number,
): Promise<{ readonly diverged: boolean; readonly state: string; readonly record: string }> {
  const silent = (name: string): OtherNode => ({
    name,
    call: async () => {
      throw new DaybookError('PEER_UNREACHABLE', name);
    },
  });
  let looks = 0;
  const diverged = await new Promise<boolean>((resolve) => {
    void openNodeRepair({
      io: realIo(),
      name: 'node0',
      channel: 'bank',
      directory,
      stateDirectory: join(directory, 'state'),
      chainDirectory: join(directory, 'chain'),
      others: async () => {
        if (++looks > 5 && repair?.guard.error === undefined) resolve(false);
        return Array.from({ length: others }, (_, at) => silent(`node${at + 1}`));
      },
      intervalMs: 1,
      onDiverged: () => resolve(true),
      onEvent: () => undefined,
    }).then((opened) => {
      repair = opened;
      opened.watch({
        blocks,
        verifier: () => new IdentityVerifier([]),
        config: () => config,
        replayed: asPosition(0),
      });
    });
  });
  await repair?.close();
  const path = join(directory, 'repair', 'record.json');
  const record = await readFile(path, 'utf8').catch(() => '');
  return { diverged, state: repair?.guard.status.state ?? '', record };
}
let repair: Awaited<ReturnType<typeof openNodeRepair>> | undefined;

function stopped(alarm: DaybookError): WatchedNode['blocks'] {
  const unknown = async (): Promise<never> => {
    throw new DaybookError('NOT_FOUND', 'no block');
  };
  return () => ({ alarm, now: async () => status, statement: unknown, block: unknown });
}

it('has a chain restored that holds another block than the log gives', async () => {
  const { diverged, state, record } = await watched(stopped(mismatch), 2);
  expect({ diverged, state }).toEqual({ diverged: true, state: 'repairing' });
  expect(JSON.parse(record)).toMatchObject({ state: 'asked', height: 10 });
});

it('has a chain restored that does not open for that', async () => {
  const failing = (): never => {
    throw mismatch;
  };
  const { diverged, state, record } = await watched(failing, 2);
  expect({ diverged, state }).toEqual({ diverged: true, state: 'repairing' });
  expect(JSON.parse(record)).toMatchObject({ state: 'asked', height: 0 });
});

it('leaves it to a person where the other node may be the one that is wrong', async () => {
  const { diverged, state, record } = await watched(stopped(mismatch), 1);
  expect({ diverged, state, record }).toEqual({ diverged: false, state: 'serving', record: '' });
});
