import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { asAddress, positionOf, sha256, stateKey } from '../model/index.ts';
import { MemoryStore } from './memory-store.ts';
import { openState } from './open-state.ts';
import type { State } from './replica-state.ts';
import type { StateChange } from './state.ts';

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) {
    rmSync(directory, { recursive: true, force: true });
  }
});

async function freshState(): Promise<State> {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-block-end-'));
  directories.push(directory);
  return await openState({
    io: realIo(),
    directory,
    store: new MemoryStore(),
    flushIntervalMs: 20,
  });
}

function change(address: number, more: Partial<StateChange>): StateChange {
  return {
    address: asAddress(address),
    writes: [],
    records: [],
    timestampsMs: [],
    logTimeMs: address,
    horizonMs: 0,
    ...more,
  };
}

function write(address: number): StateChange {
  const version = positionOf(asAddress(address), 0);
  const txId = sha256(Buffer.from(String(address)));
  return change(address, {
    writes: [{ key: stateKey('ns', `k${address}`), value: '1', version }],
    records: [{ record: { txId }, position: version, verdict: 0 }],
    timestampsMs: [address],
  });
}

const tick = (address: number): StateChange => change(address, { endsBlock: true });

test('a view at the end of a block holds the rows before it and no others', async () => {
  const state = await freshState();
  state.apply(write(0));
  const asked = state.viewAtBlockEnd(10_000);
  state.apply(write(1));
  state.apply(tick(2));
  state.apply(write(3));
  const { store, window } = await asked;
  expect(store.meta?.nextAddress).toBe(3);
  expect(store.page('', 10).map(({ key }) => key)).toEqual([
    stateKey('ns', 'k0'),
    stateKey('ns', 'k1'),
  ]);
  const noted: number[] = [];
  for await (const { position } of window.transactions()) noted.push(position);
  expect(noted.filter((position) => position < positionOf(asAddress(3), 0))).toHaveLength(2);
  store.release();
  await state.close();
});

test('an idle state behind a tick gives it at once; after a restart somebody must tell', async () => {
  const state = await freshState();
  state.apply(write(0));
  await state.flush();
  await expect(state.viewAtBlockEnd(50)).rejects.toMatchObject({ code: 'TIMEOUT' });
  state.noteBlockEnd(asAddress(0));
  await expect(state.viewAtBlockEnd(50)).rejects.toMatchObject({ code: 'TIMEOUT' });
  state.noteBlockEnd(asAddress(1));
  (await state.viewAtBlockEnd(50)).store.release();
  // Fills say nothing about blocks.
  state.apply(change(1, {}));
  const { store } = await state.viewAtBlockEnd(5_000);
  expect(store.meta?.nextAddress).toBe(2);
  store.release();
  await state.close();
});
