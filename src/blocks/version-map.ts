import { assert, limits } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { BlockVersion } from '../model/index.ts';
import { asPosition, type Position } from '../model/index.ts';
import { upperBound } from './segment-index.ts';

const rowBytes = 16;
const pageRows = 1024;
const pageBytes = rowBytes * pageRows;

/**
 * Daybook's version of a key is a position in the log, Fabric's is (block, transaction). This is
 * the map between them: a flat file of 16-byte rows (position u64, block u48, transaction u16), one
 * per record, in log order. In memory: the first position of every 1,024th row, and the pages used
 * last. It follows from the blocks.
 */
export class VersionMap {
  readonly #file: DiskFile;
  readonly #pagesMax: number;
  /** First position of each page. */
  readonly #firsts: number[] = [];
  /** Whole pages, least recently used first. */
  readonly #pages = new Map<number, Buffer>();
  /** The last page; when it is whole, until the next row comes. */
  readonly #tail = Buffer.alloc(pageBytes);
  #count = 0;
  /** Rows that are in the file. */
  #written = 0;

  private constructor(file: DiskFile, pagesMax: number) {
    this.#file = file;
    this.#pagesMax = pagesMax;
  }

  /**
   * Opens the file `versions` in the directory and cuts it to at most `count` rows.
   *
   * @see VersionMap.size for how many it has: the caller adds the rest.
   */
  static async open(
    disk: Disk,
    directory: string,
    count: number,
    pagesMax: number = limits.blockVersionPagesMax,
  ): Promise<VersionMap> {
    const file = await disk.open(`${directory}/versions`, { create: true });
    const map = new VersionMap(file, pagesMax);
    const rows = Math.min(count, Math.floor((await file.size()) / rowBytes));
    await file.truncate(rows * rowBytes);
    const row = Buffer.alloc(rowBytes);
    for (let at = 0; at < rows; at += pageRows) {
      file.readSync(row, at * rowBytes);
      map.#firsts.push(positionIn(row, 0));
    }
    // A last page that is whole is the tail until the next row comes.
    const tailRows = rows === 0 ? 0 : ((rows - 1) % pageRows) + 1;
    await file.read(map.#tail.subarray(0, tailRows * rowBytes), (rows - tailRows) * rowBytes);
    map.#count = rows;
    map.#written = rows;
    return map;
  }

  /** Number of records it knows. */
  get size(): number {
    return this.#count;
  }

  /** Adds the records of a block, from transaction `from` on. In the file after `sync`. */
  async append(block: number, positions: readonly Position[], from = 0): Promise<void> {
    for (let transaction = from; transaction < positions.length; transaction++) {
      const position = positions[transaction] as Position;
      const row = this.#count % pageRows;
      const at = row * rowBytes;
      if (row === 0) this.#firsts.push(position);
      this.#tail.writeUInt32BE(Math.floor(position / 0x1_0000_0000), at);
      this.#tail.writeUInt32BE(position % 0x1_0000_0000, at + 4);
      this.#tail.writeUIntBE(block, at + 8, 6);
      this.#tail.writeUInt16BE(transaction, at + 14);
      this.#count++;
      if (row === pageRows - 1) await this.#writeTail();
    }
  }

  /** Block and transaction of a position, or one that no transaction has if it is no record's. */
  versionOf(position: Position): BlockVersion {
    const page = upperBound(this.#firsts, position) - 1;
    if (page < 0) return { block: 0, transaction: limits.recordsPerBlockMax };
    const bytes = this.#page(page);
    let low = 0;
    let high = Math.min(pageRows, this.#count - page * pageRows);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (positionIn(bytes, middle * rowBytes) <= position) low = middle + 1;
      else high = middle;
    }
    const at = (low - 1) * rowBytes;
    const block = bytes.readUIntBE(at + 8, 6);
    return positionIn(bytes, at) === position
      ? { block, transaction: bytes.readUInt16BE(at + 14) }
      : { block, transaction: limits.recordsPerBlockMax };
  }

  /** Writes what is only in memory, and makes all durable. */
  async sync(): Promise<void> {
    await this.#writeTail();
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#writeTail();
    await this.#file.close();
  }

  async #writeTail(): Promise<void> {
    if (this.#written === this.#count) return;
    const pageStart = Math.floor(this.#written / pageRows) * pageRows;
    const from = (this.#written - pageStart) * rowBytes;
    const to = (this.#count - pageStart) * rowBytes;
    const at = this.#written;
    this.#written = this.#count;
    await this.#file.write([Buffer.from(this.#tail.subarray(from, to))], at * rowBytes);
  }

  #page(page: number): Buffer {
    if (page === Math.floor((this.#count - 1) / pageRows)) return this.#tail;
    const known = this.#pages.get(page);
    if (known !== undefined) {
      this.#pages.delete(page);
      this.#pages.set(page, known);
      return known;
    }
    const bytes = Buffer.allocUnsafeSlow(pageBytes);
    const got = this.#file.readSync(bytes, page * pageBytes);
    assert(got === pageBytes, 'the version file is shorter than it was');
    this.#pages.set(page, bytes);
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= this.#pagesMax) break;
      this.#pages.delete(oldest);
    }
    return bytes;
  }
}

function positionIn(bytes: Buffer, at: number): Position {
  return asPosition(bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4));
}
