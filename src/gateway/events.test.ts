import { connect } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { limits } from '../base/index.ts';
import { type Io, realIo } from '../io/index.ts';
import { decodeBatch, signBatch } from '../model/index.ts';
import { type Gateway, startGateway } from './index.ts';
import { FakeBackend } from './testing/fake-backend.ts';
import { testMsp } from './testing/identities.ts';

// What takes many seconds takes a tenth of one here: heartbeats, and patience with stalled readers.
const real = realIo();
const io: Pick<Io, 'clock' | 'timers'> = {
  clock: real.clock,
  timers: {
    soon: (callback) => real.timers.soon(callback),
    after: (delayMs, callback) => real.timers.after(Math.min(delayMs, 100), callback),
  },
};

const patient = { timeout: 10_000 };

let backend: FakeBackend;
let gateway: Gateway;

beforeAll(async () => {
  const { msp, signer } = await testMsp('BankMSP');
  backend = new FakeBackend('pay', [msp]);
  gateway = await startGateway({ io, nodeName: 'n', backends: [backend] });
  // 40 MB of events: more than any connection buffers.
  for (let at = 0; at < 400; at++) {
    const nonce = Buffer.alloc(24);
    nonce.writeUInt32BE(at);
    const transaction = {
      channel: 'pay',
      contract: 'news',
      contractVersion: '',
      functionName: 'event',
      args: [Buffer.alloc(100_000, 'x')],
      nonce,
      timestampMs: 1,
    };
    const { bytes } = signBatch(signer, 'pay', Buffer.alloc(16), [{ transaction }]);
    backend.ledger.execute(decodeBatch(bytes), () => undefined);
  }
});

afterAll(async () => {
  await gateway.close();
});

function subscribe(path: string): {
  text: () => string;
  closed: Promise<void>;
  end: () => void;
  pause: () => void;
  resume: () => void;
} {
  const socket = connect(gateway.port, '127.0.0.1');
  let text = '';
  socket.on('data', (piece) => {
    text += piece.toString('latin1');
  });
  socket.on('error', () => undefined);
  socket.write(`GET /v1/channels/pay/events${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
  return {
    text: () => text,
    closed: new Promise((resolve) => {
      socket.on('close', () => resolve());
    }),
    end: () => socket.destroy(),
    pause: () => socket.pause(),
    resume: () => socket.resume(),
  };
}

test('a reader that stalls is cut off with a typed last line, at little cost', async () => {
  const before = process.memoryUsage().rss;
  const reader = subscribe('?from=0');
  reader.pause();
  // Longer than the gateway's patience, less than its farewell.
  await new Promise((go) => setTimeout(go, 150));
  expect(process.memoryUsage().rss - before).toBeLessThan(30 * 1024 * 1024);
  reader.resume();
  const ended = expect.poll(reader.text, patient).toMatch(/\r\n0\r\n\r\n$/);
  await Promise.race([reader.closed, ended]);
  const lines = reader
    .text()
    .split('\n')
    .filter((line) => line.startsWith('{'));
  expect(lines.length).toBeLessThan(400);
  const last = lines.at(-1) ?? '';
  // The connection may be closed over its head; then the last line is cut.
  if (last.includes('"type":"error"')) expect(last).toContain('eventStallMsMax');
});

test('heartbeats say up to where everything was looked at', async () => {
  const reader = subscribe('?event=nothing');
  const position = (backend.ledger.next - 1) * limits.recordsPerEntryMax + 4095;
  await expect.poll(reader.text).toContain(`{"type":"heartbeat","position":${position}}`);
  backend.ledger.tick();
  const next = position + limits.recordsPerEntryMax;
  await expect.poll(reader.text).toContain(`{"type":"heartbeat","position":${next}}`);
  reader.end();
});

test('a reader that goes away while it is behind gives its place back at once', async () => {
  // With the patience of production.
  const slow = await startGateway({ io: real, nodeName: 's', backends: [backend] });
  const metrics = async (): Promise<string> => (await fetch(`${slow.url}/metrics`)).text();
  const socket = connect(slow.port, '127.0.0.1');
  socket.write('GET /v1/channels/pay/events?from=0 HTTP/1.1\r\nhost: x\r\n\r\n');
  await new Promise((go) => socket.once('data', go));
  socket.pause();
  await expect.poll(metrics).toContain('daybook_gateway_event_subscribers 1');
  await new Promise((go) => setTimeout(go, 50));
  socket.destroy();
  await expect.poll(metrics, { timeout: 3_000 }).toContain('daybook_gateway_event_subscribers 0');
  await slow.close();
});

test('without a position a stream says at once where it begins', async () => {
  const last = (backend.ledger.next - 1) * limits.recordsPerEntryMax + 4095;
  const url = `${gateway.url}/v1/channels/pay/events`;
  const stop = new AbortController();
  const answer = await fetch(url, { signal: stop.signal });
  const first = await answer.body?.getReader().read();
  const line = JSON.parse(Buffer.from(first?.value ?? []).toString()) as object;
  expect(line).toEqual({ type: 'heartbeat', position: last });
  stop.abort();
});

test('subscribers are counted, and gone ones counted off', async () => {
  const metrics = async (): Promise<string> => (await fetch(`${gateway.url}/metrics`)).text();
  await expect.poll(metrics).toContain('daybook_gateway_event_subscribers 0');
  const warnings: string[] = [];
  const listener = (warning: Error): void => void warnings.push(warning.message);
  process.on('warning', listener);
  const readers = Array.from({ length: limits.eventSubscribersMax }, () => subscribe(''));
  await Promise.all(readers.map((reader) => expect.poll(reader.text, patient).toContain('200 OK')));
  const url = `${gateway.url}/v1/channels/pay/events`;
  const refused = await fetch(url);
  expect(refused.status).toBe(429);
  expect(await refused.json()).toMatchObject({ details: { limit: 'eventSubscribersMax' } });
  for (const reader of readers) reader.end();
  await expect.poll(metrics, patient).toContain('daybook_gateway_event_subscribers 0');
  process.off('warning', listener);
  expect(warnings).toEqual([]);
});
