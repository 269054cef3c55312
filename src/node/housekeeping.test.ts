import { readdirSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { type Address, asAddress } from '../model/index.ts';
import { Housekeeping, type HousekeepingOptions } from './housekeeping.ts';
import type { Makers } from './makers.ts';
import type { Member } from './members.ts';
import type { ChainFiles } from './node-blocks.ts';
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

const io = realIo();

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
}

/** A node in a directory of its own, alone unless `more` says otherwise; not started yet. */
async function openNode(
  makesBlocks: boolean,
  more: Pick<HousekeepingOptions, 'log'> & Partial<HousekeepingOptions>,
) {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-housekeeping-'));
  const path = join(directory, 'snapshots');
  const snapshots = await SnapshotFiles.open(io, path, makesBlocks);
  const events: string[] = [];
  let told: Member | undefined;
  const housekeeping: Housekeeping = new Housekeeping({
    io,
    name: 'node0',
    snapshots,
    everyMs: 1,
    joinReplayEntriesMax: 10,
    retention: () => ({ entries: 10, holders: 1 }),
    nextAddress: () => asAddress(100),
    writeSnapshot: async (file) => {
      await writeFile(file, '');
      return asAddress(100);
    },
    info: () => ({ ...node, snapshot: snapshots.newest, held: housekeeping.held }),
    tell: async (member) => {
      told = member;
    },
    members: () => (told === undefined ? [] : [told]),
    makers: makersKept(),
    leavesTrimming: () => false,
    onEvent: (text) => events.push(text),
    ...more,
  });
  return {
    housekeeping,
    snapshots,
    path,
    events,
    told: () => told,
    close: async () => {
      await housekeeping.close();
      await rm(directory, { recursive: true });
    },
  };
}

it('holds, and trims, only what its blocks are saved for', async () => {
  const trimmed: number[] = [];
  let saved: Address | DaybookError = new DaybookError('PROOF_NOT_READY', 'being opened');
  let saves = 0;
  let files: ChainFiles = 'whole';
  const { housekeeping, snapshots, path, events, told, close } = await openNode(true, {
    log: {
      start: async () => asAddress(0),
      trim: async (before) => {
        trimmed.push(before);
      },
    },
    saveBlocks: async () => {
      saves++;
      if (saved instanceof DaybookError) throw saved;
      return saved;
    },
    chainFiles: () => files,
  });
  const rounds = async (count: number): Promise<void> => {
    const enough = saves + count;
    await until(() => saves >= enough);
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
    await until(() => housekeeping.held === 100);
    await until(() => trimmed.length > 0);
    expect(trimmed[0]).toBe(90);
    // A block of those turns out to be damaged: at once nobody counts on it.
    files = 'lacking';
    expect(housekeeping.held).toBe(0);
    await until(() => told()?.held === 0);
    // It still begins there, if it loses its state.
    expect((await SnapshotFiles.open(io, path, true)).held).toBe(100);
    files = 'whole';
    saved = asAddress(40);
    await rounds(2);
    expect(housekeeping.held).toBe(0);
    saved = asAddress(100);
    await until(() => housekeeping.held === 100);
    files = 'unknown';
    expect(housekeeping.held).toBe(0);
    await until(() => told()?.held === 0);
  } finally {
    await close();
  }
});

it('keeps a snapshot that saved blocks reach, and the log from there on, however far blocks lag', async () => {
  let applied = 0;
  let saved = 0;
  let start = 0;
  const wrong: string[] = [];
  const look = (): void => {
    const files = readdirSync(path).flatMap((name) => /^snapshot-(\d+)$/.exec(name)?.[1] ?? []);
    const reached = files.map(Number).some((address) => address >= start && address <= saved);
    if (files.length > 4 || (start > 0 && !reached)) {
      wrong.push(`log from ${start}, blocks to ${saved}, snapshots at ${files.join(' ')}`);
    }
  };
  const { housekeeping, path, events, close } = await openNode(true, {
    log: {
      start: async () => asAddress(start),
      trim: async (before) => {
        start = before;
        look();
      },
    },
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
  });
  housekeeping.start();
  try {
    await until(() => applied >= 1_000 || wrong.length > 0);
    expect(wrong).toEqual([]);
    expect(events).toEqual([]);
    expect(start).toBeGreaterThan(700);
  } finally {
    await close();
  }
});

it('waits with trimming for who makes blocks and is away, says so, and knows them for good', async () => {
  const makers = makersKept('gone');
  const maker = { ...node, address: 'nowhere:1', chain: true, held: 100 };
  let members: readonly Member[] = [];
  let start = 0;
  const { housekeeping, events, close } = await openNode(false, {
    log: {
      start: async () => asAddress(start),
      trim: async (before) => {
        start = before;
      },
    },
    retention: () => ({ entries: 10, holders: 2 }),
    members: () => [
      { ...node, held: housekeeping.held },
      { ...node, name: 'node1', address: 'nowhere:1', held: 100 },
      ...members,
    ],
    makers,
  });
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
    await close();
  }
});

it('holds nothing after its start until its blocks say so, whatever was noted', async () => {
  let saved: Address | undefined;
  let saves = 0;
  const { housekeeping, snapshots, path, close } = await openNode(true, {
    log: { start: async () => asAddress(0), trim: async () => undefined },
    nextAddress: () => asAddress(100),
    saveBlocks: async () => {
      saves++;
      if (saved === undefined) throw new DaybookError('PROOF_NOT_READY', 'being opened');
      return saved;
    },
  });
  await writeFile(join(path, 'snapshot-100'), '');
  await snapshots.add(join(path, 'snapshot-100'), asAddress(100));
  await snapshots.cover(asAddress(100));
  housekeeping.start();
  try {
    await until(() => saves >= 3);
    expect({ noted: snapshots.held, held: housekeeping.held }).toEqual({ noted: 100, held: 0 });
    saved = asAddress(100);
    await until(() => housekeeping.held === 100);
  } finally {
    await close();
  }
});
