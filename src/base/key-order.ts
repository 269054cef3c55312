import type { Bytestring } from './bytes.ts';

/** Byte order, which is string order for bytestrings. */
export function compareBytestrings(left: Bytestring, right: Bytestring): number {
  return left < right ? -1 : left > right ? 1 : 0;
}

/** Whether `start <= key < end` (`end` empty: no bound). */
export function isInside(key: Bytestring, start: Bytestring, end: Bytestring): boolean {
  return key >= start && (end === '' || key < end);
}

/** Where, among ascending keys or positions, the first that is not lower than `key` stands. */
export function lowerBound<Key extends Bytestring | number>(
  sorted: readonly Key[],
  key: Key,
): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((sorted[middle] as Key) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}
