import { crc32 } from 'node:zlib';
import { DaybookError, limits } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { BlockVersion } from '../model/index.ts';
import { asPosition, type Position } from '../model/index.ts';
import { unreadable } from './damaged-blocks.ts';
import { upperBound } from './segment-index.ts';

const rowBytes = 16;
const pageRows = 1024;
const rowsBytes = rowBytes * pageRows;
/** Of the file: the rows, and their CRC-32. */
const pageBytes = rowsBytes + 4;

/**
 * Daybook's version of a key is a position in the log, Fabric's is (block, transaction). This is
 * the map between them: rows of 16 bytes (position u64, block u48, transaction u16), one per record,
 * in log order; in the file by pages of 1,024 with a checksum, since a wrong row would be a wrong block.
 * In memory: the first position of every page, the pages used last, and the last one, which comes
 * to the file when it is whole. It follows from the blocks.
 */
export class VersionMap {
  readonly #file: DiskFile;
  readonly #pagesMax: number;
  /** First position of each page. */
  readonly #firsts: number[] = [];
  /** Whole pages, least recently used first. */
  readonly #pages = new Map<number, Buffer>();
  /** The last page; when it is whole, until the next row comes. */
  readonly #tail = Buffer.alloc(rowsBytes);
  #count = 0;

  private constructor(file: DiskFile, pagesMax: number) {
    this.#file = file;
    this.#pagesMax = pagesMax;
  }

  /**
   * Opens the file `versions` in the directory and cuts it to at most `count` rows, and to the pages that
   * are what was written.
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
    const pages = Math.floor(count / pageRows);
    for (let page = 0; page < pages; page++) {
      const rows = await readPage(file, page);
      if (rows === undefined) break;
      map.#firsts.push(positionIn(rows, 0));
      rows.copy(map.#tail);
    }
    map.#count = map.#firsts.length * pageRows;
    await file.truncate(map.#firsts.length * pageBytes);
    return map;
  }

  /** Number of records it knows. */
  get size(): number {
    return this.#count;
  }

  /** Adds the records of a block, from transaction `from` on. */
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

  /**
   * Block and transaction of a position, or one that no transaction has if it is no record's.
   *
   * @throws {DaybookError} `STATE_DAMAGED`: opened again, it lacks what rotted.
   */
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

  /** Makes the whole pages durable. */
  async sync(): Promise<void> {
    await this.#file.sync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #writeTail(): Promise<void> {
    const page = this.#count / pageRows - 1;
    const bytes = Buffer.alloc(pageBytes);
    this.#tail.copy(bytes);
    bytes.writeUInt32BE(crc32(this.#tail), rowsBytes);
    await this.#file.write([bytes], page * pageBytes);
  }

  #read(target: Buffer, offset: number): number {
    try {
      return this.#file.readSync(target, offset);
    } catch (error) {
      return unreadable(error);
    }
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
    const got = this.#read(bytes, page * pageBytes);
    if (!isWhole(bytes, got)) {
      throw new DaybookError('STATE_DAMAGED', 'the versions of records are damaged', {
        details: { what: 'versions', page },
      });
    }
    this.#pages.set(page, bytes);
    for (const oldest of this.#pages.keys()) {
      if (this.#pages.size <= this.#pagesMax) break;
      this.#pages.delete(oldest);
    }
    return bytes;
  }
}

/** `undefined`: it is not there, or not what was written. */
async function readPage(file: DiskFile, page: number): Promise<Buffer | undefined> {
  const bytes = Buffer.allocUnsafe(pageBytes);
  const got = await file.read(bytes, page * pageBytes).catch(unreadable);
  return isWhole(bytes, got) ? bytes.subarray(0, rowsBytes) : undefined;
}

function isWhole(page: Buffer, got: number): boolean {
  if (got < pageBytes) return false;
  return page.readUInt32BE(rowsBytes) === crc32(page.subarray(0, rowsBytes));
}

function positionIn(bytes: Buffer, at: number): Position {
  return asPosition(bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4));
}
