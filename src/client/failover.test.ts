import { afterEach, beforeAll, expect, test } from 'vitest';
import { type Gateway, startGateway } from '../gateway/index.ts';
import { FakeBackend, FakeLedger } from '../gateway/testing/fake-backend.ts';
import { testMsp } from '../gateway/testing/identities.ts';
import { realIo } from '../io/index.ts';
import type { MspConfig, Signer } from '../model/index.ts';
import { type Client, connect } from './index.ts';

const io = realIo();
let msp: MspConfig;
let signer: Signer;
const open: { close(): Promise<void> }[] = [];

beforeAll(async () => {
  ({ msp, signer } = await testMsp('BankMSP'));
});

afterEach(async () => {
  await Promise.all(open.splice(0).map((each) => each.close()));
});

async function start(ledger: FakeLedger, port = 0): Promise<Gateway> {
  const backend = new FakeBackend('pay', [msp], ledger);
  const gateway = await startGateway({ io, nodeName: 'n', backends: [backend], port });
  open.push(gateway);
  return gateway;
}

async function client(...gateways: Gateway[]): Promise<Client> {
  const made = await connect({
    gateways: gateways.map((gateway) => gateway.url),
    channel: 'pay',
    signer,
    attemptMs: 2_000,
  });
  open.push({ close: () => made.close({ now: true }) });
  return made;
}

test('calls go on at another gateway when one is closed, and each is done once', async () => {
  const ledger = new FakeLedger();
  const [a, b] = [await start(ledger), await start(ledger)];
  const sdk = await client(a, b);
  const calls: Promise<unknown>[] = [];
  for (let at = 0; at < 600; at++) {
    calls.push(sdk.submit('list', 'add', [`${at}`], { orderingKey: `k${at % 7}` }));
    if (at === 200) void a.close(0);
    if (at % 20 === 0) await new Promise((go) => setTimeout(go, 2));
  }
  await Promise.all(calls);
  const list = ledger.lists.get('list') ?? [];
  expect(new Set(list).size).toBe(600);
  expect(list.length).toBe(600);
  for (let key = 0; key < 7; key++) {
    const mine = list.map(Number).filter((value) => value % 7 === key);
    expect(mine).toEqual([...mine].sort((x, y) => x - y));
  }
});

test('a gateway that comes back is found again', async () => {
  const ledger = new FakeLedger();
  const first = await start(ledger);
  const sdk = await client(first);
  await sdk.submit('list', 'add', ['1']);
  await first.close(0);
  const waiting = sdk.submit('list', 'add', ['2']);
  await new Promise((go) => setTimeout(go, 200));
  await start(ledger, first.port);
  expect((await waiting).text()).toBe('2');
});

test('events go on where they were, each once, over a restart of the gateway', async () => {
  const ledger = new FakeLedger();
  const first = await start(ledger);
  const writerGateway = await start(ledger);
  const reader = await client(first);
  const writer = await client(writerGateway);
  const { position } = await writer.submit('news', 'event', ['0']);
  const seen: number[] = [];
  const reading = (async () => {
    for await (const { payload } of reader.events({ from: position, event: 'added' })) {
      seen.push(Number(payload.toString()));
      if (seen.length === 20) break;
    }
  })();
  for (let at = 1; at < 20; at++) {
    await writer.submit('news', 'event', [`${at}`]);
    if (at === 10) {
      await first.close(0);
      await start(ledger, first.port);
    }
  }
  await reading;
  expect(seen).toEqual(Array.from({ length: 20 }, (_, at) => at));
});

test('an event iteration ends when its signal or its client does', async () => {
  const gateway = await start(new FakeLedger());
  const sdk = await client(gateway);
  const abort = new AbortController();
  const drain = async (signal?: AbortSignal): Promise<string> => {
    for await (const _ of sdk.events(signal === undefined ? {} : { signal })) return 'event';
    return 'ended';
  };
  const first = drain(abort.signal);
  const second = drain();
  setTimeout(() => abort.abort(), 50);
  expect(await first).toBe('ended');
  setTimeout(() => void sdk.close(), 10);
  expect(await second).toBe('ended');
});

test('what one gateway committed is seen through another', async () => {
  const near = new FakeLedger();
  const sdk = await client(await start(near));
  await sdk.submit('list', 'add', ['x']);
  // A node that has applied nothing yet is made to wait.
  const late = await start(new FakeLedger());
  const both = await client(late);
  await expect(both.waitFor(5, 50)).rejects.toMatchObject({ code: 'TIMEOUT' });
});
