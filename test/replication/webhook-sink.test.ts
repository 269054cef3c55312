import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { afterEach, expect, it } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import {
  openFollowerService,
  startFollower,
  type WebhookDelivery,
  webhookSink,
} from '../../src/replication/index.ts';
import { localFeed, memoryDisk, TestLedger } from '../../src/replication/testing/test-ledger.ts';

const io = { ...realIo(), disk: memoryDisk() };
const secret = `whsec_${Buffer.alloc(24, 5).toString('base64')}`;
const server = createServer();
afterEach(() => server.close());

it('sends signed pages, again after outages, and parks what is refused', async () => {
  const deliveries: WebhookDelivery[] = [];
  let outages = 2;
  server.on('request', (request, response) => {
    let body = '';
    request.on('data', (part: Buffer) => {
      body += part.toString();
    });
    request.on('end', () => {
      new Webhook(secret).verify(body, request.headers as Record<string, string>);
      const delivery = JSON.parse(body) as WebhookDelivery;
      if (outages-- > 0) response.statusCode = 503;
      else if (delivery.changes.some(({ content }) => content === 'poison'))
        response.statusCode = 422;
      else deliveries.push(delivery);
      response.end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const ledger = new TestLedger();
  ledger.append([{ old: '1' }]);
  const service = await openFollowerService({
    io,
    source: ledger,
    directory: '/f',
    cursorKey: Buffer.alloc(32),
  });
  const start = () =>
    startFollower({
      io,
      name: 'hook',
      feed: localFeed(service),
      sink: webhookSink({
        io,
        follower: 'hook',
        url: `http://127.0.0.1:${port}/x`,
        secret,
        file: '/hook.json',
      }),
      subscription: [{ contract: 'catalog' }],
      policy: 'park',
      waitMs: 20,
      timing: { retryMinMs: 5, retryMaxMs: 20 },
    });
  const received = new Map<string, string | undefined>();
  const reach = async (follower: { position: number | undefined }) => {
    for (let tries = 0; follower.position !== ledger.entries.length * 4096; tries++) {
      if (tries > 1_000) throw new Error('it does not come');
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const { changes } of deliveries) {
      for (const { key, content } of changes) received.set(key, content);
    }
  };
  let follower = start();
  await reach(follower);
  expect(deliveries[0]).toMatchObject({ fill: true, changes: [{ key: 'old', content: '1' }] });
  ledger.append([{ a: '1' }, { bad: 'poison' }, { old: undefined }]);
  await reach(follower);
  await follower.stop();
  // The cursor is in the file: nothing is filled again.
  const before = deliveries.length;
  follower = start();
  ledger.append([{ b: '2' }, { bad: 'behind' }]);
  await reach(follower);
  await follower.stop();
  expect(deliveries.slice(before).every(({ fill }) => !fill)).toBe(true);
  expect(received).toEqual(
    new Map([
      ['old', undefined],
      ['a', '1'],
      ['b', '2'],
    ]),
  );
}, 20_000);
