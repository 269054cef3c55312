import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { bundleContract } from './bundle.ts';
import type { ContractBundle } from './runtime.ts';
import { Harness } from './testing/harness.ts';

const contracts = fileURLToPath(new URL('../../examples/contracts', import.meta.url));

describe('the bank', () => {
  let bundle: ContractBundle;

  beforeAll(async () => {
    bundle = { ...(await bundleContract(join(contracts, 'bank'))), name: 'sample' };
  });

  it('opens, transfers, pays and refuses', async () => {
    const bank = new Harness([bundle]);
    await bank.result('open', '1', 'Ann', '100');
    await bank.result('open', '2', 'Bob', '0.000001');
    expect(await bank.refusal('open', '1', 'Ann', '5')).toMatch(/exists already/);
    expect(await bank.refusal('open', '3', 'Eve', '-5')).toMatch(/negative/);
    expect(await bank.result('transfer', '1', '2', '33.333333')).toBe('66.666667');
    expect(await bank.result('balance', '2')).toBe('33.333334');
    expect(await bank.refusal('transfer', '1', '2', '66.666668')).toBe(
      'CONTRACT_REJECTED: insufficient funds on account 1',
    );
    expect(await bank.refusal('transfer', '1', '1', '1')).toMatch(/same account/);
    expect(await bank.refusal('transfer', '1', '9', '1')).toMatch(/does not exist/);
    for (const wrong of ['0', '-1', '1e3', '', '1.0000001', ' 1', 'NaN']) {
      expect(await bank.refusal('transfer', '1', '2', wrong)).toMatch(/^CONTRACT_REJECTED/);
    }
    expect(await bank.result('pay', 'order 1, month 1', '1', 'AB', '77', '66.666667')).toBe('0');
    await bank.result('pay', 'order 2, month 1', '2', 'AB', '77', '3.3');
    expect(JSON.parse(await bank.result('total', 'external/', 'external0'))).toEqual({
      count: 1,
      sum: '69.966667',
    });
    expect(JSON.parse(await bank.result('total', '', ''))).toEqual({ count: 3, sum: '100.000001' });
    expect(JSON.parse(await bank.result('list', '', '', '2'))).toEqual({
      rows: [
        { key: 'account/1', balance: '0' },
        { key: 'account/2', balance: '30.033334' },
      ],
      next: 'external/AB/77',
    });
  });

  it('neither makes nor loses money, and does the same on another node', async () => {
    const step = fc.record({
      kind: fc.constantFrom('transfer', 'pay'),
      from: fc.integer({ min: 1, max: 4 }),
      to: fc.integer({ min: 1, max: 5 }),
      millionths: fc.integer({ min: 0, max: 90_000_000 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const [bank, other] = [new Harness([bundle]), new Harness([bundle])];
        for (const node of [bank, other]) {
          for (const id of ['1', '2', '3', '4']) await node.result('open', id, 'x', '50');
          for (const { kind, from, to, millionths } of steps) {
            const amount = `${Math.floor(millionths / 1e6)}.${String(millionths % 1e6).padStart(6, '0')}`;
            if (kind === 'transfer') await node.call('transfer', `${from}`, `${to}`, amount);
            else await node.call('pay', 'r', `${from}`, 'AB', `${to}`, amount);
          }
        }
        expect(JSON.parse(await bank.result('total', '', ''))).toMatchObject({ sum: '200' });
        expect([...other.state.rows]).toEqual([...bank.state.rows]);
      }),
      { numRuns: 15 },
    );
  });
});

describe('the bench contract', () => {
  it('moves between rows', async () => {
    const bundle = { ...(await bundleContract(join(contracts, 'bench'))), name: 'sample' };
    const bench = new Harness([bundle]);
    await bench.result('fill', 'k', '0', '3');
    await bench.result('move', 'k0', 'k1', '5');
    expect(bench.state.texts('sample')).toEqual({
      k0: '{"balance":-5,"moves":1}',
      k1: '{"balance":5,"moves":1}',
      k2: '{"balance":0,"moves":0}',
    });
    expect(await bench.result('read', 'k1')).toBe('5');
  });
});
