import { join } from 'node:path';
import { DaybookError } from '../../base/index.ts';
import type { DiskFile } from '../../io/index.ts';
import type { Address } from '../../model/index.ts';
import {
  decodeSegmentHeader,
  encodeGroup,
  headerBytes,
  type SegmentIdentity,
  type SegmentScan,
  scanSegment,
} from './frame.ts';
import { decodeMeta, type LogMeta } from './meta.ts';
import { metaName, parseNames, segmentFileName } from './names.ts';
import { GrowingIndex, SealedIndex } from './segment-index.ts';
import { damaged, type Segment, SegmentReader } from './segment-reader.ts';
import { type EmptySegment, type LogIo, saveIndex } from './segment-store.ts';
import { WrittenAddresses } from './written.ts';

/** What a directory held. */
export interface Recovered {
  readonly meta: LogMeta;
  readonly written: WrittenAddresses;
  readonly segments: Segment[];
  readonly empty: EmptySegment[];
  readonly nextGeneration: number;
}

interface Unsealed {
  readonly identity: SegmentIdentity;
  readonly scan: SegmentScan;
  readonly file: DiskFile;
  /** All that is in the file. */
  readonly bytes: Buffer;
}

/**
 * Reads a log's directory after whatever happened to it. Full segments are known by the names of
 * their index files; only the segments without one (two at most, after a crash) are scanned. The
 * torn tail of the last one is cut off; that segment is then ended, and writing goes on in another.
 *
 * @throws {DaybookError} `LOG_DAMAGED` when an entry that was durable is missing or broken.
 */
export async function recover(io: LogIo, directory: string): Promise<Recovered> {
  const { disk } = io;
  const metaBytes = await disk.readFile(join(directory, metaName));
  const meta = metaBytes === undefined ? { epoch: 0, start: 0 as Address } : decodeMeta(metaBytes);
  const { generations, indexes } = parseNames(await disk.list(directory));
  const sealed: Segment[] = [];
  for (const index of indexes) {
    if (generations.includes(index.generation)) sealed.push(index);
    else if (index.last >= meta.start) {
      const file = segmentFileName(index.generation);
      throw new DaybookError('LOG_DAMAGED', `segment ${file} is missing`, { details: { file } });
    }
  }
  const sealedGenerations = new Set(indexes.map(({ generation }) => generation));
  const unsealed: Unsealed[] = [];
  try {
    for (const generation of generations) {
      if (!sealedGenerations.has(generation))
        unsealed.push(await scanFile(io, directory, generation));
    }
    const written = await writtenIn(io, directory, sealed, meta.start);
    const empty: EmptySegment[] = [];
    const segments = [...sealed];
    const lastUsed = Math.max(
      ...sealedGenerations,
      ...unsealed.filter(({ scan }) => scan.used).map(({ identity }) => identity.generation),
    );
    for (const found of unsealed) {
      const { identity, scan, file, bytes } = found;
      // A segment is begun only after the one before was ended and synced.
      const mustHaveEnded = identity.generation < lastUsed;
      if (scan.damagedAt !== undefined) throw damaged(identity.generation, scan.damagedAt);
      if (mustHaveEnded && !scan.ended) throw damaged(identity.generation, scan.endOffset);
      if (!scan.used && empty.length < 2) {
        empty.push({ identity, file, sizeBytes: bytes.length });
      } else if (scan.frames.length === 0) {
        await file.close();
        await disk.remove(join(directory, segmentFileName(identity.generation)));
      } else {
        segments.push(await seal(io, directory, found, written));
        await file.close();
      }
    }
    segments.sort((a, b) => a.generation - b.generation);
    const nextGeneration = Math.max(0, ...generations, ...sealedGenerations) + 1;
    return { meta, written, segments, empty, nextGeneration };
  } catch (error) {
    for (const { file } of unsealed) await file.close().catch(() => undefined);
    throw error;
  }
}

async function scanFile(io: LogIo, directory: string, generation: number): Promise<Unsealed> {
  const file = await io.disk.open(join(directory, segmentFileName(generation)));
  const sizeBytes = await file.size();
  const bytes = Buffer.allocUnsafeSlow(sizeBytes);
  await file.read(bytes, 0);
  const identity = decodeSegmentHeader(bytes);
  if (identity?.generation !== generation) {
    await file.close();
    throw damaged(generation, 0);
  }
  return { identity, scan: scanSegment(bytes, identity), file, bytes };
}

/** Which addresses the full segments hold: reads the few indexes that reach beyond the last mark. */
async function writtenIn(
  io: LogIo,
  directory: string,
  sealed: readonly Segment[],
  start: Address,
): Promise<WrittenAddresses> {
  const reader = new SegmentReader(io.disk, directory);
  let contiguous = start;
  for (const segment of sealed.toReversed()) {
    const { index } = await reader.load(segment);
    if (index instanceof SealedIndex) {
      contiguous = Math.max(start, index.segment.contiguous) as Address;
      break;
    }
  }
  const written = new WrittenAddresses(contiguous);
  for (const segment of sealed) {
    if (segment.last < contiguous) continue;
    const { index } = await reader.load(segment);
    for (const address of index.addresses()) written.add(address);
  }
  reader.close();
  return written;
}

/**
 * Ends a segment where its last intact frame ends, and gives it an index. All of it is written again:
 * a system whose sync failed has forgotten what it did not save, and shows it to readers all the
 * same, so that the next sync alone would make nothing of it durable.
 */
async function seal(
  io: LogIo,
  directory: string,
  { identity, scan, file, bytes }: Unsealed,
  written: WrittenAddresses,
): Promise<Segment> {
  const index = new GrowingIndex();
  for (const frame of scan.frames) {
    // I1: no address is ever written twice.
    if (index.find(frame.address) !== undefined) {
      throw damaged(identity.generation, frame.offset, frame.address);
    }
    index.add(frame.address, frame);
    written.add(frame.address);
  }
  const endBytes = scan.endOffset + headerBytes;
  const whole = Buffer.alloc(endBytes);
  bytes.copy(whole, 0, 0, endBytes);
  if (!scan.ended) {
    const content = {
      kind: 'end',
      address: 0 as Address,
      epoch: 0,
      bytes: Buffer.alloc(0),
    } as const;
    const end = whole.subarray(scan.endOffset);
    encodeGroup(end, [content], identity, scan.lastGroup + 1, 0);
  }
  await file.write([whole], 0);
  await file.sync();
  const segment = {
    generation: identity.generation,
    first: index.first,
    last: index.last,
    unsaved: { identity, index },
  };
  await saveIndex(io, directory, segment, written.contiguous);
  await file.truncate(endBytes);
  const { generation, first, last } = segment;
  return { generation, first, last };
}
