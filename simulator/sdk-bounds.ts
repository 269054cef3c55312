import { isDaybookError } from '../src/base/index.ts';
import type { Transport } from '../src/client/index.ts';
import { argumentsOf, decodeBatch, type SigningMode } from '../src/model/index.ts';
import { checkRefusal } from './bounds.ts';
import { SimulationFailure, type World } from './world.ts';

/** What a client was told that it may hold. */
export interface SdkLimits {
  readonly batchCount: number;
  readonly batchesPerGateway: number;
  readonly transactionsInFlightMax: number;
  readonly gateways: number;
  readonly signing: SigningMode;
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
  const preparedAt = new Map<string, string>();
  const prepares = (gateway: string, bytes: Buffer): void => {
    const [item] = decodeBatch(bytes).items;
    const mark = item === undefined ? '' : (argumentsOf(item.transaction).at(-1) ?? '');
    const before = preparedAt.get(mark);
    if (before !== undefined && before !== gateway) {
      world.happened('client: a call is prepared again at another node');
    }
    preparedAt.set(mark, gateway);
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
    post: async (gateway, path, message) => {
      if (path === 'prepare') prepares(gateway, message.body);
      else if (sentBefore.has(path)) world.happened('client: a prepared call is sent again');
      sentBefore.add(path);
      batches++;
      check('requests', batches, limits.batchesPerGateway * limits.gateways);
      check('calls', batches, limits.transactionsInFlightMax);
      try {
        const answer = await transport.post(gateway, path, message);
        const { status, error } = answer as { status?: string; error?: { code: string } };
        if (status === 'committed') world.happened('client: a call is signed singly');
        if (error?.code === 'ENDORSEMENT_STALE') {
          world.happened('client: a call that was endorsed is stale');
        }
        return answer;
      } catch (error) {
        if (isDaybookError(error, 'ENDORSEMENT_UNKNOWN')) {
          world.happened('client: a node forgot what it had prepared');
        }
        if (isDaybookError(error, 'OVERLOADED')) checkRefusal(world, name, error);
        if (isDaybookError(error) && error.details.limit === 'preparedTransactionsMax') {
          world.happened('client: prepared calls meet their limit');
        }
        throw error;
      } finally {
        batches--;
      }
    },
    getJson: async (...question) => {
      if (limits.signing === 'batch') {
        world.happened('client: it asks what became of a lost batch');
        return await transport.getJson(...question);
      }
      const answer = await transport.getJson(...question);
      world.happened('client: others know what became of a single call');
      return answer;
    },
    lines: (...question) => transport.lines(...question),
    close: () => transport.close(),
  };
}
