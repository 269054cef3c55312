import { DaybookError, isDaybookError } from '../base/index.ts';
import type { Disk } from '../io/index.ts';

const name = 'damaged';

/**
 * The blocks of a store that were found damaged and are not mended yet. They are written down beside
 * the blocks, a number a line: nobody else remembers what a process found before it ended, and an
 * index that is made anew must not take them for good.
 */
export class DamagedBlocks {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #heights: Set<number>;
  #writing: Promise<void> = Promise.resolve();

  private constructor(disk: Disk, directory: string, heights: Set<number>) {
    this.#disk = disk;
    this.#directory = directory;
    this.#heights = heights;
  }

  static async open(disk: Disk, directory: string): Promise<DamagedBlocks> {
    const text = (await disk.readFile(`${directory}/${name}`))?.toString('latin1') ?? '';
    const heights = text.split('\n').filter((line) => /^\d{1,15}$/.test(line));
    return new DamagedBlocks(disk, directory, new Set(heights.map(Number)));
  }

  /** Ascending. */
  heights(): number[] {
    return [...this.#heights].sort((a, b) => a - b);
  }

  has(height: number): boolean {
    return this.#heights.has(height);
  }

  /** The first of them that is not among others; `undefined`: there is none. */
  firstBut(others: ReadonlyMap<number, unknown>): number | undefined {
    let first: number | undefined;
    for (const height of this.#heights) {
      if (!others.has(height) && (first === undefined || height < first)) first = height;
    }
    return first;
  }

  async add(heights: readonly number[]): Promise<void> {
    const before = this.#heights.size;
    for (const height of heights) this.#heights.add(height);
    if (this.#heights.size > before) await this.#write();
  }

  /** They are mended. */
  async remove(heights: Iterable<number>): Promise<void> {
    const before = this.#heights.size;
    for (const height of heights) this.#heights.delete(height);
    if (this.#heights.size < before) await this.#write();
  }

  /** Forgets those from `height` on: there are no such blocks any more. */
  async cut(height: number): Promise<void> {
    await this.remove([...this.#heights].filter((one) => one >= height));
  }

  /** One after the other, and each what is known by then: a file that is late must not be the one that stays. */
  async #write(): Promise<void> {
    const written = this.#writing.then(() => this.#writeNow());
    this.#writing = written.catch(() => undefined);
    await written;
  }

  async #writeNow(): Promise<void> {
    const path = `${this.#directory}/${name}`;
    if (this.#heights.size === 0) await this.#disk.remove(path);
    else await this.#disk.writeFile(path, Buffer.from(`${[...this.#heights].join('\n')}\n`));
  }
}

/** @param file - the segment file that the block is in. */
export function damagedBlock(file: string, height: number): DaybookError {
  const mends = 'it is made again from the log, or fetched from other nodes';
  return new DaybookError('STATE_DAMAGED', `block ${height} in ${file} is damaged: ${mends}`, {
    details: { what: file, height },
  });
}

/** What comes of reading a block; `undefined`: it is damaged. */
export async function unlessDamaged<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (!isDaybookError(error, 'STATE_DAMAGED')) throw error;
    return undefined;
  }
}

/** Disks notice themselves most of what rots on them. @returns number of bytes read: none. */
export function unreadable(error: unknown): 0 {
  if (isDaybookError(error, 'IO_FAILED') && error.details.cause === 'EIO') return 0;
  throw error;
}
