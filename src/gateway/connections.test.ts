import { connect, type Socket } from 'node:net';
import { expect, test } from 'vitest';
import { limits } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { startGateway } from './index.ts';
import { FakeBackend } from './testing/fake-backend.ts';

const flood = 10_000;
const wave = 500;

/** Resolves to what the server said when it has closed, or to undefined while it is open. */
function open(port: number): { socket: Socket; connected: Promise<void>; said: () => string } {
  const socket = connect(port, '127.0.0.1');
  let text = '';
  socket.on('data', (piece) => {
    text += piece.toString('latin1');
  });
  socket.on('error', () => undefined);
  const connected = new Promise<void>((resolve) => {
    socket.on('connect', () => resolve());
    socket.on('close', () => resolve());
  });
  return { socket, connected, said: () => text };
}

test('10,000 idle connections: those over the limit are told so, the others are served', async () => {
  const backend = new FakeBackend('pay', []);
  const gateway = await startGateway({ io: realIo(), nodeName: 'n', backends: [backend] });
  const before = process.memoryUsage().rss;
  const first = open(gateway.port);
  await first.connected;
  // One request makes it a kept connection, which may rest for longer than a silent one.
  first.socket.write('GET /health HTTP/1.1\r\nhost: x\r\n\r\n');
  await expect.poll(first.said).toContain('"ready":true');
  const idle: ReturnType<typeof open>[] = [];
  for (let at = 0; at < flood; at += wave) {
    const some = Array.from({ length: wave }, () => open(gateway.port));
    idle.push(...some);
    await Promise.all(some.map((one) => one.connected));
  }
  // Idle ones are closed after a while, which makes room again; so many were accepted at least.
  const refused = (): number =>
    idle.filter((one) => one.said().includes('"limit":"gatewayConnectionsMax"')).length;
  const over = flood - limits.gatewayConnectionsMax + 1;
  await expect.poll(refused, { timeout: 10_000 }).toBeGreaterThan(over / 2);
  expect(refused()).toBeLessThanOrEqual(over);
  expect(process.memoryUsage().rss - before).toBeLessThan(300 * 1024 * 1024);

  first.socket.write('GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n');
  await expect.poll(first.said, { timeout: 5_000 }).toMatch(/^daybook_gateway_connections \d+$/m);
  const accepted = /^daybook_gateway_connections (\d+)$/m.exec(first.said())?.[1];
  expect(Number(accepted)).toBeLessThanOrEqual(limits.gatewayConnectionsMax);

  for (const { socket } of idle) socket.destroy();
  await expect
    .poll(async () => fetch(`${gateway.url}/health`).then((answer) => answer.status, String), {
      timeout: 10_000,
    })
    .toBe(200);
  first.socket.destroy();
  await gateway.close();
}, 60_000);
