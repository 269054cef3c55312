import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteWriter } from '../base/index.ts';
import { asPosition, patchVersion, type ReadVersion } from '../model/index.ts';
import { absent, DecodedGroup } from './decoded-group.ts';
import type { RecordSummary } from './sequencer.ts';
import { encodeRecordSummary, groupSummary } from './summary.ts';

const key = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)),
  maxLength: 12,
});
const version: fc.Arbitrary<ReadVersion> = fc.oneof(
  fc.constant(undefined),
  fc
    .maxSafeNat()
    .filter((n) => n < 2 ** 52)
    .map(asPosition),
  fc.record({ index: fc.nat(4095) }),
);
const seen = fc.array(fc.record({ stateKey: key, version }), { maxLength: 4 });
const interval = { start: key, end: key };
const summary: fc.Arbitrary<RecordSummary> = fc.record({
  snapshot: fc.maxSafeNat().map(asPosition),
  urgent: fc.boolean(),
  reads: seen,
  ranges: fc.array(fc.record({ ...interval, rows: seen }), { maxLength: 3 }),
  writes: fc.array(key, { maxLength: 4 }),
  writtenRanges: fc.array(fc.record(interval), { maxLength: 2 }),
});

/** Position of the group's first record. */
const start = asPosition(2 ** 52);
const rowOf = (stateKey: string, seen: ReadVersion): [string, number] => [
  stateKey,
  seen === undefined ? absent : typeof seen === 'object' ? start + seen.index : seen,
];

it('a group reads what was written, and versions can be filled in', () => {
  const group = new DecodedGroup();
  fc.assert(
    fc.property(fc.array(summary, { maxLength: 3 }), version, (values, late) => {
      const offsets: number[] = [];
      const encoded = values.map((value, index) => {
        const writer = new ByteWriter(16);
        writer.u8(7);
        encodeRecordSummary(value, writer, (offset) => index === 0 && offsets.push(offset));
        return writer.finish().subarray(1);
      });
      const rows = (from: number, to: number): unknown =>
        group.rowKeys
          .slice(from, to)
          .map((stateKey, at) => [stateKey, group.rowVersions[from + at]]);
      const first = offsets[0];
      const read = (): unknown => {
        group.read(groupSummary('one', encoded), start);
        return group.records.map((record) => ({
          snapshot: record.snapshot,
          urgent: record.urgent,
          reads: rows(record.readsFrom, record.readsTo),
          ranges: record.ranges.map((range) => [
            range.start,
            range.end,
            rows(range.rowsFrom, range.rowsTo),
          ]),
          writes: group.writes.slice(record.writesFrom, record.writesTo),
          writtenRanges: record.writtenRanges,
        }));
      };
      const expected = values.map(({ snapshot, urgent, reads, ranges, writes, writtenRanges }) => ({
        snapshot,
        urgent,
        reads: reads.map((row) => rowOf(row.stateKey, row.version)),
        ranges: ranges.map((range) => [
          range.start,
          range.end,
          range.rows.map((row) => rowOf(row.stateKey, row.version)),
        ]),
        writes,
        writtenRanges,
      }));
      expect(read()).toEqual(expected);
      if (first === undefined) return;
      patchVersion(encoded[0] as Buffer, first, late);
      read();
      expect(group.rowVersions[0]).toBe(rowOf('', late)[1]);
    }),
  );
});

it('answers malformed bytes with a typed error', () => {
  const group = new DecodedGroup();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        group.read(groupSummary('one', [bytes]), start);
      } catch (error) {
        expect(error).toMatchObject({ code: 'MALFORMED' });
      }
    }),
  );
});
