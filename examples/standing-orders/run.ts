import { createHash } from 'node:crypto';
import { isDaybookError } from '../../src/base/index.ts';
import type { Client } from '../../src/client/index.ts';
import { formatAmount, parseAmount } from './amount.ts';
import { openingBalance } from './opening.ts';
import type { BankData, StandingOrder } from './records.ts';

/** How a run went. */
export interface RunResult {
  readonly accounts: number;
  /** Standing orders; each is executed once a month. */
  readonly orders: number;
  readonly months: number;
  /** Payments made. */
  readonly committed: number;
  /** Payments that the contract refused. */
  readonly refused: number;
  /** Whether all balances together are what the accounts were opened with. */
  readonly conserved: boolean;
  /** SHA-256 over all final balances, payees' included, in the order of their ids. */
  readonly digest: string;
  /** Payments made a second. */
  readonly tps: number;
  readonly seconds: number;
  readonly totalBefore: string;
  readonly totalAfter: string;
  /** Orders that were refused, how often, and why the first time. */
  readonly refusals: readonly Refusal[];
}

export interface Refusal {
  readonly order: string;
  readonly account: string;
  readonly times: number;
  readonly reason: string;
}

/** How to run. */
export interface RunOptions {
  readonly months: number;
  /** Put before every account id (letters, digits, `-`), so that a ledger can be used more than once. */
  readonly prefix: string;
  readonly onProgress: (line: string) => void;
}

/** What of the SDK is used. */
export type BankClient = Pick<Client, 'submit' | 'evaluate'>;

const contract = 'bank';
/** Calls that wait for their answers at a time. */
const callsAtOnce = 10_000;
const balancesPerPage = 1_000;

/** Opens the accounts, executes the orders `months` times, and adds everything up. */
export async function runStandingOrders(
  client: BankClient,
  { accounts, orders }: BankData,
  { months, prefix, onProgress }: RunOptions,
): Promise<RunResult> {
  let totalBefore = 0n;
  await inChunks(accounts, async (account) => {
    const balance = openingBalance(account);
    totalBefore += balance;
    const holder = `district ${account.district}`;
    await client.submit(contract, 'open', [prefix + account.id, holder, formatAmount(balance)]);
  });
  onProgress(`opened ${accounts.length} accounts with ${formatAmount(totalBefore)}`);

  let committed = 0;
  const refusals = new Map<string, { account: string; times: number; reason: string }>();
  const execute = async (order: StandingOrder, month: number): Promise<void> => {
    const { id, account, payeeBank, payeeAccount, amount } = order;
    try {
      await client.submit(
        contract,
        'pay',
        [
          `${id}-${month}`,
          prefix + account,
          prefix + payeeBank,
          payeeAccount,
          formatAmount(amount),
        ],
        // What an account can still pay depends on what it paid before.
        { orderingKey: account },
      );
      committed++;
    } catch (error) {
      if (!isDaybookError(error, 'CONTRACT_REJECTED')) throw error;
      const known = refusals.get(id) ?? { account, times: 0, reason: error.message };
      refusals.set(id, { ...known, times: known.times + 1 });
    }
  };
  const startedMs = performance.now();
  for (let month = 1; month <= months; month++) {
    const monthStartedMs = performance.now();
    const before = committed;
    await inChunks(orders, (order) => execute(order, month));
    const paid = committed - before;
    const perSecond = Math.round((orders.length / (performance.now() - monthStartedMs)) * 1000);
    onProgress(
      `month ${month} of ${months}: ${paid} paid, ${orders.length - paid} refused, ` +
        `${perSecond} orders a second`,
    );
  }
  const seconds = (performance.now() - startedMs) / 1000;

  const { total, digest } = await addUp(client, prefix);
  const refused = months * orders.length - committed;
  return {
    accounts: accounts.length,
    orders: orders.length,
    months,
    committed,
    refused,
    conserved: total === totalBefore,
    digest,
    tps: Math.round(committed / seconds),
    seconds: Number(seconds.toFixed(3)),
    totalBefore: formatAmount(totalBefore),
    totalAfter: formatAmount(total),
    refusals: [...refusals].map(([order, refusal]) => ({ order, ...refusal })),
  };
}

/** Within a chunk calls start in order and run at the same time. */
async function inChunks<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  for (let at = 0; at < items.length; at += callsAtOnce) {
    await Promise.all(items.slice(at, at + callsAtOnce).map(work));
  }
}

interface BalancePage {
  readonly rows: readonly { readonly key: string; readonly balance: string }[];
  /** Where the next page starts; empty at the end. */
  readonly next: string;
}

/** Reads every balance, the payees' at other banks too, in the order of their keys. */
async function addUp(
  client: BankClient,
  prefix: string,
): Promise<{ total: bigint; digest: string }> {
  const hash = createHash('sha256');
  let total = 0n;
  for (const kind of ['account', 'external']) {
    const end = endOfPrefix(`${kind}/${prefix}`);
    for (let start = `${kind}/${prefix}`; start !== ''; ) {
      const args = [start, end, String(balancesPerPage)];
      const page = (await client.evaluate(contract, 'list', args)).json<BalancePage>();
      for (const { key, balance } of page.rows) {
        const exact = parseAmount(balance);
        total += exact;
        hash.update(
          `${kind}/${key.slice(kind.length + 1 + prefix.length)}\t${formatAmount(exact)}\n`,
        );
      }
      start = page.next;
    }
  }
  return { total, digest: hash.digest('hex') };
}

/** The first key behind all keys with this prefix. */
function endOfPrefix(prefix: string): string {
  return prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
}
