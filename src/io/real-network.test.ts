import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { connect as connectRaw, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { limits } from '../base/index.ts';
import type { Connection, Listener } from './io.ts';
import { realNetwork } from './real-network.ts';

const network = realNetwork();
let root: string;
let listener: Listener | undefined;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'daybook-net-'));
});
afterEach(async () => {
  await listener?.close();
  listener = undefined;
  rmSync(root, { recursive: true, force: true });
});

async function pair(address: string): Promise<{ client: Connection; server: Connection }> {
  let accepted: ((connection: Connection) => void) | undefined;
  const server = new Promise<Connection>((resolve) => {
    accepted = resolve;
  });
  listener = await network.listen(address, (connection) => accepted?.(connection));
  const client = await network.connect(listener.address);
  return { client, server: await server };
}

function collect(connection: Connection, count: number): Promise<Buffer[]> {
  const frames: Buffer[] = [];
  return new Promise((resolve) =>
    connection.onFrame((frame) => {
      frames.push(Buffer.from(frame));
      if (frames.length === count) resolve(frames);
    }),
  );
}

for (const kind of ['tcp', 'unix'] as const) {
  it(`carries frames of all sizes in order over ${kind}`, async () => {
    const address = kind === 'tcp' ? '127.0.0.1:0' : `unix:${join(root, 'socket')}`;
    const { client, server } = await pair(address);
    const sizes = [0, 1, 3, 70_000, 2, 3_000_000, 0, 65_532, 65_536, 5];
    const sent = sizes.map((size, index) => Buffer.alloc(size, index + 1));
    const received = collect(server, sent.length);
    for (const [index, frame] of sent.entries()) {
      client.send([frame.subarray(0, index), frame.subarray(index)]);
    }
    const frames = await received;
    expect(frames.map((frame) => frame.length)).toEqual(sizes);
    expect(frames.every((frame, index) => frame.equals(sent[index] as Buffer))).toBe(true);
    client.close();
  });
}

it('delivers what was sent before close, and tells the peer', async () => {
  const { client, server } = await pair('127.0.0.1:0');
  const received = collect(server, 1);
  const closed = new Promise<void>((resolve) => server.onClose(() => resolve()));
  client.send([Buffer.alloc(500_000, 7)]);
  client.close();
  expect(client.send([Buffer.from('late')])).toBe(false);
  expect((await received)[0]?.length).toBe(500_000);
  await closed;
});

it('parses frames cut at any byte', async () => {
  const { server } = await pair('127.0.0.1:0');
  server.close();
  await listener?.close();
  const second = new Promise<Buffer[]>((resolve, reject) => {
    network
      .listen('127.0.0.1:0', (connection) => void collect(connection, 3).then(resolve))
      .then((started) => {
        listener = started;
        const socket = connectRaw(Number(started.address.split(':')[1]), '127.0.0.1');
        socket.setNoDelay(true);
        const bytes = Buffer.from('00000003616263000000000000000164', 'hex');
        const step = (at: number): void => {
          if (at === bytes.length) return void socket.end();
          socket.write(bytes.subarray(at, at + 1), () => setTimeout(step, 1, at + 1));
        };
        step(0);
      }, reject);
  });
  expect((await second).map(String)).toEqual(['abc', '', 'd']);
});

it('refuses to send a frame that is too long, and closes on receiving one', async () => {
  let cause: Promise<Error | undefined> | undefined;
  const started = await network.listen('127.0.0.1:0', (connection) => {
    connection.onFrame(() => undefined);
    cause = new Promise((resolve) => connection.onClose(resolve));
  });
  listener = started;
  const client = await network.connect(started.address);
  expect(() => client.send([Buffer.alloc(limits.frameBytesMax + 1)])).toThrow(/frame of/);
  client.close();
  const socket = connectRaw(Number(started.address.split(':')[1]), '127.0.0.1');
  const gone = new Promise((resolve) => socket.once('close', resolve));
  socket.on('error', () => undefined);
  const header = Buffer.alloc(4);
  header.writeUInt32BE(limits.frameBytesMax + 1);
  socket.write(header);
  await gone;
  expect(await cause).toMatchObject({
    code: 'LIMIT_EXCEEDED',
    details: { limit: 'frameBytesMax' },
  });
});

it('asks the sender to wait and calls back when the buffer is empty', async () => {
  const { client, server } = await pair('127.0.0.1:0');
  const frame = Buffer.alloc(256 * 1024);
  let sent = 1;
  while (client.send([frame])) sent += 1;
  expect(sent * frame.length).toBeGreaterThanOrEqual(limits.sendBufferBytesMark);
  const drained = new Promise<void>((resolve) => client.onDrain(resolve));
  const received = collect(server, sent);
  await drained;
  await received;
  client.close();
});

it('does not wait for ever for a connection', async () => {
  const sinceMs = performance.now();
  // An address that nobody has; some machines know at once that there is no way to it.
  await expect(network.connect('192.0.2.1:9')).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  expect(performance.now() - sinceMs).toBeLessThan(limits.connectMsMax + 1_500);
});

it('reports an unreachable peer, takes over a dead socket file, and leaves a living one', async () => {
  const address = `unix:${join(root, 'socket')}`;
  await expect(network.connect(address)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(join(root, 'other'), resolve));
  renameSync(join(root, 'other'), join(root, 'socket'));
  await new Promise((resolve) => dead.close(resolve));
  listener = await network.listen(address, () => undefined);
  await expect(network.listen(address, () => undefined)).rejects.toMatchObject({
    code: 'LISTEN_FAILED',
  });
});
