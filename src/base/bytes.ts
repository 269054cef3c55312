import { DaybookError } from './errors.ts';
import { readKey, readText } from './known-strings.ts';

declare global {
  // Node's own fast paths behind `toString(encoding, start, end)`, missing from its typings.
  interface Buffer {
    latin1Slice(start?: number, end?: number): string;
    utf8Slice(start?: number, end?: number): string;
    latin1Write(text: string, offset?: number, length?: number): number;
  }
}

/**
 * Bytes held in a string, one character (U+0000…U+00FF) per byte. Keys and values of the state
 * travel in this form inside a node: it hashes, compares (in byte order, which is UTF-8 order) and
 * stores far cheaper than a small `Buffer`. Convert at the borders with {@link bytesOf},
 * {@link bytestringOf}, {@link bytestringOfText} and {@link textOf}.
 */
export type Bytestring = string;

// biome-ignore lint/suspicious/noControlCharactersInRegex: the range is exactly 7-bit ASCII
const ascii = /^[\x00-\x7f]*$/;
/** Up to here a loop is faster than a call into the runtime (five times at 4 bytes, even at 24). */
const shortStringMax = 20;

function isAscii(text: string): boolean {
  if (text.length > shortStringMax) return ascii.test(text);
  for (let at = 0; at < text.length; at++) if (text.charCodeAt(at) > 0x7f) return false;
  return true;
}

/** UTF-8 bytes of a text, as a {@link Bytestring}; ASCII is returned as it is. */
export function bytestringOfText(text: string): Bytestring {
  return isAscii(text) ? text : Buffer.from(text, 'utf8').latin1Slice();
}

/** The text whose UTF-8 bytes these are; malformed bytes become U+FFFD. */
export function textOf(bytestring: Bytestring): string {
  return isAscii(bytestring) ? bytestring : Buffer.from(bytestring, 'latin1').toString('utf8');
}

/** A {@link Bytestring} as a fresh `Buffer`. */
export function bytesOf(bytestring: Bytestring): Buffer {
  return Buffer.from(bytestring, 'latin1');
}

/** Bytes as a {@link Bytestring}. */
export function bytestringOf(bytes: Uint8Array): Bytestring {
  return asBuffer(bytes).latin1Slice();
}

/** A `Buffer` view of the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/**
 * Appends to one growing buffer. Integers are big-endian; `text` and `bytes` carry a u32 length.
 * A writer may be reused after {@link ByteWriter.reset}; {@link ByteWriter.finish} copies out.
 */
export class ByteWriter {
  #buffer: Buffer;
  #length = 0;

  constructor(capacityBytes = 1024) {
    this.#buffer = Buffer.allocUnsafe(capacityBytes);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#buffer[at] = value;
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#buffer[at] = value >>> 8;
    this.#buffer[at + 1] = value;
    return this;
  }

  u32(value: number): this {
    // Bytes one by one: several times faster than `writeUInt32BE`, which checks its arguments.
    const at = this.#reserve(4);
    const buffer = this.#buffer;
    buffer[at] = value >>> 24;
    buffer[at + 1] = value >>> 16;
    buffer[at + 2] = value >>> 8;
    buffer[at + 3] = value;
    return this;
  }

  /** A safe non-negative integer in eight bytes. */
  u64(value: number): this {
    // Both halves as 32-bit integers: `%` would take longer than all the rest, and make numbers.
    return this.u32((value / 0x1_0000_0000) | 0).u32(value | 0);
  }

  /** Bytes without a length. */
  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#buffer.set(bytes, at);
    return this;
  }

  /** A bytestring without a length. */
  rawBytestring(bytestring: Bytestring): this {
    const { length } = bytestring;
    const at = this.#reserve(length);
    if (length > shortStringMax) {
      this.#buffer.latin1Write(bytestring, at, length);
      return this;
    }
    const buffer = this.#buffer;
    for (let index = 0; index < length; index++) buffer[at + index] = bytestring.charCodeAt(index);
    return this;
  }

  /** u32 length, then the bytes. */
  bytes(bytes: Uint8Array): this {
    return this.u32(bytes.length).raw(bytes);
  }

  /** u32 length, then the bytes. */
  bytestring(bytestring: Bytestring): this {
    return this.u32(bytestring.length).rawBytestring(bytestring);
  }

  /** u32 length, then UTF-8. */
  text(text: string): this {
    return this.bytestring(bytestringOfText(text));
  }

  /** Overwrites four bytes written earlier, e.g. a length known only later. */
  patchU32(at: number, value: number): void {
    this.#buffer.writeUInt32BE(value, at);
  }

  /** The bytes so far, in memory of their own. */
  finish(): Buffer {
    const copy = Buffer.allocUnsafe(this.#length);
    this.#buffer.copy(copy, 0, 0, this.#length);
    return copy;
  }

  /** The bytes from `start` on so far, as a view that the next write invalidates. */
  view(start = 0): Buffer {
    return this.#buffer.subarray(start, this.#length);
  }

  #reserve(count: number): number {
    const at = this.#length;
    const needed = at + count;
    if (needed > this.#buffer.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.#buffer.length * 2));
      this.#buffer.copy(grown, 0, 0, at);
      this.#buffer = grown;
    }
    this.#length = needed;
    return at;
  }
}

/**
 * Reads what {@link ByteWriter} wrote. Never reads past its end.
 *
 * @throws {DaybookError} `MALFORMED` with `details.what` and `details.offset`, from every method,
 *   when the bytes end early or a length is over the given maximum.
 */
export class ByteReader {
  readonly buffer: Buffer;
  /** Offset of the next byte in `buffer`. */
  offset: number;
  readonly end: number;
  readonly #what: string;

  constructor(bytes: Uint8Array, what: string, start = 0, end: number = bytes.length) {
    this.buffer = asBuffer(bytes);
    this.#what = what;
    this.offset = start;
    this.end = end;
  }

  get remaining(): number {
    return this.end - this.offset;
  }

  u8(): number {
    return this.buffer[this.skip(1)] as number;
  }

  u16(): number {
    const at = this.skip(2);
    const { buffer } = this;
    return ((buffer[at] as number) << 8) | (buffer[at + 1] as number);
  }

  u32(): number {
    return wordAt(this.buffer, this.skip(4));
  }

  u64(): number {
    const at = this.skip(8);
    const value = wordAt(this.buffer, at) * 0x1_0000_0000 + wordAt(this.buffer, at + 4);
    if (!Number.isSafeInteger(value)) this.fail('integer over 2^53');
    return value;
  }

  /** A view of `count` bytes: valid as long as the underlying buffer is. */
  raw(count: number): Buffer {
    const at = this.skip(count);
    return this.buffer.subarray(at, at + count);
  }

  /** `held` itself if it has the same bytes as stand at `at`; else a view of those. */
  heldOrView(held: Uint8Array | undefined, at: number, count: number): Uint8Array {
    const { buffer } = this;
    const isSame = held?.length === count && buffer.compare(held, 0, count, at, at + count) === 0;
    return isSame ? held : buffer.subarray(at, at + count);
  }

  rawBytestring(count: number): Bytestring {
    const at = this.skip(count);
    return count <= tinyStringMax
      ? tinyBytestring(this.buffer, at, count)
      : this.buffer.latin1Slice(at, at + count);
  }

  bytes(max: number): Buffer {
    return this.raw(this.length(max));
  }

  bytestring(max: number): Bytestring {
    return this.rawBytestring(this.length(max));
  }

  /** {@link ByteReader.bytestring}, cheaper for one that was read lately. */
  key(max: number): Bytestring {
    const count = this.length(max);
    const at = this.skip(count);
    return readKey(this.buffer, at, at + count);
  }

  text(max: number): string {
    const count = this.length(max);
    const at = this.skip(count);
    return readText(this.buffer, at, at + count);
  }

  /** A u32 length or count that must not exceed `max`. */
  length(max: number): number {
    const length = this.u32();
    if (length > max) this.fail(`length ${length} over ${max}`);
    return length;
  }

  /** Moves on by `count` bytes and returns the offset before. */
  skip(count: number): number {
    const at = this.offset;
    if (count > this.end - at) this.fail('ends early');
    this.offset = at + count;
    return at;
  }

  /** Demands that nothing is left. */
  finish(): void {
    if (this.offset !== this.end) this.fail('bytes after the end');
  }

  fail(why: string): never {
    throw new DaybookError('MALFORMED', `malformed ${this.#what}: ${why}`, {
      details: { what: this.#what, offset: this.offset },
    });
  }
}

/** Up to here characters put together are faster than a call into the runtime (twice at 8 bytes). */
const tinyStringMax = 8;

function tinyBytestring(buffer: Buffer, start: number, count: number): Bytestring {
  if (count <= 4) return upToFour(buffer, start, count);
  return upToFour(buffer, start, 4) + upToFour(buffer, start + 4, count - 4);
}

/** No loop and no closure: it would allocate more than the string. */
function upToFour(buffer: Buffer, at: number, count: number): Bytestring {
  if (count === 0) return '';
  const first = buffer[at] as number;
  if (count === 1) return String.fromCharCode(first);
  const second = buffer[at + 1] as number;
  if (count === 2) return String.fromCharCode(first, second);
  const third = buffer[at + 2] as number;
  if (count === 3) return String.fromCharCode(first, second, third);
  return String.fromCharCode(first, second, third, buffer[at + 3] as number);
}

// Byte by byte: several times faster than `readUInt32BE`, which checks its arguments.
function wordAt(buffer: Buffer, at: number): number {
  return (
    (((buffer[at] as number) << 24) |
      ((buffer[at + 1] as number) << 16) |
      ((buffer[at + 2] as number) << 8) |
      (buffer[at + 3] as number)) >>>
    0
  );
}
