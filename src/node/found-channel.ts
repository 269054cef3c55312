import { DaybookError } from '../base/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  asAddress,
  type ChannelConfig,
  decodeChannelConfig,
  decodeEntry,
  encodeChannelConfig,
  encodeEntry,
} from '../model/index.ts';

/**
 * Writes the founding configuration at address 0 of an empty log; on a log that is founded already
 * nothing is written.
 *
 * @returns the configuration that founded the channel.
 * @throws {DaybookError} `CONFIG_INVALID` when the log belongs to another channel.
 */
export async function foundChannel(
  log: SharedLog,
  config: ChannelConfig,
  writer: string,
  nowMs: number,
): Promise<ChannelConfig> {
  const first = asAddress(0);
  if ((await log.tail()) === 0) {
    const bytes = encodeEntry({
      kind: 'config',
      writer,
      timestampMs: nowMs,
      config: encodeChannelConfig(config),
      creator: new Uint8Array(),
      signature: new Uint8Array(),
    });
    await log.write({ epoch: await log.epoch(), address: first }, bytes);
    return config;
  }
  if ((await log.start()) > 0) return config;
  const { bytes } = await log.read(first);
  const entry = decodeEntry(bytes);
  const founded = entry.kind === 'config' ? decodeChannelConfig(entry.config) : undefined;
  if (founded?.channel !== config.channel) {
    throw new DaybookError('CONFIG_INVALID', 'this log belongs to another channel', {
      details: { channel: config.channel, founded: founded?.channel },
    });
  }
  return founded;
}
