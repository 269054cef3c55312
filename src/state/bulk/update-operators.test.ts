import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asPosition } from '../../model/index.ts';
import {
  addDecimals,
  compareDecimals,
  decimalOf,
  decimalText,
  multiplyDecimals,
} from './decimal.ts';
import { PendingUpdate } from './pending-updates.ts';
import { parseUpdate } from './update-operators.ts';

const decimal = fc
  .tuple(fc.bigInt({ min: -(10n ** 20n), max: 10n ** 20n }), fc.nat(6))
  .map(([units, scale]) => ({ units, scale }));

describe('decimals', () => {
  it('are exact: they agree with fractions of large integers', () => {
    fc.assert(
      fc.property(decimal, decimal, (left, right) => {
        const one = 10n ** 12n;
        const scaled = ({ units, scale }: { units: bigint; scale: number }): bigint =>
          units * 10n ** BigInt(12 - scale);
        expect(scaled(addDecimals(left, right))).toBe(scaled(left) + scaled(right));
        expect(scaled(multiplyDecimals(left, right)) * one).toBe(scaled(left) * scaled(right));
        expect(Math.sign(compareDecimals(left, right))).toBe(
          scaled(left) < scaled(right) ? -1 : scaled(left) > scaled(right) ? 1 : 0,
        );
        expect(decimalOf(decimalText(left))).toEqual(left);
      }),
    );
  });

  it('are integers and plain decimal texts, nothing else', () => {
    for (const value of [
      0.5,
      2 ** 53,
      Number.NaN,
      '1e3',
      '01',
      '.5',
      '5.',
      '',
      ' 1',
      '+1',
      null,
      true,
    ]) {
      expect(decimalOf(value), String(value)).toBeUndefined();
    }
  });
});

describe('updates', () => {
  const changed = (value: object, update: object, query: object = {}): unknown => {
    const part = { namespace: 'n', start: 'a', end: '' };
    const pending = new PendingUpdate({
      position: asPosition(1),
      heavy: true,
      txId: new Uint8Array(32),
      timestampMs: 0,
      parts: [{ ...part, query: JSON.stringify(query), update: JSON.stringify(update) }],
    });
    const result = pending.valueAfter('n\0key', JSON.stringify(value));
    return result === undefined ? undefined : JSON.parse(result);
  };

  it('do what their operators say', () => {
    expect(changed({ a: 1 }, { $set: { 'b.c': [1], a: null } })).toEqual({
      a: null,
      b: { c: [1] },
    });
    expect(changed({ a: 1, b: 2 }, { $unset: { a: 1 }, $rename: { b: 'c' } })).toEqual({ c: 2 });
    expect(changed({ a: '1.50', b: 2 }, { $inc: { a: '0.75', b: -3, c: 4 } })).toEqual({
      a: '2.25',
      b: -1,
      c: 4,
    });
    expect(changed({ a: '10.00', b: 2 }, { $mul: { a: '1.5', b: 10 } })).toEqual({
      a: '15.00',
      b: 20,
    });
    expect(changed({ a: '9.5', b: 3 }, { $min: { a: '10' }, $max: { b: 7 } })).toEqual({
      a: '9.5',
      b: 7,
    });
    expect(changed({ n: 1 }, { $inc: { n: 1 } }, { n: { $gt: 1 } })).toBeUndefined();
  });

  it('leave a row that they cannot change exactly', () => {
    expect(changed({ a: 0.5 }, { $inc: { a: 1 } })).toBeUndefined();
    expect(changed({ a: 'x' }, { $mul: { a: 2 } })).toBeUndefined();
    expect(changed({ a: 3 }, { $mul: { a: '0.5' } })).toBeUndefined();
    expect(changed({ a: Number.MAX_SAFE_INTEGER }, { $inc: { a: 1 } })).toBeUndefined();
    expect(changed({ a: [1] }, { $set: { 'a.b': 1 } })).toBeUndefined();
  });

  it('never name the prototype', () => {
    const { apply } = parseUpdate('{"$set":{"__proto__.polluted":1}}');
    const document = {};
    apply(document);
    expect((Object.prototype as { polluted?: unknown }).polluted).toBeUndefined();
    expect(JSON.stringify(document)).toBe('{"__proto__":{"polluted":1}}');
  });
});
