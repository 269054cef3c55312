import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { sampleData } from './sample.ts';
import { readAccounts, readOrders } from './tsv.ts';

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-tsv-'));
});
afterAll(() => rm(directory, { recursive: true }));

const file = async (text: string): Promise<string> => {
  const path = join(directory, 'rows.tsv');
  await writeFile(path, text);
  return path;
};

test('reads accounts and orders', async () => {
  const accounts = await readAccounts(await file('1\t18\t2015-03-24\tM\n2\t1\t2013-02-26\tW\r\n'));
  expect(accounts.map(({ id, openedOn }) => [id, openedOn])).toEqual([
    ['1', '2015-03-24'],
    ['2', '2013-02-26'],
  ]);
  const orders = await readOrders(
    await file('29401\t1\tYZ\t87144583\t245.20\tHH\n29405\t3\tCD\t24485939\t32.7\t  \n'),
  );
  expect(orders).toEqual([
    {
      id: '29401',
      account: '1',
      payeeBank: 'YZ',
      payeeAccount: '87144583',
      amount: 245_200_000n,
      purpose: 'HH',
    },
    {
      id: '29405',
      account: '3',
      payeeBank: 'CD',
      payeeAccount: '24485939',
      amount: 32_700_000n,
      purpose: '',
    },
  ]);
});

const good = '1\t1\tYZ\t2\t1.00\tHH\n';
test.each([
  ['a column is missing', `${good}2\t1\tYZ\t2\t1.00\n`, 2],
  ['the amount is no decimal', `${good}\n2\t1\tYZ\t2\t1,00\tHH\n`, 3],
  ['the amount is 0', '2\t1\tYZ\t2\t0.00\tHH\n', 1],
  ['the bank has three letters', '2\t1\tXYZ\t2\t1.00\tHH\n', 1],
  ['an order occurs twice', good + good, 2],
  ['the purpose is unknown', '2\t1\tYZ\t2\t1.00\tXX\n', 1],
])('%s: the error names the line', async (_what, text, line) => {
  await expect(readOrders(await file(text))).rejects.toMatchObject({
    code: 'MALFORMED',
    message: expect.stringMatching(new RegExp(`^rows\\.tsv line ${line}: `)),
    details: { line },
  });
});

test('a file that is not there is said to be missing', async () => {
  await expect(readAccounts(join(directory, 'none.tsv'))).rejects.toMatchObject({
    code: 'NOT_FOUND',
  });
});

test('the made-up bank is always the same, and has the shape of the files', () => {
  const data = sampleData(1000);
  expect(sampleData(1000)).toEqual(data);
  expect(data.accounts).toHaveLength(1000);
  expect(data.orders.length).toBeGreaterThan(1300);
  expect(new Set(data.orders.map((order) => order.id)).size).toBe(data.orders.length);
  expect(data.orders.some((order) => order.amount % 10_000n !== 0n)).toBe(true);
});
