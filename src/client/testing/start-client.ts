import { realIo } from '../../io/index.ts';
import type { Signer } from '../../model/index.ts';
import { type Client, connect } from '../index.ts';
import type { ConnectOptions } from '../options.ts';
import type { Transport } from '../transport.ts';
import type { VirtualIo } from './virtual-io.ts';

// No signature is checked here, so none is made.
const signer: Signer = {
  identity: { mspId: 'M', certificate: 'c' },
  sign: () => Buffer.alloc(70, 1),
};

/** The gateways of {@link startClient}. */
export const testGateways: readonly string[] = ['http://a:1', 'http://b:1', 'http://c:1'];

/** A client over a transport that a test made, in the time of `io`. */
export function startClient(
  io: VirtualIo,
  transport: Transport,
  options: Partial<ConnectOptions> = {},
): Promise<Client> {
  const { clock, timers, random } = io;
  return connect({
    gateways: testGateways,
    channel: 'pay',
    signer,
    transport,
    io: { clock, timers, random, disk: realIo().disk },
    ...options,
  });
}
