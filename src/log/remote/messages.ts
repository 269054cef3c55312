import { ByteReader, ByteWriter, limits } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';

/** The shared log's methods on a connection that it may share with others. */
export const methods = {
  tail: 1,
  write: 2,
  read: 3,
  fill: 4,
  trim: 5,
  seal: 6,
  epoch: 7,
  start: 8,
  follow: 9,
} as const;

/** Its push channels. */
export const channels = {
  /** Log to follower: u32 stream, u8 part kind, entries or the JSON of an error. */
  entries: 1,
  /** Follower to log: u32 stream, u32 bytes consumed; 0 stops the stream. */
  consumed: 2,
} as const;

/** What a part of a followed stream holds. */
export const partKinds = { entries: 0, error: 1 } as const;

/** Bytes that a stream may have under way to its follower. */
export const streamWindowBytes: number = 4 * limits.logRunBytesMax;

const entryKinds = ['data', 'fill'] as const;
const entryHeaderBytes = 21;

/** Bytes that an entry counts for in flow control. */
export function entryCost(entry: LogEntry): number {
  return entryHeaderBytes + entry.bytes.length;
}

/** One u64, the whole argument or answer of most methods. */
export function numberBytes(value: number): Buffer {
  return new ByteWriter(8).u64(value).view();
}

/** Decodes a message that is one number. */
export function readNumber(payload: Buffer): number {
  const reader = new ByteReader(payload, 'log message');
  const value = reader.u64();
  reader.finish();
  return value;
}

/** Entries as parts of a message: per entry u64 address, u8 kind, u64 epoch, u32 length, bytes. */
export function entryParts(entries: readonly LogEntry[]): Uint8Array[] {
  const headers = new ByteWriter(entries.length * entryHeaderBytes);
  for (const { address, kind, epoch, bytes } of entries) {
    headers.u64(address).u8(entryKinds.indexOf(kind)).u64(epoch).u32(bytes.length);
  }
  const header = headers.view();
  return entries.flatMap(({ bytes }, index) => [
    header.subarray(index * entryHeaderBytes, (index + 1) * entryHeaderBytes),
    bytes,
  ]);
}

/** The entries' bytes are views of the message. */
export function readEntries(reader: ByteReader): LogEntry[] {
  const entries: LogEntry[] = [];
  while (reader.remaining > 0) {
    const address = reader.u64() as Address;
    const kind = entryKinds[reader.u8()] ?? reader.fail('kind of an entry');
    const epoch = reader.u64();
    entries.push({ address, kind, epoch, bytes: reader.bytes(limits.entryBytesMax) });
  }
  return entries;
}
