import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { DaybookError } from '../../src/base/index.ts';
import { CallResult } from '../../src/client/index.ts';
import { asPosition } from '../../src/model/index.ts';
import { formatAmount, parseAmount } from './amount.ts';
import type { BankData } from './records.ts';
import { type BankClient, runStandingOrders } from './run.ts';
import { sampleData } from './sample.ts';
import { expectedResult } from './testing/expected.ts';

/** A bank without a ledger. Answers late and in any order, and keeps the order of keys. */
class FakeBank implements BankClient {
  readonly rows = new Map<string, bigint>();
  /** Gets lost with every payment. */
  leak = 0n;
  readonly #chains = new Map<string, Promise<unknown>>();

  submit: BankClient['submit'] = (_contract, name, args = [], { orderingKey = '' } = {}) => {
    const work = async (): Promise<CallResult> => {
      await sleep(Math.random() * 2);
      return this.#execute(name, args.map(String));
    };
    if (orderingKey === '') return work();
    const before = this.#chains.get(orderingKey) ?? Promise.resolve();
    const after = before.then(work, work);
    this.#chains.set(orderingKey, after);
    return after;
  };

  evaluate: BankClient['evaluate'] = async (_contract, name, args = []) => {
    expect(name).toBe('list');
    const [start = '', end = '', limit] = args.map(String);
    const keys = [...this.rows.keys()].sort().filter((key) => key >= start && key < end);
    const rows = keys
      .slice(0, Number(limit))
      .map((key) => ({ key, balance: formatAmount(this.rows.get(key) ?? 0n) }));
    return answer(JSON.stringify({ rows, next: keys[Number(limit)] ?? '' }));
  };

  #execute(name: string, args: readonly string[]): CallResult {
    if (name === 'open') {
      const [account = '', , balance = ''] = args;
      this.rows.set(`account/${account}`, parseAmount(balance));
      return answer('');
    }
    const [, account, payeeBank, payeeAccount, text = ''] = args;
    const amount = parseAmount(text);
    const held = this.rows.get(`account/${account}`) ?? -1n;
    if (held < amount) throw new DaybookError('CONTRACT_REJECTED', 'insufficient funds');
    this.rows.set(`account/${account}`, held - amount);
    const payee = `external/${payeeBank}/${payeeAccount}`;
    this.rows.set(payee, (this.rows.get(payee) ?? 0n) + amount - this.leak);
    return answer('');
  }
}

const answer = (text: string): CallResult => new CallResult('', asPosition(0), text);

const data: BankData = sampleData(60);
const options = { months: 20, prefix: '', onProgress: () => undefined };

test('a run comes to what plain bookkeeping comes to', async () => {
  const expected = expectedResult(data, options.months);
  expect(expected.refused).toBeGreaterThan(0);
  expect(await runStandingOrders(new FakeBank(), data, options)).toMatchObject(expected);
});

test('a prefix keeps runs apart and does not change the digest', async () => {
  const bank = new FakeBank();
  const first = await runStandingOrders(bank, data, { ...options, prefix: 'run-1-' });
  const second = await runStandingOrders(bank, data, { ...options, prefix: 'run-2-' });
  expect(second).toMatchObject({ digest: first.digest, conserved: true });
  expect(first.digest).toBe(expectedResult(data, options.months).digest);
});

test('lost money is noticed', async () => {
  const bank = new FakeBank();
  bank.leak = 1n;
  expect(await runStandingOrders(bank, data, options)).toMatchObject({ conserved: false });
});

test('an order of an account that is not there is refused and reported', async () => {
  const stray = { ...data.orders[0], id: '1', account: '999999' } as BankData['orders'][number];
  const result = await runStandingOrders(
    new FakeBank(),
    { ...data, orders: [stray] },
    { ...options, months: 3 },
  );
  expect(result).toMatchObject({ committed: 0, refused: 3, conserved: true });
  expect(result.refusals).toEqual([
    { order: '1', account: '999999', times: 3, reason: 'insufficient funds' },
  ]);
});

test('another error than a refusal ends the run', async () => {
  const bank = new FakeBank();
  bank.submit = () => Promise.reject(new DaybookError('OUTCOME_UNKNOWN', 'no answer'));
  await expect(runStandingOrders(bank, data, options)).rejects.toMatchObject({
    code: 'OUTCOME_UNKNOWN',
  });
});
