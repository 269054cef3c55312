import { afterEach, beforeAll, expect, test } from 'vitest';
import { type Gateway, type ListedNode, startGateway } from '../gateway/index.ts';
import { FakeBackend, FakeLedger } from '../gateway/testing/fake-backend.ts';
import { testMsp } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import type { MspConfig } from '../model/index.ts';
import { discoverGateways } from './index.ts';

let msp: MspConfig;
let gateway: Gateway | undefined;

beforeAll(async () => {
  ({ msp } = await testMsp('BankMSP'));
});
afterEach(() => gateway?.close());

async function start(nodes: readonly ListedNode[]): Promise<string> {
  const backends = [new FakeBackend('pay', [msp], new FakeLedger())];
  gateway = await startGateway({ io: realIo(), nodeName: 'n', backends, nodes: () => nodes });
  return gateway.url;
}

const node = (name: string, draining: boolean): ListedNode => ({
  name,
  gateway: `http://${name}:1`,
  draining,
});

test('one gateway tells of all that take transactions', async () => {
  const url = await start([node('a', false), node('b', true), node('c', false)]);
  const gone = 'http://127.0.0.1:1';
  expect(await discoverGateways([gone, url])).toEqual(['http://a:1', 'http://c:1']);
  await expect(discoverGateways([gone])).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
});

test('all are told while all are draining', async () => {
  const url = await start([node('a', true)]);
  expect(await discoverGateways([url])).toEqual(['http://a:1']);
});
