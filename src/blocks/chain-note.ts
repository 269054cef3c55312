import { crc32 } from 'node:zlib';
import { asBuffer, ByteReader, ByteWriter, limits } from '../base/index.ts';
import { type Address, addressOf, asAddress, asPosition } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { decodeApplied, encodeApplied } from './applied-frames.ts';
import { type BlockBuilder, type ChainPoint, chainStart } from './builder.ts';
import { BulkSwitch } from './bulk-switch.ts';

/** What a checkpoint says beside the state tree: where a generator goes on. */
export interface ChainNote {
  readonly point: ChainPoint;
  /** The first entry to hand in. */
  readonly next: Address;
  /** The entries before it with records that are in no block, in order. */
  readonly unmade: readonly AppliedEntry[];
}

/** A note as it is taken up, with the bulk updates that wait for their switch. */
export interface NotedChain extends ChainNote {
  readonly bulk: BulkSwitch;
}

/**
 * Versions: 1 had no bulk updates, since none were pending; until 2 the entries came again; until 3 there was
 * no checksum at its end.
 */
const noteVersion = 4;
const sumBytes = 4;

/** A note as bytes. @param builder - whose bulk updates wait for their switch; without it none do. */
export function encodeNote(
  { point, next, unmade }: ChainNote,
  builder?: Pick<BlockBuilder, 'encodePending'>,
): Buffer {
  const writer = new ByteWriter(4096);
  writer.u8(noteVersion).u64(point.height).u64(point.position).bytes(point.hash);
  writer.bytes(point.commitHash).u64(point.historySize).u16(point.historyEdge.length);
  for (const hash of point.historyEdge) writer.bytes(hash);
  writer.u64(point.lastConfig).text(point.configJson);
  if (builder === undefined) new BulkSwitch().encode(writer);
  else builder.encodePending(writer);
  writer.u64(next).raw(encodeApplied(unmade));
  return writer.u32(crc32(writer.view())).finish();
}

/** Reads {@link encodeNote}'s bytes; entries are views of them. @throws {DaybookError} `MALFORMED` */
export function decodeNote(bytes: Uint8Array): NotedChain {
  const isSummed = (bytes[0] ?? 0) > 3;
  const end = isSummed ? bytes.length - sumBytes : bytes.length;
  const reader = new ByteReader(bytes, 'chain note', 0, end);
  const version = reader.u8();
  if (version < 1 || version > noteVersion) reader.fail('unknown version');
  // A wrong commit hash, or a wrong entry of the open block, would be a wrong block.
  if (isSummed && crc32(bytes.subarray(0, end)) !== asBuffer(bytes).readUInt32BE(end)) {
    reader.fail('it is not what was written');
  }
  const height = reader.u64();
  const position = asPosition(reader.u64());
  const hash = Buffer.from(reader.bytes(32));
  const commitHash = Buffer.from(reader.bytes(32));
  const historySize = reader.u64();
  const historyEdge: Buffer[] = [];
  for (let count = reader.u16(); count > 0; count--)
    historyEdge.push(Buffer.from(reader.bytes(32)));
  const lastConfig = reader.u64();
  const configJson = reader.text(limits.entryBytesMax);
  const bulk = version === 1 ? new BulkSwitch() : BulkSwitch.decode(reader);
  const chain = { height, position, hash, commitHash, historySize, historyEdge };
  const point = { ...chain, lastConfig, configJson };
  if (version < 3) {
    reader.finish();
    return { point, bulk, next: addressOf(position), unmade: [] };
  }
  const next = asAddress(reader.u64());
  return { point, bulk, next, unmade: decodeApplied(reader.raw(reader.remaining)) };
}

/** Of a chain that has no block yet. */
export function newChain(): NotedChain {
  return { point: chainStart, bulk: new BulkSwitch(), next: asAddress(0), unmade: [] };
}
