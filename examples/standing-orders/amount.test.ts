import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatAmount, parseAmount } from './amount.ts';

test('amounts keep every digit', () => {
  expect(parseAmount('245.20')).toBe(245_200_000n);
  expect(parseAmount('0.000001')).toBe(1n);
  expect(parseAmount('.80')).toBe(800_000n);
  expect(formatAmount(245_200_000n)).toBe('245.20');
  expect(formatAmount(2_500n)).toBe('0.0025');
  expect(formatAmount(-5_000_000n)).toBe('-5.00');
});

test('reading what was written gives the same amount', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 10n ** 23n }), (amount) => {
      expect(parseAmount(formatAmount(amount))).toBe(amount);
    }),
  );
});

test.each(['', '1.', '.', '-1', '1e3', '1,5', '0.0000001', ' 1', 'NaN'])(
  '%j is no amount',
  (text) => {
    expect(() => parseAmount(text)).toThrow(expect.objectContaining({ code: 'MALFORMED' }));
  },
);
