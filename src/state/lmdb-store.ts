import { type Database, open, type RootDatabase } from 'lmdb';
import { type Bytestring, DaybookError, limits, toDaybookError } from '../base/index.ts';
import { type Address, asAddress, type Position, type VerdictCode } from '../model/index.ts';
import { updatesUnderWay } from './bulk/index.ts';
import type { EntrySummary, Row, StateView } from './state.ts';
import type {
  HistoryHead,
  RowHeader,
  StateStore,
  StoreBatch,
  StoreMeta,
  StoreSnapshot,
} from './store.ts';

/*
 * One LMDB environment with four tables:
 *   rows     state key → version u64 ‖ history head u64 ‖ value
 *   graves   state key → history head u64, for keys that are deleted
 *   entries  address u64 → log time u64 ‖ a verdict per record, when not all are valid
 *   meta     'meta' → JSON of StoreMeta
 * Written without sync: the process may die at any time, the machine may not (see `state-directory`).
 * Pages are written through a writable map, which takes less than half the time of writing them to
 * the file (decision 0015). A map that finds the device full ends the process, so room is demanded
 * before every commit.
 * Keys and values go in and out as bytestrings, without a buffer of their own.
 */

const headerBytes = 16;
/** Size of the map and, sparse, of the file: only pages in use take room on the device. */
const mapBytes = 2 ** 40;
/** 32 bits of key and 21 of index fill a double's 53. */
const orderSlots = 2 ** 21;
/** What a commit may newly occupy: per write a page and its part of the pages above it. */
const bytesPerWriteMax = 8 * 1024;
const spareBytes = 64 * 1024 * 1024;
const readersMax = 126;

type Txn = { done(): void };

/** A read view of a store's rows in one process, at one committed state until it is refreshed. */
export interface StateReader extends StateView {
  version(key: Bytestring): Position | undefined;
  /** The first address that is not in the state that reads show. */
  nextAddress(): Address;
  /** Bulk updates that not all rows have taken, ascending; rows are as they are in the store. */
  updating(): Position[];
  /** Moves on to the state committed last. Until then reads show one and the same state. */
  refresh(): void;
  close(): void;
}

/**
 * Opens the rows for reading in another process than the one that applies.
 *
 * @param directory - the state's directory.
 * @throws {DaybookError} `STATE_DAMAGED` when there is no store yet, or an unreadable one.
 */
export function openStateReader(directory: string): StateReader {
  let environment: RootDatabase;
  let table: Database<Value, Bytestring> | undefined;
  let metaTable: Database<Value, Bytestring> | undefined;
  try {
    environment = openEnvironment(directory, true);
    table = environment.openDB<Value, Bytestring>({ name: 'rows', ...codec() });
    metaTable = environment.openDB<Value, Bytestring>({ name: 'meta', ...codec() });
  } catch (cause) {
    throw unusable(cause);
  }
  if (table === undefined || metaTable === undefined) throw unusable(new Error('no table of rows'));
  const meta = metaTable;
  const rows = new Rows(table);
  return {
    get: (key) => rows.get(key),
    version: (key) => rows.look(key)?.version,
    range: (start, end, limit) => rows.range(start, end, limit),
    nextAddress: () => readMeta(meta, rows.options)?.nextAddress ?? asAddress(0),
    updating: () => updatesUnderWay(readMeta(meta, rows.options)?.bulkUpdates),
    refresh: () => rows.refresh(),
    close: () => {
      rows.release();
      void environment.close();
    },
  };
}

/**
 * Opens or creates the store in `directory`.
 *
 * @param availableBytes - room left on the device; a commit that might not fit is refused.
 * @throws {DaybookError} `STATE_DAMAGED`
 */
export function openLmdbStore(
  directory: string,
  availableBytes?: () => Promise<number>,
): LmdbStore {
  try {
    return new LmdbStore(directory, availableBytes);
  } catch (cause) {
    throw unusable(cause);
  }
}

/** The store of a real node. See {@link StateStore}. */
export class LmdbStore implements StateStore {
  readonly #environment: RootDatabase;
  readonly #availableBytes: (() => Promise<number>) | undefined;
  readonly #rowTable: Table;
  readonly #graveTable: Table;
  readonly #entryTable: Table;
  readonly #metaTable: Table;
  readonly #rows: Rows;
  #meta: StoreMeta | undefined;
  #graves: number;

  constructor(directory: string, availableBytes?: () => Promise<number>) {
    this.#availableBytes = availableBytes;
    this.#environment = openEnvironment(directory, false);
    const table = (name: string): Table => {
      const encoder = codec();
      return {
        encoder: encoder.encoder,
        db: this.#environment.openDB<Value, Bytestring>({ name, ...encoder }),
      };
    };
    this.#rowTable = table('rows');
    this.#graveTable = table('graves');
    this.#entryTable = table('entries');
    this.#metaTable = table('meta');
    this.#meta = readMeta(this.#metaTable.db);
    if (this.#meta !== undefined && this.#meta.formatVersion !== 1) {
      throw new Error(`unknown format ${String(this.#meta.formatVersion)}`);
    }
    this.#graves = entryCount(this.#graveTable.db);
    this.#rows = new Rows(this.#rowTable.db);
  }

  get meta(): StoreMeta | undefined {
    return this.#meta;
  }

  get(key: Bytestring): Row | undefined {
    return this.#rows.get(key);
  }

  version(key: Bytestring): Position | undefined {
    return this.#rows.look(key)?.version;
  }

  look(key: Bytestring): RowHeader | undefined {
    return this.#rows.look(key);
  }

  head(key: Bytestring): HistoryHead {
    const row = this.#rows.look(key);
    if (row !== undefined) return row.head;
    if (this.#graves === 0) return 0;
    const grave = this.#graveTable.db.get(key);
    return grave === undefined ? 0 : readU64(grave.buffer, 0);
  }

  range(start: Bytestring, end: Bytestring, limit?: number): Row[] {
    return this.#rows.range(start, end, limit);
  }

  entry(address: Address): EntrySummary | undefined {
    const stored = this.#entryTable.db.get(addressKey(address));
    if (stored === undefined) return undefined;
    const { buffer, size } = stored;
    const logTimeMs = readU64(buffer, 0);
    const verdicts =
      size === 8 ? undefined : (Array.from(buffer.subarray(8, size)) as VerdictCode[]);
    return { address, logTimeMs, verdicts };
  }

  async commit(batch: StoreBatch): Promise<void> {
    const writes = nearKeyOrder([...batch.writes]);
    const needed = spareBytes + bytesPerWriteMax * (writes.length + batch.entries.length);
    const available = await this.#availableBytes?.();
    if (available !== undefined && available < needed) {
      const mebibytes = (bytes: number): string => `${Math.ceil(bytes / 1024 / 1024)} MiB`;
      throw new DaybookError(
        'DISK_FULL',
        `the state needs ${mebibytes(needed)} of free space, and has ${mebibytes(available)}`,
        { details: { available, needed } },
      );
    }
    // One block of memory for all values: LMDB's own thread reads from it until the commit.
    let bytes = 0;
    for (const { value } of writes) bytes += headerBytes + (value === undefined ? 0 : value.length);
    for (const { verdicts } of batch.entries) bytes += 8 + (verdicts?.length ?? 0);
    const meta = JSON.stringify(batch.meta);
    const arena = new Arena(bytes + meta.length);
    const { db: rows } = this.#rowTable;
    const { db: graves } = this.#graveTable;
    const { db: entries } = this.#entryTable;
    for (const table of [this.#rowTable, this.#graveTable, this.#entryTable, this.#metaTable]) {
      table.encoder.arena = arena;
    }
    let done: boolean;
    try {
      done = await rows.batch(() => {
        for (const write of writes) {
          if (write.value !== undefined) {
            arena.begin().u64(write.version).u64(write.head).bytestring(write.value);
            void rows.put(write.key, inArena);
            if (this.#graves > 0 && write.head !== 0) void graves.remove(write.key);
          } else {
            void rows.remove(write.key);
            if (write.head !== 0) {
              arena.begin().u64(write.head);
              void graves.put(write.key, inArena);
              this.#graves++;
            }
          }
        }
        for (const { address, logTimeMs, verdicts } of batch.entries) {
          arena.begin().u64(logTimeMs);
          if (verdicts !== undefined) for (const verdict of verdicts) arena.u8(verdict);
          void entries.put(addressKey(address), inArena);
        }
        arena.begin().bytestring(meta);
        void this.#metaTable.db.put('meta', inArena);
      });
    } catch (cause) {
      throw toDaybookError(cause, 'IO_FAILED');
    }
    if (!done) throw new DaybookError('IO_FAILED', 'the state store refused a batch');
    this.#meta = batch.meta;
    this.#rows.refresh();
  }

  snapshot(): StoreSnapshot {
    // The rows' own view is replaced at every commit; this one stays.
    const rows = new Rows(this.#rowTable.db);
    // Of the same transaction: a commit may be through that has not been reported yet.
    const meta = readMeta(this.#metaTable.db, rows.options);
    return {
      meta,
      page: (start, limit) => rows.range(start, '', limit),
      release: () => rows.release(),
    };
  }

  async close(): Promise<void> {
    this.#rows.release();
    await new Promise<void>((resolve) => {
      (this.#environment as unknown as { sync(done: () => void): void }).sync(resolve);
    });
    await this.#environment.close();
  }
}

interface Table {
  readonly db: Database<Value, Bytestring>;
  readonly encoder: ArenaEncoder;
}

/** Rows at one committed state. */
class Rows {
  readonly #db: Database<Value, Bytestring>;
  readonly options: { transaction: Txn };
  readonly #header: RowHeader = { version: 0 as Position, head: 0 };

  constructor(db: Database<Value, Bytestring>) {
    this.#db = db;
    this.options = { transaction: newTransaction(db) };
  }

  get(key: Bytestring): Row | undefined {
    const bytes = this.#bytes(key);
    if (bytes === undefined) return undefined;
    return {
      key,
      value: bytes.latin1Slice(headerBytes, bytes.length),
      version: readU64(bytes, 0) as Position,
    };
  }

  look(key: Bytestring): RowHeader | undefined {
    const bytes = this.#bytes(key);
    if (bytes === undefined) return undefined;
    this.#header.version = readU64(bytes, 0) as Position;
    this.#header.head = readU64(bytes, 8);
    return this.#header;
  }

  range(start: Bytestring, end: Bytestring, limit: number = Number.POSITIVE_INFINITY): Row[] {
    const rows: Row[] = [];
    if (limit <= 0 || (end !== '' && start >= end)) return rows;
    const found = this.#db.getRange({
      start: start === '' ? '\0' : start,
      ...(end === '' ? {} : { end }),
      ...(limit === Number.POSITIVE_INFINITY ? {} : { limit }),
      ...(this.options as object),
    });
    for (const { key, value } of found) {
      rows.push({
        key,
        value: value.buffer.latin1Slice(headerBytes, value.size),
        version: readU64(value.buffer, 0) as Position,
      });
    }
    return rows;
  }

  refresh(): void {
    this.release();
    this.options.transaction = newTransaction(this.#db);
  }

  release(): void {
    this.options.transaction.done();
  }

  #bytes(key: Bytestring): Buffer | undefined {
    // LMDB's own limit; such a key cannot be there.
    if (key.length > keyBytesMax || key === '') return undefined;
    return (this.#db as unknown as FastReads).getBinaryFast(key, this.options);
  }
}

/** A method of lmdb whose second argument its typings leave out. */
interface FastReads {
  /** A shared buffer, valid until the next read, whose `length` is the value's. */
  getBinaryFast(key: Bytestring, options: { transaction: Txn }): Buffer | undefined;
}

const keyBytesMax = limits.nameBytesMax + 1 + limits.keyBytesMax;

/** What the decoder gives: LMDB's shared read buffer, valid until the next read. */
interface Value {
  readonly buffer: Buffer;
  readonly size: number;
}

/** Stands for "the bytes begun last in the arena" where lmdb wants a value. */
const inArena = { buffer: Buffer.alloc(0), size: 0 } satisfies Value;

/** Encodes values one behind the other in one block that LMDB's thread can read. */
class Arena {
  readonly buffer: Buffer & { start?: number; end?: number };
  #start = 0;
  #end = 0;

  constructor(bytes: number) {
    this.buffer = Buffer.allocUnsafeSlow(Math.max(bytes, 8));
  }

  begin(): this {
    this.#start = this.#end;
    return this;
  }

  u8(value: number): this {
    this.buffer[this.#end++] = value;
    return this;
  }

  u64(value: number): this {
    const at = this.#end;
    this.buffer.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
    this.buffer.writeUInt32BE(value % 0x1_0000_0000, at + 4);
    this.#end = at + 8;
    return this;
  }

  bytestring(value: Bytestring): this {
    this.buffer.latin1Write(value, this.#end, value.length);
    this.#end += value.length;
    return this;
  }

  /** The value begun last, in the form that lmdb takes without copying. */
  take(): Buffer {
    this.buffer.start = this.#start;
    this.buffer.end = this.#end;
    return this.buffer;
  }
}

class ArenaEncoder {
  /** Tells lmdb that `encode` answers with a piece of a larger buffer. */
  readonly copyBuffers = true;
  arena: Arena = new Arena(0);

  encode(): Buffer {
    return this.arena.take();
  }

  decode(buffer: Buffer, size?: unknown): Value {
    // Point reads set the length of lmdb's shared buffer; ranges tell it.
    return { buffer, size: typeof size === 'number' ? size : buffer.length };
  }
}

const keyEncoder = {
  writeKey(key: Bytestring | Uint8Array, target: Buffer, at: number): number {
    if (typeof key !== 'string') {
      target.set(key, at);
      return at + key.length;
    }
    target.latin1Write(key, at, key.length);
    return at + key.length;
  },
  readKey(source: Buffer, start: number, end: number): Bytestring {
    return Buffer.prototype.latin1Slice.call(source, start, end);
  },
};

function codec(): { encoder: ArenaEncoder; keyEncoder: typeof keyEncoder } {
  return { encoder: new ArenaEncoder(), keyEncoder };
}

/**
 * The writes by the four bytes after their keys' common beginning. Neighbours in LMDB's tree are then
 * written one after another, which saves a third of its work; exact order costs more than it saves.
 */
export function nearKeyOrder<W extends { readonly key: Bytestring }>(
  writes: readonly W[],
): readonly W[] {
  const [first] = writes;
  if (first === undefined || writes.length > orderSlots) return writes;
  let common = first.key.length;
  for (const { key } of writes) {
    let same = 0;
    while (same < common && key.charCodeAt(same) === first.key.charCodeAt(same)) same++;
    common = same;
  }
  const order = new Float64Array(writes.length);
  for (let index = 0; index < writes.length; index++) {
    const { key } = writes[index] as W;
    let rank = 0;
    for (let at = common; at < common + 4; at++) {
      rank = rank * 256 + (at < key.length ? key.charCodeAt(at) : 0);
    }
    order[index] = rank * orderSlots + index;
  }
  order.sort();
  return Array.from(order, (rank) => writes[rank % orderSlots] as W);
}

function openEnvironment(directory: string, readOnly: boolean): RootDatabase {
  const options = {
    path: `${directory}/rows`,
    noSubdir: false,
    maxDbs: 8,
    maxReaders: readersMax,
    mapSize: mapBytes,
    noReadAhead: true,
    eventTurnBatching: false,
    ...(readOnly ? { readOnly: true } : { noSync: true, useWritemap: true }),
    // The root table holds nothing but the names of the others.
    encoding: 'binary' as const,
  };
  return open(options);
}

function readMeta(
  db: Database<Value, Bytestring>,
  options?: { transaction: Txn },
): StoreMeta | undefined {
  const meta = db.get('meta', options as object);
  return meta && (JSON.parse(meta.buffer.toString('utf8', 0, meta.size)) as StoreMeta);
}

function newTransaction(db: Database<Value, Bytestring>): Txn {
  // A transaction that is in use is not renewed by lmdb, so a fresh one has to be asked for.
  db.resetReadTxn();
  return db.useReadTransaction() as unknown as Txn;
}

function entryCount(db: Database<Value, Bytestring>): number {
  return (db.getStats() as { entryCount?: number }).entryCount ?? 0;
}

function addressKey(address: Address): Bytestring {
  const high = Math.floor(asAddress(address) / 0x1_0000_0000);
  const low = address % 0x1_0000_0000;
  return String.fromCharCode(
    high >>> 24,
    (high >>> 16) & 255,
    (high >>> 8) & 255,
    high & 255,
    low >>> 24,
    (low >>> 16) & 255,
    (low >>> 8) & 255,
    low & 255,
  );
}

function readU64(buffer: Buffer, at: number): number {
  return buffer.readUInt32BE(at) * 0x1_0000_0000 + buffer.readUInt32BE(at + 4);
}

function unusable(cause: unknown): DaybookError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DaybookError('STATE_DAMAGED', `the state store cannot be opened: ${why}`, { cause });
}
