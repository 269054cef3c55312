import type { Bytestring } from '../base/index.ts';
import type { BulkUpdate, KeyRead, KeyWrite, Position, RangeRead } from '../model/index.ts';
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
  /**
   * Where the version stands in the record, once that is encoded. A row that a call in flight
   * deleted is absent there, whatever the position.
   */
  recordOffset: number | undefined;
}

/** One read. */
export function seenRow(
  key: Bytestring,
  stateKey: Bytestring,
  version: Position | undefined,
  value: Bytestring | undefined,
  execution: number | undefined,
): Seen {
  return { key, stateKey, version, value, execution, recordOffset: undefined };
}

/** From so many rows on a hash is faster than looking at each. */
const hashedFrom = 10;

const none: never[] = [];

/** Rows by key, in the order in which they came. Most calls touch few, which need no hash. */
export class KeyedRows<Row extends { readonly key: Bytestring }> {
  #all: Row[] = none;
  #byKey: Map<Bytestring, Row> | undefined;

  get all(): readonly Row[] {
    return this.#all;
  }

  get(key: Bytestring): Row | undefined {
    if (this.#byKey !== undefined) return this.#byKey.get(key);
    for (const row of this.#all) if (row.key === key) return row;
    return undefined;
  }

  /** Puts them in ascending order of keys. */
  sort(): void {
    this.#all.sort((left, right) => (left.key < right.key ? -1 : 1));
  }

  /** Adds a row; there is none of its key yet. */
  add(row: Row): void {
    const all = this.#all;
    const first = all[0];
    // A list that grows by `push` takes room for seventeen at once.
    if (first === undefined) this.#all = [row];
    else if (all.length === 1) this.#all = [first, row];
    else all.push(row);
    if (this.#byKey !== undefined) this.#byKey.set(row.key, row);
    else if (all.length >= hashedFrom) {
      this.#byKey = new Map(all.map((known) => [known.key, known]));
    }
  }
}

/** A write of a call so far: the last one of its key counts. */
export interface CallWrite extends KeyWrite {
  value: Bytestring | undefined;
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
  /** What state keys of the namespace begin with. */
  readonly prefix: Bytestring;
  readonly readYourWrites: boolean;
  readonly reads: KeyedRows<Seen>;
  readonly ranges: SeenRange[];
  rangeRows: number;
  readonly writes: KeyedRows<CallWrite>;
  readonly bulkUpdates: BulkUpdate[];
  /** Keys that `updateRange` wrote as rows: the next one goes on from there. */
  expanded: Set<Bytestring> | undefined;
}

/**
 * Whether a read finds what it found before. A value that was in flight is fine: whether it became valid is looked after
 * elsewhere.
 */
export function seenAgain(seen: Seen, now: Found): boolean {
  if (seen.execution !== undefined) return true;
  return now.execution === undefined && now.version === seen.version;
}
