import { assert, DaybookError, isDaybookError, limits } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { Position } from '../model/index.ts';
import { type BlockVersion, readEnvelopeHead } from '../model/index.ts';
import {
  indexName,
  lengthPrefix,
  segmentFrames,
  segmentHeights,
  segmentName,
} from './block-files.ts';
import { decodeBlockProof } from './block-proof.ts';
import {
  type BlockHeader,
  type BlockParts,
  dataHash,
  decodeBlock,
  decodeOrdererMetadata,
  decodeSignedMetadata,
  headerHash,
} from './fabric/block.ts';
import {
  type RecordPlace,
  SegmentIndex,
  type SegmentSummary,
  summaryBytes,
  upperBound,
} from './segment-index.ts';

/** Settings of {@link openBlockStore}. */
export interface BlockStoreOptions {
  readonly disk: Disk;
  /** Absolute path of a directory of its own. */
  readonly directory: string;
  /** Close a file after this many bytes (`blockSegmentBytesMax`). */
  readonly segmentBytesMax?: number;
}

/** What the store needs to know of a block that is appended. */
export interface StoredBlock {
  readonly header: BlockHeader;
  readonly bytes: Buffer;
  readonly positions: readonly Position[];
  readonly txIds: readonly Uint8Array[];
}

/**
 * The blocks of a channel in files, found by height, transaction id and position. One writer.
 * Everything here can be rebuilt from the log, the indexes from the block files alone; so a torn
 * end is cut off at opening and the generator makes those blocks again.
 */
export async function openBlockStore(options: BlockStoreOptions): Promise<BlockStore> {
  const { disk, directory } = options;
  await disk.makeDirectory(directory);
  const heights = segmentHeights(await disk.list(directory));
  const sealed: SegmentSummary[] = [];
  for (const [at, height] of heights.slice(0, -1).entries()) {
    const summary = await sealedSummary(options, height);
    if (summary.firstHeight + summary.blocks !== heights[at + 1]) {
      throw new DaybookError('STATE_DAMAGED', `blocks are missing after ${segmentName(height)}`, {
        details: { what: segmentName(height), height },
      });
    }
    sealed.push(summary);
  }
  const last = heights.at(-1) ?? 0;
  const before = sealed.at(-1);
  const file = await disk.open(`${directory}/${segmentName(last)}`, { create: true });
  const bytes = Buffer.alloc(await file.size());
  await file.read(bytes, 0);
  const firstRecord = before === undefined ? 0 : before.firstRecord + before.records;
  const index = new SegmentIndex(last, firstRecord);
  let header: BlockHeader | undefined;
  try {
    for (const frame of segmentFrames(bytes)) {
      const block = decodeBlock(frame.bytes);
      const fits =
        block.header.number === last + index.blocks &&
        (header === undefined || headerHash(header).equals(block.header.previousHash)) &&
        dataHash(block.envelopes).equals(block.header.dataHash);
      if (!fits) break;
      const { positions, txIds } = indexedFields(block);
      index.add({ offset: frame.offset, length: frame.bytes.length }, positions, txIds);
      header = block.header;
    }
  } catch (error) {
    if (!isDaybookError(error, 'MALFORMED')) throw error;
  }
  await file.truncate(index.bytes);
  return new BlockStore(options, sealed, index, file);
}

/**
 * Positions and transaction ids of a block's records.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function indexedFields(block: BlockParts): {
  positions: readonly Position[];
  txIds: Buffer[];
} {
  const signed = decodeSignedMetadata(block.metadata[0] as Buffer);
  const { consenterMetadata } = decodeOrdererMetadata(signed.value);
  const { positions } = decodeBlockProof(consenterMetadata);
  const txIds = block.envelopes.map((envelope) => {
    const { txId } = readEnvelopeHead(envelope);
    return txId === '' ? Buffer.alloc(32) : Buffer.from(txId, 'hex');
  });
  if (positions.length !== txIds.length) {
    throw new DaybookError('MALFORMED', 'a block whose positions do not fit its records');
  }
  return { positions, txIds };
}

async function sealedSummary(options: BlockStoreOptions, height: number): Promise<SegmentSummary> {
  const { disk, directory } = options;
  const front = Buffer.alloc(summaryBytes);
  try {
    const file = await disk.open(`${directory}/${indexName(height)}`);
    try {
      if ((await file.read(front, 0)) === front.length) return SegmentIndex.summary(front);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isDaybookError(error, 'NOT_FOUND', 'MALFORMED')) throw error;
  }
  return (await rebuildIndex(options, height)).summary;
}

/** Makes the index of a closed segment from its blocks, and writes it. */
async function rebuildIndex(options: BlockStoreOptions, height: number): Promise<SegmentIndex> {
  const { disk, directory } = options;
  const bytes = await disk.readFile(`${directory}/${segmentName(height)}`);
  let index: SegmentIndex | undefined;
  for (const frame of segmentFrames(bytes ?? Buffer.alloc(0))) {
    const block = decodeBlock(frame.bytes);
    const { positions, txIds } = indexedFields(block);
    if (index === undefined) {
      const signed = decodeSignedMetadata(block.metadata[0] as Buffer);
      const proof = decodeBlockProof(decodeOrdererMetadata(signed.value).consenterMetadata);
      index = new SegmentIndex(height, proof.historySize - positions.length);
    }
    index.add({ offset: frame.offset, length: frame.bytes.length }, positions, txIds);
  }
  if (index === undefined) {
    throw new DaybookError('STATE_DAMAGED', `${segmentName(height)} holds no blocks`, {
      details: { what: segmentName(height), height },
    });
  }
  await disk.writeFile(`${directory}/${indexName(height)}`, index.encode());
  return index;
}

/** See {@link openBlockStore}. */
export class BlockStore {
  readonly #options: BlockStoreOptions;
  /** Closed segments, ascending. */
  readonly #sealed: SegmentSummary[];
  /** Indexes of closed segments, least recently used first. */
  readonly #cache = new Map<number, SegmentIndex>();
  #index: SegmentIndex;
  #file: DiskFile;

  constructor(
    options: BlockStoreOptions,
    sealed: SegmentSummary[],
    index: SegmentIndex,
    file: DiskFile,
  ) {
    this.#options = options;
    this.#sealed = sealed;
    this.#index = index;
    this.#file = file;
  }

  /** Number of blocks; the next one has this number. */
  get height(): number {
    return this.#index.firstHeight + this.#index.blocks;
  }

  /** Number of records in all blocks. */
  get records(): number {
    return this.#index.firstRecord + this.#index.records;
  }

  /** Appends the next block. Durable after {@link BlockStore.sync}. */
  async append(block: StoredBlock): Promise<void> {
    assert(block.header.number === this.height, 'blocks are appended in order');
    const max = this.#options.segmentBytesMax ?? limits.blockSegmentBytesMax;
    if (this.#index.blocks > 0 && this.#index.bytes + block.bytes.length > max) await this.#seal();
    const start = this.#index.bytes;
    const prefix = lengthPrefix(block.bytes.length);
    await this.#file.write([prefix, block.bytes], start);
    const place = { offset: start + prefix.length, length: block.bytes.length };
    this.#index.add(place, block.positions, block.txIds);
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  /**
   * The bytes of a block.
   *
   * @throws {DaybookError} `NOT_FOUND`
   */
  async block(height: number): Promise<Buffer> {
    const index = height >= 0 && height < this.height ? await this.#segmentOf(height) : undefined;
    const place = index?.place(height);
    if (index === undefined || place === undefined) {
      throw new DaybookError('NOT_FOUND', `there is no block ${height}`, { details: { height } });
    }
    const bytes = Buffer.alloc(place.length);
    if (index === this.#index) await this.#file.read(bytes, place.offset);
    else {
      const path = `${this.#options.directory}/${segmentName(index.firstHeight)}`;
      const file = await this.#options.disk.open(path);
      try {
        await file.read(bytes, place.offset);
      } finally {
        await file.close();
      }
    }
    return bytes;
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

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #segmentOf(height: number): Promise<SegmentIndex> {
    if (height >= this.#index.firstHeight) return this.#index;
    const heights = this.#sealed.map((one) => one.firstHeight);
    return this.#load(heights[upperBound(heights, height) - 1] as number);
  }

  async #load(firstHeight: number): Promise<SegmentIndex> {
    const known = this.#cache.get(firstHeight);
    if (known !== undefined) {
      this.#cache.delete(firstHeight);
      this.#cache.set(firstHeight, known);
      return known;
    }
    const { disk, directory } = this.#options;
    const bytes = await disk.readFile(`${directory}/${indexName(firstHeight)}`);
    let index: SegmentIndex;
    try {
      index = SegmentIndex.decode(bytes ?? Buffer.alloc(0));
    } catch (error) {
      if (!isDaybookError(error, 'MALFORMED')) throw error;
      index = await rebuildIndex(this.#options, firstHeight);
    }
    this.#cache.set(firstHeight, index);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size <= limits.blockSegmentsCachedMax) break;
      this.#cache.delete(oldest);
    }
    return index;
  }

  async #seal(): Promise<void> {
    const { disk, directory } = this.#options;
    const index = this.#index;
    await this.#file.sync();
    await disk.writeFile(`${directory}/${indexName(index.firstHeight)}`, index.encode());
    await this.#file.close();
    this.#sealed.push(index.summary);
    this.#cache.set(index.firstHeight, index);
    this.#index = new SegmentIndex(this.height, this.records);
    const path = `${directory}/${segmentName(this.#index.firstHeight)}`;
    this.#file = await disk.open(path, { create: true });
  }
}
