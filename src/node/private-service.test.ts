import { connect } from 'node:tls';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { type Listener, type NetworkTls, realIo, rpcPeer, tlsNetwork } from '../io/index.ts';
import { asAddress } from '../model/index.ts';
import { DevelopmentCa } from './dev-ca.ts';
import { type NodeOrders, remoteOrders, servePrivately } from './private-service.ts';

const nowMs = Date.UTC(2024, 0, 1);
const io = realIo();
const plain = io.network;
const given: unknown[] = [];
const orders: NodeOrders = {
  handOver: async (successor) => {
    if (successor === 'nobody') throw new DaybookError('NOT_FOUND', 'no node nobody');
    given.push(['handOver', successor]);
  },
  drain: async (on) => {
    given.push(['drain', on]);
  },
  offerSnapshot: async () => asAddress(77),
  snapshotPiece: async (address, offset) => Buffer.from(`${address}+${offset}`),
  blocks: async (from) => Buffer.from(`from ${from}`),
  held: async () => 2 ** 40,
};
let own: NetworkTls;
let foreign: NetworkTls;
let listener: Listener | undefined;

beforeAll(async () => {
  own = await certificateOf('Org1MSP');
  foreign = await certificateOf('Org2MSP');
});
afterEach(async () => {
  await listener?.close();
  given.length = 0;
});

async function certificateOf(mspId: string): Promise<NetworkTls> {
  const ca = await DevelopmentCa.create(mspId, nowMs);
  const { certificate, privateKey } = await ca.issue('node', { role: 'peer' });
  return {
    ca: Buffer.from(ca.root.certificate),
    certificate: Buffer.from(certificate),
    key: Buffer.from(privateKey),
  };
}

async function serve(network: typeof plain): Promise<string> {
  listener = await network.listen('127.0.0.1:0', (connection) =>
    servePrivately(rpcPeer(connection), orders, undefined),
  );
  return listener.address;
}

test('orders arrive, and their errors come back', async () => {
  const node = remoteOrders(io, await serve(plain));
  await node.handOver(undefined);
  await node.handOver('two');
  await node.drain(true);
  await node.drain(false);
  expect(given).toEqual([
    ['handOver', undefined],
    ['handOver', 'two'],
    ['drain', true],
    ['drain', false],
  ]);
  expect(Buffer.from(await node.snapshotPiece(asAddress(7), 9)).toString()).toBe('7+9');
  expect(Buffer.from(await node.blocks(5)).toString()).toBe('from 5');
  expect(await node.held()).toBe(2 ** 40);
  expect(await node.offerSnapshot()).toBe(77);
  await expect(node.handOver('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
});

test('under TLS only those with a certificate of the same authority are heard', async () => {
  const refused: string[] = [];
  const address = await serve(tlsNetwork(own, (from, why) => refused.push(`${from}: ${why}`)));
  await remoteOrders({ ...io, network: tlsNetwork(own) }, address).drain(true);
  expect(given).toEqual([['drain', true]]);
  const strangers = [tlsNetwork(foreign), tlsNetwork({ ...foreign, ca: own.ca }), plain];
  for (const network of strangers) {
    await expect(remoteOrders({ ...io, network }, address).drain(false)).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    });
  }
  // One that shows no certificate at all.
  const [host, port] = address.split(':');
  await new Promise((resolve) => {
    connect({
      host,
      port: Number(port),
      ca: Buffer.from(own.ca),
      checkServerIdentity: () => undefined,
    })
      .on('error', () => undefined)
      .on('close', resolve);
  });
  expect(given).toHaveLength(1);
  // Of the first stranger, who does not trust the server either, it may hear less.
  await expect
    .poll(() => refused)
    .toEqual(
      expect.arrayContaining([
        expect.stringMatching(/127.0.0.1: its certificate leads to no root .*--private-ca/),
        '127.0.0.1: it does not speak TLS there',
        '127.0.0.1: it shows no certificate',
      ]),
    );
});

test('a server that is not trusted here is told with the option that names the roots', async () => {
  const address = await serve(tlsNetwork(foreign));
  await expect(tlsNetwork(own).connect(address)).rejects.toMatchObject({
    code: 'PEER_UNREACHABLE',
    message: expect.stringMatching(/leads to no root that is trusted here \(--private-ca/),
  });
});
