import {
  type Bytestring,
  type ByteWriter,
  checkLimit,
  DaybookError,
  limits,
  textOf,
} from '../base/index.ts';
import type { HistoryPage, MaybePromise, QueryPage, StateAccess } from '../contract/index.ts';
import {
  asPosition,
  type BulkUpdate,
  type CommitRecord,
  encodeRecord,
  type KeyRead,
  type KeyWrite,
  type NamespaceSet,
  namespaceEnd,
  type Position,
  type RangeRead,
  stateKey,
  type VersionSlot,
} from '../model/index.ts';
import { encodeRecordSummary, type RecordSummary, type SeenVersion } from '../sequencer/index.ts';
import { type BulkPart, PendingUpdate } from '../state/index.ts';
import type { VersionReference } from './frames.ts';

/** What a read found: a committed row, a value in flight, or nothing. */
export interface Found {
  readonly value: Bytestring | undefined;
  /** `undefined` when absent or in flight. */
  readonly version: Position | undefined;
  /** The execution whose write in flight was seen; its value may be a delete. */
  readonly execution: number | undefined;
}

/** What a record says besides reads and writes. */
export type RecordHead = Omit<CommitRecord, 'sets' | 'batch'>;

/** One write, by state key; `value` undefined deletes. */
export interface StateKeyWrite {
  readonly key: Bytestring;
  readonly value: Bytestring | undefined;
}

/** A row of a range; deletes in flight are among them. */
export interface FoundRow extends Found {
  readonly key: Bytestring;
}

/** Where a call's reads come from: the engine. Keys are state keys. */
export interface ReadSource {
  read(key: Bytestring): Found;
  /** Rows of the interval, in key order, until `limit` rows with a value were found. */
  readRange(start: Bytestring, end: Bytestring, limit: number): FoundRow[];
  /** Takes a shared lock; a promise when the call has to wait for it. */
  lockKey(key: Bytestring): Promise<void> | undefined;
  lockRange(start: Bytestring, end: Bytestring): Promise<void> | undefined;
  history(key: Bytestring, limit: number, bookmark: string): Promise<HistoryPage>;
  /** Bulk updates that not all rows have taken. */
  pendingUpdates(): number;
  readonly query: QueryFunctions;
}

/** JSON queries, as far as the engine knows how to answer them. */
export interface QueryFunctions {
  /** Reads what a query needs through `access` and answers it. */
  run(
    access: Pick<StateAccess, 'get' | 'range'>,
    namespace: string,
    query: string,
    limit: number,
    bookmark: Bytestring,
  ): MaybePromise<QueryPage>;
  /** True for keys that only index entries may have. */
  isReserved(key: Bytestring): boolean;
  /** The index entries that a change of a row's value brings along. */
  indexWrites(
    namespace: string,
    key: Bytestring,
    before: Bytestring | undefined,
    after: Bytestring | undefined,
  ): readonly KeyWrite[];
  /** Whether a bulk update changes a field of a declared index. */
  changesIndex(namespace: string, update: string): boolean;
  /** Whether the contract of a namespace declares indexes. */
  hasIndexes(namespace: string): boolean;
  readYourWrites(namespace: string): boolean;
}

/**
 * The state as one call sees it, and the record of what the call read and wrote. Writes stay here
 * until the call has ended well. Own writes are invisible to own reads unless the contract asked
 * for them (Fabric's rule); a key read twice gives the same answer twice.
 */
export class CallContext implements StateAccess {
  /** True once the call had to wait: then others ran in between. */
  waited = false;
  /** Set to end the call: every access throws from then on. */
  aborted: DaybookError | undefined;
  readonly #source: ReadSource;
  readonly #sets = new Map<string, SetBuilder>();
  #last: SetBuilder | undefined;
  #pending = false;

  constructor(source: ReadSource) {
    this.#source = source;
  }

  /** Executions in flight whose values were read. */
  references(): number[] {
    if (!this.#pending) return [];
    const found = new Set<number>();
    this.#eachSeen((seen) => {
      if (seen.execution !== undefined) found.add(seen.execution);
    });
    return [...found];
  }

  /** Whether a reader would find now what this call found in committed state. */
  isCurrent(): boolean {
    for (const set of this.#sets.values()) {
      for (const seen of set.reads.values()) {
        if (!same(seen, this.#source.read(seen.stateKey))) return false;
      }
      for (const range of set.ranges) {
        const { from, to, limit, seen } = range;
        const now = this.#source.readRange(from, to, limit);
        const unchanged = (row: FoundRow, at: number): boolean => {
          const before = seen[at];
          return before !== undefined && before.stateKey === row.key && same(before, row);
        };
        if (now.length !== seen.length || !now.every(unchanged)) return false;
      }
    }
    return true;
  }

  get(namespace: string, key: Bytestring): MaybePromise<Bytestring | undefined> {
    const set = this.#set(namespace);
    if (set.readYourWrites && set.writes.has(key)) return set.writes.get(key);
    const known = set.reads.get(key);
    if (known !== undefined) return known.value;
    const whole = stateKey(namespace, key);
    const wait = this.#source.lockKey(whole);
    if (wait === undefined) return this.#read(set, key, whole);
    return this.#after(wait, () => this.#read(set, key, whole));
  }

  put(namespace: string, key: Bytestring, value: Bytestring): void {
    checkLimit('valueBytesMax', value.length);
    this.#write(namespace, key, value);
  }

  delete(namespace: string, key: Bytestring): void {
    this.#write(namespace, key, undefined);
  }

  range(
    namespace: string,
    start: Bytestring,
    end: Bytestring,
    limit: number,
  ): MaybePromise<readonly { readonly key: Bytestring; readonly value: Bytestring }[]> {
    const set = this.#set(namespace);
    if (limit <= 0 || (end !== '' && start >= end)) return [];
    const from = stateKey(namespace, start);
    const to = end === '' ? namespaceEnd(namespace) : stateKey(namespace, end);
    const wait = this.#source.lockRange(from, to);
    if (wait === undefined) return this.#readRange(set, start, end, from, to, limit);
    return this.#after(wait, () => this.#readRange(set, start, end, from, to, limit));
  }

  query(
    namespace: string,
    query: string,
    limit: number,
    bookmark: Bytestring,
  ): MaybePromise<QueryPage> {
    this.#alive();
    return this.#source.query.run(this, namespace, query, limit, bookmark);
  }

  history(
    namespace: string,
    key: Bytestring,
    limit: number,
    bookmark: string,
  ): Promise<HistoryPage> {
    this.#alive();
    return this.#source.history(stateKey(namespace, key), limit, bookmark);
  }

  updateRange(
    namespace: string,
    range: { readonly start: Bytestring; readonly end: Bytestring },
    query: string,
    update: string,
  ): MaybePromise<void> {
    this.#alive();
    // As in ranges: keys below are composite keys and Daybook's own.
    const start = range.start === '' ? '\u0001' : range.start;
    const { end } = range;
    checkLimit('keyBytesMax', Math.max(start.length, end.length));
    const part = { namespace, start, end, query, update };
    const compiled = new PendingUpdate({ ...uncommitted, parts: [part] });
    if (end !== '' && start >= end) return;
    const { bulkRowsCountedMax, bulkRowsExpandedMax, bulkPendingMax } = limits;
    const from = stateKey(namespace, start);
    const to = end === '' ? namespaceEnd(namespace) : stateKey(namespace, end);
    let rows = 0;
    for (const { key, value } of this.#source.readRange(from, to, bulkRowsCountedMax)) {
      if (value === undefined) continue;
      rows++;
      // A sample: looking into every value would hold up the others.
      if (rows <= bulkRowsExpandedMax && compiled.refuses(key, value)) {
        throw new DaybookError('UPDATE_INVALID', 'a row cannot be updated exactly', {
          details: { key: textOf(key.slice(from.length - start.length)) },
        });
      }
    }
    const changesIndex = this.#source.query.changesIndex(namespace, update);
    if (rows <= bulkRowsExpandedMax || (changesIndex && rows < bulkRowsCountedMax)) {
      const wait = this.#source.lockRange(from, to);
      const expand = (): void => this.#expand(compiled, part, from, to);
      return wait === undefined ? expand() : this.#after(wait, expand);
    }
    if (changesIndex) {
      throw new DaybookError('UPDATE_INVALID', 'it changes a field of a declared index', {
        details: { limit: 'bulkRowsCountedMax', max: bulkRowsCountedMax },
      });
    }
    if (this.#source.pendingUpdates() >= bulkPendingMax) {
      throw new DaybookError('OVERLOADED', 'earlier bulk updates are still going on', {
        details: { limit: 'bulkPendingMax', max: bulkPendingMax },
      });
    }
    this.#set(namespace).bulkUpdates.push({ start, end, query, update, rows });
  }

  /** Whether the call makes a bulk update that its record carries as data. */
  get isBulk(): boolean {
    for (const { bulkUpdates } of this.#sets.values()) if (bulkUpdates.length > 0) return true;
    return false;
  }

  /** Few rows: ordinary reads and writes. */
  #expand(compiled: PendingUpdate, part: BulkPart, from: Bytestring, to: Bytestring): void {
    const { namespace, start, end } = part;
    const set = this.#set(namespace);
    this.#readRange(set, start, end, from, to, limits.bulkRowsCountedMax);
    for (const { key, value, stateKey: whole } of set.ranges.at(-1)?.rows ?? []) {
      const written = set.writes.has(key);
      if (value === undefined || (written && !set.expanded.has(key))) continue;
      const before = written ? set.writes.get(key) : value;
      const after = before === undefined ? undefined : compiled.valueAfter(whole, before);
      if (after === undefined) continue;
      set.expanded.add(key);
      this.put(namespace, key, after);
    }
  }

  /** Namespaces with declared indexes whose rows the call writes. */
  indexedWrites(): { namespace: string; key: Bytestring }[] {
    const found: { namespace: string; key: Bytestring }[] = [];
    for (const { namespace, writes } of this.#sets.values()) {
      if (!this.#source.query.hasIndexes(namespace)) continue;
      for (const key of writes.keys()) {
        if (!this.#source.query.isReserved(key)) found.push({ namespace, key });
      }
    }
    return found;
  }

  /** The value that a row had before this call, recorded as a read. */
  before(namespace: string, key: Bytestring): MaybePromise<Bytestring | undefined> {
    const set = this.#set(namespace);
    const known = set.reads.get(key);
    if (known !== undefined) return known.value;
    const whole = stateKey(namespace, key);
    const wait = this.#source.lockKey(whole);
    if (wait === undefined) return this.#read(set, key, whole);
    return this.#after(wait, () => this.#read(set, key, whole));
  }

  /** Adds the index entries of a written row to the writes. */
  addIndexWrites(namespace: string, key: Bytestring, before: Bytestring | undefined): void {
    const set = this.#set(namespace);
    const after = set.writes.get(key);
    for (const write of this.#source.query.indexWrites(namespace, key, before, after)) {
      set.writes.set(write.key, write.value);
    }
  }

  /** Namespaces that the call has touched. */
  namespaces(): string[] {
    return [...this.#sets.keys()];
  }

  /** What was written. */
  writes(): StateKeyWrite[] {
    const all: StateKeyWrite[] = [];
    for (const { namespace, reads, writes } of this.#sets.values()) {
      for (const [key, value] of writes) {
        // The string that was read with has its hash already.
        all.push({ key: reads.get(key)?.stateKey ?? stateKey(namespace, key), value });
      }
    }
    return all;
  }

  /**
   * Encodes the record and its summary.
   *
   * @param written - {@link CallContext.writes}.
   * @param sorted - namespaces and keys read stand in ascending order, as Fabric's do.
   * @returns the places of versions that are not known yet.
   * @throws {DaybookError} `LIMIT_EXCEEDED`
   */
  encode(
    head: RecordHead,
    snapshot: Position,
    written: readonly StateKeyWrite[],
    record: ByteWriter,
    summary: ByteWriter,
    sorted = false,
  ): readonly VersionReference[] {
    const sets: NamespaceSet[] = [];
    const reads: Seen[] = [];
    const ranges: RecordSummary['ranges'][number][] = [];
    const writtenRanges: RecordSummary['writtenRanges'][number][] = [];
    for (const set of sorted ? inOrder(this.#sets.values()) : this.#sets.values()) {
      const { bulkUpdates } = set;
      if (set.reads.size + set.ranges.length + set.writes.size + bulkUpdates.length === 0) continue;
      const ownReads = set.reads.size === 0 ? none : [...set.reads.values()];
      if (sorted) (ownReads as Seen[]).sort((left, right) => (left.key < right.key ? -1 : 1));
      for (const seen of ownReads) reads.push(seen);
      for (const range of set.ranges) {
        const start = stateKey(set.namespace, range.start);
        ranges.push({ start, end: rangeEnd(set.namespace, range), rows: range.seen });
      }
      sets.push({
        namespace: set.namespace,
        reads: ownReads,
        ranges: set.ranges,
        writes: sortedWrites(set.writes),
        bulkUpdates,
      });
      for (const { start, end } of bulkUpdates) {
        writtenRanges.push({
          start: stateKey(set.namespace, start),
          end: end === '' ? namespaceEnd(set.namespace) : stateKey(set.namespace, end),
        });
      }
    }
    const { type, txId, leaf, transactionBytes, contractVersion, result, event } = head;
    const pending = this.#pending;
    const slots: VersionSlot[] | undefined = pending ? [] : undefined;
    encodeRecord(
      { type, txId, batch: 0, leaf, transactionBytes, contractVersion, sets, result, event },
      record,
      slots,
    );
    const references: { seen: Seen; summaryOffset: number }[] = [];
    const writes = written.map(({ key }) => key);
    encodeRecordSummary(
      { snapshot, urgent: false, reads, ranges, writes, writtenRanges },
      summary,
      pending
        ? (summaryOffset, seen) => {
            if ((seen as Seen).execution === undefined) return;
            references.push({ seen: seen as Seen, summaryOffset });
          }
        : undefined,
    );
    if (slots === undefined) return none;
    const offsets = new Map(slots.map((slot) => [slot.read, slot.offset]));
    return references.map(({ seen, summaryOffset }) => ({
      // A row that a call in flight deleted is absent in the record, whatever the position.
      recordOffset: seen.value === undefined ? undefined : offsets.get(seen),
      summaryOffset,
      execution: seen.execution as number,
    }));
  }

  #read(set: SetBuilder, key: Bytestring, whole: Bytestring): Bytestring | undefined {
    this.#alive();
    if (set.reads.size >= limits.readsPerRecordMax) {
      checkLimit('readsPerRecordMax', set.reads.size + 1);
    }
    const { value, version, execution } = this.#source.read(whole);
    if (execution !== undefined) this.#pending = true;
    set.reads.set(key, { key, version, value, execution, stateKey: whole });
    return value;
  }

  #readRange(
    set: SetBuilder,
    start: Bytestring,
    end: Bytestring,
    from: Bytestring,
    to: Bytestring,
    limit: number,
  ): readonly { readonly key: Bytestring; readonly value: Bytestring }[] {
    this.#alive();
    const prefix = from.length - start.length;
    const seen: Seen[] = [];
    const rows: Seen[] = [];
    // Own deletes will be taken out of the page, which must be full all the same.
    const wanted = set.readYourWrites ? limit + ownDeletes(set.writes, start, end) : limit;
    for (const row of this.#source.readRange(from, to, wanted)) {
      const { value, version, execution } = row;
      if (execution !== undefined) this.#pending = true;
      const one = { key: row.key.slice(prefix), version, value, execution, stateKey: row.key };
      seen.push(one);
      if (value !== undefined) rows.push(one);
    }
    set.rangeRows += seen.length;
    checkLimit('readsPerRecordMax', set.rangeRows);
    const exhausted = rows.length < wanted;
    set.ranges.push({ start, end, exhausted, rows, seen, from, to, limit: wanted });
    if (!set.readYourWrites || set.writes.size === 0) return rows as ValueRow[];
    return withOwnWrites(rows as ValueRow[], set.writes, { start, end, exhausted, limit });
  }

  #write(namespace: string, key: Bytestring, value: Bytestring | undefined): void {
    this.#alive();
    checkLimit('keyBytesMax', key.length);
    if (key === '' || this.#source.query.isReserved(key)) {
      throw new DaybookError('INVALID_ARGUMENT', 'this key cannot be written by contracts');
    }
    const { writes } = this.#set(namespace);
    writes.set(key, value);
    if (writes.size > limits.writesPerRecordMax) checkLimit('writesPerRecordMax', writes.size);
  }

  #set(namespace: string): SetBuilder {
    this.#alive();
    if (this.#last?.namespace === namespace) return this.#last;
    let set = this.#sets.get(namespace);
    if (set === undefined) {
      set = {
        namespace,
        readYourWrites: this.#source.query.readYourWrites(namespace),
        reads: new Map(),
        ranges: [],
        rangeRows: 0,
        writes: new Map(),
        bulkUpdates: [],
        expanded: new Set(),
      };
      this.#sets.set(namespace, set);
    }
    this.#last = set;
    return set;
  }

  async #after<T>(wait: Promise<void>, then: () => T): Promise<T> {
    this.waited = true;
    await wait;
    return then();
  }

  #alive(): void {
    if (this.aborted !== undefined) throw this.aborted;
  }

  #eachSeen(visit: (seen: Seen) => void): void {
    for (const set of this.#sets.values()) {
      for (const seen of set.reads.values()) visit(seen);
      for (const range of set.ranges) for (const seen of range.seen) visit(seen);
    }
  }
}

/** A version as it was read; also the `KeyRead` of the record. */
interface Seen extends KeyRead, SeenVersion, Found {
  readonly version: Position | undefined;
  readonly stateKey: Bytestring;
}

type ValueRow = Seen & { readonly value: Bytestring };

interface SeenRange extends RangeRead {
  readonly rows: readonly Seen[];
  /** The rows, and deletes in flight between them. */
  readonly seen: readonly Seen[];
  /** What was asked for, in state keys. */
  readonly from: Bytestring;
  readonly to: Bytestring;
  readonly limit: number;
}

interface SetBuilder {
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

const none: readonly never[] = [];

/** Above all rows; never kept. */
const uncommitted = {
  position: asPosition(Number.MAX_SAFE_INTEGER),
  heavy: false,
  txId: new Uint8Array(32),
  timestampMs: 0,
};

/** A value that was in flight is fine: whether it became valid is looked after elsewhere. */
function same(seen: Seen, now: Found): boolean {
  if (seen.execution !== undefined) return true;
  return now.execution === undefined && now.version === seen.version;
}

function inOrder(sets: Iterable<SetBuilder>): SetBuilder[] {
  return [...sets].sort((left, right) => (left.namespace < right.namespace ? -1 : 1));
}

function sortedWrites(writes: ReadonlyMap<Bytestring, Bytestring | undefined>): KeyWrite[] {
  const sorted: KeyWrite[] = [];
  for (const [key, value] of writes) sorted.push({ key, value });
  if (sorted.length > 1) sorted.sort((left, right) => (left.key < right.key ? -1 : 1));
  return sorted;
}

/** The part of a range that was really read: up to and including the last row when it was cut. */
function rangeEnd(namespace: string, range: SeenRange): Bytestring {
  const last = range.rows.at(-1);
  if (!range.exhausted && last !== undefined) return `${last.stateKey}\0`;
  return range.end === '' ? namespaceEnd(namespace) : stateKey(namespace, range.end);
}

function ownDeletes(
  writes: ReadonlyMap<Bytestring, Bytestring | undefined>,
  start: Bytestring,
  end: Bytestring,
): number {
  let count = 0;
  for (const [key, value] of writes) {
    if (value === undefined && key >= start && (end === '' || key < end)) count++;
  }
  return count;
}

/** Puts a call's own writes over the rows of a range. */
function withOwnWrites(
  rows: readonly ValueRow[],
  writes: ReadonlyMap<Bytestring, Bytestring | undefined>,
  range: { start: Bytestring; end: Bytestring; exhausted: boolean; limit: number },
): { key: Bytestring; value: Bytestring }[] {
  const merged = new Map<Bytestring, Bytestring>();
  for (const row of rows) merged.set(row.key, row.value);
  // Behind the last row of a cut range other rows may stand before an own one.
  const bound = range.exhausted ? undefined : rows.at(-1)?.key;
  for (const [key, value] of writes) {
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
