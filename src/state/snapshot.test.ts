import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import { positionOf, sha256 } from '../model/index.ts';
import { MemoryStore } from './memory-store.ts';
import { openState } from './open-state.ts';
import type { State } from './replica-state.ts';
import { checkSnapshot, restoreSnapshot, writeSnapshot } from './snapshot.ts';

const io = realIo();
const { disk } = io;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-snapshot-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const txIdOf = (address: number): Buffer => sha256(Buffer.from(String(address)));

function put(state: State, count: number): void {
  for (let at = 0; at < count; at++) {
    const address = state.nextAddress;
    const version = positionOf(address, 0);
    state.apply({
      address,
      writes: [
        { key: `ns\0k${address % 5000}`, value: `value ${address}`, version },
        { key: `ns\0x${address % 7}`, value: address % 2 ? undefined : 'x', version },
      ],
      records: [{ record: { txId: txIdOf(address) }, position: version, verdict: 0 }],
      timestampsMs: [address],
      logTimeMs: address,
      horizonMs: 0,
    });
  }
}

const rowsOf = (state: State): unknown[] =>
  state.range('', '').map(({ key, value, version }) => [key, value, version]);

describe('snapshot', () => {
  it('is restored to the same rows and the same transactions', async () => {
    const state = await openState({
      io,
      directory: join(directory, 'a'),
      transactionSegmentIdsMax: 3000,
    });
    put(state, 12_000);
    const path = join(directory, 'snapshot');
    const rows = rowsOf(state);
    const at = state.nextAddress;
    const writing = writeSnapshot(state, disk, path, 'bank');
    // Goes on while the snapshot is written.
    for (let round = 0; round < 5; round++) {
      put(state, 500);
      await state.flush();
    }
    const written = await writing;
    expect(written.nextAddress).toBeGreaterThanOrEqual(at);
    expect(await checkSnapshot(disk, path)).toEqual(written);
    const restored = join(directory, 'b');
    await restoreSnapshot(io, path, restored, 'bank');
    const again = await openState({ io, directory: restored });
    expect(again.nextAddress).toBe(written.nextAddress);
    expect(again.startAddress).toBe(written.nextAddress);
    expect(again.logTimeMs).toBe(written.nextAddress - 1);
    expect(rowsOf(again)).toHaveLength(written.rows);
    if (written.nextAddress === at) expect(rowsOf(again)).toEqual(rows);
    for (let address = 0; address < written.nextAddress; address += 7) {
      expect(again.isCommitted(txIdOf(address))).toBe(true);
    }
    expect(again.isCommitted(txIdOf(written.nextAddress))).toBe(false);
    // It goes on like the original.
    put(again, state.nextAddress - again.nextAddress);
    expect(rowsOf(again)).toEqual(rowsOf(state));
    const second = await writeSnapshot(again, disk, join(directory, 'again'), 'bank');
    const first = await writeSnapshot(state, disk, path, 'bank');
    expect(second.rowsDigest).toBe(first.rowsDigest);
    await state.close();
    await again.close();
  });

  it('is refused when any byte differs, or for another channel', async () => {
    const state = await openState({
      io,
      directory: join(directory, 'a'),
      store: new MemoryStore(),
    });
    put(state, 20);
    const path = join(directory, 'snapshot');
    await writeSnapshot(state, disk, path, 'bank');
    await state.close();
    const target = join(directory, 'b');
    await expect(restoreSnapshot(io, path, target, 'other')).rejects.toMatchObject({
      code: 'SNAPSHOT_INVALID',
    });
    const bytes = await readFile(path);
    const refused = async (content: Uint8Array): Promise<void> => {
      await writeFile(path, content);
      await expect(checkSnapshot(disk, path)).rejects.toMatchObject({ code: 'SNAPSHOT_INVALID' });
    };
    for (let at = 0; at < bytes.length; at += 3) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] as number) ^ 0x10;
      await refused(changed);
    }
    for (const length of [0, 10, bytes.length >> 1, bytes.length - 1]) {
      await refused(bytes.subarray(0, length));
    }
    await refused(Buffer.concat([bytes, Buffer.of(0)]));
  });
});
