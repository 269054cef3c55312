import { crc32 } from 'node:zlib';
import { ByteReader, DaybookError, isDaybookError, limits } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';

/*
 * The value of an entry's key: version u8, kind u8, epoch u64, checksum u32, then the entry's bytes;
 * of a split entry, the head: length u32, count of parts u16, id. The checksum (CRC-32) covers
 * address, fill or not, epoch and the entry's bytes, so that a value at a wrong key shows.
 */

const version = 1;
const kinds = ['data', 'fill', 'split'] as const;
const headerBytes = 14;
/** Characters of the id that the parts of one split entry have in common. */
export const partIdCharacters = 24;

/** A decoded value. `bytes` is a view of the value; empty for a fill and for a split entry. */
export interface StoredEntry {
  readonly address: Address;
  readonly kind: (typeof kinds)[number];
  readonly epoch: number;
  readonly bytes: Buffer;
  /** Length of the entry's bytes, wherever they are. */
  readonly size: number;
  readonly checksum: number;
  /** Where the bytes of a split entry are. */
  readonly split: SplitHead | undefined;
}

/** Names the parts of a split entry. */
export interface SplitHead {
  readonly length: number;
  readonly parts: number;
  readonly id: string;
}

/** The value for an entry that fits, or for a fill (`bytes` empty). */
export function encodeStored(
  address: Address,
  kind: 'data' | 'fill',
  epoch: number,
  bytes: Uint8Array,
): Buffer {
  const value = Buffer.allocUnsafe(headerBytes + bytes.length);
  writeHeader(value, kind, epoch, checksumOf(address, kind, epoch, bytes));
  value.set(bytes, headerBytes);
  return value;
}

/** The value for an entry whose `bytes` stand in parts elsewhere. */
export function encodeSplitHead(
  address: Address,
  epoch: number,
  bytes: Uint8Array,
  head: Omit<SplitHead, 'length'>,
): Buffer {
  const value = Buffer.allocUnsafe(headerBytes + 6 + partIdCharacters);
  writeHeader(value, 'split', epoch, checksumOf(address, 'data', epoch, bytes));
  value.writeUInt32BE(bytes.length, headerBytes);
  value.writeUInt16BE(head.parts, headerBytes + 4);
  value.latin1Write(head.id, headerBytes + 6, partIdCharacters);
  return value;
}

/**
 * Reads and checks a value; a split entry's checksum is checked by {@link checkStored} when its
 * parts are there.
 *
 * @throws {DaybookError} `LOG_DAMAGED`
 */
export function decodeStored(address: Address, value: Buffer): StoredEntry {
  try {
    const reader = new ByteReader(value, 'stored entry');
    if (reader.u8() !== version) reader.fail('unknown version');
    const kind = kinds[reader.u8()] ?? reader.fail('unknown kind');
    const epoch = reader.u64();
    const checksum = reader.u32();
    if (kind === 'split') {
      const split = {
        length: reader.length(limits.entryBytesMax),
        parts: reader.u16(),
        id: reader.rawBytestring(partIdCharacters),
      };
      reader.finish();
      const bytes = value.subarray(value.length);
      return { address, kind, epoch, bytes, size: split.length, checksum, split };
    }
    const bytes = value.subarray(headerBytes);
    const size = bytes.length;
    const stored: StoredEntry = { address, kind, epoch, bytes, size, checksum, split: undefined };
    checkStored(stored, bytes);
    return stored;
  } catch (error) {
    if (isDaybookError(error, 'MALFORMED')) throw damaged(address, error.message);
    throw error;
  }
}

/** @throws {DaybookError} `LOG_DAMAGED` when `bytes` are not those that were written. */
export function checkStored(stored: StoredEntry, bytes: Uint8Array): void {
  const kind = stored.kind === 'fill' ? 'fill' : 'data';
  if (checksumOf(stored.address, kind, stored.epoch, bytes) !== stored.checksum) {
    throw damaged(stored.address, 'checksum');
  }
}

/** The error for an entry that is not what was written. */
export function damaged(address: Address, why: string): DaybookError {
  return new DaybookError('LOG_DAMAGED', `the entry at ${address} is damaged: ${why}`, {
    details: { address },
  });
}

function writeHeader(
  value: Buffer,
  kind: StoredEntry['kind'],
  epoch: number,
  checksum: number,
): void {
  value[0] = version;
  value[1] = kinds.indexOf(kind);
  writeU64(value, epoch, 2);
  value.writeUInt32BE(checksum, 10);
}

const covered = Buffer.alloc(17);

function checksumOf(
  address: Address,
  kind: 'data' | 'fill',
  epoch: number,
  bytes: Uint8Array,
): number {
  writeU64(covered, address, 0);
  writeU64(covered, epoch, 8);
  covered[16] = kind === 'fill' ? 1 : 0;
  return crc32(bytes, crc32(covered));
}

function writeU64(target: Buffer, value: number, at: number): void {
  target.writeUInt32BE(Math.floor(value / 0x1_0000_0000), at);
  target.writeUInt32BE(value % 0x1_0000_0000, at + 4);
}
