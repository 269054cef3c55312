import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { DaybookError } from '../../src/base/index.ts';
import { parseAmount } from './amount.ts';
import type { Account, StandingOrder } from './records.ts';

/**
 * Reads accounts: id, district, opening date, statement frequency (M, W or T), tab-separated.
 *
 * @throws {DaybookError} `NOT_FOUND`; `MALFORMED` with `details.file` and `details.line` (from 1).
 */
export async function readAccounts(path: string): Promise<Account[]> {
  const seen = new Set<string>();
  return readRows(path, 4, ([id = '', district = '', openedOn = '', frequency = '']) => {
    demand(/^\d{1,18}$/.test(id), `not an account id: ${JSON.stringify(id)}`);
    demand(!seen.has(id), `account ${id} occurs twice`);
    demand(
      /^\d{4}-\d{2}-\d{2}$/.test(openedOn) && !Number.isNaN(Date.parse(openedOn)),
      `not a date: ${JSON.stringify(openedOn)}`,
    );
    demand(/^[MWT]$/.test(frequency), `not a statement frequency: ${JSON.stringify(frequency)}`);
    seen.add(id);
    return { id, district, openedOn };
  });
}

/**
 * Reads standing orders: order id, paying account, bank of the payee, payee's account, amount,
 * purpose, tab-separated.
 *
 * @throws {DaybookError} as {@link readAccounts}
 */
export async function readOrders(path: string): Promise<StandingOrder[]> {
  const seen = new Set<string>();
  return readRows(path, 6, (fields) => {
    const [id = '', account = '', payeeBank = '', payeeAccount = '', amount = ''] = fields;
    demand(/^\d{1,18}$/.test(id), `not an order id: ${JSON.stringify(id)}`);
    demand(!seen.has(id), `order ${id} occurs twice`);
    demand(/^\d{1,18}$/.test(account), `not an account id: ${JSON.stringify(account)}`);
    demand(/^[A-Z]{2}$/.test(payeeBank), `not a bank: ${JSON.stringify(payeeBank)}`);
    demand(/^\d{1,18}$/.test(payeeAccount), `not an account id: ${JSON.stringify(payeeAccount)}`);
    const exact = parseAmount(amount);
    demand(exact > 0n, 'the amount is 0');
    const purpose = (fields[5] ?? '').trim();
    demand(/^(HH|LO|IN|LE|)$/.test(purpose), `not a purpose: ${JSON.stringify(purpose)}`);
    seen.add(id);
    return { id, account, payeeBank, payeeAccount, amount: exact, purpose };
  });
}

async function readRows<T>(
  path: string,
  columns: number,
  parse: (fields: readonly string[]) => T,
): Promise<T[]> {
  const file = await open(path).catch((cause: NodeJS.ErrnoException) => {
    const missing = cause.code === 'ENOENT';
    throw new DaybookError(missing ? 'NOT_FOUND' : 'IO_FAILED', `cannot read ${path}`, {
      cause,
      details: { file: path },
    });
  });
  const rows: T[] = [];
  let line = 0;
  try {
    for await (const text of file.readLines({ encoding: 'utf8' })) {
      line++;
      if (text === '') continue;
      const fields = text.split('\t');
      demand(fields.length === columns, `${fields.length} columns instead of ${columns}`);
      rows.push(parse(fields));
    }
    return rows;
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new DaybookError('MALFORMED', `${basename(path)} line ${line}: ${message}`, {
      cause,
      details: { what: 'tab-separated file', file: path, line },
    });
  } finally {
    await file.close();
  }
}

function demand(holds: boolean, message: string): void {
  if (!holds) throw new DaybookError('MALFORMED', message);
}
