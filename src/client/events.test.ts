import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { Client, ContractEvent } from './index.ts';
import { startClient, testGateways } from './testing/start-client.ts';
import { VirtualIo } from './testing/virtual-io.ts';
import type { Transport } from './transport.ts';

/* Following events, over gateways that do not know all of them. */

const line = (position: number): string =>
  JSON.stringify({
    type: 'event',
    position,
    txId: 'ab',
    contract: 'c',
    event: 'e',
    payload: 'p',
    timestampMs: 1,
  });

/** A network whose gateways answer as `lines` says. */
async function start(
  io: VirtualIo,
  lines: (gateway: number, path: string) => AsyncIterable<string>,
): Promise<Client> {
  const refuse = (): Promise<never> => Promise.reject(new DaybookError('NOT_FOUND', 'not here'));
  const transport: Transport = {
    send: refuse,
    post: refuse,
    getJson: refuse,
    lines: (gateway, path) => lines(testGateways.indexOf(gateway), path),
    close: async () => undefined,
  };
  return await startClient(io, transport, {});
}

async function first(events: AsyncIterable<ContractEvent>, count: number): Promise<number[]> {
  const positions: number[] = [];
  for await (const { position } of events) {
    positions.push(position);
    if (positions.length === count) break;
  }
  return positions;
}

test('what one node cannot tell any more, another is asked for', async () => {
  const io = new VirtualIo(1);
  const client = await start(io, async function* (gateway) {
    if (gateway !== 2) throw new DaybookError('LOG_TRIMMED', 'begins later');
    yield line(7);
    yield line(9);
  });
  expect(await io.run(first(client.events({ from: 5 }), 2))).toEqual([7, 9]);
});

test('what no node can tell any more is an error, also when some do not answer', async () => {
  const io = new VirtualIo(2);
  const client = await start(io, async function* (gateway) {
    yield* [];
    if (gateway === 2) throw new DaybookError('PEER_UNREACHABLE', 'no answer');
    throw new DaybookError('LOG_TRIMMED', 'begins later');
  });
  const events = io.run(first(client.events({ from: 5 }), 1));
  await expect(events).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
});

test('a stream of new events goes on where it was told that it begins', async () => {
  const io = new VirtualIo(3);
  const asked: string[] = [];
  const client = await start(io, async function* (_, path) {
    asked.push(path);
    if (asked.length === 1) yield JSON.stringify({ type: 'heartbeat', position: 41 });
    else yield line(50);
  });
  expect(await io.run(first(client.events(), 1))).toEqual([50]);
  expect(asked).toEqual(['events?', 'events?from=42']);
});
