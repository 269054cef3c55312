import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ByteWriter } from '../base/index.ts';
import { asPosition, patchVersion, type ReadVersion } from '../model/index.ts';
import type { RecordSummary } from './sequencer.ts';
import { decodeRecordSummary, encodeRecordSummary } from './summary.ts';

const key = fc.string({
  unit: fc.integer({ min: 0, max: 255 }).map((c) => String.fromCharCode(c)),
  maxLength: 12,
});
const version: fc.Arbitrary<ReadVersion> = fc.oneof(
  fc.constant(undefined),
  fc
    .maxSafeNat()
    .filter((n) => n < Number.MAX_SAFE_INTEGER)
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

it('reads what it wrote, and versions can be filled in', () => {
  fc.assert(
    fc.property(summary, version, (value, late) => {
      const writer = new ByteWriter(16);
      writer.u8(7);
      const offsets: number[] = [];
      encodeRecordSummary(value, writer, (offset) => offsets.push(offset));
      const bytes = writer.finish().subarray(1);
      expect(decodeRecordSummary(bytes)).toEqual(value);
      const first = offsets[0];
      if (first === undefined) return;
      patchVersion(bytes, first, late);
      const patched = decodeRecordSummary(bytes);
      const row =
        patched.reads[0] ?? patched.ranges.find((range) => range.rows.length > 0)?.rows[0];
      expect(row?.version).toEqual(late);
    }),
  );
});

it('answers malformed bytes with a typed error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      try {
        decodeRecordSummary(bytes);
      } catch (error) {
        expect(error).toMatchObject({ code: 'MALFORMED' });
      }
    }),
  );
});
