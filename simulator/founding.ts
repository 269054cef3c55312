import type { Io } from '../src/io/index.ts';
import { type ChannelConfig, encodeChannelConfig, encodeEntry } from '../src/model/index.ts';

/** The entry that founds a channel. */
export function foundingEntry(config: ChannelConfig, { clock }: Pick<Io, 'clock'>): Buffer {
  return encodeEntry({
    kind: 'config',
    writer: 'network',
    timestampMs: clock.nowMs(),
    config: encodeChannelConfig(config),
    creator: new Uint8Array(),
    signature: new Uint8Array(),
  });
}
