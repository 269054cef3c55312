import { afterEach, beforeEach, expect, it } from 'vitest';
import { DaybookError, limits } from '../base/index.ts';
import type { Listener } from './io.ts';
import { realNetwork } from './real-network.ts';
import { type RpcPeer, rpcPeer } from './rpc.ts';

let listener: Listener;
let client: RpcPeer;
let server: RpcPeer;

beforeEach(async () => {
  const network = realNetwork();
  let accepted: ((peer: RpcPeer) => void) | undefined;
  const connected = new Promise<RpcPeer>((resolve) => {
    accepted = resolve;
  });
  listener = await network.listen('127.0.0.1:0', (connection) => accepted?.(rpcPeer(connection)));
  client = rpcPeer(await network.connect(listener.address));
  server = await connected;
});
afterEach(async () => {
  client.close();
  await listener.close();
});

it('answers each call with its own answer, in whatever order they finish', async () => {
  server.handle(1, async (payload) => {
    await new Promise((resolve) => setTimeout(resolve, payload[0] === 0 ? 5 : 0));
    return [Buffer.from('<'), payload, Buffer.from('>')];
  });
  server.handle(2, (payload) => [payload]);
  const answers = await Promise.all([
    client.call(1, [Buffer.from([0])]),
    client.call(1, [Buffer.from('a'), Buffer.from('b')]),
    client.call(2, []),
  ]);
  expect(answers.map((answer) => answer.toString('latin1'))).toEqual(['<\0>', '<ab>', '']);
});

it('carries errors with code and details, and refuses unknown methods', async () => {
  server.handle(1, async () => {
    throw new DaybookError('LOG_TRIMMED', 'gone', { details: { address: 7 } });
  });
  server.handle(2, () => {
    throw new RangeError('a bug');
  });
  server.handle(3, async () => [Buffer.alloc(limits.frameBytesMax)]);
  await expect(client.call(1, [])).rejects.toMatchObject({
    code: 'LOG_TRIMMED',
    retry: 'never',
    message: 'gone',
    details: { address: 7 },
  });
  await expect(client.call(2, [])).rejects.toMatchObject({ code: 'INTERNAL' });
  await expect(client.call(3, [])).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' });
  await expect(client.call(9, [])).rejects.toMatchObject({ code: 'MALFORMED' });
  await expect(client.call(1, [Buffer.alloc(limits.frameBytesMax)])).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
  });
});

it('pushes both ways', async () => {
  const got = new Promise<string>((resolve) =>
    client.onPush(5, (payload) => resolve(payload.toString())),
  );
  server.onPush(4, (payload) => server.push(5, [payload, payload]));
  client.push(4, [Buffer.from('x')]);
  expect(await got).toBe('xx');
});

it('fails what waits when the connection closes, and everything after it', async () => {
  server.handle(1, () => new Promise(() => undefined));
  const waiting = client.call(1, []);
  waiting.catch(() => undefined);
  await client.call(8, []).catch(() => undefined);
  server.close();
  await expect(waiting).rejects.toMatchObject({ code: 'PEER_UNREACHABLE', retry: 'same' });
  await expect(client.call(1, [])).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  expect(client.push(1, [])).toBe(false);
  await new Promise<void>((resolve) => client.onClose(() => resolve()));
});
