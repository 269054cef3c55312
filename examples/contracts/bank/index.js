'use strict';

const { Contract } = require('fabric-contract-api');
const { formatAmount, parseAmount } = require('./amount.js');

/**
 * Accounts of a bank. Amounts are decimal strings with up to six digits after the point
 * (`'12.5'`, `'0.000001'`); inside they are integers, never floating point numbers.
 *
 * Keys: `account/<id>` for the bank's own accounts, `external/<bank>/<account>` for accounts at
 * other banks, which are only ever credited.
 */
class Bank extends Contract {
  constructor() {
    super('Bank');
  }

  /** Opens an account. */
  async open(ctx, account, owner, balance) {
    const key = accountKey(account);
    if ((await ctx.stub.getState(key)).length > 0) {
      throw new Error(`account ${account} exists already`);
    }
    const amount = parseAmount(balance);
    if (amount < 0n) throw new Error('an account cannot be opened with a negative balance');
    await write(ctx, key, { owner, balance: formatAmount(amount) });
  }

  /** Moves an amount between two accounts of the bank; returns the payer's new balance. */
  async transfer(ctx, from, to, amount) {
    const value = positive(amount);
    if (from === to) throw new Error('payer and payee are the same account');
    const payer = await read(ctx, accountKey(from), `account ${from}`);
    const payee = await read(ctx, accountKey(to), `account ${to}`);
    debit(payer, value, from);
    credit(payee, value);
    await write(ctx, accountKey(from), payer);
    await write(ctx, accountKey(to), payee);
    return payer.balance;
  }

  /**
   * Executes a standing payment order: debits an account and credits one at another bank, which
   * comes into being with its first credit. `reference` names order and month, for the reader of
   * the journal. Returns the payer's new balance.
   */
  async pay(ctx, reference, from, payeeBank, payeeAccount, amount) {
    if (reference === '') throw new Error('a payment needs a reference');
    const value = positive(amount);
    const payer = await read(ctx, accountKey(from), `account ${from}`);
    const payeeKey = externalKey(payeeBank, payeeAccount);
    const stored = await ctx.stub.getState(payeeKey);
    const payee = stored.length > 0 ? JSON.parse(stored.toString()) : { balance: '0' };
    debit(payer, value, from);
    credit(payee, value);
    await write(ctx, accountKey(from), payer);
    await write(ctx, payeeKey, payee);
    return payer.balance;
  }

  /** The balance of an account. */
  async balance(ctx, account) {
    return (await read(ctx, accountKey(account), `account ${account}`)).balance;
  }

  /**
   * Number and sum of the rows with `start <= key < end`, e.g. `account/` to `account0` for all
   * accounts of the bank (`0` is the character after `/`).
   */
  async total(ctx, start, end) {
    let count = 0;
    let sum = 0n;
    for await (const { value } of ctx.stub.getStateByRange(start, end)) {
      count++;
      sum += parseAmount(JSON.parse(value.toString()).balance);
    }
    return { count, sum: formatAmount(sum) };
  }

  /** At most `limit` rows from `start` on, for reports: `{rows: [{key, balance}], next}`. */
  async list(ctx, start, end, limit) {
    const page = await ctx.stub.getStateByRangeWithPagination(start, end, Number(limit), '');
    const rows = [];
    for (;;) {
      const { value, done } = await page.iterator.next();
      if (done) break;
      rows.push({ key: value.key, balance: JSON.parse(value.value.toString()).balance });
    }
    return { rows, next: page.metadata.bookmark };
  }
}

function accountKey(account) {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(account)) throw new Error('not an account number');
  return `account/${account}`;
}

function externalKey(bank, account) {
  if (!/^[A-Za-z0-9-]{1,64}$/.test(bank) || !/^[A-Za-z0-9-]{1,64}$/.test(account)) {
    throw new Error('not an account at another bank');
  }
  return `external/${bank}/${account}`;
}

async function read(ctx, key, what) {
  const stored = await ctx.stub.getState(key);
  if (stored.length === 0) throw new Error(`${what} does not exist`);
  return JSON.parse(stored.toString());
}

function write(ctx, key, row) {
  return ctx.stub.putState(key, Buffer.from(JSON.stringify(row)));
}

function positive(amount) {
  const value = parseAmount(amount);
  if (value <= 0n) throw new Error('an amount must be more than 0');
  return value;
}

function debit(row, value, account) {
  const balance = parseAmount(row.balance);
  if (balance < value) throw new Error(`insufficient funds on account ${account}`);
  row.balance = formatAmount(balance - value);
}

function credit(row, value) {
  row.balance = formatAmount(parseAmount(row.balance) + value);
}

module.exports.contracts = [Bank];
