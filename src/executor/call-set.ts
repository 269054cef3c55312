import type { Bytestring } from '../base/index.ts';
import type {
  BulkUpdate,
  KeyRead,
  KeyWrite,
  NamespaceSet,
  Position,
  RangeRead,
} from '../model/index.ts';
import type { SeenVersion } from '../sequencer/index.ts';
import { added, none } from './few.ts';

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
   * Where the version stands in the record's body, once that is encoded. A row that a call in flight
   * deleted is absent there, whatever the position.
   */
  bodyOffset: number | undefined;
  /** Where it stands in the summary, once that is encoded. */
  summaryOffset: number;
}

/** One read. */
export function seenRow(
  key: Bytestring,
  stateKey: Bytestring,
  version: Position | undefined,
  value: Bytestring | undefined,
  execution: number | undefined,
): Seen {
  return { key, stateKey, version, value, execution, bodyOffset: undefined, summaryOffset: 0 };
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

/**
 * What one call has read and written in one namespace, so far; also the `NamespaceSet` of the
 * record. Keys are the contract's, each once, in the order in which they came.
 */
export class CallSet implements NamespaceSet {
  readonly namespace: string;
  readonly readYourWrites: boolean;
  reads: readonly Seen[] = none;
  writes: readonly CallWrite[] = none;
  ranges: readonly SeenRange[] = none;
  bulkUpdates: readonly BulkUpdate[] = none;
  rangeRows = 0;
  /** Keys that `updateRange` wrote as rows: the next one goes on from there. */
  expanded: Set<Bytestring> | undefined;
  /* Where there are many. */
  #readsByKey: Map<Bytestring, Seen> | undefined;
  #writesByKey: Map<Bytestring, CallWrite> | undefined;

  constructor(namespace: string, readYourWrites: boolean) {
    this.namespace = namespace;
    this.readYourWrites = readYourWrites;
  }

  get isTouched(): boolean {
    const { reads, ranges, writes, bulkUpdates } = this;
    return reads.length + ranges.length + writes.length + bulkUpdates.length > 0;
  }

  read(key: Bytestring): Seen | undefined {
    return this.#readsByKey === undefined ? find(this.reads, key) : this.#readsByKey.get(key);
  }

  written(key: Bytestring): CallWrite | undefined {
    return this.#writesByKey === undefined ? find(this.writes, key) : this.#writesByKey.get(key);
  }

  /** Adds a read; there is none of its key yet. */
  addRead(row: Seen): void {
    this.reads = added(this.reads, row);
    if (this.#readsByKey !== undefined) this.#readsByKey.set(row.key, row);
    else if (this.reads.length >= hashedFrom) this.#readsByKey = byKey(this.reads);
  }

  write(key: Bytestring, value: Bytestring | undefined): void {
    const known = this.written(key);
    if (known !== undefined) {
      known.value = value;
      return;
    }
    const row = { key, value };
    this.writes = added(this.writes, row);
    if (this.#writesByKey !== undefined) this.#writesByKey.set(key, row);
    else if (this.writes.length >= hashedFrom) this.#writesByKey = byKey(this.writes);
  }

  /** The call has ended: the record has its writes in ascending order. */
  sortWrites(): void {
    this.writes = inKeyOrder(this.writes);
  }

  /** As Fabric has them in its records. */
  sortReads(): void {
    this.reads = inKeyOrder(this.reads);
  }
}

/** From so many rows on a hash is faster than looking at each. */
const hashedFrom = 10;

interface Keyed {
  readonly key: Bytestring;
}

function find<Row extends Keyed>(rows: readonly Row[], key: Bytestring): Row | undefined {
  for (const row of rows) if (row.key === key) return row;
  return undefined;
}

function byKey<Row extends Keyed>(rows: readonly Row[]): Map<Bytestring, Row> {
  return new Map(rows.map((row) => [row.key, row]));
}

function inKeyOrder<Row extends Keyed>(rows: readonly Row[]): readonly Row[] {
  const [first, second] = rows;
  if (first === undefined || second === undefined) return rows;
  // Most calls write two rows; `sort` would cost as much as all of the encoding.
  if (rows.length === 2) return first.key < second.key ? rows : [second, first];
  return rows.toSorted((left, right) => (left.key < right.key ? -1 : 1));
}

/**
 * Whether a read finds what it found before. A value that was in flight is fine: whether it became valid is looked after
 * elsewhere.
 */
export function seenAgain(seen: Seen, now: Found): boolean {
  if (seen.execution !== undefined) return true;
  return now.execution === undefined && now.version === seen.version;
}
