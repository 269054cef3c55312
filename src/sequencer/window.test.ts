import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type Address,
  addressOf,
  asAddress,
  asPosition,
  type Position,
  positionOf,
  type ReadVersion,
} from '../model/index.ts';
import { SequencerCore } from './core.ts';
import type { Grant, RecordSummary } from './sequencer.ts';

const none: RecordSummary = { reads: [], ranges: [], writes: [], writtenRanges: [] };
const core = (options: { start?: number; keysMax?: number } = {}): SequencerCore =>
  new SequencerCore({
    epoch: 1,
    start: asAddress(options.start ?? 0),
    windowKeysMax: options.keysMax ?? 100,
  });
const at = (address: number, index = 0): Position => positionOf(asAddress(address), index);
const granted = (answer: ReturnType<SequencerCore['request']>): Grant => {
  if (typeof answer === 'string') throw new Error(`refused: ${answer}`);
  return answer;
};

describe('SequencerCore', () => {
  it('grants ascending addresses and names the conflicting key', () => {
    const sequencer = core();
    const first = granted(sequencer.request(at(0), [{ ...none, writes: ['a', 'b'] }]));
    expect(first).toEqual({ token: { epoch: 1, address: 0 }, conflicts: [undefined] });
    const read = (version: ReadVersion): RecordSummary => ({
      ...none,
      reads: [{ key: 'b', version }],
    });
    // Not applied yet, and another version: conflict. The same version: fine.
    expect(granted(sequencer.request(at(0), [read(undefined)]))).toEqual({
      token: undefined,
      conflicts: ['b'],
    });
    expect(granted(sequencer.request(at(0), [read(at(0))])).token?.address).toBe(1);
  });

  it('does not let a filled hole poison a key', () => {
    const sequencer = core();
    granted(sequencer.request(at(0), [{ ...none, writes: ['k'] }]));
    // Address 0 was filled: the key is still absent for a reader that has applied the fill.
    const reader = { ...none, reads: [{ key: 'k', version: undefined }] };
    expect(granted(sequencer.request(at(1), [reader])).token?.address).toBe(1);
  });

  it('a local read stands and falls with its writer', () => {
    const sequencer = core();
    granted(sequencer.request(at(0), [{ ...none, writes: ['x'] }]));
    const answer = granted(
      sequencer.request(at(0), [
        { ...none, reads: [{ key: 'x', version: undefined }], writes: ['y'] },
        { ...none, reads: [{ key: 'y', version: { index: 0 } }], writes: ['z'] },
        { ...none, writes: ['z'] },
        { ...none, reads: [{ key: 'z', version: { index: 2 } }] },
        { ...none, reads: [{ key: 'z', version: undefined }] },
      ]),
    );
    expect(answer.conflicts).toEqual(['x', 'y', undefined, undefined, 'z']);
  });

  it('knows phantoms, and the rows that the reader saw', () => {
    const sequencer = core();
    granted(sequencer.request(at(0), [{ ...none, writes: ['c'] }]));
    const scan = (start: string, end: string, rows: [string, ReadVersion][]): RecordSummary => ({
      ...none,
      ranges: [{ start, end, rows: rows.map(([key, version]) => ({ key, version })) }],
    });
    const verdicts = granted(
      sequencer.request(at(0), [
        scan('a', 'c', []),
        scan('a', 'd', []),
        scan('a', '', []),
        scan('a', 'd', [['c', at(0)]]),
      ]),
    ).conflicts;
    expect(verdicts).toEqual([undefined, 'c', 'c', undefined]);
    const local = granted(
      sequencer.request(at(0), [
        { ...none, writes: ['b'] },
        scan('a', 'c', []),
        scan('a', 'c', [['b', { index: 0 }]]),
      ]),
    ).conflicts;
    expect(local).toEqual([undefined, 'b', undefined]);
  });

  it('bulk updates are range writes', () => {
    const sequencer = core();
    granted(sequencer.request(at(0), [{ ...none, writtenRanges: [{ start: 'a', end: 'c' }] }]));
    const reads = (key: string): RecordSummary => ({
      ...none,
      reads: [{ key, version: undefined }],
    });
    const scan = { ...none, ranges: [{ start: 'b', end: 'd', rows: [] }] };
    expect(granted(sequencer.request(at(0), [reads('b'), reads('c'), scan])).conflicts).toEqual([
      'b',
      undefined,
      'a',
    ]);
    expect(granted(sequencer.request(at(1), [reads('b'), scan])).conflicts).toEqual([
      undefined,
      undefined,
    ]);
  });

  it('refuses snapshots before its reign and before its window', () => {
    const sequencer = core({ start: 5, keysMax: 2 });
    expect(sequencer.request(at(4), [none])).toBe('SEQUENCER_NOT_READY');
    for (const key of ['a', 'b', 'c']) {
      granted(sequencer.request(at(5), [{ ...none, writes: [key] }]));
    }
    expect(sequencer.windowKeys).toBe(2);
    expect(sequencer.request(at(5), [none])).toBe('SNAPSHOT_TOO_OLD');
    granted(sequencer.request(at(6), [none]));
  });
});

/*
 * The naive model: every granted entry is kept, some are lost as holes, and replay is simulated
 * from the beginning for every question.
 */
interface Step {
  readonly lag: number;
  readonly hole: boolean;
  readonly records: readonly {
    readonly reads: readonly number[];
    readonly scan: boolean;
    readonly writes: readonly number[];
  }[];
}

const keys = ['a', 'b', 'c', 'd', 'e'];
const stepArbitrary: fc.Arbitrary<Step> = fc.record({
  lag: fc.nat(4),
  hole: fc.boolean(),
  records: fc.array(
    fc.record({
      reads: fc.array(fc.nat(4), { maxLength: 2 }),
      scan: fc.boolean(),
      writes: fc.array(fc.nat(4), { maxLength: 2 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
});

describe('against replay', () => {
  it('accepts only what replay accepts, and refuses nothing that is current', () => {
    let accepted = 0;
    let refused = 0;
    fc.assert(
      fc.property(
        fc.array(stepArbitrary, { maxLength: 30 }),
        fc.integer({ min: 1, max: 8 }),
        (steps, keysMax) => {
          const sequencer = core({ keysMax });
          const writes: { key: string; position: Position }[] = [];
          const lost = new Set<Address>();
          const state = (before: Position): Map<string, Position> => {
            const rows = new Map<string, Position>();
            for (const { key, position } of writes) {
              if (position < before && !lost.has(addressOf(position))) rows.set(key, position);
            }
            return rows;
          };
          for (const step of steps) {
            const next = sequencer.next;
            const snapshot = at(Math.max(0, next - step.lag));
            const view = state(snapshot);
            const here = new Map<string, number>();
            const version = (key: string): ReadVersion => {
              const index = here.get(key);
              return index === undefined ? view.get(key) : { index };
            };
            // The executor runs all records in turn; later ones see the writes of earlier ones.
            const records = step.records.map((shape, index): RecordSummary => {
              const reads = shape.reads.map((pick) => {
                const key = keys[pick] as string;
                return { key, version: version(key) };
              });
              const rows = keys
                .slice(1, 4)
                .map((key) => ({ key, version: version(key) }))
                .filter((row) => row.version !== undefined);
              const written = shape.writes.map((pick) => keys[pick] as string);
              for (const key of written) here.set(key, index);
              return {
                reads,
                ranges: shape.scan ? [{ start: 'b', end: 'e', rows }] : [],
                writes: written,
                writtenRanges: [],
              };
            });
            const answer = sequencer.request(snapshot, records);
            if (typeof answer === 'string') continue;
            // Replay, as if no hole were unknown to it.
            const rows = state(at(next));
            const reserved = new Map<string, Position>();
            for (const { key, position } of writes) {
              if (position >= snapshot) reserved.set(key, position);
            }
            records.forEach((record, index) => {
              const resolve = (seen: ReadVersion): ReadVersion =>
                typeof seen === 'object' ? at(next, seen.index) : seen;
              const current =
                record.reads.every((read) => rows.get(read.key) === resolve(read.version)) &&
                record.ranges.every((range) => {
                  const found = keys
                    .filter((key) => key >= range.start && key < range.end && rows.has(key))
                    .map((key) => [key, rows.get(key)]);
                  const seen = range.rows.map((row) => [row.key, resolve(row.version)]);
                  return JSON.stringify(found) === JSON.stringify(seen);
                });
              const passes = answer.conflicts[index] === undefined;
              if (passes) {
                accepted++;
                expect(current, 'accepted but invalid at replay').toBe(true);
                for (const key of record.writes) rows.set(key, at(next, index));
              } else {
                refused++;
                const touched = [
                  ...record.reads.map((read) => read.key),
                  ...(record.ranges.length > 0 ? keys.slice(1, 4) : []),
                ];
                // A refusal needs a cause: a stale read, or a grant whose fate is open.
                expect(!current || touched.some((key) => reserved.has(key))).toBe(true);
              }
            });
            if (answer.token === undefined) continue;
            const { address } = answer.token;
            records.forEach((record, index) => {
              if (answer.conflicts[index] !== undefined) return;
              for (const key of record.writes) writes.push({ key, position: at(address, index) });
            });
            if (step.hole) lost.add(address);
          }
        },
      ),
      { numRuns: 300 },
    );
    expect(accepted).toBeGreaterThan(500);
    expect(refused).toBeGreaterThan(100);
    expect(asPosition(0)).toBe(0);
  });
});
