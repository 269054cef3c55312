import { beforeAll, beforeEach, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { type MspConfig, type Signer, signReadToken } from '../model/index.ts';
import {
  compactMediaType,
  type FollowerIntroduction,
  type FollowerService,
  generateFollowerKey,
  httpFeed,
} from '../replication/index.ts';
import { memoryFollowers, TestLedger } from '../replication/testing/test-ledger.ts';
import { type Gateway, startGateway } from './index.ts';
import { FakeBackend } from './testing/fake-backend.ts';
import { testMsp } from './testing/identities.ts';

const io = realIo();
const introduction: FollowerIntroduction = {
  follower: 'shop',
  run: 'r1',
  subscription: [{ contract: 'catalog' }],
  applied: undefined,
  keys: [],
  changesMax: 100,
  filling: false,
  parked: 0,
};

let msp: MspConfig;
let signer: Signer;
let ledger: TestLedger;
let service: FollowerService;
let gateway: Gateway;

beforeAll(async () => {
  ({ msp, signer } = await testMsp('Shop'));
});

beforeEach(async () => {
  ledger = new TestLedger();
  service = await memoryFollowers(ledger);
  const backend = Object.assign(new FakeBackend('main', [msp]), { followers: service });
  gateway = await startGateway({ io, nodeName: 'n', backends: [backend], openReads: true });
  return async () => {
    await service.close();
    await gateway.close();
  };
});

const feedOf = (who?: Signer) =>
  httpFeed({
    io,
    // A dead node comes first.
    gateways: ['http://127.0.0.1:1', gateway.url],
    channel: 'main',
    ...(who === undefined ? {} : { signer: who }),
  });

const url = (path: string): string => `${gateway.url}/v1/channels/main/followers${path}`;
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url(path), {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  });

test('scans, pulls and confirms over HTTP, in the clear and encrypted', async () => {
  ledger.append([{ a: '1', b: 'é\n' }]);
  const { privateKey } = await generateFollowerKey();
  const feed = feedOf();
  await expect(feed.scan(introduction, undefined, undefined)).rejects.toMatchObject({
    code: 'PEER_UNREACHABLE',
  });
  for (const keys of [[], [privateKey]]) {
    const with_ = { ...introduction, keys };
    const { page, resume } = await feed.scan(with_, undefined, undefined);
    expect(resume).toBeUndefined();
    expect(page.changes.map(({ key, content }) => [key, content])).toEqual([
      ['a', '1'],
      ['b', 'é\n'],
    ]);
    const waiting = feed.pull(with_, page.cursor, page.from, 5_000);
    ledger.append([{ a: '2' }, { b: undefined }]);
    const next = await waiting;
    expect(next.changes.map(({ key, content }) => [key, content])).toEqual([
      ['a', '2'],
      ['b', undefined],
    ]);
    expect(await feed.applied({ ...with_, applied: next.next })).toBe(next.next);
    ledger.append([{ a: '1', b: 'é\n' }]);
  }
  expect(await feed.status()).toMatchObject({
    followers: [{ name: 'shop', encrypted: true, inStep: false, lagChanges: 2 }],
  });
  await feed.close();
});

test('a follower belongs to whom names it first', async () => {
  const owner = { authorization: `Daybook ${signReadToken(signer, 'main', io.clock.nowMs())}` };
  const body = { run: 'r', subscription: introduction.subscription, applied: 7 };
  expect((await post('/shop/applied', body, owner)).status).toBe(200);
  const stranger = await post('/shop/applied', { ...body, applied: 9 });
  expect(stranger.status).toBe(403);
  expect((await fetch(url('/shop'), { method: 'DELETE' })).status).toBe(403);
  expect((await fetch(url('/shop'), { method: 'DELETE', headers: owner })).status).toBe(200);
  expect((await service.status()).followers).toEqual([]);
});

test('a follower is forgotten wherever that can be said, and one that nobody knows is not there', async () => {
  const whole = feedOf();
  const alive = httpFeed({ io, gateways: [gateway.url], channel: 'main' });
  const report = async (): Promise<void> => {
    const body = { run: 'r1', subscription: introduction.subscription };
    expect((await post('/shop/applied', body)).status).toBe(200);
  };
  await report();
  await expect(whole.forget('shop')).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  expect((await alive.status()).followers).toEqual([]);
  await report();
  await alive.forget('shop');
  await expect(alive.forget('shop')).rejects.toMatchObject({
    code: 'NOT_FOUND',
    details: { follower: 'shop' },
  });
  await whole.close();
  await alive.close();
});

test('answers in the form that is asked for', async () => {
  ledger.append([{ a: '1' }]);
  const body = { run: 'r', subscription: introduction.subscription };
  for (const door of ['pull', 'scan']) {
    const compact = await post(`/x/${door}`, body, { accept: `${compactMediaType}, */*` });
    expect(compact.headers.get('content-type')).toContain(compactMediaType);
    const lines = (await compact.text()).split('\n');
    expect(lines.slice(-2)).toEqual([expect.stringMatching(/^\[\{.*"keys":\["a"\]/), '1']);
    const plain = await post(`/x/${door}`, { ...body, format: 'compact' });
    expect(plain.headers.get('content-type')).toContain('application/x-ndjson');
    expect(await plain.text()).toContain('"key":"a","content":"1"}\n');
  }
});

test('answers XML, and errors with a code', async () => {
  ledger.append([{ a: '<1>' }]);
  const { subscription } = introduction;
  const xml = await post('/x/pull', { run: 'r', subscription }, { accept: 'application/xml' });
  expect(xml.headers.get('content-type')).toContain('application/xml');
  expect(await xml.text()).toContain('<content>&lt;1&gt;</content>');
  const bad: [string, unknown, string][] = [
    ['/x/pull', {}, 'INVALID_ARGUMENT'],
    ['/x/pull', { run: 'r' }, 'MALFORMED'],
    ['/x/pull', { run: 'r', subscription, changesMax: 0 }, 'INVALID_ARGUMENT'],
    ['/x/pull', { run: 'r', subscription, cursor: 'x.y' }, 'CURSOR_INVALID'],
    ['/x/pull', { run: 'r', subscription, key: { kty: 'no' } }, 'INVALID_ARGUMENT'],
    ['/x/scan', { run: 'r', subscription, resume: 'x' }, 'MALFORMED'],
    ['/%2F/pull', { run: 'r', subscription }, 'INVALID_ARGUMENT'],
    ['/x/applied', { run: 'r', subscription, applied: -1 }, 'INVALID_ARGUMENT'],
  ];
  for (const [path, body, code] of bad) {
    const answer = await post(path, body);
    expect([path, ((await answer.json()) as { code: string }).code]).toEqual([path, code]);
  }
});

test('a waiting follower does not hold a node that closes', async () => {
  const feed = httpFeed({ io, gateways: [gateway.url], channel: 'main' });
  const { page } = await feed.scan(introduction, undefined, undefined);
  const waiting = feed.pull(introduction, page.cursor, page.from, 20_000);
  await new Promise((resolve) => setTimeout(resolve, 50));
  await service.close();
  expect((await waiting).changes).toEqual([]);
  await feed.close();
});
