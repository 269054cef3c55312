import { assert, DaybookError, isDaybookError, limits, toDaybookError } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { BlockVersion, Position } from '../model/index.ts';
import { indexName, lengthPrefix, segmentHeights, segmentName } from './block-files.ts';
import { DamagedBlocks, damagedBlock } from './damaged-blocks.ts';
import type { BlockHeader } from './fabric/block.ts';
import {
  bytesAt,
  type LastSegment,
  openLastSegment,
  placeAt,
  placesOf,
  type ReadSegment,
  readWhole,
  type SegmentDirectory,
  sealedIndex,
  sealedSummary,
} from './segment-files.ts';
import {
  type BlockPlace,
  type RecordPlace,
  SegmentIndex,
  type SegmentSummary,
  upperBound,
} from './segment-index.ts';
import { finishRewrites, type NewBlock, rewriteSegment } from './segment-rewrite.ts';

/** Settings of {@link openBlockStore}. */
export interface BlockStoreOptions {
  readonly disk: Disk;
  /** Absolute path of a directory of its own. */
  readonly directory: string;
  /** Close a file after this many bytes (`blockSegmentBytesMax`). */
  readonly segmentBytesMax?: number;
}

/** What the store needs to know of a block that is appended. */
export interface StoredBlock extends NewBlock {
  readonly header: BlockHeader;
}

/** Blocks that come in the place of damaged ones are held in memory up to so many bytes. */
const mendedBytesMax = 4 * 1024 * 1024;

/**
 * The blocks of a channel in files, found by height, transaction id and position. One writer.
 * Everything here can be rebuilt from the log, the indexes from the block files alone; so a torn
 * end is cut off at opening and the generator makes those blocks again. A block that rotted is found
 * when it is read, or at opening if it is in the last file; see {@link BlockStore.mend}.
 */
export async function openBlockStore(options: BlockStoreOptions): Promise<BlockStore> {
  const { disk, directory } = options;
  await disk.makeDirectory(directory);
  await finishRewrites(options);
  const segments = { disk, directory, damaged: await DamagedBlocks.open(disk, directory) };
  const heights = segmentHeights(await disk.list(directory));
  if ((heights[0] ?? 0) > 0) heights.unshift(0);
  const sealed: SegmentSummary[] = [];
  const recordsEnd = (): number => {
    const last = sealed.at(-1);
    return last === undefined ? 0 : last.firstRecord + last.records;
  };
  for (const [at, firstHeight] of heights.slice(0, -1).entries()) {
    const end = heights[at + 1] as number;
    sealed.push(await sealedSummary(segments, { firstHeight, firstRecord: recordsEnd(), end }));
  }
  const last = await openLastSegment(segments, heights.at(-1) ?? 0, recordsEnd());
  await segments.damaged.cut(last.index.firstHeight + last.index.blocks);
  return new BlockStore(options, segments, sealed, last);
}

/** See {@link openBlockStore}. */
export class BlockStore {
  readonly #options: BlockStoreOptions;
  readonly #segments: SegmentDirectory;
  /** Closed segments, ascending. */
  readonly #sealed: SegmentSummary[];
  /** Indexes of closed segments, least recently used first. */
  readonly #cache = new Map<number, SegmentIndex>();
  /** Blocks in the place of damaged ones that are not in the files yet, by height. */
  readonly #mended = new Map<number, NewBlock>();
  #mendedBytes = 0;
  /** Counts how often files were closed, or written anew: what was read meanwhile may be of any other. */
  #changes = 0;
  #rewriting: Promise<void> | undefined;
  /** Why that failed once: which files there are now only the next opening finds out. */
  #failure: DaybookError | undefined;
  #index: SegmentIndex;
  #file: DiskFile;
  /** Blocks of the last segment that its stored index has. */
  #indexed = 0;
  /** See {@link BlockStore.isFound}. */
  readonly #foundFrom: number;
  readonly #foundTo: number;

  /** Use {@link openBlockStore}. */
  constructor(
    options: BlockStoreOptions,
    segments: SegmentDirectory,
    sealed: SegmentSummary[],
    last: LastSegment,
  ) {
    this.#options = options;
    this.#segments = segments;
    this.#sealed = sealed;
    this.#index = last.index;
    this.#file = last.file;
    this.#foundFrom = last.indexed;
    this.#foundTo = this.height;
  }

  /** Number of blocks; the next one has this number. */
  get height(): number {
    return this.#index.firstHeight + this.#index.blocks;
  }

  /** Number of records in all blocks. */
  get records(): number {
    return this.#index.firstRecord + this.#index.records;
  }

  /** The first block that is known to be damaged, and was not mended. */
  get damaged(): number | undefined {
    return this.#segments.damaged.firstBut(this.#mended);
  }

  /** All that are known to be, ascending. */
  get damagedBlocks(): number[] {
    return this.#segments.damaged.heights();
  }

  /** What there is of a damaged block. @throws {DaybookError} `NOT_FOUND`: its file is gone. */
  async rotted(height: number): Promise<{ readonly place: BlockPlace; readonly bytes: Buffer }> {
    const index = await this.#segmentOf(height);
    const place = index.place(height) as BlockPlace;
    const bytes = await this.#inFile(index, (read) => bytesAt(place, read));
    return { place, bytes };
  }

  /** @throws {DaybookError} `STATE_DAMAGED` when one of the first `height` blocks is known to be damaged. */
  assertWhole(height: number): void {
    const { damaged } = this;
    if (damaged !== undefined && damaged < height) throw this.#damagedAt(damaged);
  }

  /**
   * The block was found at opening behind those that were made durable: it need not be what was written.
   */
  isFound(height: number): boolean {
    return height >= this.#foundFrom && height < this.#foundTo;
  }

  /** Appends the next block. Durable after {@link BlockStore.sync}. */
  async append(block: StoredBlock): Promise<void> {
    assert(block.header.number === this.height, 'blocks are appended in order');
    const max = this.#options.segmentBytesMax ?? limits.blockSegmentBytesMax;
    if (this.#index.blocks > 0 && this.#index.bytes + block.bytes.length > max) await this.#seal();
    const start = this.#index.bytes;
    const prefix = lengthPrefix(block.bytes.length);
    // Of the bytes as they are now: what is written may already be another block's.
    const place = placeAt(start + prefix.length, block.bytes);
    await this.#file.write([prefix, block.bytes], start);
    this.#index.add(place, block);
  }

  /**
   * Puts a block in the place of one that is damaged. In the files after `sync`.
   *
   * @param bytes - the caller's own again when this resolves.
   */
  async mend(height: number, { bytes, positions, txIds }: NewBlock): Promise<void> {
    assert(this.#segments.damaged.has(height), 'only what is damaged is mended');
    this.#mended.set(height, { bytes: Buffer.from(bytes), positions, txIds });
    this.#mendedBytes += bytes.length;
    if (this.#mendedBytes >= mendedBytesMax) await this.#rewrite();
  }

  /** The block does not hold, though it is what was written. */
  async distrust(height: number): Promise<void> {
    await this.#segments.damaged.add([height]);
  }

  async sync(): Promise<void> {
    await this.#rewrite();
    await this.#file.sync();
    if (this.#indexed === this.#index.blocks) return;
    const blocks = this.#index.blocks;
    await this.#writeIndex();
    this.#indexed = blocks;
  }

  /**
   * The bytes of a block.
   *
   * @throws {DaybookError} `NOT_FOUND`; `STATE_DAMAGED` with `details.height` when they are not those
   *   that were written.
   */
  async block(height: number): Promise<Buffer> {
    for (;;) {
      await this.#rewriting;
      const changes = this.#changes;
      const mended = this.#mended.get(height);
      if (mended !== undefined) return mended.bytes;
      const index = height >= 0 && height < this.height ? await this.#segmentOf(height) : undefined;
      const place = index?.place(height);
      if (index === undefined || place === undefined) {
        throw new DaybookError('NOT_FOUND', `there is no block ${height}`, { details: { height } });
      }
      if (this.#segments.damaged.has(height)) throw this.#damagedAt(height);
      const bytes = await this.#read(index, place).catch((error: unknown) => {
        // The file was closed, since another took its place.
        if (changes === this.#changes) throw error;
        return undefined;
      });
      if (bytes !== undefined) return bytes;
      if (changes !== this.#changes) continue;
      await this.#segments.damaged.add([height]);
      throw this.#damagedAt(height);
    }
  }

  async #read(index: SegmentIndex, place: BlockPlace): Promise<Buffer | undefined> {
    if (index === this.#index) return await readWhole(place, (...to) => this.#file.read(...to));
    try {
      return await this.#inFile(index, (read) => readWhole(place, read));
    } catch (error) {
      if (isDaybookError(error, 'NOT_FOUND')) return undefined;
      throw error;
    }
  }

  /** Opens a segment's file for a reading. @throws {DaybookError} `NOT_FOUND`: it is gone. */
  async #inFile<T>(
    { firstHeight }: SegmentIndex,
    reading: (read: ReadSegment) => Promise<T>,
  ): Promise<T> {
    const { disk, directory } = this.#segments;
    const file = await disk.open(`${directory}/${segmentName(firstHeight)}`);
    try {
      return await reading((...to) => file.read(...to));
    } finally {
      await file.close();
    }
  }

  /** Where a transaction stands; `undefined` when it is in no block. Newest segments first. */
  async findTransaction(txId: Uint8Array): Promise<RecordPlace | undefined> {
    const found = this.#index.findTransaction(txId);
    if (found !== undefined) return found;
    for (const { firstHeight } of this.#sealed.toReversed()) {
      const place = (await this.#load(firstHeight)).findTransaction(txId);
      if (place !== undefined) return place;
    }
    return undefined;
  }

  /** Block and transaction number of a record, by its number in the history tree. */
  async placeOfRecord(number: number): Promise<BlockVersion> {
    if (number >= this.#index.firstRecord) return this.#index.placeOfRecord(number);
    const records = this.#sealed.map((one) => one.firstRecord);
    const segment = this.#sealed[upperBound(records, number) - 1] as SegmentSummary;
    return (await this.#load(segment.firstHeight)).placeOfRecord(number);
  }

  /** Of a block's records, as the index has them; `undefined`: the block is damaged. */
  async positionsOf(height: number): Promise<readonly Position[] | undefined> {
    if (this.#segments.damaged.has(height)) return undefined;
    return (await this.#segmentOf(height)).positionsOf(height);
  }

  /** Removes block `height` and all behind it, and closes. */
  async cut(height: number): Promise<void> {
    const { disk, directory, damaged } = this.#segments;
    await this.#rewrite();
    await this.#file.close();
    const sealed = this.#sealed.map(({ firstHeight }) => firstHeight);
    for (const first of [this.#index.firstHeight, ...sealed.toReversed()]) {
      const path = `${directory}/${segmentName(first)}`;
      const indexPath = `${directory}/${indexName(first)}`;
      if (first >= height) {
        await disk.remove(path);
        await disk.remove(indexPath);
        continue;
      }
      const index = await this.#load(first);
      const places = placesOf(index).slice(0, height - first);
      const kept = index.moved(places.map((place) => ({ place })));
      await disk.remove(indexPath);
      const file = await disk.open(path, { create: true });
      await file.truncate(kept.bytes);
      await file.sync();
      await file.close();
      await disk.writeFile(indexPath, kept.encode());
      break;
    }
    await damaged.cut(height);
  }

  async close(): Promise<void> {
    await this.#rewrite();
    await this.#file.close();
  }

  #damagedAt(height: number): DaybookError {
    const firsts = this.#sealed.map((one) => one.firstHeight);
    const before = firsts.findLast((first) => first <= height);
    const first = height >= this.#index.firstHeight ? this.#index.firstHeight : before;
    return damagedBlock(segmentName(first ?? 0), height);
  }

  async #segmentOf(height: number): Promise<SegmentIndex> {
    if (height >= this.#index.firstHeight) return this.#index;
    const heights = this.#sealed.map((one) => one.firstHeight);
    return this.#load(heights[upperBound(heights, height) - 1] as number);
  }

  async #load(firstHeight: number): Promise<SegmentIndex> {
    if (firstHeight === this.#index.firstHeight) return this.#index;
    const known = this.#cache.get(firstHeight);
    if (known !== undefined) {
      this.#cache.delete(firstHeight);
      this.#cache.set(firstHeight, known);
      return known;
    }
    const summary = this.#sealed.find((one) => one.firstHeight === firstHeight) as SegmentSummary;
    const { firstRecord, blocks } = summary;
    const index = await sealedIndex(this.#segments, {
      firstHeight,
      firstRecord,
      end: firstHeight + blocks,
    });
    this.#cache.set(firstHeight, index);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= limits.blockSegmentsCachedMax) break;
      this.#cache.delete(oldest);
    }
    return index;
  }

  async #seal(): Promise<void> {
    const { disk, directory } = this.#segments;
    const [before, index] = [this.#file, this.#index];
    await before.sync();
    await this.#writeIndex();
    const next = new SegmentIndex(this.height, this.records);
    const path = `${directory}/${segmentName(next.firstHeight)}`;
    this.#file = await disk.open(path, { create: true });
    this.#index = next;
    this.#indexed = 0;
    this.#sealed.push(index.summary);
    this.#cache.set(index.firstHeight, index);
    this.#changes++;
    await before.close();
  }

  async #writeIndex(): Promise<void> {
    const { disk, directory } = this.#segments;
    const path = `${directory}/${indexName(this.#index.firstHeight)}`;
    await disk.writeFile(path, this.#index.encode());
  }

  /** Brings what was mended into the files. */
  async #rewrite(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#mended.size === 0) return;
    this.#changes++;
    this.#rewriting = this.#writeMended();
    try {
      await this.#rewriting;
    } catch (error) {
      this.#failure = toDaybookError(error);
      throw error;
    } finally {
      this.#rewriting = undefined;
    }
  }

  async #writeMended(): Promise<void> {
    const { disk, directory, damaged } = this.#segments;
    const heights = [...this.#mended.keys()];
    const indexes = new Set<SegmentIndex>();
    for (const height of heights) indexes.add(await this.#segmentOf(height));
    for (const index of indexes) {
      const made = await rewriteSegment(this.#segments, index, this.#mended);
      if (index !== this.#index) {
        this.#cache.set(made.firstHeight, made);
        const at = this.#sealed.findIndex((one) => one.firstHeight === made.firstHeight);
        this.#sealed[at] = made.summary;
        continue;
      }
      const before = this.#file;
      this.#file = await disk.open(`${directory}/${segmentName(made.firstHeight)}`);
      this.#index = made;
      this.#indexed = made.blocks;
      await before.close();
    }
    await damaged.remove(heights);
    this.#mended.clear();
    this.#mendedBytes = 0;
  }
}
