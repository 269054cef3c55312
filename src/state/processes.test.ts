import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import { asAddress } from '../model/index.ts';
import { openState } from './open-state.ts';
import type { State } from './replica-state.ts';
import { changeAt, changedKeys, rowsAt, txIdAt } from './testing/changes.ts';

const io = realIo();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-state-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const child = (name: string): URL => new URL(`./testing/${name}.ts`, import.meta.url);
const pause = (ms: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, ms);
  });

function expectComplete(state: State): void {
  const rows = rowsAt(state.nextAddress);
  expect(state.range('', '')).toHaveLength(rows.size);
  for (const key of changedKeys) {
    const row = state.get(key);
    expect(row && { value: row.value, version: row.version }).toEqual(rows.get(key));
    const [newest] = state.history(key, 1).rows;
    if (rows.has(key)) expect(newest?.value).toBe(rows.get(key)?.value);
  }
  for (let address = 0; address < state.nextAddress; address++) {
    expect(state.transaction(txIdAt(address).toString('hex'))).toBeDefined();
    expect(state.entry(asAddress(address))?.logTimeMs).toBe(1000 + address);
  }
  expect(state.isCommitted(txIdAt(state.nextAddress))).toBe(false);
  expect(state.logTimeMs).toBe(999 + state.nextAddress);
}

describe('state between processes', () => {
  it('is what the last flush left when its process is killed at any moment', async () => {
    let reached = 0;
    for (let round = 0; round < 5; round++) {
      const applying = io.processes.spawn(child('apply-child'), { args: [directory] });
      const gone = new Promise((resolve) => applying.onExit(resolve));
      const flag = join(directory, 'running');
      for (let waited = 0; waited < 200; waited++) {
        if ((await io.disk.readFile(flag)) !== undefined) break;
        await pause(50);
      }
      await pause(150 + 70 * round);
      applying.kill();
      await gone;
      const state = await openState({ io, directory, flushIntervalMs: 1e9 });
      expect(state.nextAddress).toBeGreaterThanOrEqual(reached);
      if (state.nextAddress > 0) expectComplete(state);
      reached = state.nextAddress;
      await state.close();
    }
    expect(reached).toBeGreaterThan(0);
  }, 60_000);

  it('is seen by another process, as of its last refresh', async () => {
    const state = await openState({ io, directory, flushIntervalMs: 1e9 });
    for (let at = 0; at < 200; at++) state.apply(changeAt(state.nextAddress));
    await state.flush();
    const reader = io.processes.spawn(child('reader-child'), { args: [directory] });
    const ask = (request: string): Promise<{ row?: object; version?: number; rows: number }> =>
      new Promise((resolve) => {
        reader.connection.onFrame((frame) => resolve(JSON.parse(frame.toString())));
        reader.connection.send([Buffer.from(request, 'latin1')]);
      });
    const key = changedKeys[1] as string;
    const before = await ask(key);
    expect(before.row).toMatchObject(rowsAt(state.nextAddress).get(key) ?? {});
    expect(before.rows).toBe(rowsAt(state.nextAddress).size);
    for (let at = 0; at < 300; at++) state.apply(changeAt(state.nextAddress));
    await state.flush();
    expect(await ask(key)).toEqual(before);
    await ask('refresh');
    const after = await ask(key);
    const row = rowsAt(state.nextAddress).get(key);
    expect(after.version).toBe(row?.version);
    expect(after.row).toMatchObject(row ?? {});
    reader.kill();
    await state.close();
  }, 30_000);

  it('is discarded when the machine went down while it was open', async () => {
    const state = await openState({ io, directory });
    for (let at = 0; at < 100; at++) state.apply(changeAt(state.nextAddress));
    await state.close();
    const closed = await openState({ io, directory });
    expect(closed.nextAddress).toBe(100);
    await closed.close();
    await io.disk.writeFile(join(directory, 'running'), Buffer.from('another run'));
    const fresh = await openState({ io, directory });
    expect(fresh.nextAddress).toBe(0);
    expect(fresh.range('', '')).toEqual([]);
    await fresh.close();
  });
});
