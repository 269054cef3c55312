import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { asAddress } from '../../model/index.ts';
import {
  decodeSegmentHeader,
  encodeGroup,
  encodeSegmentHeader,
  type FrameContent,
  frameBytes,
  headerBytes,
  scanSegment,
} from './frame.ts';

const segment = { generation: 7, salt: 0xdeadbeef };
const former = { generation: 3, salt: 0x12345678 };
const sizeBytes = 8192;

function data(address: number, size: number): FrameContent {
  return { kind: 'data', address: asAddress(address), epoch: 1, bytes: Buffer.alloc(size, 0x5a) };
}

const end: FrameContent = { kind: 'end', address: asAddress(0), epoch: 0, bytes: Buffer.alloc(0) };

/** A recycled segment: groups of a former life, the new ones over them. */
function segmentWith(groups: readonly (readonly number[])[], ended: boolean) {
  const bytes = Buffer.alloc(sizeBytes);
  let at = headerBytes;
  for (let group = 1; at + 200 < sizeBytes; group += 1) {
    encodeGroup(bytes.subarray(at), [data(group, 100)], former, group, 0);
    at += frameBytes(100);
  }
  encodeSegmentHeader(segment).copy(bytes);
  at = headerBytes;
  const begins: number[] = [];
  let address = 0;
  for (const [index, sizes] of groups.entries()) {
    const contents = sizes.map((size) => data(address++, size));
    encodeGroup(bytes.subarray(at), contents, segment, index + 1, 0);
    begins.push(at);
    for (const size of sizes) at += frameBytes(size);
  }
  if (ended) encodeGroup(bytes.subarray(at), [end], segment, groups.length + 1, 0);
  return { bytes, begins, endOffset: at };
}

const groupSizes = fc.array(
  fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 4 }),
  { minLength: 1, maxLength: 12 },
);

describe('scanning a segment', () => {
  it('finds all frames, and none of the file’s former life', () => {
    fc.assert(
      fc.property(groupSizes, fc.boolean(), (groups, ended) => {
        const { bytes, endOffset } = segmentWith(groups, ended);
        const scan = scanSegment(bytes, segment);
        expect(scan).toMatchObject({ endOffset, ended, used: true, damagedAt: undefined });
        expect(scan.lastGroup).toBe(groups.length);
        expect(scan.frames.map(({ length }) => length)).toEqual(groups.flat());
        expect(scan.frames.map(({ address }) => address)).toEqual(groups.flat().map((_, at) => at));
      }),
    );
  });

  it('tells a torn last group from damage before it', () => {
    fc.assert(
      fc.property(groupSizes, fc.boolean(), fc.nat(), (groups, ended, seed) => {
        const { bytes, begins, endOffset } = segmentWith(groups, ended);
        const offset = headerBytes + (seed % (endOffset - headerBytes));
        const before = scanSegment(bytes, segment).frames;
        const hit = before.filter((frame) => frame.offset <= offset).at(-1);
        if (hit === undefined || offset >= hit.offset + headerBytes + hit.length) return;
        bytes[offset] = (bytes[offset] ?? 0) ^ 0xff;
        const scan = scanSegment(bytes, segment);
        const inLastGroup = offset >= (begins.at(-1) as number) && !ended;
        expect(scan.damagedAt).toBe(inLastGroup ? undefined : hit.offset);
        expect(scan.frames).toEqual(before.filter((frame) => frame.offset < hit.offset));
      }),
      { numRuns: 300 },
    );
  });

  it('does not take what a failed attempt left for a part of the next one', () => {
    const bytes = Buffer.alloc(sizeBytes);
    encodeSegmentHeader(segment).copy(bytes);
    encodeGroup(
      bytes.subarray(headerBytes),
      [data(0, 40), data(1, 40), data(2, 40)],
      segment,
      1,
      0,
    );
    // The disk was full; then the power failed while another group was written over it.
    const retried = Buffer.alloc(1024);
    encodeGroup(retried, [data(5, 40), data(6, 40)], segment, 1, 1);
    retried.copy(bytes, headerBytes, 0, frameBytes(40));
    expect(scanSegment(bytes, segment).frames.map(({ address }) => address)).toEqual([5]);
  });

  it('does not take bytes inside a payload for a frame', () => {
    const inner = Buffer.alloc(256);
    encodeGroup(inner, [data(9, 40)], { ...segment, salt: 1 }, 50, 0);
    const bytes = Buffer.alloc(sizeBytes);
    encodeSegmentHeader(segment).copy(bytes);
    const content: FrameContent = { ...data(0, 1), bytes: inner };
    encodeGroup(bytes.subarray(headerBytes), [content], segment, 1, 0);
    bytes[headerBytes + 20] = 1;
    expect(scanSegment(bytes, segment)).toMatchObject({ frames: [], damagedAt: undefined });
  });

  it('survives any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const buffer = Buffer.concat([encodeSegmentHeader(segment), bytes]);
        expect(scanSegment(buffer, segment).frames).toEqual([]);
      }),
    );
  });
});

it('notices a broken segment header', () => {
  const header = encodeSegmentHeader(segment);
  expect(decodeSegmentHeader(header)).toEqual(segment);
  for (let at = 0; at < headerBytes; at += 1) {
    const broken = Buffer.from(header);
    broken[at] = (broken[at] ?? 0) ^ 1;
    expect(decodeSegmentHeader(broken)).toBeUndefined();
  }
  expect(decodeSegmentHeader(header.subarray(0, 10))).toBeUndefined();
});
