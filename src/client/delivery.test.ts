import fc from 'fast-check';
import { expect, test } from 'vitest';
import { DaybookError, limits } from '../base/index.ts';
import type { Client } from './index.ts';
import type { ConnectOptions } from './options.ts';
import { type Faults, FaultyNetwork } from './testing/faulty-network.ts';
import { startClient } from './testing/start-client.ts';
import { VirtualIo } from './testing/virtual-io.ts';
import { AttemptLost } from './transport.ts';

async function start(
  io: VirtualIo,
  faults: Partial<Faults>,
  options: Partial<ConnectOptions> = {},
): Promise<{ client: Client; network: FaultyNetwork }> {
  const none = { unreachable: 0, overloaded: 0, lostAnswer: 0, conflict: 0, refusal: 0 };
  const network = new FaultyNetwork(io, { ...none, nothingHeard: 0, ...faults });
  const client = await startClient(io, network, options);
  return { client, network };
}

interface Ended {
  readonly argument: string;
  readonly key: string;
  readonly txId: string | undefined;
  readonly code: string | undefined;
}

// Not `fc.double`: nearly all of its numbers are next to nothing.
const probability = fc.nat(40).map((percent) => percent / 100);

test('whatever gets lost: once, in order of the key, and told the truth', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(),
      fc.record({
        unreachable: probability,
        overloaded: probability,
        lostAnswer: probability,
        nothingHeard: probability,
        conflict: probability,
        refusal: probability,
      }),
      fc.array(fc.record({ key: fc.nat(4), gapMs: fc.nat(30) }), { minLength: 1, maxLength: 60 }),
      fc.constantFrom(400, 4_000, 30_000),
      async (seed, faults, plan, deadlineMs) => {
        const io = new VirtualIo(seed);
        const { client, network } = await start(io, faults, { batchCount: 7, deadlineMs });
        const ended: Promise<Ended>[] = [];
        const submitAll = async (): Promise<Ended[]> => {
          for (const [at, { key: number, gapMs }] of plan.entries()) {
            const key = number === 0 ? '' : `k${number}`;
            const argument = String(at).padStart(3, '0');
            const call = client.submit('c', 'f', [argument], { orderingKey: key });
            ended.push(
              call.then(
                ({ txId }) => ({ argument, key, txId, code: undefined }),
                ({ code, details }: DaybookError) => ({
                  argument,
                  key,
                  txId: details.txId as string | undefined,
                  code,
                }),
              ),
            );
            if (gapMs > 20) await io.sleep(gapMs);
          }
          return Promise.all(ended);
        };
        const results = await io.run(submitAll());
        // What paused gateways still hold takes effect now.
        await io.run(io.sleep(5_000));

        expect(network.keyTwiceUnderWay).toBe(false);
        const ids = network.effects.map((effect) => effect.txId);
        expect(new Set(ids).size).toBe(ids.length);
        const inEffect = new Set(network.effects.map((effect) => effect.argument));
        expect(inEffect.size).toBe(ids.length);
        for (const { argument, txId, code } of results) {
          if (code === undefined) expect(network.committed.has(txId as string)).toBe(true);
          else if (code === 'OUTCOME_UNKNOWN') expect(txId).toMatch(/^[0-9a-f]{64}$/);
          else expect([code, inEffect.has(argument)]).toEqual([code, false]);
        }
        // The order holds up to the first unknown outcome of a key: then the caller decides.
        for (let key = 1; key <= 4; key++) {
          const mine = results.filter((result) => result.key === `k${key}`);
          if (mine.some((result) => result.code === 'OUTCOME_UNKNOWN')) continue;
          const order = network.effects
            .filter((effect) => effect.orderingKey === `k${key}`)
            .map((effect) => effect.argument);
          expect(order).toEqual([...order].sort());
        }
        await io.run(client.close());
      },
    ),
    { numRuns: 200 },
  );
}, 60_000);

test('an answer that is lost is asked for with the same transaction', async () => {
  const io = new VirtualIo(3);
  const { client, network } = await start(io, { lostAnswer: 0.7, nothingHeard: 1 });
  await io.run(client.submit('c', 'f', ['x']));
  expect(network.effects.length).toBe(1);
  expect(network.batches).toBeGreaterThan(1);
});

test('nobody reachable: the deadline ends it, and it is known that nothing was sent', async () => {
  const io = new VirtualIo(1);
  const { client } = await start(io, { unreachable: 1 }, { deadlineMs: 1_000 });
  const error = await io.run(client.submit('c', 'f').catch((reason: unknown) => reason));
  expect(error).toMatchObject({ code: 'PEER_UNREACHABLE' });
  expect(io.clock.monotonicMs()).toBeGreaterThanOrEqual(1_000);
  expect(io.clock.monotonicMs()).toBeLessThan(7_000);
});

test('a gateway that rests is not waited for beyond the deadline', async () => {
  for (const seed of [1, 2, 3, 4]) {
    const io = new VirtualIo(seed);
    const { client } = await start(io, { unreachable: 1 }, { deadlineMs: 9_000 });
    const startMs = io.clock.monotonicMs();
    const call = client.submit('c', 'f', ['1']).catch((error: DaybookError) => error.code);
    expect(await io.run(call)).toBe('PEER_UNREACHABLE');
    expect(io.clock.monotonicMs() - startMs).toBeLessThan(9_010);
  }
});

test('answers lost for ever: the outcome is unknown, and what waits behind it is not sent', async () => {
  const io = new VirtualIo(1);
  const { client } = await start(io, { lostAnswer: 1, nothingHeard: 1 }, { deadlineMs: 500 });
  const call = async (argument: string): Promise<DaybookError> =>
    (await client
      .submit('c', 'f', [argument], { orderingKey: 'k' })
      .catch((reason: unknown) => reason)) as DaybookError;
  const later = io.sleep(200).then(() => call('second'));
  const first = await io.run(call('first'));
  expect(first.code).toBe('OUTCOME_UNKNOWN');
  expect(first.details.txId).toMatch(/^[0-9a-f]{64}$/);
  expect(await io.run(later)).toMatchObject({
    code: 'TIMEOUT',
    details: { unknownTxId: first.details.txId },
  });
});

test('an idle client sends at once; under load batches fill', async () => {
  const io = new VirtualIo(5);
  const { client, network } = await start(io, {}, { batchDelayMs: 5_000 });
  await io.run(client.submit('c', 'f', ['0']));
  expect(io.clock.monotonicMs()).toBeLessThan(30);
  const calls = Array.from({ length: 1_000 }, (_, at) => client.submit('c', 'f', [`${at}`]));
  await io.run(Promise.all(calls));
  expect(network.batches).toBe(11);
});

test('back-pressure: calls wait for room, or are turned away', async () => {
  const io = new VirtualIo(5);
  const waiting = await start(io, {}, { transactionsInFlightMax: 10, batchCount: 5 });
  const calls = Array.from({ length: 100 }, (_, at) => waiting.client.submit('c', 'f', [`${at}`]));
  expect((await io.run(Promise.all(calls))).length).toBe(100);
  expect(waiting.network.batches).toBeGreaterThanOrEqual(20);

  const options = { transactionsInFlightMax: 10, whenFull: 'reject' as const };
  const { client } = await start(io, {}, options);
  const results = Array.from({ length: 12 }, () =>
    client.submit('c', 'f').then(
      () => 'committed',
      (error: DaybookError) => error.details.limit,
    ),
  );
  const full = 'clientTransactionsInFlightMax';
  expect((await io.run(Promise.all(results))).slice(9)).toEqual(['committed', full, full]);
});

test('a call that is too large does not spoil the batch of others', async () => {
  const io = new VirtualIo(5);
  const { client } = await start(io, {});
  const good = client.submit('c', 'f', ['x']);
  await expect(
    client.submit('c', 'f', [Buffer.alloc(limits.argumentBytesMax + 1)]),
  ).rejects.toMatchObject({
    code: 'LIMIT_EXCEEDED',
    details: { limit: 'argumentBytesMax' },
  });
  await expect(client.submit('n'.repeat(200), 'f')).rejects.toMatchObject({
    details: { limit: 'nameBytesMax' },
  });
  expect((await io.run(good)).position).toBe(1);
});

test('closing waits for what is under way, or gives it up', async () => {
  const io = new VirtualIo(5);
  const first = await start(io, {});
  const done = first.client.submit('c', 'f', ['x']);
  await io.run(first.client.close());
  expect((await done).position).toBe(1);
  await expect(first.client.submit('c', 'f')).rejects.toMatchObject({ code: 'CLOSED' });

  const second = await start(io, { unreachable: 1 });
  const never = second.client.submit('c', 'f', ['x']).catch((reason: unknown) => reason);
  await io.run(io.sleep(1_000));
  await io.run(second.client.close({ now: true }));
  expect(await io.run(never)).toMatchObject({ code: 'CLOSED' });
});

test('turned down until the deadline after a lost attempt: it may take effect yet, however late', async () => {
  const io = new VirtualIo(1);
  const network = new FaultyNetwork(io, {
    unreachable: 0,
    overloaded: 0,
    lostAnswer: 0,
    conflict: 0,
    refusal: 0,
    nothingHeard: 0,
  });
  const send = FaultyNetwork.prototype.send.bind(network);
  let lost = 0;
  // The node that has the chain cannot write it at present, and takes nothing more.
  network.send = async (gateway, attempt): Promise<void> => {
    if (attempt.count === 1) return await send(gateway, attempt);
    await io.sleep(5);
    if (lost++ === 0) throw new AttemptLost(true, new Error('connection reset'));
    throw new DaybookError('OVERLOADED', 'no room');
  };
  const client = await startClient(io, network, { deadlineMs: 6_000 });
  const calls = ['1', '2', '3'].map((argument) =>
    client.submit('c', 'f', [argument], { orderingKey: 'k' }).catch((reason: unknown) => reason),
  );
  const [, ...chain] = await io.run(Promise.all(calls));
  expect(lost).toBeGreaterThan(1);
  for (const error of chain) expect(error).toMatchObject({ code: 'OUTCOME_UNKNOWN' });
});
