import { crc32 } from 'node:zlib';
import type { Address } from '../../model/index.ts';

/*
 * A segment file: a header of 32 bytes, then frames at multiples of 8 bytes.
 *
 *   segment header: magic 8 · generation u32 · salt u32 · reserved 12 · crc32 of all that u32
 *   frame header:   crc32 u32 · length u32 · generation u32 · group u32 · attempt u16 · kind u8 ·
 *                   last u8 · address u48 · epoch u48, then `length` bytes of payload
 *
 * A frame's checksum starts from the segment's random salt and covers header and payload: neither
 * what a recycled file held in a former life nor bytes inside a payload can pass for a frame.
 */

/** Bytes of a segment's header, and of a frame's. */
export const headerBytes = 32;
const alignment = 8;
const magic = Buffer.from('DAYBKSG1', 'latin1');
const kinds = ['data', 'fill', 'end'] as const;

/** `end` is the last frame of a segment: nothing was, or will be, written behind it. */
export type FrameKind = (typeof kinds)[number];

/** What makes a segment's frames its own. */
export interface SegmentIdentity {
  /** Number of the segment: 1, 2, 3, …, never used twice in a log. */
  readonly generation: number;
  /** Random; the checksums start from it. */
  readonly salt: number;
}

/** What a frame says, before it has a place. */
export interface FrameContent {
  readonly kind: FrameKind;
  readonly address: Address;
  readonly epoch: number;
  readonly bytes: Uint8Array;
}

/** A frame found in a segment; its payload begins `headerBytes` after `offset`. */
export interface Frame {
  readonly kind: FrameKind;
  readonly address: Address;
  readonly epoch: number;
  /** Number of the group that was synced as a whole; counts from 1 in each segment. */
  readonly group: number;
  /** Tells a group that failed (full disk) from the one written over it. */
  readonly attempt: number;
  /** Whether the group ends here. */
  readonly last: boolean;
  readonly offset: number;
  /** Bytes of the payload. */
  readonly length: number;
}

/** Bytes that a payload takes in a segment. */
export function frameBytes(length: number): number {
  return (headerBytes + length + alignment - 1) & -alignment;
}

/** Writes a group of frames into `target`; returns the offset of each. */
export function encodeGroup(
  target: Buffer,
  contents: readonly FrameContent[],
  segment: SegmentIdentity,
  group: number,
  attempt: number,
): number[] {
  const offsets: number[] = [];
  let at = 0;
  for (const [index, { kind, address, epoch, bytes }] of contents.entries()) {
    target.writeUInt32BE(bytes.length, at + 4);
    target.writeUInt32BE(segment.generation, at + 8);
    target.writeUInt32BE(group, at + 12);
    target.writeUInt16BE(attempt & 0xffff, at + 16);
    target[at + 18] = kinds.indexOf(kind) + 1;
    target[at + 19] = index === contents.length - 1 ? 1 : 0;
    target.writeUIntBE(address, at + 20, 6);
    target.writeUIntBE(epoch, at + 26, 6);
    target.set(bytes, at + headerBytes);
    const end = at + headerBytes + bytes.length;
    target.writeUInt32BE(crc32(target.subarray(at + 4, end), segment.salt), at);
    offsets.push(at);
    const next = at + frameBytes(bytes.length);
    target.fill(0, end, next);
    at = next;
  }
  return offsets;
}

/** The frame at `at`, or `undefined` when no intact frame of this segment stands there. */
export function decodeFrame(
  bytes: Buffer,
  at: number,
  segment: SegmentIdentity,
): Frame | undefined {
  if (at + headerBytes > bytes.length) return undefined;
  if (bytes.readUInt32BE(at + 8) !== segment.generation) return undefined;
  const length = bytes.readUInt32BE(at + 4);
  const end = at + headerBytes + length;
  const kind = kinds[(bytes[at + 18] ?? 0) - 1];
  if (end > bytes.length || kind === undefined) return undefined;
  if (crc32(bytes.subarray(at + 4, end), segment.salt) !== bytes.readUInt32BE(at)) return undefined;
  return {
    kind,
    address: bytes.readUIntBE(at + 20, 6) as Address,
    epoch: bytes.readUIntBE(at + 26, 6),
    group: bytes.readUInt32BE(at + 12),
    attempt: bytes.readUInt16BE(at + 16),
    last: bytes[at + 19] === 1,
    offset: at,
    length,
  };
}

/** The first `headerBytes` of a segment file. */
export function encodeSegmentHeader(segment: SegmentIdentity): Buffer {
  const header = Buffer.alloc(headerBytes);
  magic.copy(header);
  header.writeUInt32BE(segment.generation, 8);
  header.writeUInt32BE(segment.salt, 12);
  header.writeUInt32BE(crc32(header.subarray(0, headerBytes - 4)), headerBytes - 4);
  return header;
}

/** `undefined` when the header is damaged or of another format. */
export function decodeSegmentHeader(header: Buffer): SegmentIdentity | undefined {
  if (header.length < headerBytes || !header.subarray(0, magic.length).equals(magic)) {
    return undefined;
  }
  if (crc32(header.subarray(0, headerBytes - 4)) !== header.readUInt32BE(headerBytes - 4)) {
    return undefined;
  }
  return { generation: header.readUInt32BE(8), salt: header.readUInt32BE(12) };
}

/** What the bytes of a segment hold. */
export interface SegmentScan {
  /** Intact data and fill frames from the beginning on. */
  readonly frames: readonly Frame[];
  /** Where the frames end. */
  readonly endOffset: number;
  readonly lastGroup: number;
  /** Whether an `end` frame stands there. */
  readonly ended: boolean;
  /** Whether anything was ever written to this segment, intact or not, as far as one can tell. */
  readonly used: boolean;
  /**
   * Offset of a broken frame that was durable once: a later group follows it, and a group is only
   * begun when the one before is synced. `undefined` when what is missing is a torn tail at most.
   */
  readonly damagedAt: number | undefined;
}

/** Reads a whole segment that has no index (yet). */
export function scanSegment(bytes: Buffer, segment: SegmentIdentity): SegmentScan {
  const frames: Frame[] = [];
  let at = headerBytes;
  let group = 0;
  let attempt = 0;
  let groupOpen = false;
  let ended = false;
  while (!ended) {
    const frame = decodeFrame(bytes, at, segment);
    if (frame === undefined) break;
    if (frame.kind === 'end') {
      if (frame.group !== group + 1) break;
      ended = true;
    } else {
      const follows = groupOpen
        ? frame.group === group && frame.attempt === attempt
        : frame.group === group + 1;
      if (!follows) break;
      frames.push(frame);
      ({ group, attempt } = frame);
      groupOpen = !frame.last;
      at += frameBytes(frame.length);
    }
  }
  if (ended) {
    return { frames, endOffset: at, lastGroup: group, ended, used: true, damagedAt: undefined };
  }
  const latest = latestGroup(bytes, at, segment);
  const proof = groupOpen ? group + 1 : group + 2;
  return {
    frames,
    endOffset: at,
    lastGroup: group,
    ended,
    used: group > 0 || latest > 0,
    damagedAt: latest >= proof ? at : undefined,
  };
}

/** The highest group of any intact frame at or behind `from`; 0 when there is none. */
function latestGroup(bytes: Buffer, from: number, segment: SegmentIdentity): number {
  let latest = 0;
  for (let at = from; at + headerBytes <= bytes.length; at += alignment) {
    if (bytes.readUInt32BE(at + 8) !== segment.generation) continue;
    const frame = decodeFrame(bytes, at, segment);
    if (frame !== undefined && frame.group > latest) latest = frame.group;
  }
  return latest;
}
