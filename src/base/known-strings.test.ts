import fc from 'fast-check';
import { expect, it } from 'vitest';
import { readKey, readText } from './known-strings.ts';

it('gives back what the bytes say, whatever was read before', () => {
  // Few different bytes, so that the same strings and others of their length come again.
  const bytes = fc.uint8Array({ maxLength: 70 }).map((drawn) => drawn.map((byte) => byte % 3));
  const any = fc.oneof(
    bytes,
    fc.uint8Array({ maxLength: 70 }),
    fc.string().map((text) => Buffer.from(text)),
  );
  fc.assert(
    fc.property(fc.array(any, { maxLength: 20 }), (all) => {
      const buffer = Buffer.concat([...all, ...all]);
      let start = 0;
      for (const { length } of [...all, ...all]) {
        const end = start + length;
        expect(readKey(buffer, start, end)).toBe(buffer.toString('latin1', start, end));
        expect(readText(buffer, start, end)).toBe(buffer.toString('utf8', start, end));
        start = end;
      }
    }),
  );
});

it('never takes a byte that is no UTF-8 for the character of that number', () => {
  for (let at = 0; at < 20_000; at++) {
    const valid = Buffer.from(`${at}\u00e9`);
    const invalid = Buffer.concat([Buffer.from(String(at)), Buffer.of(0xe9)]);
    readText(valid, 0, valid.length);
    expect(readText(invalid, 0, invalid.length)).toBe(invalid.toString());
  }
});
