/** Longer ones are seldom seen again, and cost more to compare. */
const bytesMax = 64;

/**
 * Short strings read before, by their bytes: what stands in every other record. To find one here
 * takes less time than decoding it and makes no string; and equal ones are then the same string,
 * which maps find faster.
 */
class KnownStrings {
  /** One string each, the one read last. */
  readonly #known: string[];
  readonly #decode: Decode;

  /** @param slots - a power of two. */
  constructor(slots: number, decode: Decode) {
    this.#known = new Array(slots).fill('');
    this.#decode = decode;
  }

  /** What `decode` makes of `buffer`'s bytes from `start` to `end`. */
  read(buffer: Buffer, start: number, end: number): string {
    const count = end - start;
    if (count > bytesMax) return this.#decode(buffer, start, end);
    let hash = count;
    for (let at = start; at < end; at++) hash = (Math.imul(hash, 31) + (buffer[at] as number)) | 0;
    const known = this.#known;
    const slot = (hash ^ (hash >>> 13)) & (known.length - 1);
    const string = known[slot] as string;
    if (string.length === count) {
      let same = 0;
      while (same < count && string.charCodeAt(same) === buffer[start + same]) same++;
      if (same === count) return string;
    }
    const decoded = this.#decode(buffer, start, end);
    // As many characters as bytes: each was made of its own, and is that byte or none of all bytes.
    if (decoded.length === count) known[slot] = decoded;
    return decoded;
  }
}

type Decode = (buffer: Buffer, start: number, end: number) => string;

/** Names of channels, contracts and functions stand in every transaction and record. */
const texts = new KnownStrings(1_024, (buffer, start, end) => buffer.utf8Slice(start, end));
/** Keys are read more often than written, and stand in several messages each time. */
const keys = new KnownStrings(16_384, (buffer, start, end) => buffer.latin1Slice(start, end));

/** `buffer`'s bytes from `start` to `end` as UTF-8. */
export function readText(buffer: Buffer, start: number, end: number): string {
  return texts.read(buffer, start, end);
}

/** `buffer`'s bytes from `start` to `end` as a bytestring that is likely to come again. */
export function readKey(buffer: Buffer, start: number, end: number): string {
  return keys.read(buffer, start, end);
}
