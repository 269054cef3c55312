import { crc32 } from 'node:zlib';
import { ByteReader, ByteWriter, DaybookError } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';

/** The little that is not in the segments. */
export interface LogMeta {
  /** The epoch sealed last. */
  readonly epoch: number;
  /** The first address that is not trimmed. */
  readonly start: Address;
}

const metaVersion = 1;

/** With a checksum at the end. */
export function encodeMeta(meta: LogMeta): Buffer {
  const writer = new ByteWriter(32).u8(metaVersion).u64(meta.epoch).u64(meta.start);
  return writer.u32(crc32(writer.view())).finish();
}

/** @throws {DaybookError} `LOG_DAMAGED` */
export function decodeMeta(bytes: Buffer): LogMeta {
  const end = bytes.length - 4;
  if (end < 0 || crc32(bytes.subarray(0, end)) !== bytes.readUInt32BE(end)) {
    throw new DaybookError('LOG_DAMAGED', 'the log’s meta file fails its checksum', {
      details: { file: 'meta' },
    });
  }
  const reader = new ByteReader(bytes, 'log meta', 0, end);
  const version = reader.u8();
  if (version !== metaVersion) reader.fail(`version ${version}`);
  return { epoch: reader.u64(), start: reader.u64() as Address };
}
