import { asBuffer, assert, ByteWriter, DaybookError, limits } from '../base/index.ts';
import type { Disk, DiskFile, Randomness } from '../io/index.ts';
import { type Position, type TxId, type VerdictCode, verdicts } from '../model/index.ts';
import type { TransactionStatus } from './state.ts';
import type { TransactionFiles } from './store.ts';
import {
  type IdWords,
  idBytes,
  idWords,
  idWordsOfHex,
  type SegmentSource,
  TransactionSegment,
  wordOf,
} from './transaction-segment.ts';

const tailRowBytes = 16 + 8 + 8 + 1;

/** A salt for a fresh index. */
export function newSalt(random: Randomness): number {
  return (random.bytes(4).readUInt32BE() | 1) >>> 0;
}

/** Settings of {@link TransactionIndex}. */
export interface TransactionIndexOptions {
  /** For how long in log time a transaction can be looked up at least. Default 24 hours. */
  readonly retentionMs?: number;
  /** Ids after which a segment is sealed. */
  readonly segmentIdsMax?: number;
  /** For a fresh index: a random odd number, see {@link idWords}. */
  readonly salt?: number;
}

/**
 * Which transactions the log holds: exact for every transaction whose timestamp is not below the
 * horizon (older ones are expired and cannot come again), and for look-ups a good while longer.
 *
 * The newest ids lie in a hash table; full tables become sorted segment files. Segments below the
 * horizon cost no memory, those older than the retention are deleted. What the table got since the
 * last seal also lies in a tail file, so that reopening need not replay it.
 */
export class TransactionIndex {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #retentionMs: number;
  readonly #segmentIdsMax: number;
  #segments: TransactionSegment[] = [];
  #table: IdTable;
  /** The table that is just being written as a segment. */
  #sealing: IdTable | undefined;
  #tail: DiskFile | undefined;
  #tailNumber = 0;
  #tailBytes = 0;
  /** A tail whose ids went into a segment. */
  #oldTail: number | undefined;
  readonly #pending = new ByteWriter(64 * 1024);
  /** Of the id that is being looked up. */
  readonly #id: IdWords = new Uint32Array(4);
  #horizonMs = 0;
  #salt: number;

  private constructor(disk: Disk, directory: string, options: TransactionIndexOptions) {
    this.#disk = disk;
    this.#directory = directory;
    this.#retentionMs = options.retentionMs ?? 24 * 3_600_000;
    this.#segmentIdsMax = options.segmentIdsMax ?? limits.transactionSegmentIdsMax;
    this.#table = new IdTable(this.#segmentIdsMax);
    this.#salt = options.salt ?? 1;
  }

  /** @throws {DaybookError} `STATE_DAMAGED` when the files do not fit together. */
  static async open(
    disk: Disk,
    directory: string,
    files: TransactionFiles | undefined,
    horizonMs: number,
    options: TransactionIndexOptions = {},
  ): Promise<TransactionIndex> {
    const index = new TransactionIndex(disk, directory, options);
    index.#horizonMs = horizonMs;
    if (files === undefined) return index;
    index.#salt = files.salt;
    const wanted = new Set(files.segments.map(segmentName));
    for (const name of await disk.list(directory)) {
      const stale = name.endsWith('.ids') && !wanted.has(name);
      if (stale) await disk.remove(`${directory}/${name}`);
    }
    for (const number of files.segments) {
      const path = index.#path(segmentName(number));
      const segment = await TransactionSegment.open(disk, path, number);
      if (segment.greatestTimestampMs >= horizonMs) await segment.load();
      index.#segments.push(segment);
    }
    index.#tailNumber = files.tail;
    await index.#readTail(files.tailBytes);
    return index;
  }

  /** Ids in the table. */
  get tableSize(): number {
    return this.#table.count;
  }

  /** True when the table takes no further entry of the log before the next flush. */
  get full(): boolean {
    return this.#table.count + limits.recordsPerEntryMax > this.#table.countMax;
  }

  /** Notes a transaction; a valid one stays valid whatever comes later under the same id. */
  add(txId: Uint8Array, timestampMs: number, position: Position, verdict: VerdictCode): void {
    const id = idWords(this.#id, txId, this.#salt);
    this.#table.add(id, timestampMs, position, verdict);
    const pending = this.#pending.u32(wordOf(txId, 0));
    for (let at = 1; at < 4; at++) pending.u32(id[at] as number);
    pending.u64(position).u64(timestampMs).u8(verdict);
  }

  /** True when a transaction at or above the horizon took effect. */
  isCommitted(txId: Uint8Array): boolean {
    const id = idWords(this.#id, txId, this.#salt);
    return this.#find(id, false)?.verdict === verdicts.valid;
  }

  /** Where a transaction stands; a valid occurrence goes before others, then the newest. */
  find(txId: TxId | Uint8Array): TransactionStatus | undefined {
    const id =
      typeof txId === 'string'
        ? idWordsOfHex(this.#id, txId, this.#salt)
        : idWords(this.#id, txId, this.#salt);
    return this.#find(id, true);
  }

  /**
   * Writes what came since the last flush; seals the table when it is full enough.
   *
   * @returns the files as they must be noted with the rows that are flushed along.
   */
  async flush(logTimeMs: number, horizonMs: number): Promise<FlushedTransactions> {
    this.#horizonMs = horizonMs;
    for (const segment of this.#segments) {
      if (segment.greatestTimestampMs < horizonMs) segment.unload();
    }
    // Taken before the first wait: what comes later belongs to the next flush.
    if (this.#table.count >= this.#segmentIdsMax && this.#sealing === undefined) {
      this.#sealing = this.#table;
      this.#table = new IdTable(this.#segmentIdsMax);
      this.#pending.reset();
    }
    const rows = this.#pending.finish();
    this.#pending.reset();
    try {
      if (this.#sealing !== undefined) await this.#seal(this.#sealing, logTimeMs);
      await this.#writeTail(rows);
    } catch (error) {
      // Behind what came meanwhile: the order within a tail does not matter, valid wins anyway.
      this.#pending.raw(rows);
      throw error;
    }
    const expired = this.#segments.filter(
      (segment) =>
        segment.sealedLogTimeMs < logTimeMs - this.#retentionMs &&
        segment.greatestTimestampMs < horizonMs,
    );
    const kept = this.#segments.filter((segment) => !expired.includes(segment));
    return {
      files: {
        segments: kept.map((segment) => segment.number),
        tail: this.#tailNumber,
        tailBytes: this.#tailBytes,
        salt: this.#salt,
      },
      expired: async () => {
        this.#segments = this.#segments.filter((segment) => !expired.includes(segment));
        for (const segment of expired) {
          await segment.close();
          await this.#disk.remove(this.#path(segmentName(segment.number)));
        }
        if (this.#oldTail === undefined) return;
        await this.#disk.remove(this.#path(tailName(this.#oldTail)));
        this.#oldTail = undefined;
      },
    };
  }

  /** The valid transactions at or above the horizon (and some older ones), as of this moment. */
  window(): TransactionWindow {
    const segments = this.#segments.filter(
      ({ greatestTimestampMs }) => greatestTimestampMs >= this.#horizonMs,
    );
    const salt = this.#salt;
    const tables = [this.#sealing, this.#table].filter((table) => table !== undefined);
    const recent = tables.flatMap((table) => [...table.valid()]);
    const times = [...segments, ...tables].map((part) => part.greatestTimestampMs);
    return {
      greatestTimestampMs: Math.max(0, ...times),
      async *transactions() {
        for (const segment of segments) {
          for await (const { id, position } of segment.valid()) {
            yield { id: idBytes(id, salt), position };
          }
        }
        for (const { id, position } of recent) yield { id: idBytes(id, salt), position };
      },
    };
  }

  async close(): Promise<void> {
    for (const segment of this.#segments) await segment.close();
    await this.#tail?.sync();
    await this.#tail?.close();
  }

  #find(id: IdWords, old: boolean): TransactionStatus | undefined {
    let newest = this.#table.find(id);
    if (newest?.verdict === verdicts.valid) return newest;
    const sealing = this.#sealing?.find(id);
    if (sealing?.verdict === verdicts.valid) return sealing;
    newest ??= sealing;
    for (let at = this.#segments.length - 1; at >= 0; at--) {
      const segment = this.#segments[at] as TransactionSegment;
      if (!old && segment.greatestTimestampMs < this.#horizonMs) continue;
      const found = segment.find(id);
      if (found?.verdict === verdicts.valid) return found;
      newest ??= found;
    }
    return newest;
  }

  async #seal(table: IdTable, logTimeMs: number): Promise<void> {
    const number = (this.#segments.at(-1)?.number ?? -1) + 1;
    const segment = await TransactionSegment.create(
      this.#disk,
      this.#path(segmentName(number)),
      number,
      table.sorted(),
      logTimeMs,
    );
    this.#segments.push(segment);
    this.#sealing = undefined;
    await this.#tail?.close();
    this.#tail = undefined;
    this.#oldTail = this.#tailNumber++;
    this.#tailBytes = 0;
  }

  async #writeTail(rows: Buffer): Promise<void> {
    if (rows.length === 0) return;
    this.#tail ??= await this.#disk.open(this.#path(tailName(this.#tailNumber)), { create: true });
    await this.#tail.write([rows], this.#tailBytes);
    this.#tailBytes += rows.length;
  }

  async #readTail(bytes: number): Promise<void> {
    if (bytes === 0) return;
    this.#tail = await this.#disk.open(this.#path(tailName(this.#tailNumber)));
    const target = Buffer.allocUnsafeSlow(bytes);
    if ((await this.#tail.read(target, 0)) !== bytes || bytes % tailRowBytes !== 0) {
      throw new DaybookError('STATE_DAMAGED', 'the tail of the transaction index is damaged');
    }
    for (let at = 0; at < bytes; at += tailRowBytes) {
      const position = readU64(target, at + 16) as Position;
      const verdict = target[at + 32] as VerdictCode;
      const id = idWords(this.#id, target, this.#salt, at);
      this.#table.add(id, readU64(target, at + 24), position, verdict);
    }
    this.#tailBytes = bytes;
  }

  #path(name: string): string {
    return `${this.#directory}/${name}`;
  }
}

/** What a snapshot keeps of a transaction index. */
export interface TransactionWindow {
  /** No transaction in the window has a later timestamp. */
  readonly greatestTimestampMs: number;
  /** First 16 bytes of the id, and the position, of each. */
  transactions(): AsyncIterable<{ readonly id: Buffer; readonly position: Position }>;
}

/** What a flush left on disk. */
export interface FlushedTransactions {
  readonly files: TransactionFiles;
  /** Deletes the files that are not in `files` any more. Call it once `files` is noted. */
  readonly expired: () => Promise<void>;
}

/** Words of a table's row: four of the id, then what {@link IdTable} makes of position and verdict. */
const rowWords = 6;
const slotsMin = 8192;

/**
 * Open addressing by the first bits of the id, without wrapping around, so that walking the table
 * meets the ids almost in order. All of a row lies together: a look-up costs one cache miss.
 */
class IdTable {
  /** Ids that fit. */
  readonly countMax: number;
  count = 0;
  greatestTimestampMs = 0;
  #slots = 0;
  #scale = 0;
  /**
   * Per slot the id's words, then position + 1 (0: free) in 64 bits, the verdict in the topmost
   * eight of them.
   */
  #rows = new Uint32Array(0);

  constructor(segmentIdsMax: number) {
    // Flushes come late; there must be room for what arrives until then.
    this.countMax =
      segmentIdsMax + 2 * limits.stateFlushTransactionsMax + 2 * limits.recordsPerEntryMax;
    this.#clear(slotsMin);
  }

  add(id: IdWords, timestampMs: number, position: Position, verdict: VerdictCode): void {
    if (timestampMs > this.greatestTimestampMs) this.greatestTimestampMs = timestampMs;
    let row = this.#row(id);
    if (isFree(this.#rows, row)) {
      assert(this.count < this.countMax, 'the transaction table overflows');
      if (++this.count * 1.5 > this.#slots) {
        this.#grow();
        row = this.#row(id);
      }
      for (let at = 0; at < 4; at++) this.#rows[row + at] = id[at] as number;
    } else if (verdictIn(this.#rows, row) === verdicts.valid) {
      return;
    }
    const stored = position + 1;
    this.#rows[row + 4] = (verdict << 24) | (stored / 0x1_0000_0000);
    this.#rows[row + 5] = stored;
  }

  find(id: IdWords): TransactionStatus | undefined {
    const row = this.#row(id);
    const rows = this.#rows;
    if (isFree(rows, row)) return undefined;
    return { position: positionIn(rows, row), verdict: verdictIn(rows, row) };
  }

  *valid(): Generator<{ id: IdWords; position: Position }> {
    const rows = this.#rows;
    for (let row = 0; row < rows.length; row += rowWords) {
      if (isFree(rows, row) || verdictIn(rows, row) !== verdicts.valid) continue;
      yield { id: rows.slice(row, row + 4), position: positionIn(rows, row) };
    }
  }

  /** The ids in order; the table must not change any more. */
  sorted(): SegmentSource {
    const { count, greatestTimestampMs } = this;
    const rows = this.#rows;
    const order = new Uint32Array(count);
    let filled = 0;
    for (let row = 0; row < rows.length; row += rowWords) {
      if (isFree(rows, row)) continue;
      const first = rows[row] as number;
      let at = filled++;
      while (at > 0 && (rows[order[at - 1] as number] as number) > first) {
        order[at] = order[at - 1] as number;
        at--;
      }
      order[at] = row;
    }
    // Filled by plain loops: `from` and `map` make an object per id.
    return {
      count,
      greatestTimestampMs,
      words: (column) =>
        filledBy(new Uint32Array(count), (at) => rows[(order[at] as number) + column] as number),
      positions: () =>
        filledBy(new Float64Array(count), (at) => positionIn(rows, order[at] as number)),
      verdicts: () => filledBy(new Uint8Array(count), (at) => verdictIn(rows, order[at] as number)),
    };
  }

  /** Twice the room. Rows are met and put almost in order, so this goes through memory once. */
  #grow(): void {
    const old = this.#rows;
    this.#clear(this.#slots * 2);
    for (let from = 0; from < old.length; from += rowWords) {
      if (isFree(old, from)) continue;
      const row = this.#row(old, from);
      for (let at = 0; at < rowWords; at++) this.#rows[row + at] = old[from + at] as number;
    }
  }

  #clear(slots: number): void {
    this.#slots = slots;
    this.#scale = slots / 2 ** 32;
    // Room behind the last regular slot for ids that were pushed on.
    this.#rows = new Uint32Array((slots + 8192) * rowWords);
  }

  /** Where the row is, or would go, of the id that stands at `start`. */
  #row(id: Uint32Array, start = 0): number {
    const rows = this.#rows;
    let row = Math.floor((id[start] as number) * this.#scale) * rowWords;
    for (; row < rows.length; row += rowWords) {
      if (isFree(rows, row)) return row;
      const same =
        rows[row] === id[start] &&
        rows[row + 1] === id[start + 1] &&
        rows[row + 2] === id[start + 2] &&
        rows[row + 3] === id[start + 3];
      if (same) return row;
    }
    // Thousands of ids in a row do not happen by chance, nor on purpose without knowing the salt.
    assert(false, 'the transaction table is clustered');
  }
}

function filledBy<T extends Uint32Array | Float64Array | Uint8Array>(
  column: T,
  valueAt: (at: number) => number,
): T {
  for (let at = 0; at < column.length; at++) column[at] = valueAt(at);
  return column;
}

function isFree(rows: Uint32Array, row: number): boolean {
  return rows[row + 5] === 0 && rows[row + 4] === 0;
}

function positionIn(rows: Uint32Array, row: number): Position {
  const high = (rows[row + 4] as number) & 0xff_ffff;
  return (high * 0x1_0000_0000 + (rows[row + 5] as number) - 1) as Position;
}

function verdictIn(rows: Uint32Array, row: number): VerdictCode {
  return ((rows[row + 4] as number) >>> 24) as VerdictCode;
}

function segmentName(number: number): string {
  return `${String(number).padStart(10, '0')}.ids`;
}

function tailName(number: number): string {
  return `${String(number).padStart(10, '0')}.tail`;
}

function readU64(bytes: Uint8Array, at: number): number {
  const buffer = asBuffer(bytes);
  return buffer.readUInt32BE(at) * 0x1_0000_0000 + buffer.readUInt32BE(at + 4);
}
