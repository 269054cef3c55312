import { type Bytestring, isInside } from '../base/index.ts';
import type { KeyWrite } from '../model/index.ts';
import type { ValueRow } from './call-set.ts';

/* Ranges of a contract that sees its own writes. */

/** How many keys of an interval the call has deleted. */
export function ownDeletes(
  writes: readonly KeyWrite[],
  start: Bytestring,
  end: Bytestring,
): number {
  let count = 0;
  for (const { key, value } of writes) {
    if (value === undefined && isInside(key, start, end)) count++;
  }
  return count;
}

/** Puts a call's own writes over the rows of a range. */
export function withOwnWrites(
  rows: readonly ValueRow[],
  writes: readonly KeyWrite[],
  range: { start: Bytestring; end: Bytestring; exhausted: boolean; limit: number },
): { key: Bytestring; value: Bytestring }[] {
  const merged = new Map<Bytestring, Bytestring>();
  for (const row of rows) merged.set(row.key, row.value);
  // Behind the last row of a cut range other rows may stand before an own one.
  const bound = range.exhausted ? undefined : rows.at(-1)?.key;
  for (const { key, value } of writes) {
    if (key < range.start || (range.end !== '' && key >= range.end)) continue;
    if (bound !== undefined && key > bound) continue;
    if (value === undefined) merged.delete(key);
    else merged.set(key, value);
  }
  return [...merged]
    .map(([key, value]) => ({ key, value }))
    .sort((left, right) => (left.key < right.key ? -1 : 1))
    .slice(0, range.limit);
}
