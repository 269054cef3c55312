import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DaybookError } from '../../base/index.ts';
import { type Io, realIo } from '../../io/index.ts';
import { type Address, asAddress, positionOf, sha256, stateKey } from '../../model/index.ts';
import { MemoryStore } from '../memory-store.ts';
import { openState } from '../open-state.ts';
import { bulkDirectory, type State } from '../replica-state.ts';
import type { Row, StateChange, StateWrite } from '../state.ts';
import { PendingUpdate, type RecordedUpdate } from './pending-updates.ts';
import {
  decodeSweepRequest,
  decodeSweepSlice,
  encodeSweepRequest,
  encodeSweepSlice,
  type Sweeper,
  sweepRows,
} from './sweeper.ts';
import { openUpdatedRows } from './updated-rows.ts';

const real = realIo();
const keys = Array.from({ length: 12 }, (_, at) => `k${String(at).padStart(2, '0')}`);

/** One thing that an entry does. */
type Step =
  | { kind: 'write'; key: number; amount: number | undefined }
  | { kind: 'bulk'; heavy: boolean; from: number; to: number; query: string; update: string }
  | { kind: 'crash' }
  | { kind: 'flush' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      key: fc.nat(keys.length - 1),
      amount: fc.option(fc.nat(20), { nil: undefined }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('bulk' as const),
      heavy: fc.boolean(),
      from: fc.nat(keys.length - 1),
      to: fc.nat(keys.length - 1),
      query: fc.constantFrom('{}', '{"n":{"$gte":10}}', '{"s":{"$exists":true}}'),
      update: fc.constantFrom(
        '{"$inc":{"n":3}}',
        '{"$mul":{"n":2,"s":"1.5"}}',
        '{"$set":{"s":"0.50"}}',
        '{"$unset":{"s":1}}',
        '{"$inc":{"s":"0.25"},"$max":{"n":7}}',
      ),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'crash' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'flush' as const }) },
);

/** The naive model: every update goes through all rows at once. */
class Eager {
  readonly rows = new Map<string, Row>();
  readonly updated = new Map<number, Map<string, string>>();

  apply(change: StateChange): void {
    const { position = 0 } = change.bulkUpdates?.[0] ?? {};
    for (const recorded of change.bulkUpdates ?? []) {
      const update = new PendingUpdate(recorded);
      const updated = new Map<string, string>();
      for (const row of [...this.rows.values()]) {
        if (!update.covers(row.key)) continue;
        const value = update.valueAfter(row.key, row.value);
        if (value === undefined) continue;
        this.rows.set(row.key, { key: row.key, value, version: recorded.position });
        updated.set(row.key, value);
      }
      this.updated.set(position, updated);
    }
    for (const { key, value, version } of change.writes) {
      if (value === undefined) this.rows.delete(key);
      else this.rows.set(key, { key, value, version });
    }
  }

  sorted(): Row[] {
    return [...this.rows.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
  }
}

function changeOf(address: Address, step: Step): StateChange {
  const version = positionOf(address, 0);
  const writes: StateWrite[] = [];
  const bulkUpdates: RecordedUpdate[] = [];
  const txId = sha256(Buffer.from(String(address)));
  if (step.kind === 'write') {
    const key = stateKey('ns', keys[step.key] as string);
    const value = step.amount === undefined ? undefined : `{"n":${step.amount}}`;
    writes.push({ key, value, version, head: 0 });
  } else if (step.kind === 'bulk') {
    const [start, end] = [step.from, step.to].sort((a, b) => a - b).map((at) => keys[at] as string);
    bulkUpdates.push({
      position: version,
      heavy: step.heavy,
      txId,
      timestampMs: 1000 + address,
      parts: [
        {
          namespace: 'ns',
          start: start as string,
          end: start === end ? '' : (end as string),
          query: step.query,
          update: step.update,
        },
      ],
    });
  }
  return {
    address,
    writes,
    bulkUpdates,
    records: [{ record: { txId }, position: version, verdict: 0 }],
    timestampsMs: [1000 + address],
    logTimeMs: 1000 + address,
    horizonMs: 0,
  };
}

test('deferred updates equal eager ones, at every step, through crashes', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { minLength: 1, maxLength: 40 }),
      fc.boolean(),
      async (steps, aside) => {
        const directory = mkdtempSync(join(tmpdir(), 'daybook-bulk-'));
        const store = new MemoryStore();
        let life = new Life(store);
        const open = (): Promise<State> =>
          openState({
            io: life.io,
            store: life.store,
            directory,
            flushIntervalMs: 1,
            flushWritesMax: 5,
            ...(aside ? { startSweeper: () => sweeperOf(store) } : {}),
          });
        const changes: StateChange[] = [];
        let state = await open();
        try {
          const eager = new Eager();
          for (const one of steps) {
            if (one.kind === 'crash') {
              await life.end();
              life = new Life(store);
              state = await open();
              const reopened = state.nextAddress;
              for (const change of changes.slice(reopened)) state.apply(fresh(change));
            } else if (one.kind === 'flush') {
              await state.flush();
            } else {
              const change = changeOf(asAddress(changes.length), one);
              changes.push(change);
              state.apply(fresh(change));
              eager.apply(change);
            }
            expect(plain(state.range('', ''))).toEqual(eager.sorted());
            for (const key of keys) {
              const whole = stateKey('ns', key);
              expect(state.version(whole)).toBe(eager.rows.get(whole)?.version);
            }
          }
          for (let tries = 0; state.pendingUpdates.length > 0; tries++) {
            expect(tries).toBeLessThan(2_000);
            await state.flush();
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
          await state.flush();
          expect(plain(store.range('', ''))).toEqual(eager.sorted());
          for (const [position, updated] of eager.updated) {
            const rows = new Map<string, string | undefined>();
            const file = await openUpdatedRows(
              real.disk,
              bulkDirectory(directory),
              position as never,
            );
            for (const writes of file?.rows() ?? [])
              for (const { key, value } of writes) rows.set(key, value);
            await file?.close();
            expect(rows).toEqual(updated);
          }
          // Every version is in the history, those that an update made too.
          for (const [position, updated] of eager.updated) {
            for (const [key, value] of updated) {
              const row = state.history(key, 100).rows.find(({ version }) => version === position);
              expect(row?.value).toBe(value);
            }
          }
        } finally {
          await state.close();
          rmSync(directory, { recursive: true, force: true });
        }
      },
    ),
    { numRuns: 60 },
  );
});

/** What a process has of the world, until it dies: then nothing it began goes on. */
class Life {
  readonly store: MemoryStore;
  readonly io: Pick<Io, 'disk' | 'timers' | 'random'>;
  #over = false;
  readonly #calls = new Set<Promise<unknown>>();

  constructor(store: MemoryStore) {
    this.store = this.#mortal(store);
    this.io = {
      random: real.random,
      disk: this.#mortal({
        ...real.disk,
        open: async (path, options) => this.#mortal(await real.disk.open(path, options)),
      }),
      timers: {
        after: (delayMs, callback) => real.timers.after(delayMs, () => this.#over || callback()),
        soon: (callback) => real.timers.soon(() => this.#over || callback()),
      },
    };
  }

  /** Kills it; what is under way at the disk ends first, but nobody hears of it. */
  async end(): Promise<void> {
    this.#over = true;
    await Promise.allSettled(this.#calls);
  }

  #mortal<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        return (...args: unknown[]): unknown => {
          if (this.#over) return new Promise(() => undefined);
          const result: unknown = Reflect.apply(member, target, args);
          if (!(result instanceof Promise)) return result;
          this.#calls.add(result);
          const forget = (): boolean => this.#calls.delete(result);
          result.then(forget, forget);
          return result.then((value: unknown) =>
            this.#over ? new Promise(() => undefined) : value,
          );
        };
      },
    });
  }
}

/** Works rows out as a sweep process does, through its frames, and dies now and then. */
function sweeperOf(store: MemoryStore): Sweeper {
  let calls = 0;
  return {
    slice: async (asked) => {
      const { updates, start, end } = decodeSweepRequest(encodeSweepRequest(asked));
      // Few rows at a time, so that there are many slices.
      const rows = store.range(start, end, 3);
      const swept = sweepRows(
        rows,
        updates.map((one) => new PendingUpdate(one)),
      );
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (++calls % 5 === 0) throw new DaybookError('PEER_UNREACHABLE', 'gone');
      const last = rows.length < 3 ? undefined : rows.at(-1)?.key;
      return decodeSweepSlice(encodeSweepSlice({ rows: swept, seen: rows.length, last }));
    },
    close: () => undefined,
  };
}

function fresh(change: StateChange): StateChange {
  return { ...change, writes: change.writes.map((write) => ({ ...write })) };
}

function plain(rows: readonly Row[]): Row[] {
  return rows.map(({ key, value, version }) => ({ key, value, version }));
}
