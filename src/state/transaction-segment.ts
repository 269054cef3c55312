import { DaybookError } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { Position, TxId, VerdictCode } from '../model/index.ts';
import type { TransactionStatus } from './state.ts';

/**
 * The first 128 bits of a transaction id, as four words. Ids are SHA-256 values, so 128 bits tell
 * them apart, and they spread evenly. The first word is multiplied by an odd secret of this node:
 * else a client could make ids, by trying nonces, that all fall into the same place of the table.
 */
export type IdWords = Uint32Array;

/** Fills in the words of an id's bytes. @returns `target` */
export function idWords(target: IdWords, txId: Uint8Array, salt: number, start = 0): IdWords {
  for (let at = 0; at < 4; at++) target[at] = wordOf(txId, start + at * 4);
  target[0] = Math.imul(target[0] as number, salt);
  return target;
}

/** {@link idWords} of an id in hexadecimal digits. */
export function idWordsOfHex(target: IdWords, txId: TxId, salt: number): IdWords {
  for (let at = 0; at < 4; at++) {
    let word = 0;
    for (let digit = at * 8; digit < at * 8 + 8; digit++) {
      const code = txId.charCodeAt(digit);
      // '0'…'9' end in their value; in 'A' and 'a' that is 1, and bit 6 is set.
      word = (word << 4) | ((code & 15) + 9 * (code >> 6));
    }
    target[at] = word;
  }
  target[0] = Math.imul(target[0] as number, salt);
  return target;
}

/** The first 16 bytes of the id that {@link idWords} was given. */
export function idBytes(id: IdWords, salt: number): Buffer {
  let inverse = salt;
  // Newton's iteration doubles the right bits each time; an odd number begins with three.
  for (let bits = 3; bits < 32; bits *= 2) {
    inverse = Math.imul(inverse, 2 - Math.imul(salt, inverse));
  }
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32BE(Math.imul(id[0] as number, inverse) >>> 0, 0);
  for (let at = 1; at < 4; at++) bytes.writeUInt32BE(id[at] as number, at * 4);
  return bytes;
}

/** Four bytes as a number. */
export function wordOf(bytes: Uint8Array, at: number): number {
  return (
    (((bytes[at] as number) << 24) |
      ((bytes[at + 1] as number) << 16) |
      ((bytes[at + 2] as number) << 8) |
      (bytes[at + 3] as number)) >>>
    0
  );
}

/** What a segment is made of: ids ascending by their first word, then in no particular order. */
export interface SegmentSource {
  readonly count: number;
  /** One column of the ids' words, in order. Made when asked for, as a column is large. */
  words(column: 0 | 1 | 2 | 3): Uint32Array;
  positions(): Float64Array;
  verdicts(): Uint8Array;
  /** Newest transaction timestamp in the segment. */
  readonly greatestTimestampMs: number;
}

/*
 * File: header (64 bytes: magic, format, count, greatest timestamp, log time when it was sealed),
 * then the columns: bucket starts, second words, first words, third, fourth, positions, verdicts.
 * Columns are in the machine's byte order, which is little-endian wherever Node runs; the files
 * never leave the machine.
 */
const magic = 0x4454_5831;
const fileHeaderBytes = 64;
const bucketBits = 16;
const buckets = 2 ** bucketBits;
const startsBytes = (buckets + 1) * 4;

/**
 * Many transaction ids, sorted, immutable. What is kept in memory is five bytes per id: where the
 * ids with the same first 16 bits begin, and the second word of every id. A look-up for an id that
 * is not there (the rule, when looking for duplicates) touches two cache lines and no disk.
 */
export class TransactionSegment {
  readonly number: number;
  readonly count: number;
  readonly greatestTimestampMs: number;
  readonly sealedLogTimeMs: number;
  readonly #file: DiskFile;
  #starts: Uint32Array | undefined;
  #seconds: Uint32Array | undefined;

  private constructor(number: number, file: DiskFile, header: Header) {
    this.number = number;
    this.#file = file;
    this.count = header.count;
    this.greatestTimestampMs = header.greatestTimestampMs;
    this.sealedLogTimeMs = header.sealedLogTimeMs;
  }

  /** Writes a segment file, a column at a time, so that other work can go on in between. */
  static async create(
    disk: Disk,
    path: string,
    number: number,
    source: SegmentSource,
    sealedLogTimeMs: number,
  ): Promise<TransactionSegment> {
    const { count, greatestTimestampMs } = source;
    // A file left behind by a crash may be longer.
    await disk.remove(path);
    const file = await disk.open(path, { create: true });
    let offset = fileHeaderBytes;
    const write = async (column: Uint32Array | Float64Array | Uint8Array): Promise<void> => {
      await file.write([bytesOf(column)], offset);
      offset += column.byteLength;
    };
    const firsts = source.words(0);
    const starts = bucketStarts(firsts);
    await write(starts);
    const seconds = source.words(1);
    await write(seconds);
    await write(firsts);
    await write(source.words(2));
    await write(source.words(3));
    await write(source.positions());
    await write(source.verdicts());
    const header = Buffer.alloc(fileHeaderBytes);
    header.writeUInt32BE(magic, 0);
    header.writeUInt32BE(1, 4);
    header.writeUInt32BE(count, 8);
    header.writeDoubleBE(greatestTimestampMs, 16);
    header.writeDoubleBE(sealedLogTimeMs, 24);
    await file.write([header], 0);
    const facts = { count, greatestTimestampMs, sealedLogTimeMs };
    const segment = new TransactionSegment(number, file, facts);
    segment.#starts = starts;
    segment.#seconds = seconds;
    return segment;
  }

  /**
   * Opens a segment file; its ids are read into memory only on {@link TransactionSegment.load}.
   *
   * @throws {DaybookError} `STATE_DAMAGED`
   */
  static async open(disk: Disk, path: string, number: number): Promise<TransactionSegment> {
    const file = await disk.open(path);
    const bytes = Buffer.alloc(fileHeaderBytes);
    const read = await file.read(bytes, 0);
    const header: Header = {
      count: bytes.readUInt32BE(8),
      greatestTimestampMs: bytes.readDoubleBE(16),
      sealedLogTimeMs: bytes.readDoubleBE(24),
    };
    const whole = fileHeaderBytes + startsBytes + header.count * (16 + 8 + 1);
    const fits =
      read === fileHeaderBytes && bytes.readUInt32BE(0) === magic && (await file.size()) === whole;
    if (!fits) {
      await file.close();
      throw new DaybookError('STATE_DAMAGED', `transaction segment ${number} is damaged`, {
        details: { path },
      });
    }
    return new TransactionSegment(number, file, header);
  }

  /** Reads what look-ups need into memory. */
  async load(): Promise<void> {
    if (this.#starts !== undefined) return;
    const starts = new Uint32Array(buckets + 1);
    const seconds = new Uint32Array(this.count);
    await this.#file.read(bytesOf(starts), fileHeaderBytes);
    await this.#file.read(bytesOf(seconds), fileHeaderBytes + startsBytes);
    this.#starts = starts;
    this.#seconds = seconds;
  }

  /** Gives the memory back; look-ups then read the file. */
  unload(): void {
    this.#starts = undefined;
    this.#seconds = undefined;
  }

  find(id: IdWords): TransactionStatus | undefined {
    const bucket = (id[0] as number) >>> (32 - bucketBits);
    const starts = this.#starts;
    const seconds = this.#seconds;
    if (starts === undefined || seconds === undefined) return this.#findInFile(id, bucket);
    const second = id[1];
    const to = starts[bucket + 1] as number;
    for (let at = starts[bucket] as number; at < to; at++) {
      if (seconds[at] !== second) continue;
      const found = this.#read(at, id);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** All valid transactions: 16 bytes of the id and the position, for a snapshot. */
  async *valid(): AsyncGenerator<{ id: IdWords; position: Position }> {
    const step = 4096;
    for (let start = 0; start < this.count; start += step) {
      const size = Math.min(step, this.count - start);
      const columns = [0, 1, 2, 3].map(() => new Uint32Array(size));
      for (let at = 0; at < 4; at++) {
        this.#readInto(columns[at] as Uint32Array, this.#wordColumn(at) + start * 4);
      }
      const positions = new Float64Array(size);
      this.#readInto(positions, startsBytes + this.count * 16 + start * 8);
      const verdicts = new Uint8Array(size);
      this.#readInto(verdicts, startsBytes + this.count * 24 + start);
      for (let at = 0; at < size; at++) {
        if (verdicts[at] !== 0) continue;
        const id = Uint32Array.from(columns, (column) => column[at] as number);
        yield { id, position: positions[at] as Position };
      }
    }
  }

  async close(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
  }

  #findInFile(id: IdWords, bucket: number): TransactionStatus | undefined {
    const bounds = new Uint32Array(2);
    this.#readInto(bounds, bucket * 4);
    const [from = 0, to = 0] = bounds;
    const seconds = new Uint32Array(to - from);
    this.#readInto(seconds, startsBytes + from * 4);
    for (let at = from; at < to; at++) {
      if (seconds[at - from] !== id[1]) continue;
      const found = this.#read(at, id);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  /** The status at index `at`, if the id there is really this one. */
  #read(at: number, id: IdWords): TransactionStatus | undefined {
    const one = new Uint32Array(1);
    for (const column of [0, 2, 3]) {
      this.#readInto(one, this.#wordColumn(column) + at * 4);
      if (one[0] !== id[column]) return undefined;
    }
    const position = new Float64Array(1);
    this.#readInto(position, startsBytes + this.count * 16 + at * 8);
    const verdict = new Uint8Array(1);
    this.#readInto(verdict, startsBytes + this.count * 24 + at);
    return { position: position[0] as Position, verdict: verdict[0] as VerdictCode };
  }

  /** Where a column of words begins behind the header: the second word comes first. */
  #wordColumn(column: number): number {
    const order = [1, 0, 2, 3] as const;
    return startsBytes + this.count * 4 * (order[column] as number);
  }

  #readInto(target: Uint32Array | Float64Array | Uint8Array, offset: number): void {
    const bytes = bytesOf(target);
    if (this.#file.readSync(bytes, fileHeaderBytes + offset) !== bytes.length) {
      throw new DaybookError('STATE_DAMAGED', `transaction segment ${this.number} ends early`);
    }
  }
}

interface Header {
  readonly count: number;
  readonly greatestTimestampMs: number;
  readonly sealedLogTimeMs: number;
}

/** For each value of the first bits, the index of the first id that has it or a greater one. */
function bucketStarts(firsts: Uint32Array): Uint32Array {
  const starts = new Uint32Array(buckets + 1);
  let bucket = 0;
  for (let at = 0; at < firsts.length; at++) {
    const own = (firsts[at] as number) >>> (32 - bucketBits);
    while (bucket < own) starts[++bucket] = at;
  }
  while (bucket < buckets) starts[++bucket] = firsts.length;
  return starts;
}

function bytesOf(array: Uint32Array | Float64Array | Uint8Array): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}
