import type { Bytestring } from '../base/index.ts';
import {
  type Address,
  type NamespaceSet,
  type Position,
  positionOf,
  rangeEndKey,
  stateKey,
  type VerdictCode,
  verdicts,
} from '../model/index.ts';
import type { StateView } from '../state/index.ts';

/** What reads are compared with. */
export interface ReadContext {
  /** Of the record's entry. */
  readonly address: Address;
  /** The state with the writes of earlier valid records of the entry. */
  readonly view: StateView & { version(key: Bytestring): Position | undefined };
  /**
   * Becomes the state keys of the record's reads, set by set: most writes are to keys read. Some of
   * a former record may follow.
   */
  readonly keys: Bytestring[];
}

/** Whether keys and ranges are what the record read: `valid`, `readConflict`, `phantomReadConflict`. */
export function readsVerdict(context: ReadContext, sets: readonly NamespaceSet[]): VerdictCode {
  const { address, view, keys } = context;
  let count = 0;
  for (const { namespace, reads } of sets) {
    for (const { key, version } of reads) {
      const expected = typeof version === 'object' ? positionOf(address, version.index) : version;
      const whole = stateKey(namespace, key);
      keys[count++] = whole;
      if (view.version(whole) !== expected) return verdicts.readConflict;
    }
  }
  for (const { namespace, ranges } of sets) {
    for (const { start, end, exhausted, rows } of ranges) {
      const found = view.range(
        stateKey(namespace, start),
        rangeEndKey(namespace, end),
        exhausted ? rows.length + 1 : rows.length,
      );
      if (found.length !== rows.length) return verdicts.phantomReadConflict;
      for (let at = 0; at < rows.length; at++) {
        const read = rows[at] as (typeof rows)[number];
        const row = found[at] as (typeof found)[number];
        const expected =
          typeof read.version === 'object' ? positionOf(address, read.version.index) : read.version;
        if (row.version !== expected || row.key !== stateKey(namespace, read.key)) {
          return verdicts.phantomReadConflict;
        }
      }
    }
  }
  return verdicts.valid;
}

/** The state key of a written key that is among the first keys the set read. */
export function knownKey(
  { reads }: NamespaceSet,
  key: Bytestring,
  keys: readonly Bytestring[],
  start: number,
): Bytestring | undefined {
  const count = Math.min(reads.length, 8);
  for (let at = 0; at < count; at++) {
    if (reads[at]?.key === key) return keys[start + at];
  }
  return undefined;
}
