import { DaybookError } from '../base/index.ts';
import type { Disk } from '../io/index.ts';

/*
 * A segment file `blocks-NNNNNNNNNN.pb` is a sequence of `common.Block`s, each with its length in
 * front as a varint: protobuf's usual delimited form. NNNNNNNNNN is the number of its first block.
 */

const lengthBytesMax = 5;

/** Name of the segment file that begins with a block. */
export function segmentName(firstHeight: number): string {
  return `blocks-${String(firstHeight).padStart(10, '0')}.pb`;
}

/** Name of the file that says where the blocks of that segment lie. */
export function indexName(firstHeight: number): string {
  return `blocks-${String(firstHeight).padStart(10, '0')}.index`;
}

/** Numbers of the first blocks of all segments among the names of a directory, ascending. */
export function segmentHeights(names: readonly string[]): number[] {
  return names
    .map((name) => /^blocks-(\d{10,})\.pb$/.exec(name)?.[1])
    .filter((digits) => digits !== undefined)
    .map(Number)
    .sort((left, right) => left - right);
}

/** The length that stands in front of a block. */
export function lengthPrefix(length: number): Buffer {
  const bytes: number[] = [];
  let rest = length;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

/** One block in the bytes of a segment. */
export interface BlockFrame {
  /** Where the block begins, behind its length. */
  readonly offset: number;
  readonly bytes: Buffer;
}

/**
 * The blocks of a segment, in order.
 *
 * @throws {DaybookError} `MALFORMED` with `details.offset` where a length does not fit the file:
 *   everything before it was yielded.
 */
export function* segmentFrames(segment: Buffer): Generator<BlockFrame> {
  let at = 0;
  while (at < segment.length) {
    const frameStart = at;
    let length = 0;
    let shift = 1;
    for (let count = 0; ; count++) {
      const byte = segment[at++];
      if (byte === undefined || count === lengthBytesMax) throw torn(frameStart);
      length += (byte & 0x7f) * shift;
      shift *= 0x80;
      if (byte < 0x80) break;
    }
    if (length === 0 || length > segment.length - at) throw torn(frameStart);
    yield { offset: at, bytes: segment.subarray(at, at + length) };
    at += length;
  }
}

/**
 * The blocks in the files of a directory, in order; unverified.
 *
 * @param from - may skip files whose blocks are all before this number.
 * @throws {DaybookError} `MALFORMED` at a torn or damaged place.
 */
export async function* blockFiles(disk: Disk, directory: string, from = 0): AsyncGenerator<Buffer> {
  const heights = segmentHeights(await disk.list(directory));
  for (const [at, height] of heights.entries()) {
    if ((heights[at + 1] ?? Number.POSITIVE_INFINITY) <= from) continue;
    const bytes = await disk.readFile(`${directory}/${segmentName(height)}`);
    for (const frame of segmentFrames(bytes ?? Buffer.alloc(0))) yield frame.bytes;
  }
}

function torn(offset: number): DaybookError {
  return new DaybookError('MALFORMED', `no whole block at byte ${offset}`, {
    details: { what: 'block file', offset },
  });
}
