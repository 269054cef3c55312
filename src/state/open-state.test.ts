import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compareBytestrings } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { type Address, asAddress, positionOf, sha256, type VerdictCode } from '../model/index.ts';
import { MemoryStore } from './memory-store.ts';
import { openState } from './open-state.ts';
import type { State } from './replica-state.ts';
import type { StateChange, StateWrite } from './state.ts';
import type { StateStore } from './store.ts';

const io = realIo();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-state-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

const txIdOf = (address: number, index: number): Buffer =>
  sha256(Buffer.from(`${address}/${index}`));

/** One entry: for each record its writes and verdict. */
type Step = readonly { writes: ReadonlyMap<string, string | undefined>; verdict: VerdictCode }[];

function changeOf(address: Address, step: Step): StateChange {
  const writes: StateWrite[] = [];
  const records = step.map(({ verdict }, index) => ({
    position: positionOf(address, index),
    record: { txId: txIdOf(address, index) },
    verdict,
  }));
  const timestampsMs = step.map(() => 1000 + address);
  step.forEach((record, index) => {
    if (record.verdict !== 0) return;
    for (const [key, value] of record.writes) {
      writes.push({ key, value, version: positionOf(address, index) });
    }
  });
  return { address, writes, records, timestampsMs, logTimeMs: 1000 + address, horizonMs: 0 };
}

interface Model {
  rows: Map<string, { value: string; version: number }>;
  history: Map<string, { value: string | undefined; version: number }[]>;
}

function model(steps: readonly Step[]): Model {
  const rows: Model['rows'] = new Map();
  const history: Model['history'] = new Map();
  steps.forEach((step, address) => {
    step.forEach((record, index) => {
      if (record.verdict !== 0) return;
      const version = positionOf(asAddress(address), index);
      for (const [key, value] of record.writes) {
        if (value === undefined) rows.delete(key);
        else rows.set(key, { value, version });
        history.set(key, [{ value, version }, ...(history.get(key) ?? [])]);
      }
    });
  });
  return { rows, history };
}

function compare(state: State, steps: readonly Step[], keys: readonly string[]): void {
  const expected = model(steps);
  for (const key of keys) {
    const row = expected.rows.get(key);
    expect(state.get(key)).toMatchObject(row ?? {});
    expect(state.get(key) === undefined).toBe(row === undefined);
    expect(state.version(key)).toBe(row?.version);
    const seen: unknown[] = [];
    let bookmark = '';
    do {
      const page = state.history(key, 2, bookmark);
      seen.push(...page.rows.map(({ value, version }) => ({ value, version })));
      bookmark = page.bookmark;
    } while (bookmark !== '');
    expect(seen).toEqual(expected.history.get(key) ?? []);
  }
  const sorted = [...expected.rows.keys()].sort(compareBytestrings);
  for (const [start, end, limit] of [
    ['', '', 1000],
    ['', '', 2],
    [keys[1] ?? '', keys[4] ?? '', 3],
    [keys[2] ?? '', '', 1],
  ] as const) {
    const wanted = sorted
      .filter((key) => key >= start && (end === '' || key < end))
      .slice(0, limit)
      .map((key) => ({ key, ...expected.rows.get(key) }));
    const found = state.range(start, end, limit).map(({ key, value, version }) => ({
      key,
      value,
      version,
    }));
    expect(found).toEqual(wanted);
  }
  steps.forEach((step, address) => {
    expect(state.entry(asAddress(address))?.logTimeMs).toBe(1000 + address);
    step.forEach(({ verdict }, index) => {
      const txId = txIdOf(address, index);
      expect(state.transaction(txId.toString('hex'))).toEqual({
        position: positionOf(asAddress(address), index),
        verdict,
      });
      expect(state.isCommitted(txId)).toBe(verdict === 0);
    });
  });
}

const keys = ['a', 'ab', 'b', 'b\0x', 'c', '\xff', 'zz'].map((key) => `ns\0${key}`);
const recordArbitrary = fc.record({
  writes: fc
    .uniqueArray(fc.tuple(fc.constantFrom(...keys), fc.option(fc.string(), { nil: undefined })), {
      selector: ([key]) => key,
      maxLength: 4,
    })
    .map((pairs) => new Map(pairs)),
  verdict: fc.constantFrom<VerdictCode>(0, 0, 0, 11),
});
const actionArbitrary = fc.oneof(
  { weight: 8, arbitrary: fc.array(recordArbitrary, { maxLength: 4 }) },
  { weight: 2, arbitrary: fc.constantFrom('flush', 'reopen', 'crash', 'check' as const) },
);

async function play(
  actions: readonly (Step | string)[],
  open: () => Promise<State>,
  forget: (state: State) => void,
): Promise<void> {
  const steps: Step[] = [];
  let state = await open();
  const replay = (): void => {
    for (let at = state.nextAddress; at < steps.length; at = state.nextAddress) {
      state.apply(changeOf(at, steps[at] as Step));
    }
  };
  for (const action of actions) {
    if (typeof action !== 'string') {
      steps.push(action);
      replay();
    } else if (action === 'flush') await state.flush();
    else if (action === 'check') compare(state, steps, keys);
    else {
      if (action === 'crash') forget(state);
      else await state.close();
      const flushed = state.nextAddress;
      state = await open();
      expect(state.nextAddress).toBeLessThanOrEqual(flushed);
      if (action === 'reopen') expect(state.nextAddress).toBe(flushed);
      replay();
    }
  }
  compare(state, steps, keys);
  await state.close();
}

describe('state', () => {
  it('equals a naive model through flushes, restarts and crashes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(actionArbitrary, { maxLength: 30 }), async (actions) => {
        const store: StateStore = new MemoryStore();
        const open = (): Promise<State> =>
          openState({ io, directory, store, transactionSegmentIdsMax: 7, flushIntervalMs: 1e9 });
        await rm(directory, { recursive: true, force: true });
        await play(actions, open, () => undefined);
      }),
      { numRuns: 40 },
    );
  });

  it('equals a naive model on LMDB', async () => {
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(actionArbitrary, { maxLength: 20 }), async (actions) => {
        // A crash within this process would leave the environment open, so only restarts here.
        const mild = actions.map((action) => (action === 'crash' ? 'reopen' : action));
        const own = join(directory, String(run++));
        const open = (): Promise<State> =>
          openState({ io, directory: own, transactionSegmentIdsMax: 7, flushIntervalMs: 1e9 });
        await play(mild, open, () => undefined);
      }),
      { numRuns: 10 },
    );
  });
});
