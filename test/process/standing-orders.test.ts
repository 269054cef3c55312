import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sampleData } from '../../examples/standing-orders/sample.ts';
import { expectedResult } from '../../examples/standing-orders/testing/expected.ts';
import { readAccounts, readOrders } from '../../examples/standing-orders/tsv.ts';
import { built, root } from './built.ts';

const program = built('examples/standing-orders/main.js');
const data = join(process.env.DAYBOOK_DATA ?? join(root, '../shared/data'), 'bank');

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

function run(...args: string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(process.execPath, [program, ...args], { timeout: 300_000 }, (error, out, err) => {
      const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1;
      resolve({ code, out, err });
    });
  });
}

test.each([1, 2, 4])(
  'with %i executors the balances are those of plain bookkeeping',
  async (executors) => {
    const ran = await run(
      ...`--sample-accounts 300 --months 12 --executors ${executors} --json`.split(' '),
    );
    expect({ code: ran.code, err: ran.code === 0 ? '' : ran.err }).toEqual({ code: 0, err: '' });
    const expected = expectedResult(sampleData(300), 12);
    expect(expected.refused).toBeGreaterThan(0);
    expect(JSON.parse(ran.out)).toMatchObject(expected);
  },
  120_000,
);

test.skipIf(!existsSync(join(data, 'orders.tsv')))(
  'a year of a real bank (needs DAYBOOK_DATA)',
  async () => {
    const accounts = join(data, 'accounts.tsv');
    const orders = join(data, 'orders.tsv');
    const files = ['--accounts', accounts, '--orders', orders];
    const ran = await run(...files, '--months', '12', '--executors', '2', '--json');
    expect({ code: ran.code, err: ran.code === 0 ? '' : ran.err }).toEqual({ code: 0, err: '' });
    const expected = expectedResult(
      { accounts: await readAccounts(accounts), orders: await readOrders(orders) },
      12,
    );
    expect(expected).toMatchObject({ accounts: 4500, orders: 6471 });
    expect(JSON.parse(ran.out)).toMatchObject(expected);
  },
  300_000,
);

test('wrong options and files end with exit code 2 before anything starts', async () => {
  for (const args of [['--months', '0'], ['--accounts', 'a.tsv'], ['--nonsense']]) {
    const ran = await run(...args);
    expect({ args, code: ran.code, out: ran.out }).toEqual({ args, code: 2, out: '' });
    expect(ran.err).toMatch(/^USAGE: /);
  }
  const missing = await run('--accounts', 'no.tsv', '--orders', 'no.tsv');
  expect(missing).toMatchObject({ code: 2, err: expect.stringMatching(/NOT_FOUND: .*no\.tsv/) });
}, 30_000);
