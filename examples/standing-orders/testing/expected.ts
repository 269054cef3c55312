import { createHash } from 'node:crypto';
import { formatAmount } from '../amount.ts';
import { openingBalance } from '../opening.ts';
import type { BankData } from '../records.ts';
import type { RunResult } from '../run.ts';

/** What a run must come to: the same bookkeeping in a plain loop, without a ledger. */
export function expectedResult(
  { accounts, orders }: BankData,
  months: number,
): Pick<RunResult, 'accounts' | 'orders' | 'committed' | 'refused' | 'conserved' | 'digest'> {
  const balances = new Map(
    accounts.map((account) => [`account/${account.id}`, openingBalance(account)]),
  );
  let committed = 0;
  let refused = 0;
  for (let month = 0; month < months; month++) {
    for (const { account, payeeBank, payeeAccount, amount } of orders) {
      const payer = `account/${account}`;
      const payee = `external/${payeeBank}/${payeeAccount}`;
      const held = balances.get(payer) ?? -1n;
      if (held < amount) {
        refused++;
        continue;
      }
      committed++;
      balances.set(payer, held - amount);
      balances.set(payee, (balances.get(payee) ?? 0n) + amount);
    }
  }
  const digest = createHash('sha256');
  // Keys are ASCII, so the default order is the ledger's byte order.
  for (const key of [...balances.keys()].sort()) {
    digest.update(`${key}\t${formatAmount(balances.get(key) ?? 0n)}\n`);
  }
  return {
    accounts: accounts.length,
    orders: orders.length,
    committed,
    refused,
    conserved: true,
    digest: digest.digest('hex'),
  };
}
