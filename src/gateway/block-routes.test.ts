import { afterEach, beforeAll, expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { BlockBuilder, Cutter, chainStart, encodeBlock, lengthPrefix } from '../blocks/index.ts';
import { testIdentity } from '../blocks/testing/test-identity.ts';
import { TestLog } from '../blocks/testing/test-log.ts';
import { type Io, realIo } from '../io/index.ts';
import { type MspConfig, type Signer, signReadToken } from '../model/index.ts';
import { StateTree } from '../state/index.ts';
import type { BlockSource, GatewayBackend } from './backend.ts';
import { type Gateway, type GatewayOptions, startGateway } from './index.ts';
import { FakeBackend } from './testing/fake-backend.ts';

/* The block routes over a chain in memory. */

const real = realIo();
/** What takes many seconds takes a tenth of one here: heartbeats, and patience with readers. */
const io: Pick<Io, 'clock' | 'timers'> = {
  clock: real.clock,
  timers: {
    soon: (callback) => real.timers.soon(callback),
    after: (delayMs, callback) => real.timers.after(Math.min(delayMs, 100), callback),
  },
};
const status = {
  height: 2,
  position: 8192 as never,
  records: 3,
  blockHash: 'aa'.repeat(32),
  stateRoot: 'bb'.repeat(32),
};

let member: { msp: MspConfig; signer: Signer };
let chain: Buffer[];
let gateway: Gateway | undefined;

beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  const log = new TestLog(member).config();
  log.batch([{ writes: { a: '1' } }, { writes: { b: '2' } }]).tick();
  const builder = new BlockBuilder(chainStart, new StateTree({ bucketBits: 4 }));
  const cutter = new Cutter(chainStart.position, undefined);
  chain = log.entries.flatMap((entry) =>
    cutter.push(entry).map((cut) => {
      const { header, envelopes } = builder.build(cut, () => ({ block: 0, transaction: 0 }));
      return Buffer.from(encodeBlock({ header, envelopes, metadata: [] }));
    }),
  );
});
afterEach(async () => {
  await gateway?.close(0);
  gateway = undefined;
});

type Service = ReturnType<BlockSource['service']>;

/** A node whose blocks are those of `service`; what is not given there is not asked for. */
async function start(
  service: Partial<Service> | undefined,
  options: Partial<GatewayOptions> = {},
): Promise<(path: string, headers?: Record<string, string>) => Promise<Response>> {
  const backend: GatewayBackend = new FakeBackend('test-channel', [member.msp]);
  const blocks: BlockSource = {
    service: () => service as Service,
    health: () => ({ height: 2, stateRoot: 'bb' }),
  };
  const backends = [service === undefined ? backend : Object.assign(backend, { blocks })];
  gateway = await startGateway({ io, nodeName: 'n', backends, ...options });
  const { url } = gateway;
  return (path, headers = {}) => fetch(`${url}/v1/channels/test-channel/${path}`, { headers });
}

const block = (height: number): Promise<Buffer> => {
  const bytes = chain[height];
  if (bytes !== undefined) return Promise.resolve(bytes);
  return Promise.reject(new DaybookError('NOT_FOUND', 'no such block'));
};

test('lists headers, serves bytes, says what is missing', async () => {
  const get = await start({ status, block });
  const list = (await (await get('blocks')).json()) as { blocks: object[] };
  expect(list).toMatchObject({ ...status, blocks: [{ height: 0 }, { height: 1, records: 2 }] });
  const one = (await (await get('blocks?from=1&limit=1')).json()) as { blocks: object[] };
  expect(one.blocks).toEqual(list.blocks.slice(1));
  const answer = await get('blocks/1');
  expect(answer.headers.get('content-type')).toBe('application/vnd.hyperledger.fabric.block');
  expect(Buffer.from(await answer.arrayBuffer()).equals(chain[1] as Buffer)).toBe(true);
  expect((await get('blocks/2')).status).toBe(404);
  expect((await get('blocks/x')).status).toBe(400);
  expect((await get('blocks?limit=101')).status).toBe(400);
  const health = await fetch(`${gateway?.url}/health`);
  expect(await health.json()).toMatchObject({ channels: [{ blocks: { height: 2 } }] });
});

test('receipts and proofs: what is asked reaches the service', async () => {
  const asked: string[] = [];
  const get = await start({
    receipt: (txId) => {
      asked.push(txId);
      throw new DaybookError('TRANSACTION_UNKNOWN', 'in no block');
    },
    keyProof: async (key) => {
      asked.push(key);
      return { kind: 'daybook key proof 1' } as never;
    },
  });
  const txId = 'ab'.repeat(32);
  expect((await get(`transactions/${txId}/receipt`)).status).toBe(404);
  expect((await get('transactions/abc/receipt')).status).toBe(400);
  expect((await get('proof?contract=bank&key=%C3%A9')).status).toBe(200);
  expect((await get('proof?contract=bank&keyBase64=_wA')).status).toBe(200);
  for (const query of ['', '?contract=bank', '?key=a', '?contract=bank&key=a&keyBase64=YQ']) {
    expect((await get(`proof${query}`)).status).toBe(400);
  }
  expect(asked).toEqual([txId, 'bank\0\u00c3\u00a9', 'bank\0\u00ff\0']);
});

test('streams from a height on with heartbeats, and ends when the gateway closes', async () => {
  const get = await start({
    follow: async function* (from, signal) {
      for (const [height, bytes] of chain.entries()) if (height >= from) yield { height, bytes };
      await new Promise((resolve) => signal?.addEventListener('abort', resolve));
    },
  });
  const answer = await get('blocks/stream?from=1');
  const body = answer.body as unknown as AsyncIterable<Uint8Array>;
  const expected = Buffer.concat([
    lengthPrefix(chain[1]?.length ?? 0),
    chain[1] as Buffer,
    Buffer.of(0),
  ]);
  let got = Buffer.alloc(0);
  for await (const piece of body) {
    got = Buffer.concat([got, piece]);
    if (got.length >= expected.length) void gateway?.close(1000);
  }
  expect(got.subarray(0, expected.length).equals(expected)).toBe(true);
});

test('an alarm breaks the stream; a reader that stalls is cut off', async () => {
  let sent = 0;
  const get = await start({
    follow: async function* (from) {
      if (from === 0) throw new DaybookError('BLOCK_MISMATCH', 'damaged');
      const bytes = Buffer.alloc(1 << 20, 1);
      for (let height = from; height < 10_000; height++, sent++) yield { height, bytes };
    },
  });
  const broken = await get('blocks/stream');
  await expect(broken.arrayBuffer()).rejects.toThrow();
  const stalled = await get('blocks/stream?from=1');
  // Longer than the patience of this test's clock; what fits the connection is a few megabytes.
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(sent).toBeLessThan(500);
  await expect(stalled.arrayBuffer()).rejects.toThrow();
});

test('closed reads need a token; a node without blocks says so', async () => {
  const get = await start({ status, block }, { openReads: false });
  expect((await get('blocks/0')).status).toBe(401);
  const token = signReadToken(member.signer, 'test-channel', Date.now());
  expect((await get('blocks/0', { authorization: `Daybook ${token}` })).status).toBe(200);
  await gateway?.close(0);
  const bare = await start(undefined);
  expect(await (await bare('blocks')).json()).toMatchObject({ code: 'NOT_FOUND' });
});
