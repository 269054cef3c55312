import { crc32 } from 'node:zlib';
import { DaybookError, isDaybookError } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import { readEnvelopeHead } from '../model/index.ts';
import {
  type BlockFrame,
  indexName,
  lengthPrefix,
  segmentFrames,
  segmentHeights,
  segmentName,
} from './block-files.ts';
import { type BlockProof, decodeBlockProof } from './block-proof.ts';
import { DamagedBlocks, unreadable } from './damaged-blocks.ts';
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
  type BlockPlace,
  type IndexedRecords,
  SegmentIndex,
  type SegmentSummary,
  summaryBytes,
} from './segment-index.ts';

/** Where the segments of a store lie. */
export interface SegmentDirectory {
  readonly disk: Disk;
  readonly directory: string;
  readonly damaged: DamagedBlocks;
}

/** Which blocks a segment has. */
export interface SegmentRange {
  readonly firstHeight: number;
  /** Number of its first record in the history tree. */
  readonly firstRecord: number;
  /** Height behind its last block. */
  readonly end: number;
}

/** What follows from a block's bytes for the index. @throws {DaybookError} `MALFORMED` */
export function indexedFields(block: BlockParts): IndexedRecords & { readonly txIds: Buffer[] } {
  const { positions } = readProof(block);
  const txIds = block.envelopes.map((envelope) => {
    const { txId } = readEnvelopeHead(envelope);
    return txId === '' ? Buffer.alloc(32) : Buffer.from(txId, 'hex');
  });
  if (positions.length !== txIds.length) {
    throw new DaybookError('MALFORMED', 'a block whose positions do not fit its records');
  }
  return { positions, txIds };
}

/** What a block says about itself beyond Fabric's format, and its last configuration. @throws {DaybookError} `MALFORMED` */
export function readProof(block: BlockParts): BlockProof & { readonly lastConfig: number } {
  const { value } = decodeSignedMetadata(block.metadata[0] ?? Buffer.alloc(0));
  const { lastConfig, consenterMetadata } = decodeOrdererMetadata(value);
  return { ...decodeBlockProof(consenterMetadata), lastConfig };
}

/** Where a block lies whose bytes are these. */
export function placeAt(offset: number, bytes: Buffer): BlockPlace {
  return { offset, length: bytes.length, sum: crc32(bytes) };
}

/** Reads bytes of a segment file. @returns how many there were. */
export type ReadSegment = (target: Buffer, offset: number) => Promise<number>;

/** The block at a place, read with its length; `undefined`: it is not what was written there. */
export async function readWhole(
  { offset, length, sum }: BlockPlace,
  read: ReadSegment,
): Promise<Buffer | undefined> {
  if (length === 0) return undefined;
  const prefix = lengthPrefix(length);
  const frame = Buffer.alloc(prefix.length + length);
  const got = await read(frame, offset - prefix.length).catch(unreadable);
  const block = frame.subarray(prefix.length);
  // Without its length nobody finds it, nor those behind it, in the file alone.
  const isThere = got === frame.length && prefix.equals(frame.subarray(0, prefix.length));
  return isThere && crc32(block) === sum ? block : undefined;
}

/** The front of a closed segment's index; without one that can be read, the index is made anew. */
export async function sealedSummary(
  segments: SegmentDirectory,
  range: SegmentRange,
): Promise<SegmentSummary> {
  const { disk, directory } = segments;
  const front = Buffer.alloc(summaryBytes);
  try {
    const file = await disk.open(`${directory}/${indexName(range.firstHeight)}`);
    try {
      await file.read(front, 0);
      const summary = SegmentIndex.summary(front);
      // Else a file between this one and the next is missing.
      if (summary.firstHeight + summary.blocks === range.end) return summary;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (!isDaybookError(error, 'NOT_FOUND', 'MALFORMED')) throw error;
  }
  return (await rebuildIndex(segments, range)).summary;
}

/** The index of a closed segment. */
export async function sealedIndex(
  segments: SegmentDirectory,
  range: SegmentRange,
): Promise<SegmentIndex> {
  const index = await storedIndex(segments, range.firstHeight);
  if (index !== undefined && index.firstHeight + index.blocks === range.end) return index;
  return await rebuildIndex(segments, range);
}

async function storedIndex(
  { disk, directory }: SegmentDirectory,
  firstHeight: number,
): Promise<SegmentIndex | undefined> {
  const bytes = await disk.readFile(`${directory}/${indexName(firstHeight)}`);
  if (bytes === undefined) return undefined;
  try {
    const index = SegmentIndex.decode(bytes);
    return index.firstHeight === firstHeight ? index : undefined;
  } catch (error) {
    if (!isDaybookError(error, 'MALFORMED')) throw error;
    return undefined;
  }
}

/**
 * Makes the index of a closed segment from its blocks, and writes it. A block is believed that has its
 * number and data hash, and that follows the one before; of metadata nothing tells whether they are
 * what was written. What is not there, or does not hold, is damaged.
 */
async function rebuildIndex(
  { disk, directory, damaged }: SegmentDirectory,
  { firstHeight, firstRecord, end }: SegmentRange,
): Promise<SegmentIndex> {
  const bytes = await disk.readFile(`${directory}/${segmentName(firstHeight)}`);
  const index = new SegmentIndex(firstHeight, firstRecord);
  const bad: number[] = [];
  const next = (): number => firstHeight + index.blocks;
  const missing = (): void => {
    bad.push(next());
    index.addDamaged({ offset: index.bytes, length: 0, sum: 0 });
  };
  let before: BlockHeader | undefined;
  for (const { offset, bytes: block } of wholeFrames(bytes ?? Buffer.alloc(0))) {
    const read = readBlock(block);
    const number = read?.header.number ?? next();
    if (next() === end || number >= end || number < next()) continue;
    if (number > next()) before = undefined;
    while (next() < number) missing();
    const place = placeAt(offset, block);
    const follows = before === undefined || read === undefined || isNext(before, read.header);
    const lost = (read?.firstRecord ?? 0) - firstRecord - index.records;
    const counts = lost === 0 || (lost > 0 && bad.at(-1) === number - 1);
    if (read === undefined || !follows || !counts) {
      // One of two that do not fit together is damaged, and nothing tells which.
      bad.push(...(follows ? [] : [number - 1]), number);
      index.addDamaged(place);
      before = undefined;
      continue;
    }
    index.skipRecords(lost);
    index.add(place, read);
    before = read.header;
  }
  while (next() < end) missing();
  await damaged.add(bad);
  await disk.writeFile(`${directory}/${indexName(firstHeight)}`, index.encode());
  return index;
}

/** The blocks of a segment up to where no length can be read. */
function* wholeFrames(bytes: Buffer): Generator<BlockFrame> {
  try {
    yield* segmentFrames(bytes);
  } catch (error) {
    if (!isDaybookError(error, 'MALFORMED')) throw error;
  }
}

interface ReadBlock extends IndexedRecords {
  readonly header: BlockHeader;
  readonly firstRecord: number;
}

/** `undefined`: it is not what was written. */
function readBlock(bytes: Buffer): ReadBlock | undefined {
  try {
    const block = decodeBlock(bytes);
    if (!dataHash(block.envelopes).equals(block.header.dataHash)) return undefined;
    const fields = indexedFields(block);
    const firstRecord = readProof(block).historySize - fields.positions.length;
    return { ...fields, header: block.header, firstRecord };
  } catch {
    // Bytes that rotted may break any rule.
    return undefined;
  }
}

function isNext(before: BlockHeader, header: BlockHeader): boolean {
  return headerHash(before).equals(header.previousHash);
}

/** The segment that grows. */
export interface LastSegment {
  readonly file: DiskFile;
  readonly index: SegmentIndex;
  /** Height behind the blocks whose checksums were written with them. */
  readonly indexed: number;
}

/**
 * Opens the segment that grows. Blocks that were made durable are in its index; what stands behind them
 * is taken as far as one block follows another, and the torn end is cut off.
 */
export async function openLastSegment(
  segments: SegmentDirectory,
  firstHeight: number,
  firstRecord: number,
): Promise<LastSegment> {
  const { disk, directory, damaged } = segments;
  const stored = await storedIndex(segments, firstHeight);
  const file = await disk.open(`${directory}/${segmentName(firstHeight)}`, { create: true });
  const size = await file.size();
  const read = await readerOf(file);
  const index = withinFile(stored ?? new SegmentIndex(firstHeight, firstRecord), size);
  if (stored !== undefined && stored !== index) {
    // Other blocks will stand where those were that are gone.
    await disk.writeFile(`${directory}/${indexName(firstHeight)}`, index.encode());
  }
  const bad: number[] = [];
  let before: BlockHeader | undefined;
  for (let height = firstHeight; height < firstHeight + index.blocks; height++) {
    const block = await readWhole(index.place(height) as BlockPlace, read);
    const holds = block !== undefined && !damaged.has(height);
    if (!holds) bad.push(height);
    before = holds ? decodeBlock(block).header : undefined;
  }
  await damaged.add(bad);
  const { bytes: known } = index;
  const indexed = firstHeight + index.blocks;
  const tail = Buffer.alloc(size - known);
  for (const { offset, bytes: block } of wholeFrames(tail.subarray(0, await read(tail, known)))) {
    const read = readBlock(block);
    const fits = read?.header.number === firstHeight + index.blocks;
    if (!fits || (before !== undefined && !isNext(before, read.header))) break;
    index.add(placeAt(known + offset, block), read);
    before = read.header;
  }
  await file.truncate(index.bytes);
  return { file, index, indexed };
}

/** Of a file that was cut, what is left. */
function withinFile(index: SegmentIndex, size: number): SegmentIndex {
  if (index.bytes <= size) return index;
  const places = placesOf(index);
  const whole = places.findIndex(({ offset, length }) => offset + length > size);
  return index.moved(places.slice(0, whole).map((place) => ({ place })));
}

/** Of all its blocks. */
export function placesOf(index: SegmentIndex): BlockPlace[] {
  return Array.from(
    { length: index.blocks },
    (_, at) => index.place(index.firstHeight + at) as BlockPlace,
  );
}

/** What there is at a place, whether it is what was written or not. */
export async function bytesAt({ offset, length }: BlockPlace, read: ReadSegment): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  return bytes.subarray(0, await read(bytes, offset).catch(unreadable));
}

/** Reads all of a segment at once, unless the disk cannot give all of it. */
export async function readerOf(file: DiskFile): Promise<ReadSegment> {
  const bytes = Buffer.alloc(await file.size());
  try {
    await file.read(bytes, 0);
    return async (target, offset) => bytes.copy(target, 0, offset);
  } catch (error) {
    unreadable(error);
    return (target, offset) => file.read(target, offset).catch(unreadable);
  }
}

/**
 * The durable blocks of a directory from a height on that hold, as far as one follows another. Changes
 * nothing, so another process may have the store open: what it is about to write anew does not hold.
 */
export async function* storedBlocks(
  disk: Disk,
  directory: string,
  from: number,
): AsyncGenerator<Buffer> {
  const segments = { disk, directory, damaged: await DamagedBlocks.open(disk, directory) };
  const heights = segmentHeights(await disk.list(directory));
  for (const [at, firstHeight] of heights.entries()) {
    if ((heights[at + 1] ?? Number.POSITIVE_INFINITY) <= from) continue;
    const index = await storedIndex(segments, firstHeight);
    if (index === undefined) return;
    const file = await disk.open(`${directory}/${segmentName(firstHeight)}`);
    try {
      for (let height = Math.max(from, firstHeight); ; height++) {
        const place = index.place(height);
        if (place === undefined) break;
        const bytes = await readWhole(place, (target, offset) => file.read(target, offset));
        if (bytes === undefined || segments.damaged.has(height)) return;
        yield bytes;
      }
    } finally {
      await file.close();
    }
  }
}
