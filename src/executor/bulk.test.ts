import { expect, it } from 'vitest';
import { textOf } from '../base/index.ts';
import { type ContractBundle, stateKey } from '../model/index.ts';
import { openTestChannel, type TestCall } from './testing/harness.ts';
import type { TestContracts } from './testing/inline-processes.ts';

const rowCount = 150;
const keyOf = (at: number): string => `row${String(at).padStart(4, '0')}`;

const bundle: ContractBundle = {
  name: 'bank',
  version: '1',
  source: '0',
  options: { readYourWrites: false, indexes: {} },
};

const contracts: TestContracts = {
  'bank:open': async (access) => {
    for (let at = 0; at < rowCount; at++) access.put('bank', keyOf(at), '{"n":1,"s":"0.50"}');
    return '';
  },
  'bank:add': async (access, [key = '']) => {
    const { n, ...rest } = JSON.parse(textOf((await access.get('bank', key)) ?? '')) as {
      n: number;
    };
    access.put('bank', key, JSON.stringify({ ...rest, n: n + 1 }));
    return '';
  },
  'bank:double': async (access, [start = '', end = '']) => {
    await access.updateRange('bank', { start, end }, '{}', '{"$mul":{"n":2},"$inc":{"s":"0.25"}}');
    return '';
  },
  'bank:sum': async (access) => {
    let sum = 0;
    for (const { value } of await access.range('bank', '', '', 1000)) {
      sum += (JSON.parse(textOf(value)) as { n: number }).n;
    }
    return String(sum);
  },
  'bank:wrong': async (access, [query = '', update = '']) => {
    await access.updateRange('bank', { start: '', end: '' }, query, update);
    return '';
  },
};

it.each([
  ['heavy', 'interleaved', 120],
  ['normal', 'interleaved', 10_000],
  ['heavy', 'transaction', 120],
] as const)(
  '%s updates and writes of two executors (%s) have one serial order',
  async (_, mode, heavyRowsMin) => {
    const channel = await openTestChannel({
      executors: 2,
      contracts,
      config: { exclusiveControl: mode, bulk: { heavyRowsMin, switchAfterBlocks: 3 } },
    });
    try {
      expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
      await channel.settle();
      const [opened] = await channel.submit(0, [{ contract: 'bank', functionName: 'open' }]);
      expect(opened?.status).toBe('committed');
      const done: { call: TestCall; position: number }[] = [];
      for (let round = 0; round < 8; round++) {
        const work = [0, 1].map(async (node) => {
          const calls = Array.from({ length: 25 }, (_unused, at): TestCall => {
            if (at % 12 === 5) {
              // Over all rows, over many, and over few, which are executed as reads and writes.
              const end = at === 5 ? '' : keyOf(node === 0 ? rowCount - 20 : 9);
              return { contract: 'bank', functionName: 'double', args: [keyOf(node), end] };
            }
            return { contract: 'bank', functionName: 'add', args: [keyOf((at * 7 + round) % 12)] };
          });
          const outcomes = await channel.submit(node, calls);
          outcomes.forEach((outcome, at) => {
            if (outcome.status !== 'committed') throw new Error(JSON.stringify(outcome));
            done.push({ call: calls[at] as TestCall, position: outcome.position });
          });
        });
        await Promise.all(work);
      }
      await channel.settle();
      const expected = new Map<string, number>();
      for (let at = 0; at < rowCount; at++) expected.set(keyOf(at), 1);
      done.sort((left, right) => left.position - right.position);
      for (const { call } of done) {
        const [first = '', end = ''] = call.args as string[];
        for (const [key, n] of expected) {
          if (call.functionName === 'add' && key === first) expected.set(key, n + 1);
          if (call.functionName === 'double' && key >= first && (end === '' || key < end)) {
            expected.set(key, n * 2);
          }
        }
      }
      for (const { state } of channel.nodes) {
        for (const [key, n] of expected) {
          const row = state.get(stateKey('bank', key));
          expect(JSON.parse(textOf(row?.value ?? ''))).toMatchObject({ n });
        }
      }
      const sum = [...expected.values()].reduce((total, n) => total + n, 0);
      for (const node of [0, 1])
        expect(await channel.evaluate(node, 'bank', 'sum')).toBe(String(sum));
      for (const { state } of channel.nodes) {
        for (let tries = 0; state.pendingUpdates.length > 0 && tries < 500; tries++) {
          await state.flush();
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        expect(state.pendingUpdates).toEqual([]);
      }
      for (const node of [0, 1])
        expect(await channel.evaluate(node, 'bank', 'sum')).toBe(String(sum));
    } finally {
      await channel.close();
    }
  },
);

it('refuses updates that are malformed or inexact, before anything is recorded', async () => {
  const channel = await openTestChannel({ contracts });
  try {
    await channel.deploy(0, bundle);
    await channel.submit(0, [{ contract: 'bank', functionName: 'open' }]);
    const codes: (string | undefined)[] = [];
    for (const args of [
      ['{}', '{"$push":{"n":1}}'],
      ['{}', '{"$inc":{"n":0.5}}'],
      ['{}', '{"$inc":{"n":1},"$set":{"n.a":1}}'],
      ['{}', '{"$inc":{"missing":1,"s":"x"}}'],
      ['{"s":{"$regex":"(a+)+$"}}', '{"$inc":{"n":1}}'],
      ['{"s":{"$where":"1"}}', '{"$inc":{"n":1}}'],
      ['{}', '{"$mul":{"n":"1.5"}}'],
    ]) {
      const [outcome] = await channel.submit(0, [
        { contract: 'bank', functionName: 'wrong', args },
      ]);
      codes.push(outcome?.status === 'rejected' ? outcome.error.code : outcome?.status);
    }
    expect(codes).toEqual([
      'UPDATE_INVALID',
      'UPDATE_INVALID',
      'UPDATE_INVALID',
      'UPDATE_INVALID',
      'QUERY_INVALID',
      'QUERY_INVALID',
      'UPDATE_INVALID',
    ]);
  } finally {
    await channel.close();
  }
});
