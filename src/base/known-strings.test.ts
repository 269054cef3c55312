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
