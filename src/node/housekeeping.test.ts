import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Member } from './members.ts';
import { SnapshotFiles } from './snapshots.ts';

it('holds, and trims, only what its blocks are saved for', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-housekeeping-'));
  const io = realIo();
  const snapshots = await SnapshotFiles.open(io, join(directory, 'snapshots'));
  const trimmed: number[] = [];
  let told: Member | undefined;
  let saved: Address | DaybookError = new DaybookError('PROOF_NOT_READY', 'being opened');
  let saves = 0;
  const info = (): Member => ({
    name: 'node0',
    channel: 'bank',
    gateway: '',
    address: '',
    roles: ['executor'],
    draining: false,
    id: 'one',
    snapshot: snapshots.newest,
    held: housekeeping.held,
  });
  const housekeeping: Housekeeping = new Housekeeping({
    io,
    log: {
      start: async () => asAddress(0),
      trim: async (before) => {
        trimmed.push(before);
      },
    },
    name: 'node0',
    snapshots,
    everyMs: 1,
    joinReplayEntriesMax: 10,
    retention: () => ({ entries: 10, holders: 1 }),
    nextAddress: () => asAddress(100),
    writeSnapshot: async (path) => {
      await writeFile(path, '');
      return asAddress(100);
    },
    saveBlocks: async () => {
      saves++;
      if (saved instanceof DaybookError) throw saved;
      return saved;
    },
    info,
    tell: async (member) => {
      told = member;
    },
    members: () => (told === undefined ? [] : [told]),
    leavesTrimming: () => false,
    onEvent: (text) => expect.unreachable(text),
  });
  const rounds = async (count: number): Promise<void> => {
    const until = saves + count;
    while (saves < until) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  housekeeping.start();
  try {
    // It has a snapshot, and nobody knows what of its blocks a power failure would leave.
    await rounds(3);
    expect({ snapshot: snapshots.newest, held: housekeeping.held, trimmed }).toEqual({
      snapshot: 100,
      held: 0,
      trimmed: [],
    });
    saved = asAddress(40);
    await rounds(3);
    expect(housekeeping.held).toBe(40);
    expect(Math.max(...trimmed)).toBe(40);
    // What was saved stays so while the blocks are opened anew.
    saved = new DaybookError('PEER_UNREACHABLE', 'its process has ended');
    await rounds(3);
    expect(housekeeping.held).toBe(40);
  } finally {
    await housekeeping.close();
    await rm(directory, { recursive: true });
  }
});
