import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { Housekeeping } from './housekeeping.ts';
import type { Makers } from './makers.ts';
import type { Member } from './members.ts';
import { SnapshotFiles } from './snapshots.ts';

const node: Member = {
  name: 'node0',
  channel: 'bank',
  gateway: '',
  address: '',
  roles: ['executor'],
  draining: false,
  id: 'one',
};

/** As etcd keeps them. */
function makersKept(...names: string[]): Makers & { readonly kept: Set<string> } {
  const kept = new Set(names);
  return {
    kept,
    names: async () => [...kept],
    remember: async ({ name }) => {
      kept.add(name);
    },
    forget: async (name) => {
      kept.delete(name);
    },
  };
}

it('holds, and trims, only what its blocks are saved for', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-housekeeping-'));
  const io = realIo();
  const snapshots = await SnapshotFiles.open(io, join(directory, 'snapshots'), true);
  const trimmed: number[] = [];
  let told: Member | undefined;
  const events: string[] = [];
  let saved: Address | DaybookError = new DaybookError('PROOF_NOT_READY', 'being opened');
  let saves = 0;
  let lacks = false;
  const info = (): Member => ({
    ...node,
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
    lacksBlocks: () => lacks,
    info,
    tell: async (member) => {
      told = member;
    },
    members: () => (told === undefined ? [] : [told]),
    makers: makersKept(),
    leavesTrimming: () => false,
    onEvent: (text) => events.push(text),
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
    expect(events).toEqual([]);
    saved = new DaybookError('IO_FAILED', 'EXDEV: rows/7');
    await rounds(3);
    expect(events).toEqual([expect.stringMatching(/blocks cannot be saved.*EXDEV: rows\/7/)]);
    // Out of that snapshot nobody could make the blocks from 40 on.
    saved = asAddress(40);
    await rounds(3);
    expect({ held: housekeeping.held, trimmed }).toEqual({ held: 0, trimmed: [] });
    saved = asAddress(100);
    while (housekeeping.held < 100) await new Promise((resolve) => setTimeout(resolve, 1));
    while (trimmed.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    expect(trimmed[0]).toBe(90);
    // A block of those turns out to be damaged: at once nobody counts on it, nor after a restart.
    lacks = true;
    expect(housekeeping.held).toBe(0);
    while (told?.held !== 0) await new Promise((resolve) => setTimeout(resolve, 1));
    expect((await SnapshotFiles.open(io, join(directory, 'snapshots'), true)).held).toBe(0);
    lacks = false;
    while (housekeeping.held < 100) await new Promise((resolve) => setTimeout(resolve, 1));
  } finally {
    await housekeeping.close();
    await rm(directory, { recursive: true });
  }
});

it('keeps a snapshot that saved blocks reach, and the log from there on, however far blocks lag', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-housekeeping-'));
  const io = realIo();
  const path = join(directory, 'snapshots');
  const snapshots = await SnapshotFiles.open(io, path, true);
  let applied = 0;
  let saved = 0;
  let start = 0;
  let told: Member | undefined;
  const wrong: string[] = [];
  const look = (): void => {
    const files = readdirSync(path).flatMap((name) => /^snapshot-(\d+)$/.exec(name)?.[1] ?? []);
    const reached = files.map(Number).some((address) => address >= start && address <= saved);
    if (files.length > 4 || (start > 0 && !reached)) {
      wrong.push(`log from ${start}, blocks to ${saved}, snapshots at ${files.join(' ')}`);
    }
  };
  const housekeeping: Housekeeping = new Housekeeping({
    io,
    log: {
      start: async () => asAddress(start),
      trim: async (before) => {
        start = before;
        look();
      },
    },
    name: 'node0',
    snapshots,
    everyMs: 1,
    joinReplayEntriesMax: 10,
    retention: () => ({ entries: 10, holders: 1 }),
    nextAddress: () => {
      applied += 3;
      return asAddress(applied);
    },
    writeSnapshot: async (file) => {
      look();
      await writeFile(file, '');
      return asAddress(applied);
    },
    // Far more snapshots are written meanwhile than are kept.
    saveBlocks: async () => {
      saved = Math.max(0, applied - 50);
      return asAddress(saved);
    },
    info: () => ({ ...node, held: housekeeping.held }),
    tell: async (member) => {
      told = member;
    },
    members: () => (told === undefined ? [] : [told]),
    makers: makersKept(),
    leavesTrimming: () => false,
    onEvent: (text) => expect.unreachable(text),
  });
  housekeeping.start();
  try {
    while (applied < 1_000 && wrong.length === 0) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(wrong).toEqual([]);
    expect(start).toBeGreaterThan(700);
  } finally {
    await housekeeping.close();
    await rm(directory, { recursive: true });
  }
});

it('waits with trimming for who makes blocks and is away, says so, and knows them for good', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-housekeeping-'));
  const io = realIo();
  const makers = makersKept('gone');
  const events: string[] = [];
  const maker = { ...node, address: 'nowhere:1', chain: true, held: 100 };
  let members: readonly Member[] = [];
  let start = 0;
  const snapshots = await SnapshotFiles.open(io, join(directory, 'snapshots'), false);
  const housekeeping: Housekeeping = new Housekeeping({
    io,
    log: {
      start: async () => asAddress(start),
      trim: async (before) => {
        start = before;
      },
    },
    name: 'node0',
    snapshots,
    everyMs: 1,
    joinReplayEntriesMax: 10,
    retention: () => ({ entries: 10, holders: 2 }),
    nextAddress: () => asAddress(100),
    writeSnapshot: async (file) => {
      await writeFile(file, '');
      return asAddress(100);
    },
    // It makes no blocks.
    info: () => ({ ...node, held: housekeeping.held }),
    tell: async () => undefined,
    members: () => [
      { ...node, held: housekeeping.held },
      { ...node, name: 'node1', address: 'nowhere:1', held: 100 },
      ...members,
    ],
    makers,
    leavesTrimming: () => false,
    onEvent: (text) => events.push(text),
  });
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  housekeeping.start();
  try {
    await until(() => events.length > 0);
    expect(events).toEqual([expect.stringMatching(/^the log is not trimmed: it waits for gone,/)]);
    expect(housekeeping.waitsFor).toEqual(['gone']);
    // One of an older version, which does not say of itself that it is to be remembered.
    members = [{ ...maker, name: 'old' }];
    await until(() => makers.kept.has('old'));
    members = [];
    await until(() => housekeeping.waitsFor.includes('old'));
    expect(start).toBe(0);
    // So many hold what that one holds that it need not be waited for.
    members = [
      { ...maker, name: 'old' },
      { ...maker, name: 'new' },
    ];
    await until(() => start > 0);
    await until(() => !makers.kept.has('gone'));
    expect([...makers.kept].sort()).toEqual(['new', 'old']);
    expect(housekeeping.waitsFor).toEqual([]);
    expect(events.at(-1)).toBe('the log waits for no node any more');
  } finally {
    await housekeeping.close();
    await rm(directory, { recursive: true });
  }
});
