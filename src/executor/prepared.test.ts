import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { checkPayload, type Outcome, type Signer } from '../model/index.ts';
import { openTestChannel, signCalls, type TestCall, type TestChannel } from './testing/harness.ts';
import type { TestContracts } from './testing/inline-processes.ts';

/* Transactions that are signed singly: executed and endorsed, then signed, then brought into the log. */

const io = realIo();
const contracts: TestContracts = {
  'money:add': async (state, [key = '']) => {
    const after = String(Number((await state.get('money', key)) ?? 0) + 1);
    state.put('money', key, after);
    return after;
  },
  'money:read': async (state, [key = '']) => (await state.get('money', key)) ?? '',
  'money:refuse': async () => {
    throw new DaybookError('CONTRACT_REJECTED', 'no');
  },
  'money:bytes': async (state) => {
    state.put('money', '\xff\xfe', '1');
    return '';
  },
};
const bundle = {
  name: 'money',
  version: '1',
  source: '0',
  options: { readYourWrites: false, indexes: {} },
};
const call = (functionName: string, key = 'k'): TestCall => ({
  contract: 'money',
  functionName,
  args: [key],
});

async function withChannel(
  body: (channel: TestChannel) => Promise<void>,
  { executors = 1, endorses = true } = {},
): Promise<void> {
  const own: { signer?: Signer } = {};
  const endorser = {
    signer: async (): Promise<Signer> => own.signer as Signer,
    placesOf: async (positions: readonly unknown[]) =>
      positions.map(() => ({ block: 1, transaction: 0 })),
  };
  const executor = endorses ? { endorser } : {};
  const channel = await openTestChannel({ contracts, executors, executor });
  own.signer = channel.signer;
  try {
    expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
    await channel.settle();
    await body(channel);
  } finally {
    await channel.close();
  }
}

interface Prepared {
  readonly txId: Uint8Array;
  readonly payload: Buffer;
}

async function prepare(channel: TestChannel, one: TestCall, node = 0): Promise<Prepared> {
  const batch = signCalls(io, channel.signer, [one]);
  const payload = await channel.nodes[node]?.executor.prepare(batch, 1000);
  if (payload === undefined) throw new Error('no such node');
  const [item] = batch.items;
  return { txId: item?.txId ?? Buffer.alloc(0), payload };
}

function send(
  channel: TestChannel,
  { txId, payload }: Prepared,
  signature = channel.signer.sign(payload),
  node = 0,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const deadlineMs = io.clock.monotonicMs() + 10_000;
    channel.nodes[node]?.executor.submitPrepared(txId, signature, deadlineMs, resolve);
  });
}

test('is committed with its signature, once, however often it is sent', async () => {
  await withChannel(async (channel) => {
    const prepared = await prepare(channel, call('add'));
    // Nothing has happened yet.
    expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('');
    const [first, second] = await Promise.all([send(channel, prepared), send(channel, prepared)]);
    expect(first).toMatchObject({ status: 'committed', result: '1' });
    expect(second).toEqual(first);
    expect(await send(channel, prepared)).toEqual(first);
    expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('1');
    // Others see what it wrote, in the log and at execution.
    expect(await channel.submit(0, [call('add')])).toMatchObject([{ result: '2' }]);
    expect(await send(channel, await prepare(channel, call('add')))).toMatchObject({ result: '3' });
  });
});

test('is refused when what it read has changed, whichever node changed it', async () => {
  await withChannel(
    async (channel) => {
      for (const node of [0, 1]) {
        const stale = await prepare(channel, call('add'));
        expect(await channel.submit(node, [call('add')])).toMatchObject([{ status: 'committed' }]);
        expect(await send(channel, stale)).toMatchObject({ error: { code: 'ENDORSEMENT_STALE' } });
        await expect(send(channel, stale)).rejects.toMatchObject({
          code: expect.stringMatching(/^ENDORSEMENT_(STALE|UNKNOWN)$/),
        });
      }
      // Also what was deployed when it was endorsed.
      const old = await prepare(channel, call('read'));
      await channel.deploy(0, { ...bundle, version: '2' });
      expect(await send(channel, old)).toMatchObject({ error: { code: 'ENDORSEMENT_STALE' } });
      await channel.settle();
      expect(await channel.evaluate(1, 'money', 'read', 'k')).toBe('2');
    },
    { executors: 2 },
  );
});

test('of many that read the same, one is committed', async () => {
  await withChannel(async (channel) => {
    const all = await Promise.all(Array.from({ length: 8 }, () => prepare(channel, call('add'))));
    const outcomes = await Promise.all(all.map((one) => send(channel, one)));
    expect(outcomes.filter(({ status }) => status === 'committed')).toHaveLength(1);
    expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('1');
    // Those that read other keys are committed together.
    const other = await Promise.all(
      Array.from({ length: 8 }, (_, at) => prepare(channel, call('add', `own${at}`))),
    );
    for (const outcome of await Promise.all(other.map((one) => send(channel, one)))) {
      expect(outcome.status).toBe('committed');
    }
  });
});

test('takes no signature but the creator’s, and keeps waiting for that', async () => {
  await withChannel(async (channel) => {
    const prepared = await prepare(channel, call('add'));
    const wrong = channel.signer.sign(Buffer.from('something else'));
    await expect(send(channel, prepared, wrong)).rejects.toMatchObject({
      code: 'SIGNATURE_INVALID',
    });
    await expect(send(channel, prepared, Buffer.alloc(0))).rejects.toMatchObject({
      code: 'SIGNATURE_INVALID',
    });
    const unknown = { ...prepared, txId: Buffer.alloc(32) };
    await expect(send(channel, unknown)).rejects.toMatchObject({ code: 'ENDORSEMENT_UNKNOWN' });
    expect(await send(channel, prepared)).toMatchObject({ status: 'committed' });
  });
});

test('says why a call cannot be endorsed', async () => {
  await withChannel(async (channel) => {
    await expect(prepare(channel, call('refuse'))).rejects.toMatchObject({ message: 'no' });
    await expect(prepare(channel, call('bytes'))).rejects.toMatchObject({
      code: 'NOT_ENDORSABLE',
      details: { reason: 'a key is not UTF-8' },
    });
    const two = signCalls(io, channel.signer, [call('add'), call('add')]);
    await expect(channel.nodes[0]?.executor.prepare(two, 1000)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const late = { ...io, clock: { ...io.clock, nowMs: () => io.clock.nowMs() - 1e6 } };
    const expired = signCalls(late, channel.signer, [call('add')]);
    await expect(channel.nodes[0]?.executor.prepare(expired, 1000)).rejects.toMatchObject({
      code: 'TRANSACTION_EXPIRED',
    });
  });
  await withChannel(
    async (channel) => {
      await expect(prepare(channel, call('add'))).rejects.toMatchObject({ code: 'NOT_ENDORSABLE' });
    },
    { endorses: false },
  );
});

test('a client can tell its own payload from another one', async () => {
  await withChannel(async (channel) => {
    const batch = signCalls(io, channel.signer, [call('add')]);
    const payload = (await channel.nodes[0]?.executor.prepare(batch, 1000)) ?? Buffer.alloc(0);
    const received = batch.items[0]?.transaction;
    if (received === undefined) throw new Error('no transaction');
    // A decoded one makes these fields when they are asked for.
    const { args, nonce } = received;
    const transaction = { ...received, args, nonce };
    const { result } = checkPayload(payload, transaction, batch.creatorBytes);
    expect(result.toString()).toBe('1');
    for (const changed of [
      { ...transaction, functionName: 'read' },
      { ...transaction, args: [Buffer.from('other')] },
      { ...transaction, nonce: Buffer.alloc(24) },
      { ...transaction, timestampMs: transaction.timestampMs + 1 },
    ]) {
      expect(() => checkPayload(payload, changed, batch.creatorBytes)).toThrow(DaybookError);
    }
  });
});
