import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  ByteReader,
  ByteWriter,
  bytesOf,
  bytestringOf,
  bytestringOfText,
  textOf,
} from './bytes.ts';
import { isDaybookError } from './errors.ts';

test('what a writer wrote, a reader reads', () => {
  fc.assert(
    fc.property(
      fc.nat(255),
      fc.nat(65535),
      fc.nat(0xffffffff),
      fc.nat(Number.MAX_SAFE_INTEGER),
      fc.string({ unit: 'grapheme' }),
      fc.uint8Array(),
      (u8, u16, u32, u64, text, bytes) => {
        const written = new ByteWriter(1)
          .u8(u8)
          .u16(u16)
          .u32(u32)
          .u64(u64)
          .text(text)
          .bytes(bytes)
          .bytestring(bytestringOf(bytes))
          .finish();
        const reader = new ByteReader(written, 'test');
        expect(reader.u8()).toBe(u8);
        expect(reader.u16()).toBe(u16);
        expect(reader.u32()).toBe(u32);
        expect(reader.u64()).toBe(u64);
        expect(reader.text(10_000)).toBe(text);
        expect(new Uint8Array(reader.bytes(10_000))).toEqual(bytes);
        expect(new Uint8Array(bytesOf(reader.bytestring(10_000)))).toEqual(bytes);
        reader.finish();
      },
    ),
  );
});

test('any bytes read as the text that Buffer makes of them, also when they were read before', () => {
  const short = fc.uint8Array({ maxLength: 40, max: 0x82 });
  fc.assert(
    fc.property(fc.array(short, { maxLength: 20 }), (parts) => {
      const writer = new ByteWriter();
      for (const part of [...parts, ...parts]) writer.bytes(part);
      const reader = new ByteReader(writer.finish(), 'test');
      for (const part of [...parts, ...parts]) {
        expect(reader.text(100)).toBe(Buffer.from(part).toString('utf8'));
      }
    }),
  );
});

test('bytestrings of texts order as their UTF-8 bytes do', () => {
  const text = fc.string({ unit: 'grapheme' });
  fc.assert(
    fc.property(text, text, (a, b) => {
      const [x, y] = [bytestringOfText(a), bytestringOfText(b)];
      expect(Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)))).toBe(
        x < y ? -1 : x > y ? 1 : 0,
      );
      expect(textOf(x)).toBe(a);
    }),
  );
  expect(bytestringOfText('\uffee') < bytestringOfText('\u{1f600}')).toBe(true);
});

test('a reader never reads past its end, even inside a larger buffer', () => {
  const reader = new ByteReader(Buffer.alloc(100, 1), 'test', 10, 13);
  expect(() => reader.u32()).toThrow(/ends early/);
  expect(reader.u16()).toBe(0x0101);
  try {
    reader.bytes(1000);
    expect.unreachable();
  } catch (error) {
    expect(isDaybookError(error, 'MALFORMED')).toBe(true);
  }
});
