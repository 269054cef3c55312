import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { type Listener, realIo, rpcPeer } from '../io/index.ts';
import { type Address, asAddress, positionOf, sha256 } from '../model/index.ts';
import { openState, writeSnapshot } from '../state/index.ts';
import type { Member } from './members.ts';
import { type NodeOrders, servePrivately } from './private-service.ts';
import { type CatchUpOptions, catchUpBySnapshot, SnapshotFiles } from './snapshots.ts';

const io = realIo();
const trimmedTo = asAddress(10);
let directory: string;
let listener: Listener | undefined;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-catch-up-'));
});
afterEach(async () => {
  await listener?.close();
  await rm(directory, { recursive: true, force: true });
});

/** A node's snapshots: one of a state with so many entries, of `channel`. */
async function snapshotsOf(name: string, entries: number, channel = 'bank', chain = false) {
  const own = join(directory, name);
  const state = await openState({ io, directory: join(own, `to-${entries}`) });
  for (let address = 0; address < entries; address++) {
    const version = positionOf(asAddress(address), 0);
    state.apply({
      address: asAddress(address),
      writes: [{ key: `ns\0k${address}`, value: `value ${address}`, version }],
      records: [
        {
          record: { txId: sha256(Buffer.from(String(address))) },
          position: version,
          verdict: 0,
        },
      ],
      timestampsMs: [address],
      logTimeMs: address,
      horizonMs: 0,
    });
  }
  const files = await SnapshotFiles.open(io, join(own, 'snapshots'), chain);
  const { nextAddress } = await writeSnapshot(state, io.disk, join(own, 'writing'), channel);
  await files.add(join(own, 'writing'), asAddress(nextAddress));
  await state.close();
  return files;
}

/** Another node that offers its newest snapshot. */
async function serve(files: SnapshotFiles): Promise<Member> {
  const refuse = (): never => {
    throw new DaybookError('NOT_FOUND', 'not here');
  };
  const orders: NodeOrders = {
    handOver: refuse,
    drain: refuse,
    blocks: refuse,
    held: refuse,
    offerSnapshot: async () => files.newest,
    snapshotPiece: (address, offset) => files.piece(address, offset),
  };
  listener = await io.network.listen('127.0.0.1:0', (connection) =>
    servePrivately(rpcPeer(connection), orders, undefined),
  );
  const { address } = listener;
  return {
    name: 'other',
    channel: 'bank',
    gateway: '',
    address,
    roles: ['executor'],
    draining: false,
    id: 'other',
    snapshot: files.newest,
  };
}

async function spoil(files: SnapshotFiles): Promise<void> {
  const path = files.path(files.newest);
  const bytes = await readFile(path);
  bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 4;
  await writeFile(path, bytes);
}

async function catchUp(
  snapshots: SnapshotFiles,
  members: readonly Member[],
  settings: Partial<CatchUpOptions> = {},
) {
  const events: string[] = [];
  const stateDirectory = join(directory, 'state');
  const end = (): Promise<Address> => Promise.resolve(asAddress(30));
  await catchUpBySnapshot({
    io,
    log: { start: () => Promise.resolve(trimmedTo), tail: end },
    channel: 'bank',
    stateDirectory,
    snapshots,
    chain: false,
    members: () => Promise.resolve(members),
    onEvent: (text) => events.push(text),
    ...settings,
  });
  const state = await openState({ io, directory: stateDirectory });
  const { nextAddress } = state;
  await state.close();
  return { nextAddress, events: events.join('\n') };
}

test('a snapshot of its own is enough', async () => {
  const { nextAddress, events } = await catchUp(await snapshotsOf('own', 12), []);
  expect(nextAddress).toBe(12);
  expect(events).toMatch(/restored from a snapshot/);
});

test('a damaged snapshot of its own is removed, and another node’s is taken', async () => {
  const own = await snapshotsOf('own', 12);
  await spoil(own);
  const other = await serve(await snapshotsOf('other', 11));
  const { nextAddress, events } = await catchUp(own, [other]);
  expect(nextAddress).toBe(11);
  expect(events).toMatch(/the snapshot at 12 is refused: the snapshot is damaged/);
  expect(own.newest).toBe(11);
});

test('a snapshot that is damaged, too old, or of another channel is not taken from others', async () => {
  const own = await SnapshotFiles.open(io, join(directory, 'none'), false);
  for (const [entries, channel, spoiled] of [
    [12, 'bank', true],
    [9, 'bank', false],
    [12, 'other', false],
  ] as const) {
    const files = await snapshotsOf(`${entries}-${channel}`, entries, channel);
    if (spoiled) await spoil(files);
    const other = await serve(files);
    await expect(catchUp(own, [other])).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
    expect(own.newest).toBe(0);
    await listener?.close();
  }
});

test('who makes blocks begins where its blocks reach, not with its newest snapshot', async () => {
  await snapshotsOf('own', 12, 'bank', true);
  const own = await snapshotsOf('own', 15, 'bank', true);
  await own.cover(asAddress(13));
  const { nextAddress } = await catchUp(own, [], { chain: true });
  expect(nextAddress).toBe(12);
  // The next process knows it, too.
  await snapshotsOf('own', 18, 'bank', true);
  const again = await snapshotsOf('own', 19, 'bank', true);
  await rm(join(directory, 'state'), { recursive: true });
  expect((await catchUp(again, [], { chain: true })).nextAddress).toBe(12);
});

test('who makes blocks replays a whole log rather than begin ahead of its blocks', async () => {
  const own = await snapshotsOf('own', 15, 'bank', true);
  const other = await serve(await snapshotsOf('other', 20));
  const log = { start: async () => asAddress(0), tail: async () => asAddress(30) };
  const settings = { chain: true, log, replayEntriesMax: 18 };
  expect((await catchUp(own, [other], settings)).nextAddress).toBe(0);
  await own.cover(asAddress(15));
  await rm(join(directory, 'state'), { recursive: true });
  expect((await catchUp(own, [other], settings)).nextAddress).toBe(15);
});

test('who makes blocks begins ahead of them when the log lost what lies between', async () => {
  await snapshotsOf('own', 9, 'bank', true);
  const own = await snapshotsOf('own', 15, 'bank', true);
  await own.cover(asAddress(9));
  expect((await catchUp(own, [], { chain: true })).nextAddress).toBe(15);
});
