import { asBuffer, assert, ByteWriter, DaybookError, limits } from '../base/index.ts';
import type { Disk, DiskFile, Randomness } from '../io/index.ts';
import { type Position, type VerdictCode, verdicts } from '../model/index.ts';
import type { TransactionStatus } from './state.ts';
import type { TransactionFiles } from './store.ts';
import {
  type IdWords,
  idBytes,
  idWords,
  type SegmentSource,
  TransactionSegment,
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
    this.#table.add(idWords(txId, this.#salt), timestampMs, position, verdict);
    this.#pending.raw(txId.subarray(0, 16)).u64(position).u64(timestampMs).u8(verdict);
  }

  /** True when a transaction at or above the horizon took effect. */
  isCommitted(txId: Uint8Array): boolean {
    return this.#find(idWords(txId, this.#salt), false)?.verdict === verdicts.valid;
  }

  /** Where a transaction stands; a valid occurrence goes before others, then the newest. */
  find(txId: Uint8Array): TransactionStatus | undefined {
    return this.#find(idWords(txId, this.#salt), true);
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
      this.#table.add(idWords(target, this.#salt, at), readU64(target, at + 24), position, verdict);
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

/**
 * Open addressing by the first bits of the id, without wrapping around, so that walking the table
 * meets the ids almost in order.
 */
class IdTable {
  /** Ids that fit. */
  readonly countMax: number;
  count = 0;
  greatestTimestampMs = 0;
  readonly #slots: number;
  readonly #scale: number;
  readonly #words: readonly [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  /** Position + 1; 0: free. */
  readonly #positions: Float64Array;
  readonly #verdicts: Uint8Array;

  constructor(segmentIdsMax: number) {
    // Flushes come late; there must be room for what arrives until then.
    this.countMax =
      segmentIdsMax + 2 * limits.stateFlushTransactionsMax + 2 * limits.recordsPerEntryMax;
    const main = Math.ceil(this.countMax * 1.5);
    this.#scale = main / 2 ** 32;
    // Room behind the last regular slot for ids that were pushed on.
    this.#slots = main + 8192;
    const column = (): Uint32Array => new Uint32Array(this.#slots);
    this.#words = [column(), column(), column(), column()];
    this.#positions = new Float64Array(this.#slots);
    this.#verdicts = new Uint8Array(this.#slots);
  }

  add(id: IdWords, timestampMs: number, position: Position, verdict: VerdictCode): void {
    const slot = this.#slot(id);
    if (timestampMs > this.greatestTimestampMs) this.greatestTimestampMs = timestampMs;
    if (this.#positions[slot] === 0) {
      assert(this.count < this.countMax, 'the transaction table overflows');
      this.count++;
      for (let at = 0; at < 4; at++) (this.#words[at] as Uint32Array)[slot] = id[at] as number;
    } else if (this.#verdicts[slot] === verdicts.valid) {
      return;
    }
    this.#positions[slot] = position + 1;
    this.#verdicts[slot] = verdict;
  }

  find(id: IdWords): TransactionStatus | undefined {
    const slot = this.#slot(id);
    const stored = this.#positions[slot] as number;
    if (stored === 0) return undefined;
    return {
      position: (stored - 1) as Position,
      verdict: this.#verdicts[slot] as VerdictCode,
    };
  }

  *valid(): Generator<{ id: IdWords; position: Position }> {
    for (let slot = 0; slot < this.#slots; slot++) {
      const stored = this.#positions[slot] as number;
      if (stored === 0 || this.#verdicts[slot] !== verdicts.valid) continue;
      const id = this.#words.map((column) => column[slot] as number) as unknown as IdWords;
      yield { id, position: (stored - 1) as Position };
    }
  }

  /** The ids in order; the table must not change any more. */
  sorted(): SegmentSource {
    const { count, greatestTimestampMs } = this;
    const [firsts] = this.#words;
    const slots = new Uint32Array(count);
    let filled = 0;
    for (let slot = 0; slot < this.#slots; slot++) {
      if (this.#positions[slot] === 0) continue;
      const first = firsts[slot] as number;
      let at = filled++;
      while (at > 0 && (firsts[slots[at - 1] as number] as number) > first) {
        slots[at] = slots[at - 1] as number;
        at--;
      }
      slots[at] = slot;
    }
    return {
      count,
      greatestTimestampMs,
      words: (column) => picked(this.#words[column], new Uint32Array(count), slots),
      positions: () => {
        const positions = picked(this.#positions, new Float64Array(count), slots);
        for (let at = 0; at < count; at++) positions[at] = (positions[at] as number) - 1;
        return positions;
      },
      verdicts: () => picked(this.#verdicts, new Uint8Array(count), slots),
    };
  }

  /** Where the id is, or would go. */
  #slot(id: IdWords): number {
    const [firsts, seconds, thirds, fourths] = this.#words;
    let slot = Math.floor(id[0] * this.#scale);
    while (slot < this.#slots) {
      if (this.#positions[slot] === 0) return slot;
      const same =
        firsts[slot] === id[0] &&
        seconds[slot] === id[1] &&
        thirds[slot] === id[2] &&
        fourths[slot] === id[3];
      if (same) return slot;
      slot++;
    }
    // Thousands of ids in a row do not happen by chance, nor on purpose without knowing the salt.
    assert(false, 'the transaction table is clustered');
  }
}

function picked<T extends Uint32Array | Float64Array | Uint8Array>(
  column: T,
  target: T,
  slots: Uint32Array,
): T {
  for (let at = 0; at < slots.length; at++) target[at] = column[slots[at] as number] as number;
  return target;
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
