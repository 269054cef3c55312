import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { type Disk, realIo } from '../io/index.ts';
import { asAddress } from '../model/index.ts';
import { MemoryStore } from './memory-store.ts';
import { openState } from './open-state.ts';
import type { State } from './replica-state.ts';
import { changeAt, changedKeys, rowsAt, txIdAt } from './testing/changes.ts';

const io = realIo();
let directory: string;
let full = false;

/** The real disk, whose files take nothing while `full`. */
const disk: Disk = {
  ...io.disk,
  open: async (path, options) => {
    const file = await io.disk.open(path, options);
    return {
      size: () => file.size(),
      read: (target, offset) => file.read(target, offset),
      readSync: (target, offset) => file.readSync(target, offset),
      sync: () => file.sync(),
      truncate: (size) => file.truncate(size),
      close: () => file.close(),
      write: (parts, offset) =>
        full
          ? Promise.reject(new DaybookError('DISK_FULL', 'no space left'))
          : file.write(parts, offset),
    };
  },
};

beforeEach(async () => {
  full = false;
  directory = await mkdtemp(join(tmpdir(), 'daybook-full-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

function expectComplete(state: State, count: number): void {
  expect(state.nextAddress).toBe(count);
  const rows = rowsAt(asAddress(count));
  for (const key of changedKeys) expect(state.get(key)?.value).toBe(rows.get(key)?.value);
  for (let address = 0; address < count; address++) {
    expect(state.isCommitted(txIdAt(address))).toBe(true);
    expect(state.entry(asAddress(address))?.logTimeMs).toBe(1000 + address);
  }
  const lengths = changedKeys.map((key) => state.history(key, 1000).rows.length);
  const written = Array.from({ length: count }, (_, at) => changeAt(asAddress(at)).writes.length);
  const sum = (all: readonly number[]): number => all.reduce((total, one) => total + one, 0);
  expect(sum(lengths)).toBe(sum(written));
}

describe('state on a full disk', () => {
  it('loses nothing and goes on when there is room again', async () => {
    const store = new MemoryStore();
    const options = {
      io: { ...io, disk },
      directory,
      store,
      flushIntervalMs: 1e9,
      transactionSegmentIdsMax: 50,
    };
    let state = await openState(options);
    for (let round = 0; round < 6; round++) {
      full = round % 3 !== 2;
      for (let at = 0; at < 40; at++) state.apply({ ...changeAt(state.nextAddress), horizonMs: 0 });
      if (full) {
        await expect(state.flush()).rejects.toMatchObject({ code: 'DISK_FULL' });
        expect(state.failure?.code).toBe('DISK_FULL');
      } else {
        await state.flush();
        expect(state.failure).toBeUndefined();
      }
      expectComplete(state, (round + 1) * 40);
    }
    await state.close();
    state = await openState(options);
    expectComplete(state, 240);
    await state.close();
  });
});
