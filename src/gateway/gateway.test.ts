import { connect as connectTcp, type Socket } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { DaybookError, type ErrorJson, errorCatalog, limits } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import {
  type BatchCall,
  type BatchPurpose,
  batchMediaType,
  type Outcome,
  OutcomeReader,
  type Signer,
  signBatch,
  signReadToken,
  transactionIdOf,
} from '../model/index.ts';
import { type Gateway, startGateway } from './index.ts';
import { FakeBackend } from './testing/fake-backend.ts';
import { testMsp } from './testing/identities.ts';

const io = realIo();
let backend: FakeBackend;
let gateway: Gateway;
let closed: Gateway;
let signer: Signer;
let other: Signer;
let stranger: Signer;
const internal: DaybookError[] = [];

beforeAll(async () => {
  const bank = await testMsp('BankMSP');
  const shop = await testMsp('ShopMSP');
  stranger = (await testMsp('StrangerMSP')).signer;
  signer = bank.signer;
  other = shop.signer;
  backend = new FakeBackend('pay', [bank.msp, shop.msp]);
  const onInternalError = (error: DaybookError): void => {
    internal.push(error);
  };
  const options = { io, nodeName: 'n1', backends: [backend], onInternalError };
  gateway = await startGateway({ ...options, connectionsMax: 50, batchesInFlightMax: 3 });
  closed = await startGateway({ ...options, openReads: false });
});

afterAll(async () => {
  await gateway.close();
  await closed.close();
});

beforeEach(() => {
  backend.failure = undefined;
  internal.length = 0;
});

let nonce = 0;
function call(functionName: string, args: string[] = [], contract = 'list'): BatchCall {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32BE(nonce++);
  return {
    transaction: {
      channel: 'pay',
      contract,
      contractVersion: '',
      functionName,
      args: args.map((arg) => Buffer.from(arg)),
      nonce: bytes,
      timestampMs: Date.now(),
    },
  };
}

interface SignOptions {
  readonly by?: Signer;
  readonly purpose?: BatchPurpose;
}

function signed(calls: BatchCall[], { by = signer, purpose }: SignOptions = {}): Buffer {
  return signBatch(by, 'pay', Buffer.alloc(16, nonce), calls, purpose).bytes;
}

function post(
  door: string,
  body: Buffer | string,
  headers: Record<string, string> = {},
): Promise<Response> {
  const type = typeof body === 'string' ? 'application/json' : batchMediaType;
  return fetch(`${gateway.url}/v1/channels/${door}`, {
    method: 'POST',
    body,
    headers: { 'content-type': type, ...headers },
  });
}

async function outcomes(response: Response, count: number): Promise<Outcome[]> {
  expect(response.status).toBe(200);
  const got: Outcome[] = [];
  const reader = new OutcomeReader(count, (index, outcome) => {
    got[index] = outcome;
  });
  reader.push(Buffer.from(await response.arrayBuffer()));
  expect(reader.complete).toBe(true);
  return got;
}

async function refusal(response: Response): Promise<ErrorJson> {
  const json = (await response.json()) as ErrorJson;
  expect(Object.keys(errorCatalog)).toContain(json.code);
  expect(response.status).toBe(errorCatalog[json.code as keyof typeof errorCatalog].status);
  return json;
}

test('a batch is answered with an outcome for each transaction', async () => {
  const calls = [call('add', ['a']), call('refuse'), call('add', ['b'])];
  const got = await outcomes(await post('pay/batches', signed(calls)), 3);
  expect(got.map((outcome) => outcome.status)).toEqual(['committed', 'rejected', 'committed']);
  expect(got[1]).toMatchObject({ error: { code: 'CONTRACT_REJECTED', retry: 'never' } });
});

test('the same bytes again get the original outcomes', async () => {
  const bytes = signed([call('add', ['once'])]);
  const first = await outcomes(await post('pay/batches', bytes), 1);
  expect(await outcomes(await post('pay/batches', bytes), 1)).toEqual(first);
});

test('outcomes leave as they settle', async () => {
  const response = await post('pay/batches', signed([call('later', ['a']), call('add', ['b'])]));
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const seen: number[] = [];
  const parser = new OutcomeReader(2, (index) => seen.push(index));
  parser.push(Buffer.from((await reader.read()).value as Uint8Array));
  expect(seen).toEqual([1]);
  for (const release of backend.ledger.held.splice(0)) release();
  parser.push(Buffer.from((await reader.read()).value as Uint8Array));
  expect(seen).toEqual([1, 0]);
  expect((await reader.read()).done).toBe(true);
});

test('JSON is the same thing', async () => {
  const { transaction } = call('add', ['j']);
  const { bytes } = signBatch(signer, 'pay', Buffer.alloc(16, 9), [{ transaction }]);
  const body = {
    batchId: Buffer.alloc(16, 9).toString('hex'),
    creator: signer.identity,
    items: [
      {
        contract: 'list',
        function: 'add',
        args: ['j'],
        nonce: Buffer.from(transaction.nonce).toString('hex'),
        timestampMs: transaction.timestampMs,
      },
    ],
  };
  const signature = signatureOf(bytes).toString('base64');
  const response = await post('pay/batches', JSON.stringify({ ...body, signature }));
  expect(response.status).toBe(200);
  expect(await response.json()).toMatchObject({
    outcomes: [
      { index: 0, txId: transactionIdOf(transaction, signer.identity), status: 'committed' },
    ],
  });
  const forged = { ...body, signature, items: [{ ...body.items[0], args: ['forged'] }] };
  const refused = await refusal(await post('pay/batches', JSON.stringify(forged)));
  expect(refused.code).toBe('SIGNATURE_INVALID');
});

function signatureOf(batch: Buffer): Buffer {
  // DER: SEQUENCE of 68 to 72 bytes, after its own length.
  for (let length = 66; length <= 74; length++) {
    const at = batch.length - length;
    if (batch[at] === 0x30 && batch[at + 1] === length - 2 && batch.readUInt32BE(at - 4) === length)
      return batch.subarray(at);
  }
  throw new Error('no signature');
}

test('signed for evaluation: evaluated, never submitted; and the other way round', async () => {
  const query = signed([call('echo', ['ü'])], { purpose: 'evaluate' });
  const [outcome] = await outcomes(await post('pay/evaluate', query), 1);
  expect(outcome).toMatchObject({ result: Buffer.from('ü').latin1Slice() });
  expect((await refusal(await post('pay/batches', query))).code).toBe('SIGNATURE_INVALID');
  const batch = signed([call('add')]);
  expect((await refusal(await post('pay/evaluate', batch))).code).toBe('SIGNATURE_INVALID');
  const prepare = signed([call('add')], { purpose: 'prepare' });
  expect((await refusal(await post('pay/batches', prepare))).code).toBe('SIGNATURE_INVALID');
  expect((await refusal(await post('pay/prepare', batch))).code).toBe('SIGNATURE_INVALID');
});

test('an evaluation signed long ago is expired', async () => {
  const { transaction } = call('echo');
  const old = { transaction: { ...transaction, timestampMs: Date.now() - 120_000 } };
  const query = signed([old], { purpose: 'evaluate' });
  expect((await refusal(await post('pay/evaluate', query))).code).toBe('TRANSACTION_EXPIRED');
  // The log knows no better than the node's clock: another node may.
  const { logTimeMs } = backend;
  backend.logTimeMs = () => old.transaction.timestampMs;
  expect(await refusal(await post('pay/evaluate', query))).toMatchObject({
    code: 'CLOCKS_APART',
    retry: 'same',
    details: { timestampMs: old.transaction.timestampMs, transactionLifetimeMs: 60_000 },
  });
  backend.logTimeMs = logTimeMs;
});

test('every wrong batch has its typed refusal, and nothing is done', async () => {
  const before = backend.batches.length;
  const good = signed([call('add')]);
  const broken = Buffer.from(good);
  broken[broken.length - 20] = (broken[broken.length - 20] as number) ^ 1;
  const cases: [string, Buffer | string, string, Record<string, string>?][] = [
    ['pay/batches', broken, 'SIGNATURE_INVALID'],
    ['pay/batches', signed([call('add')], { by: stranger }), 'IDENTITY_UNKNOWN'],
    ['pay/batches', signed([call('deploy', [], '_lifecycle')], { by: other }), 'ACCESS_DENIED'],
    ['pay/batches', good.subarray(0, 100), 'MALFORMED'],
    ['pay/batches', Buffer.alloc(0), 'MALFORMED'],
    ['pay/batches', Buffer.alloc(limits.batchBytesMax + 1), 'LIMIT_EXCEEDED'],
    ['pay/batches', '{"batchId":', 'MALFORMED'],
    ['pay/batches', '{"batchId":"00"}', 'MALFORMED'],
    ['pay/batches', good, 'INVALID_ARGUMENT', { 'daybook-deadline-ms': 'soon' }],
    ['pay/batches', good, 'INVALID_ARGUMENT', { 'daybook-deadline-ms': '600000' }],
    ['pay/batches', good, 'INVALID_ARGUMENT', { 'daybook-after': '-1' }],
    ['pay/batches', good, 'INVALID_ARGUMENT', { 'content-type': 'text/html' }],
    ['lost/batches', good, 'CHANNEL_UNKNOWN'],
    ['pay/nothing', good, 'NOT_FOUND'],
  ];
  for (const [door, body, code, headers] of cases) {
    expect([code, (await refusal(await post(door, body, headers))).code]).toEqual([code, code]);
  }
  expect(backend.batches.length).toBe(before);
  expect(internal).toEqual([]);
});

test('a request without a body, or with plain text, is malformed', async () => {
  for (const door of ['batches', 'evaluate', 'prepare', 'prepared/00']) {
    const url = `${gateway.url}/v1/channels/pay/${door}`;
    for (const body of [undefined, 'text']) {
      const response = await fetch(url, {
        method: 'POST',
        ...(body === undefined ? {} : { body }),
      });
      expect([door, body, (await refusal(response)).code]).toEqual([door, body, 'MALFORMED']);
    }
  }
  expect(internal).toEqual([]);
});

test('a gateway that is behind catches up first, or says that it did not', async () => {
  const next = backend.nextAddress();
  const after = { 'daybook-after': String((next as number) * limits.recordsPerEntryMax) };
  const late = post('pay/batches', signed([call('add')]), after);
  setTimeout(() => backend.ledger.tick(), 50);
  expect((await outcomes(await late, 1))[0]?.status).toBe('committed');
  const far = { 'daybook-after': '99999999999', 'daybook-deadline-ms': '30' };
  expect((await refusal(await post('pay/batches', signed([call('add')]), far))).code).toBe(
    'TIMEOUT',
  );
});

test('refusals of the executor pass through; bugs do not show their inside', async () => {
  backend.failure = new DaybookError('OVERLOADED', 'full', {
    details: { limit: 'executorTransactionsMax' },
  });
  const busy = await post('pay/batches', signed([call('add')]));
  expect(busy.headers.get('retry-after')).toBe('1');
  expect((await refusal(busy)).details).toMatchObject({ limit: 'executorTransactionsMax' });
  backend.failure = new TypeError('secret of the inside') as unknown as DaybookError;
  const bug = await refusal(await post('pay/batches', signed([call('add')])));
  expect(bug).toMatchObject({ code: 'INTERNAL', message: 'internal error' });
  expect(internal[0]?.message).toContain('secret');
});

test('too many batches under way', async () => {
  const pending = [1, 2, 3].map(() => post('pay/batches', signed([call('later')])));
  while (backend.ledger.held.length < 3) await new Promise((go) => setTimeout(go, 5));
  const fourth = await refusal(await post('pay/batches', signed([call('add')])));
  expect(fourth).toMatchObject({
    code: 'OVERLOADED',
    details: { limit: 'gatewayBatchesInFlightMax' },
  });
  for (const release of backend.ledger.held.splice(0)) release();
  for (const response of await Promise.all(pending)) await outcomes(response, 1);
  await outcomes(await post('pay/batches', signed([call('add')])), 1);
});

test('reads', async () => {
  const get = async (path: string): Promise<unknown> => (await fetch(gateway.url + path)).json();
  expect(await get('/health')).toMatchObject({ live: true, ready: true, node: 'n1' });
  backend.ready = false;
  expect((await fetch(`${gateway.url}/health`)).status).toBe(503);
  backend.ready = true;
  expect(await get('/v1/limits')).toEqual(limits);
  expect(await get('/v1/channels')).toEqual({ channels: ['pay'] });
  expect(await get('/v1/channels/pay/contracts')).toMatchObject({ contracts: [{ name: 'list' }] });
  expect(await get('/v1/channels/pay/config')).toMatchObject({ channel: 'pay' });
  const log = (await get('/v1/channels/pay/log?limit=2')) as { entries: unknown[]; tail: number };
  expect(log.entries.length).toBe(2);
  expect(await get(`/v1/channels/pay/log?from=${log.tail}`)).toMatchObject({ entries: [] });
  expect(await get('/v1/channels/pay/positions/0')).toMatchObject({ applied: true });
  expect(await get('/v1/channels/pay/positions/99999999')).toMatchObject({ applied: false });
  const metrics = await (await fetch(`${gateway.url}/metrics`)).text();
  expect(metrics).toMatch(/daybook_gateway_batches_total [1-9]/);
  expect(metrics).toMatch(/daybook_next_address\{channel="pay"\} [1-9]/);
  const openapi = (await get('/openapi.json')) as { paths: object };
  expect(Object.keys(openapi.paths)).toContain('/v1/channels/{channel}/batches');
  const wrong: [string, string][] = [
    [`/v1/channels/pay/transactions/${'0'.repeat(64)}`, 'TRANSACTION_UNKNOWN'],
    ['/v1/channels/pay/transactions/xyz', 'INVALID_ARGUMENT'],
    ['/v1/channels/pay/positions/one', 'INVALID_ARGUMENT'],
    ['/v1/channels/pay/positions/1?waitMs=1e9', 'INVALID_ARGUMENT'],
    ['/v1/channels/pay/log?limit=0', 'INVALID_ARGUMENT'],
    ['/v1/channels/pay/events?from=x', 'INVALID_ARGUMENT'],
    ['/v1/channels/%zz/log', 'MALFORMED'],
    ['/nowhere', 'NOT_FOUND'],
  ];
  for (const [path, code] of wrong) {
    expect([path, (await refusal(await fetch(gateway.url + path))).code]).toEqual([path, code]);
  }
});

test('closed reads need a token of an identity of the channel', async () => {
  const url = `${closed.url}/v1/channels/pay/contracts`;
  const read = (authorization: string): Promise<Response> =>
    fetch(url, { headers: { authorization } });
  expect((await refusal(await fetch(url))).code).toBe('SIGNATURE_INVALID');
  const token = signReadToken(other, 'pay', Date.now());
  expect((await read(`Daybook ${token}`)).status).toBe(200);
  const foreign = `Daybook ${signReadToken(stranger, 'pay', Date.now())}`;
  expect((await refusal(await read(foreign))).code).toBe('IDENTITY_UNKNOWN');
  const old = `Daybook ${signReadToken(other, 'pay', Date.now() - 600_000)}`;
  expect((await refusal(await read(old))).code).toBe('SIGNATURE_INVALID');
  const elsewhere = `Daybook ${signReadToken(other, 'elsewhere', Date.now())}`;
  expect((await refusal(await read(elsewhere))).code).toBe('SIGNATURE_INVALID');
  expect((await refusal(await read('Daybook AAAA'))).code).toBe('MALFORMED');
});

test('events as NDJSON and as server-sent events, from a position', async () => {
  const calls = [call('event', ['a']), call('add', ['x']), call('event', ['b'])];
  const [first] = await outcomes(await post('pay/batches', signed(calls)), 3);
  const from = first?.status === 'committed' ? first.position : -1;
  const path = `/v1/channels/pay/events?from=${from}`;
  expect(await firstLines(path, 2)).toEqual([
    expect.stringContaining(`"position":${from},`),
    expect.stringContaining('"payload":"b"'),
  ]);
  const sse = await firstLines(path, 2, { accept: 'text/event-stream' });
  expect(sse).toEqual([`id: ${from}`, expect.stringMatching(/^data: \{.*"payload":"a"/)]);
  // Resumes behind the last one that a browser saw.
  const resumed = await firstLines('/v1/channels/pay/events', 1, { 'last-event-id': String(from) });
  expect(resumed[0]).toContain('"payload":"b"');
});

async function firstLines(
  path: string,
  count: number,
  headers: Record<string, string> = {},
): Promise<string[]> {
  const abort = new AbortController();
  const response = await fetch(gateway.url + path, { headers, signal: abort.signal });
  expect(response.status).toBe(200);
  let text = '';
  const decoder = new TextDecoder();
  for await (const piece of response.body as unknown as AsyncIterable<Uint8Array>) {
    text += decoder.decode(piece, { stream: true });
    if (text.split('\n').length > count) break;
  }
  abort.abort();
  return text.split('\n').slice(0, count);
}

test('random bytes at every door: a typed refusal, and the gateway lives', async () => {
  const good = signed([call('add', ['fuzz'])]);
  const doors = ['pay/batches', 'pay/evaluate'];
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom(...doors),
      fc.oneof(
        fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
        fc.tuple(fc.nat(), fc.nat(255)).map(([at, value]) => {
          const bytes = Buffer.from(good);
          bytes[at % bytes.length] = value ^ (bytes[at % bytes.length] as number) || 1;
          return bytes;
        }),
        fc.json().map(String),
        fc.object({ maxDepth: 2 }).map((value) =>
          JSON.stringify({
            batchId: '00'.repeat(16),
            creator: signer.identity,
            items: [{ contract: 'c', function: 'f', nonce: '00', timestampMs: 1, ...value }],
          }),
        ),
      ),
      async (door, body) => {
        const response = await post(door, body);
        // A flip may hit what is not signed (the ordering key) and leave the batch good.
        if (response.status !== 200) await refusal(response);
        else await response.arrayBuffer();
      },
    ),
    { numRuns: 400 },
  );
  expect(internal).toEqual([]);
  await outcomes(await post('pay/batches', signed([call('add')])), 1);
}, 30_000);

test('what is not HTTP is answered and closed', async () => {
  for (const garbage of ['\0\0\0\0\r\n\r\n', 'GET / HTTP/9.9\r\n\r\n', 'x'.repeat(100_000)]) {
    const answer = await exchange(gateway.port, garbage);
    expect(answer === '' || answer.startsWith('HTTP/1.1 4')).toBe(true);
  }
  expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
});

test('connections over the limit are told so and closed; those under it work', async () => {
  const idle: Socket[] = [];
  const answers: Promise<string>[] = [];
  for (let at = 0; at < 80; at++) {
    const socket = connectTcp(gateway.port, '127.0.0.1');
    idle.push(socket);
    answers.push(readAll(socket));
  }
  const refused = await Promise.all(
    answers.map((answer) =>
      Promise.race([answer, new Promise<string>((go) => setTimeout(go, 1_000, 'open'))]),
    ),
  );
  const told = refused.filter((text) => text.includes('gatewayConnectionsMax'));
  expect(told.length).toBeGreaterThanOrEqual(30);
  expect(told[0]).toMatch(/^HTTP\/1\.1 503 /);
  expect(refused.filter((text) => text === 'open').length).toBeGreaterThan(30);
  for (const socket of idle) socket.destroy();
  await new Promise((go) => setTimeout(go, 50));
  expect((await fetch(`${gateway.url}/health`)).status).toBe(200);
});

function readAll(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    socket.on('data', (piece) => {
      text += piece.toString('latin1');
    });
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
}

async function exchange(port: number, request: string): Promise<string> {
  const socket = connectTcp(port, '127.0.0.1');
  socket.write(request, 'latin1');
  const timer = setTimeout(() => socket.destroy(), 2_000);
  const answer = await readAll(socket);
  clearTimeout(timer);
  return answer;
}

test('closing lets a batch under way end and refuses new ones', async () => {
  const own = await startGateway({ io, nodeName: 'n2', backends: [backend] });
  const body = signed([call('later', ['z'])]);
  const headers = { 'content-type': batchMediaType };
  const url = `${own.url}/v1/channels/pay/batches`;
  const pending = fetch(url, { method: 'POST', body, headers });
  while (backend.ledger.held.length === 0) await new Promise((go) => setTimeout(go, 5));
  const closing = own.close();
  setTimeout(() => {
    for (const release of backend.ledger.held.splice(0)) release();
  }, 50);
  expect((await outcomes(await pending, 1))[0]?.status).toBe('committed');
  await closing;
  await expect(fetch(url)).rejects.toThrow();
});
