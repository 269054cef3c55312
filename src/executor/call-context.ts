import {
  type Bytestring,
  type ByteWriter,
  checkLimit,
  DaybookError,
  limits,
  textOf,
} from '../base/index.ts';
import type { HistoryPage, MaybePromise, QueryPage, StateAccess } from '../contract/index.ts';
import { asPosition, type Position, rangeEndKey, stateKey } from '../model/index.ts';
import { type BulkPart, PendingUpdate } from '../state/index.ts';
import {
  CallSet,
  type FoundRow,
  type Seen,
  seenAgain,
  seenRow,
  type ValueRow,
} from './call-set.ts';
import { type CallEnd, type EncodedCall, encodeCall } from './encode-call.ts';
import { type InFlightWrite, newWrite } from './in-flight.ts';
import { ownDeletes, withOwnWrites } from './own-writes.ts';
import type { QueryFunctions } from './query-functions.ts';

/** Where a call's reads come from: the engine. Keys are state keys. */
export interface ReadSource {
  /** @param key - the contract's key, part of `stateKey`. */
  read(key: Bytestring, stateKey: Bytestring): Seen;
  /** Rows of the interval, in key order, until `limit` rows with a value were found. */
  readRange(start: Bytestring, end: Bytestring, limit: number): FoundRow[];
  history(key: Bytestring, limit: number, bookmark: string): Promise<HistoryPage>;
  /** Bulk updates that not all rows have taken. */
  pendingUpdates(): number;
  readonly query: QueryFunctions;
}

/** Shared locks of a call, of state keys; a promise when the call has to wait for one. */
export interface CallLocks {
  lockKey(key: Bytestring): Promise<void> | undefined;
  lockRange(start: Bytestring, end: Bytestring): Promise<void> | undefined;
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
  /** The deployed version of its contract that runs; `undefined`: none is deployed. */
  version: string | undefined;
  /** Up to where committed state was applied when it began. */
  readonly snapshot: Position;
  readonly #source: ReadSource;
  readonly #locks: CallLocks | undefined;
  #sets: readonly CallSet[] = noSets;
  #last: CallSet | undefined;
  #pending = false;

  /** @param locks - `undefined`: it takes none. */
  constructor(source: ReadSource, snapshot: Position, locks?: CallLocks) {
    this.#source = source;
    this.#locks = locks;
    this.snapshot = snapshot;
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
    for (const set of this.#sets) {
      for (const seen of set.reads) {
        if (!seenAgain(seen, this.#source.read(seen.key, seen.stateKey))) return false;
      }
      for (const range of set.ranges) {
        const { from, to, limit, seen } = range;
        const now = this.#source.readRange(from, to, limit);
        const unchanged = (row: FoundRow, at: number): boolean => {
          const before = seen[at];
          return before !== undefined && before.stateKey === row.key && seenAgain(before, row);
        };
        if (now.length !== seen.length || !now.every(unchanged)) return false;
      }
    }
    return true;
  }

  get(namespace: string, key: Bytestring): MaybePromise<Bytestring | undefined> {
    const set = this.#set(namespace);
    if (set.readYourWrites) {
      const written = set.written(key);
      if (written !== undefined) return written.value;
    }
    return this.#committed(set, key);
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
    const to = rangeEndKey(namespace, end);
    const wait = this.#locks?.lockRange(from, to);
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
    const to = rangeEndKey(namespace, end);
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
      const wait = this.#locks?.lockRange(from, to);
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
    const set = this.#set(namespace);
    set.bulkUpdates = [...set.bulkUpdates, { start, end, query, update, rows }];
  }

  /** Whether the call makes a bulk update that its record carries as data. */
  get isBulk(): boolean {
    for (const { bulkUpdates } of this.#sets) if (bulkUpdates.length > 0) return true;
    return false;
  }

  /** Few rows: ordinary reads and writes. */
  #expand(compiled: PendingUpdate, part: BulkPart, from: Bytestring, to: Bytestring): void {
    const { namespace, start, end } = part;
    const set = this.#set(namespace);
    set.expanded ??= new Set();
    const { expanded } = set;
    this.#readRange(set, start, end, from, to, limits.bulkRowsCountedMax);
    for (const { key, value, stateKey: whole } of set.ranges.at(-1)?.rows ?? []) {
      const written = set.written(key);
      if (value === undefined || (written !== undefined && !expanded.has(key))) continue;
      const before = written === undefined ? value : written.value;
      const after = before === undefined ? undefined : compiled.valueAfter(whole, before);
      if (after === undefined) continue;
      expanded.add(key);
      this.put(namespace, key, after);
    }
  }

  /** Namespaces with declared indexes whose rows the call writes. */
  indexedWrites(): readonly { readonly namespace: string; readonly key: Bytestring }[] {
    let found: { namespace: string; key: Bytestring }[] | undefined;
    for (const { namespace, writes } of this.#sets) {
      if (!this.#source.query.hasIndexes(namespace)) continue;
      found ??= [];
      for (const { key } of writes) {
        if (!this.#source.query.isReserved(key)) found.push({ namespace, key });
      }
    }
    return found ?? noRows;
  }

  /** The value that a row had before this call, recorded as a read. */
  before(namespace: string, key: Bytestring): MaybePromise<Bytestring | undefined> {
    return this.#committed(this.#set(namespace), key);
  }

  /** Adds the index entries of a written row to the writes. */
  addIndexWrites(namespace: string, key: Bytestring, before: Bytestring | undefined): void {
    const set = this.#set(namespace);
    const after = set.written(key)?.value;
    for (const write of this.#source.query.indexWrites(namespace, key, before, after)) {
      set.write(write.key, write.value);
    }
  }

  /** Namespaces that the call has touched. */
  namespaces(): string[] {
    return this.#sets.map(({ namespace }) => namespace);
  }

  /** What was written. */
  writes(): readonly InFlightWrite[] {
    const [only] = this.#sets;
    return only !== undefined && this.#sets.length === 1
      ? writesOf(only)
      : this.#sets.flatMap(writesOf);
  }

  /**
   * Encodes the record's body, then its summary; see {@link encodeCall}.
   *
   * @param written - {@link CallContext.writes}.
   */
  encode(
    end: CallEnd,
    snapshot: Position,
    written: readonly InFlightWrite[],
    writer: ByteWriter,
    sorted = false,
  ): EncodedCall {
    const call = { sets: this.#sets, pending: this.#pending, snapshot, written, sorted };
    return encodeCall(call, end, writer);
  }

  /** The value without own writes, recorded as a read. */
  #committed(set: CallSet, key: Bytestring): MaybePromise<Bytestring | undefined> {
    const known = set.read(key);
    if (known !== undefined) return known.value;
    const whole = stateKey(set.namespace, key);
    const wait = this.#locks?.lockKey(whole);
    if (wait === undefined) return this.#read(set, key, whole);
    return this.#after(wait, () => this.#read(set, key, whole));
  }

  #read(set: CallSet, key: Bytestring, whole: Bytestring): Bytestring | undefined {
    this.#alive();
    // While this call waited for the lock it may have read the key a second time.
    const known = this.waited ? set.read(key) : undefined;
    if (known !== undefined) return known.value;
    const { length } = set.reads;
    if (length >= limits.readsPerRecordMax) checkLimit('readsPerRecordMax', length + 1);
    const seen = this.#source.read(key, whole);
    if (seen.execution !== undefined) this.#pending = true;
    set.addRead(seen);
    return seen.value;
  }

  #readRange(
    set: CallSet,
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
      const one = seenRow(row.key.slice(prefix), row.key, version, value, execution);
      seen.push(one);
      if (value !== undefined) rows.push(one);
    }
    set.rangeRows += seen.length;
    checkLimit('readsPerRecordMax', set.rangeRows);
    const exhausted = rows.length < wanted;
    const range = { start, end, exhausted, rows, seen, from, to, limit: wanted };
    set.ranges = [...set.ranges, range];
    if (!set.readYourWrites || set.writes.length === 0) return rows as ValueRow[];
    return withOwnWrites(rows as ValueRow[], set.writes, { start, end, exhausted, limit });
  }

  #write(namespace: string, key: Bytestring, value: Bytestring | undefined): void {
    this.#alive();
    checkLimit('keyBytesMax', key.length);
    if (key === '' || this.#source.query.isReserved(key)) {
      throw new DaybookError('INVALID_ARGUMENT', 'this key cannot be written by contracts');
    }
    const set = this.#set(namespace);
    set.write(key, value);
    const { length } = set.writes;
    if (length > limits.writesPerRecordMax) checkLimit('writesPerRecordMax', length);
  }

  #set(namespace: string): CallSet {
    this.#alive();
    if (this.#last?.namespace === namespace) return this.#last;
    let set = this.#sets.find((known) => known.namespace === namespace);
    if (set === undefined) {
      set = new CallSet(namespace, this.#source.query.readYourWrites(namespace));
      this.#sets = [...this.#sets, set];
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
    for (const set of this.#sets) {
      for (const seen of set.reads) visit(seen);
      for (const range of set.ranges) for (const seen of range.seen) visit(seen);
    }
  }
}

function writesOf(set: CallSet): InFlightWrite[] {
  // The string that was read with has its hash already.
  return set.writes.map(({ key, value }) =>
    newWrite(set.read(key)?.stateKey ?? stateKey(set.namespace, key), value),
  );
}

const noSets: readonly CallSet[] = [];
const noRows: readonly never[] = [];

/** Above all rows; never kept. */
const uncommitted = {
  position: asPosition(Number.MAX_SAFE_INTEGER),
  heavy: false,
  txId: new Uint8Array(32),
  timestampMs: 0,
};
