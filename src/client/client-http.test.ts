import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Gateway, startGateway } from '../gateway/index.ts';
import { FakeBackend, FakeLedger } from '../gateway/testing/fake-backend.ts';
import { testMsp } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import type { Signer } from '../model/index.ts';
import { type Client, connect, DaybookError } from './index.ts';

const io = realIo();
const ledger = new FakeLedger();
let backends: FakeBackend[];
let gateways: Gateway[];
let signer: Signer;
let client: Client;

beforeAll(async () => {
  const { msp, signer: member } = await testMsp('BankMSP');
  signer = member;
  backends = [new FakeBackend('pay', [msp], ledger), new FakeBackend('pay', [msp], ledger)];
  gateways = await Promise.all(
    backends.map((backend, at) => startGateway({ io, nodeName: `n${at}`, backends: [backend] })),
  );
  client = await connect({ gateways: gateways.map(({ url }) => url), channel: 'pay', signer });
});

afterAll(async () => {
  await client.close();
  await Promise.all(gateways.map((gateway) => gateway.close()));
});

test('submits, evaluates, looks up and waits', async () => {
  const done = await client.submit('list', 'add', ['é']);
  expect(done.text()).toBe('1');
  expect(done.txId).toMatch(/^[0-9a-f]{64}$/);
  const status = await client.status(done.txId);
  expect(status).toMatchObject({ position: done.position, verdict: 'valid', valid: true });
  expect(status?.record).toMatchObject({ contract: 'list', function: 'add', args: ['é'] });
  await client.waitFor(done.position);
  expect((await client.evaluate('list', 'echo', ['ü'])).text()).toBe('ü');
  expect((await client.evaluate('list', 'length')).json()).toBe(1);
});

test('rejects with the contract’s error and the transaction id', async () => {
  const error = await client.submit('list', 'refuse').catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'CONTRACT_REJECTED', message: 'refused' });
  expect((error as { details: { txId: string } }).details.txId).toMatch(/^[0-9a-f]{64}$/);
});

test('what a program without types may get wrong is named, and spoils nothing for others', async () => {
  const options = { gateways: gateways.map(({ url }) => url), channel: 'pay', signer };
  const wrong = { code: 'INVALID_ARGUMENT' };
  await expect(connect({ ...options, gateways: ['127.0.0.1:4270'] })).rejects.toMatchObject(wrong);
  await expect(connect({ ...options, gateways: ['host:4270'] })).rejects.toMatchObject(wrong);
  await expect(connect({ ...options, signing: 'all' as 'batch' })).rejects.toMatchObject(wrong);
  const good = client.submit('beside', 'add', ['x']);
  const number = 5 as unknown as string;
  await expect(client.submit('list', 'add', ['x', number])).rejects.toMatchObject({
    ...wrong,
    message: 'argument 1 is neither a string nor bytes: number',
  });
  await expect(client.submit(undefined as unknown as string, 'add')).rejects.toMatchObject(wrong);
  expect((await good).text()).toBe('1');
  const refused = await client.submit('list', 'refuse').catch((reason: unknown) => reason);
  expect(refused).toBeInstanceOf(DaybookError);
});

test('many calls travel in batches, each is done once', async () => {
  backends.forEach((backend) => {
    backend.batches.length = 0;
  });
  const calls = Array.from({ length: 2_000 }, (_, at) => client.submit('many', 'add', [`${at}`]));
  const results = await Promise.all(calls);
  expect(new Set(results.map((result) => result.position)).size).toBe(2_000);
  expect(ledger.lists.get('many')?.length).toBe(2_000);
  const batches = backends.flatMap((backend) => backend.batches);
  expect(batches.length).toBeLessThan(60);
  // Both gateways carry their share.
  expect(backends.every((backend) => backend.batches.length > 4)).toBe(true);
});

test('events come once and in order, also from the past', async () => {
  const first = await client.submit('news', 'event', ['a']);
  await client.submit('news', 'add', ['x']);
  const seen: string[] = [];
  const reading = (async () => {
    for await (const event of client.events({ from: first.position, contract: 'news' })) {
      seen.push(event.payload.toString());
      if (seen.length === 3) break;
    }
  })();
  await client.submit('news', 'event', ['b'], { orderingKey: 'k' });
  await client.submit('news', 'event', ['c'], { orderingKey: 'k' });
  await reading;
  expect(seen).toEqual(['a', 'b', 'c']);
});
