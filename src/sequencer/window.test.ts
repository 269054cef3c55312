import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteWriter } from '../base/index.ts';
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
import { encodeRecordSummary, groupSummary } from './summary.ts';

const none = { urgent: false, reads: [], ranges: [], writes: [], writtenRanges: [] };
type Judged = Omit<RecordSummary, 'snapshot' | 'urgent'> & { readonly urgent?: boolean };
/** All records of a group with one snapshot. */
const ask = (
  sequencer: SequencerCore,
  snapshot: Position,
  records: readonly Judged[],
  requester = 'one',
): ReturnType<SequencerCore['request']> =>
  sequencer.request(
    groupSummary(
      requester,
      records.map((record) => {
        const writer = new ByteWriter();
        encodeRecordSummary({ urgent: false, ...record, snapshot }, writer);
        return writer.finish();
      }),
    ),
  );
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
    const first = granted(ask(sequencer, at(0), [{ ...none, writes: ['a', 'b'] }]));
    expect(first).toEqual({ token: { epoch: 1, address: 0 }, conflicts: [undefined] });
    const read = (version: ReadVersion): Judged => ({
      ...none,
      reads: [{ stateKey: 'b', version }],
    });
    // Not applied yet, and another version: conflict. The same version: fine.
    expect(granted(ask(sequencer, at(0), [read(undefined)]))).toEqual({
      token: undefined,
      conflicts: ['b'],
      next: 1,
    });
    expect(granted(ask(sequencer, at(0), [read(at(0))])).token?.address).toBe(1);
  });

  it('does not let a filled hole poison a key', () => {
    const sequencer = core();
    granted(ask(sequencer, at(0), [{ ...none, writes: ['k'] }]));
    // Address 0 was filled: the key is still absent for a reader that has applied the fill.
    const reader = { ...none, reads: [{ stateKey: 'k', version: undefined }] };
    expect(granted(ask(sequencer, at(1), [reader])).token?.address).toBe(1);
  });

  it('a local read stands and falls with its writer', () => {
    const sequencer = core();
    granted(ask(sequencer, at(0), [{ ...none, writes: ['x'] }]));
    const answer = granted(
      ask(sequencer, at(0), [
        { ...none, reads: [{ stateKey: 'x', version: undefined }], writes: ['y'] },
        { ...none, reads: [{ stateKey: 'y', version: { index: 0 } }], writes: ['z'] },
        { ...none, writes: ['z'] },
        { ...none, reads: [{ stateKey: 'z', version: { index: 2 } }] },
        { ...none, reads: [{ stateKey: 'z', version: undefined }] },
      ]),
    );
    expect(answer.conflicts).toEqual(['x', 'y', undefined, undefined, 'z']);
  });

  it('knows phantoms, and the rows that the reader saw', () => {
    const sequencer = core();
    granted(ask(sequencer, at(0), [{ ...none, writes: ['c'] }]));
    const scan = (start: string, end: string, rows: [string, ReadVersion][]): Judged => ({
      ...none,
      ranges: [{ start, end, rows: rows.map(([stateKey, version]) => ({ stateKey, version })) }],
    });
    const verdicts = granted(
      ask(sequencer, at(0), [
        scan('a', 'c', []),
        scan('a', 'd', []),
        scan('a', '', []),
        scan('a', 'd', [['c', at(0)]]),
      ]),
    ).conflicts;
    expect(verdicts).toEqual([undefined, 'c', 'c', undefined]);
    const local = granted(
      ask(sequencer, at(0), [
        { ...none, writes: ['b'] },
        scan('a', 'c', []),
        scan('a', 'c', [['b', { index: 0 }]]),
      ]),
    ).conflicts;
    expect(local).toEqual([undefined, 'b', undefined]);
  });

  it('finds what was written in an interval since the snapshot, however often', () => {
    const sequencer = core();
    const scan: Judged = { ...none, ranges: [{ start: 'b', end: 'd', rows: [] }] };
    for (const writes of [['d', 'c', 'a'], ['e', 'b'], ['c'], ['a', 'd']]) {
      granted(ask(sequencer, at(0), [{ ...none, writes }]));
    }
    const conflicts = [at(0), at(1), at(2), at(3)].map(
      (snapshot) => granted(ask(sequencer, snapshot, [scan, none])).conflicts[0],
    );
    expect(conflicts).toEqual(['c', 'c', 'c', undefined]);
    const writer = { ...none, writes: ['b'] };
    expect(granted(ask(sequencer, at(3), [scan, writer, scan])).conflicts).toEqual([
      undefined,
      undefined,
      'b',
    ]);
  });

  it('forgets whole groups, and judges one by what it knew when it came', () => {
    const sequencer = core({ keysMax: 3 });
    granted(ask(sequencer, at(0), [{ ...none, writes: ['a', 'b'] }]));
    const reader = { ...none, reads: [{ stateKey: 'a', version: undefined }] };
    const group = [{ ...none, writes: ['c', 'd'] }, reader];
    expect(granted(ask(sequencer, at(0), group)).conflicts).toEqual([undefined, 'a']);
    expect(sequencer.windowKeys).toBe(2);
    expect(ask(sequencer, at(0), [none])).toBe('SNAPSHOT_TOO_OLD');
    expect(granted(ask(sequencer, at(1), [reader])).conflicts).toEqual([undefined]);
  });

  it('bulk updates are range writes', () => {
    const sequencer = core();
    granted(ask(sequencer, at(0), [{ ...none, writtenRanges: [{ start: 'a', end: 'c' }] }]));
    const reads = (key: string): Judged => ({
      ...none,
      reads: [{ stateKey: key, version: undefined }],
    });
    const scan = { ...none, ranges: [{ start: 'b', end: 'd', rows: [] }] };
    expect(granted(ask(sequencer, at(0), [reads('b'), reads('c'), scan])).conflicts).toEqual([
      'b',
      undefined,
      'a',
    ]);
    expect(granted(ask(sequencer, at(1), [reads('b'), scan])).conflicts).toEqual([
      undefined,
      undefined,
    ]);
  });

  it('refuses snapshots before its reign and before its window', () => {
    const sequencer = core({ start: 5, keysMax: 2 });
    expect(ask(sequencer, at(4), [none])).toBe('SEQUENCER_NOT_READY');
    for (const key of ['a', 'b', 'c']) {
      granted(ask(sequencer, at(5), [{ ...none, writes: [key] }]));
    }
    expect(sequencer.windowKeys).toBe(2);
    expect(ask(sequencer, at(5), [none])).toBe('SNAPSHOT_TOO_OLD');
    granted(ask(sequencer, at(6), [none]));
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

describe('fairness', () => {
  it('keeps the keys of an urgent record for its executor until it has passed', () => {
    const sequencer = core();
    const hot = { ...none, reads: [{ stateKey: 'k', version: undefined }], writes: ['k'] };
    granted(ask(sequencer, at(0), [hot], 'one'));
    const lost = granted(ask(sequencer, at(0), [{ ...hot, urgent: true }], 'two'));
    expect(lost.conflicts).toEqual(['k']);
    // The first one sees its own write in flight, and would go on for ever.
    const again = { ...hot, reads: [{ stateKey: 'k', version: at(0) }] };
    expect(granted(ask(sequencer, at(0), [again], 'one')).conflicts).toEqual(['k']);
    const other = { ...none, writes: ['other'] };
    expect(granted(ask(sequencer, at(0), [other], 'one')).conflicts).toEqual([undefined]);
    expect(granted(ask(sequencer, at(2), [{ ...hot, urgent: true }], 'two')).conflicts).toEqual([
      undefined,
    ]);
    expect(granted(ask(sequencer, at(3), [hot], 'one')).conflicts).toEqual([undefined]);
  });

  it('does not wait for an executor that does not come back', () => {
    const sequencer = core();
    const hot = { ...none, reads: [{ stateKey: 'k', version: undefined }], writes: ['k'] };
    granted(ask(sequencer, at(0), [hot], 'one'));
    granted(ask(sequencer, at(0), [{ ...hot, urgent: true }], 'two'));
    let requests = 0;
    while (granted(ask(sequencer, at(1), [hot], 'one')).token === undefined) requests++;
    expect(requests).toBeGreaterThan(10);
    expect(requests).toBeLessThan(30);
  });
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
            const records = step.records.map((shape, index): Judged => {
              const reads = shape.reads.map((pick) => {
                const key = keys[pick] as string;
                return { stateKey: key, version: version(key) };
              });
              const rows = keys
                .slice(1, 4)
                .map((key) => ({ stateKey: key, version: version(key) }))
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
            const answer = ask(sequencer, snapshot, records);
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
                record.reads.every((read) => rows.get(read.stateKey) === resolve(read.version)) &&
                record.ranges.every((range) => {
                  const found = keys
                    .filter((key) => key >= range.start && key < range.end && rows.has(key))
                    .map((key) => [key, rows.get(key)]);
                  const seen = range.rows.map((row) => [row.stateKey, resolve(row.version)]);
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
                  ...record.reads.map((read) => read.stateKey),
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
