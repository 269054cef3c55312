import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { Client } from './index.ts';
import type { ConnectOptions } from './options.ts';
import { type EndorserFaults, FaultyEndorsers } from './testing/faulty-endorsers.ts';
import { startClient, testGateways } from './testing/start-client.ts';
import { VirtualIo } from './testing/virtual-io.ts';

/* Calls that are signed singly: prepared by a node, signed, sent to it again; with faults. */

async function start(
  io: VirtualIo,
  faults: Partial<EndorserFaults>,
  options: Partial<ConnectOptions> = {},
): Promise<{ client: Client; network: FaultyEndorsers }> {
  const network = new FaultyEndorsers(io, faults);
  const client = await startClient(io, network, { signing: 'single', ...options });
  return { client, network };
}

interface Ended {
  readonly argument: string;
  readonly key: string;
  readonly txId: string | undefined;
  readonly code: string | undefined;
}

function submit(client: Client, argument: string, key = '', deadlineMs?: number): Promise<Ended> {
  const options = { orderingKey: key, ...(deadlineMs === undefined ? {} : { deadlineMs }) };
  return client.submit('c', 'f', [argument], options).then(
    ({ txId }) => ({ argument, key, txId, code: undefined }),
    ({ code, details }: DaybookError) => {
      return { argument, key, txId: details.txId as string | undefined, code };
    },
  );
}

/** Of calls that have no effect. */
const possible = [
  'CONTRACT_REJECTED',
  'ENDORSEMENT_UNKNOWN',
  'OVERLOADED',
  'PEER_UNREACHABLE',
  'TIMEOUT',
  'TRANSACTION_CONFLICT',
];

// Not `fc.double`: nearly all of its numbers are next to nothing.
const probability = fc.nat(40).map((percent) => percent / 100);

test('whatever gets lost: each call takes effect once, in order of its key, and the truth is told', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.record({
        unreachable: probability,
        overloaded: probability,
        lostAnswer: probability,
        restart: probability,
        stale: probability,
        refusal: fc.nat(10).map((percent) => percent / 100),
      }),
      fc.array(fc.record({ key: fc.nat(3), gapMs: fc.nat(30) }), { minLength: 1, maxLength: 20 }),
      fc.constantFrom(400, 4_000, 30_000),
      fc.option(fc.nat(2_000), { nil: undefined }),
      async (seed, faults, plan, deadlineMs, deathMs) => {
        const io = new VirtualIo(seed);
        const { client, network } = await start(io, faults, { deadlineMs });
        if (deathMs !== undefined) {
          io.timers.after(deathMs, () => network.dead.add(testGateways[seed % 3] as string));
        }
        const submitAll = async (): Promise<Ended[]> => {
          const ended: Promise<Ended>[] = [];
          for (const [at, { key, gapMs }] of plan.entries()) {
            ended.push(submit(client, String(at).padStart(3, '0'), key === 0 ? '' : `k${key}`));
            if (gapMs > 15) await io.sleep(gapMs);
          }
          return Promise.all(ended);
        };
        const results = await io.run(submitAll());
        // What nodes still have under way takes effect now.
        await io.run(io.sleep(5_000));

        const inEffect = new Map(network.effects.map(({ argument, txId }) => [argument, txId]));
        expect(inEffect.size).toBe(network.effects.length);
        for (const { argument, txId, code } of results) {
          if (code === undefined) expect(inEffect.get(argument)).toBe(txId);
          else if (code === 'OUTCOME_UNKNOWN') expect(txId).toMatch(/^[0-9a-f]{64}$/);
          else {
            expect(possible).toContain(code);
            expect([code, inEffect.has(argument)]).toEqual([code, false]);
          }
        }
        for (const key of ['k1', 'k2', 'k3']) {
          const mine = results.filter((result) => result.key === key);
          if (mine.some((result) => result.code === 'OUTCOME_UNKNOWN')) continue;
          const names = new Set(mine.map(({ argument }) => argument));
          const order = network.effects.map(({ argument }) => argument).filter((a) => names.has(a));
          expect(order).toEqual([...order].sort());
        }
        await io.run(client.close());
      },
    ),
    { numRuns: 80 },
  );
}, 60_000);

test('a lost answer is asked for again, with the same transaction', async () => {
  const io = new VirtualIo(3);
  const { client, network } = await start(io, { lostAnswer: 0.6 });
  expect(await io.run(submit(client, 'x'))).toMatchObject({ code: undefined });
  expect(network.effects.length).toBe(1);
  expect(network.sent.length).toBe(1);
});

test('what has changed meanwhile is executed again, as another transaction, until the deadline', async () => {
  const io = new VirtualIo(4);
  const some = await start(io, { stale: 0.7 });
  expect(await io.run(submit(some.client, 'x'))).toMatchObject({ code: undefined });
  expect(some.network.sent.length).toBeGreaterThan(1);
  expect(new Set(some.network.sent.map(({ txId }) => txId)).size).toBe(some.network.sent.length);

  const never = await start(io, { stale: 1 }, { deadlineMs: 3_000 });
  const startMs = io.clock.monotonicMs();
  expect(await io.run(submit(never.client, 'x'))).toMatchObject({ code: 'TRANSACTION_CONFLICT' });
  expect(io.clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(2_500);
  expect(io.clock.monotonicMs() - startMs).toBeLessThan(9_000);
});

test('of nodes that are gone the others tell what became of it', async () => {
  const io = new VirtualIo(5);
  const { client, network } = await start(io, {});
  // Each dies once the record is written and before it has answered; the calls go on elsewhere.
  const effects = network.effects.push.bind(network.effects);
  network.effects.push = (...made) => {
    if (network.dead.size < 2) network.dead.add(testGateways[network.dead.size] as string);
    return effects(...made);
  };
  const calls = Array.from({ length: 10 }, (_, at) => submit(client, `${at}`));
  const codes = (await io.run(Promise.all(calls))).map(({ code }) => code);
  const unsure = codes.filter((code) => code === 'OUTCOME_UNKNOWN').length;
  // Those that the dead had taken and not written; nobody can know.
  expect(network.effects.length + unsure).toBe(10);
  expect(codes.filter((code) => code === undefined).length).toBe(network.effects.length);
  expect(codes.filter((code) => code === undefined).length).toBeGreaterThanOrEqual(3);
});

test('a node that stops serving before the signature comes is left for another', async () => {
  const io = new VirtualIo(7);
  const { client, network } = await start(io, {});
  // It has prepared the call; from then on it refuses everything.
  const refusing = new Set<string>();
  network.post = new Proxy(network.post.bind(network), {
    apply: async (post, self, question: Parameters<typeof network.post>) => {
      const [gateway, path] = question;
      if (refusing.has(gateway)) throw new DaybookError('NODE_DIVERGED', 'it does not serve');
      const answer = await (Reflect.apply(post, self, question) as Promise<unknown>);
      if (path === 'prepare' && refusing.size === 0) refusing.add(gateway);
      return answer;
    },
  });
  const startMs = io.clock.monotonicMs();
  expect(await io.run(submit(client, 'x'))).toMatchObject({ code: undefined });
  expect(io.clock.monotonicMs() - startMs).toBeLessThan(5_000);
  expect(network.effects.length).toBe(1);
});

test('answers lost for ever: the outcome is unknown, and what waits behind it is not sent', async () => {
  const io = new VirtualIo(1);
  const { client, network } = await start(io, {});
  network.post = new Proxy(network.post.bind(network), {
    apply: async (post, self, [gateway, path, message]: Parameters<typeof network.post>) => {
      const answer = await (Reflect.apply(post, self, [
        gateway,
        path,
        message,
      ]) as Promise<unknown>);
      if (path === 'prepare') return answer;
      for (const one of testGateways) network.dead.add(one);
      return await (Reflect.apply(post, self, [gateway, path, message]) as Promise<unknown>);
    },
  });
  const first = submit(client, 'first', 'k', 500);
  const second = submit(client, 'second', 'k');
  expect(await io.run(first)).toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  expect(await io.run(second)).toMatchObject({ code: 'TIMEOUT' });
  expect(network.sent.map(({ argument }) => argument)).toEqual(['first']);
});

test('nobody reachable: it is known that nothing was sent', async () => {
  const io = new VirtualIo(1);
  const { client, network } = await start(io, { unreachable: 1 }, { deadlineMs: 1_000 });
  expect(await io.run(submit(client, 'x'))).toMatchObject({ code: 'PEER_UNREACHABLE' });
  expect(network.sent).toEqual([]);
});
