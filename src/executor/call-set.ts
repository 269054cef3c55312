import type { Bytestring } from '../base/index.ts';
import type { BulkUpdate, KeyRead, Position, RangeRead } from '../model/index.ts';
import type { SeenVersion } from '../sequencer/index.ts';

/** What a read found: a committed row, a value in flight, or nothing. */
export interface Found {
  readonly value: Bytestring | undefined;
  /** `undefined` when absent or in flight. */
  readonly version: Position | undefined;
  /** The execution whose write in flight was seen; its value may be a delete. */
  readonly execution: number | undefined;
}

/** A row of a range; deletes in flight are among them. */
export interface FoundRow extends Found {
  readonly key: Bytestring;
}

/** A version as it was read; also the `KeyRead` of the record. */
export interface Seen extends KeyRead, SeenVersion, Found {
  readonly version: Position | undefined;
  readonly stateKey: Bytestring;
}

/** A row that is there. */
export type ValueRow = Seen & { readonly value: Bytestring };

/** A range as it was read; also the `RangeRead` of the record. */
export interface SeenRange extends RangeRead {
  readonly rows: readonly Seen[];
  /** The rows, and deletes in flight between them. */
  readonly seen: readonly Seen[];
  /** What was asked for, in state keys. */
  readonly from: Bytestring;
  readonly to: Bytestring;
  readonly limit: number;
}

/** What one call has read and written in one namespace, so far. Keys are the contract's. */
export interface CallSet {
  readonly namespace: string;
  readonly readYourWrites: boolean;
  readonly reads: Map<Bytestring, Seen>;
  readonly ranges: SeenRange[];
  rangeRows: number;
  readonly writes: Map<Bytestring, Bytestring | undefined>;
  readonly bulkUpdates: BulkUpdate[];
  /** Keys that `updateRange` wrote as rows: the next one goes on from there. */
  readonly expanded: Set<Bytestring>;
}

/**
 * Whether a read finds what it found before. A value that was in flight is fine: whether it became valid is looked after
 * elsewhere.
 */
export function seenAgain(seen: Seen, now: Found): boolean {
  if (seen.execution !== undefined) return true;
  return now.execution === undefined && now.version === seen.version;
}
