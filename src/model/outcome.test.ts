import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteWriter, DaybookError, isDaybookError, limits } from '../base/index.ts';
import { beginOutcomes, encodeOutcome, type Outcome, OutcomeReader } from './outcome.ts';
import { asPosition } from './position.ts';

const outcomes = fc.array(
  fc.oneof(
    fc.record({
      status: fc.constant('committed' as const),
      position: fc.maxSafeNat().map(asPosition),
      result: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).latin1Slice()),
    }),
    fc.record({
      status: fc.constant('rejected' as const),
      error: fc.string({ unit: 'grapheme' }).map((message) => ({
        code: 'CONTRACT_REJECTED',
        message,
        retry: 'never' as const,
        details: { n: 1 },
      })),
    }),
  ),
  { minLength: 1, maxLength: 30 },
) as fc.Arbitrary<Outcome[]>;

function encode(list: readonly Outcome[], order: readonly number[]): Buffer {
  const writer = new ByteWriter(16);
  beginOutcomes(writer);
  for (const index of order) encodeOutcome(writer, index, list[index] as Outcome);
  return writer.finish();
}

function readInPieces(bytes: Buffer, count: number, cuts: readonly number[]): Outcome[] {
  const got: Outcome[] = [];
  const reader = new OutcomeReader(count, (index, outcome) => {
    got[index] = outcome;
  });
  const ends = [...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length];
  let at = 0;
  for (const end of ends.sort((a, b) => a - b)) {
    reader.push(Buffer.from(bytes.subarray(at, end)));
    at = end;
  }
  expect(reader.complete).toBe(got.filter(Boolean).length === count);
  return got;
}

test('outcomes survive the wire in any order and in any pieces', () => {
  fc.assert(
    fc.property(outcomes, fc.array(fc.nat(), { maxLength: 20 }), fc.nat(), (list, cuts, seed) => {
      const order = list
        .map((_, index) => index)
        .sort((a, b) => ((a * 7919 + seed) % 31) - ((b * 7919 + seed) % 31));
      expect(readInPieces(encode(list, order), list.length, cuts)).toEqual(list);
    }),
  );
});

test('a damaged stream is MALFORMED or incomplete, never more', () => {
  fc.assert(
    fc.property(outcomes, fc.nat(), fc.nat(255), fc.nat(), (list, at, value, cut) => {
      const bytes = encode(
        list,
        list.map((_, index) => index),
      );
      bytes[at % bytes.length] = value;
      try {
        readInPieces(bytes.subarray(0, bytes.length - (cut % 5)), list.length, [cut]);
      } catch (error) {
        expect(isDaybookError(error, 'MALFORMED')).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test('random bytes are MALFORMED or incomplete', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const reader = new OutcomeReader(3, () => undefined);
      try {
        reader.push(Buffer.from(bytes));
      } catch (error) {
        expect(isDaybookError(error, 'MALFORMED')).toBe(true);
      }
    }),
    { numRuns: 500 },
  );
});

test('an outcome twice or out of range is MALFORMED', () => {
  const done: Outcome = { status: 'committed', position: asPosition(1), result: '' };
  expect(() => readInPieces(encode([done, done], [0, 0]), 2, [])).toThrow('malformed');
  expect(() => readInPieces(encode([done, done], [1]), 1, [])).toThrow('malformed');
});

test('a huge message of a contract is cut, its code stays', () => {
  const error = new DaybookError('CONTRACT_REJECTED', 'x'.repeat(1_000_000)).toJSON();
  const [outcome] = readInPieces(encode([{ status: 'rejected', error }], [0]), 1, []);
  expect(outcome).toMatchObject({ error: { code: 'CONTRACT_REJECTED', retry: 'never' } });
});

test('a result over valueBytesMax is refused', () => {
  const result = 'x'.repeat(limits.valueBytesMax + 1);
  const outcome: Outcome = { status: 'committed', position: asPosition(1), result };
  expect(() => encode([outcome], [0])).toThrow('valueBytesMax');
});
