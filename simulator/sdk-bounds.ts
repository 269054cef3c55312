import type { Transport } from '../src/client/index.ts';
import { decodeBatch } from '../src/model/index.ts';
import { SimulationFailure, type World } from './world.ts';

/** What a client was told that it may hold. */
export interface SdkLimits {
  readonly batchCount: number;
  readonly batchesPerGateway: number;
  readonly transactionsInFlightMax: number;
  readonly gateways: number;
}

/**
 * The same transport; I9: a client has no more under way than it may, and of one ordering key only
 * one batch.
 */
export function watchTransport(
  world: World,
  name: string,
  transport: Transport,
  limits: SdkLimits,
): Transport {
  let batches = 0;
  let calls = 0;
  const keysUnderWay = new Set<string>();
  const sentBefore = new Set<string>();
  const check = (what: string, count: number, max: number): void => {
    if (count <= max) return;
    const message = `I9: ${name} has ${count} ${what} under way, its limit is ${max}`;
    world.fail(new SimulationFailure('correctness', message));
  };
  return {
    send: async (gateway, attempt) => {
      if (attempt.door !== 'batches') return await transport.send(gateway, attempt);
      const { items } = decodeBatch(attempt.bytes);
      const keys = new Set(items.flatMap(({ orderingKey }) => orderingKey || []));
      for (const key of keys) {
        if (keysUnderWay.has(key)) {
          const what = `client: ${name} has two batches with ${key} under way`;
          world.fail(new SimulationFailure('correctness', what));
        }
        keysUnderWay.add(key);
      }
      if (items.length > 1) world.happened('client: calls travel together');
      const [first] = items;
      const id = Buffer.from(first?.txId ?? []).toString('hex');
      if (sentBefore.has(id)) world.happened('client: a transaction is sent again');
      sentBefore.add(id);
      batches++;
      calls += items.length;
      check('calls in one batch', items.length, limits.batchCount);
      check('batches', batches, limits.batchesPerGateway * limits.gateways);
      check('calls', calls, limits.transactionsInFlightMax);
      try {
        await transport.send(gateway, attempt);
      } finally {
        batches--;
        calls -= items.length;
        for (const key of keys) keysUnderWay.delete(key);
      }
    },
    post: (...question) => transport.post(...question),
    getJson: (...question) => {
      world.happened('client: it asks what became of a lost batch');
      return transport.getJson(...question);
    },
    lines: (...question) => transport.lines(...question),
    close: () => transport.close(),
  };
}
