/*
 * Short ASCII texts read before, by their bytes. The names of channels, contracts and functions
 * stand in every transaction and record: to find one here takes a third of the time of decoding it
 * and makes no string, and equal names are then the same string.
 */

const bytesMax = 32;
/** One text each, the one read last; a power of two. */
const slots = 1_024;
const known: string[] = new Array(slots).fill('');

/** `buffer`'s bytes from `start` to `end` as UTF-8. */
export function readText(buffer: Buffer, start: number, end: number): string {
  const count = end - start;
  if (count > bytesMax) return buffer.utf8Slice(start, end);
  let hash = count;
  let bits = 0;
  for (let at = start; at < end; at++) {
    const byte = buffer[at] as number;
    hash = (Math.imul(hash, 31) + byte) | 0;
    bits |= byte;
  }
  if (bits > 0x7f) return buffer.utf8Slice(start, end);
  const slot = (hash ^ (hash >>> 10)) & (slots - 1);
  const text = known[slot] as string;
  if (text.length === count) {
    let same = 0;
    while (same < count && text.charCodeAt(same) === buffer[start + same]) same++;
    if (same === count) return text;
  }
  const decoded = buffer.latin1Slice(start, end);
  known[slot] = decoded;
  return decoded;
}
