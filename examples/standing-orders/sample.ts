import type { Account, BankData, StandingOrder } from './records.ts';

const banks = ['AB', 'CD', 'EF', 'GH', 'IJ', 'KL', 'MN', 'OP', 'QR', 'ST', 'UV', 'WX', 'YZ'];
const purposes = ['HH', 'HH', 'HH', 'HH', 'LO', 'IN', 'LE', '', ''];
/** Of ten accounts: how many orders each has. */
const ordersOfTen = [1, 1, 1, 1, 1, 2, 2, 2, 0, 4];

/** A made-up bank with the shape of a real one: the same for the same number of accounts. */
export function sampleData(accountCount: number): BankData {
  const random = generator(accountCount);
  const accounts: Account[] = [];
  const orders: StandingOrder[] = [];
  for (let id = 1; id <= accountCount; id++) {
    const day = new Date(Date.UTC(2013, 0, 1 + random(1800)));
    accounts.push({
      id: String(id),
      district: String(1 + random(77)),
      openedOn: day.toISOString().slice(0, 10),
    });
    for (let left = ordersOfTen[id % 10] ?? 0; left > 0; left--) {
      orders.push({
        id: String(10_000 + orders.length),
        account: String(id),
        payeeBank: banks[random(banks.length)] ?? 'AB',
        payeeAccount: String(10_000_000 + random(90_000_000)),
        // Down to hundredths of a cent.
        amount: BigInt(10_000 + random(12_000_000)) * 100n,
        purpose: purposes[random(purposes.length)] ?? '',
      });
    }
  }
  return { accounts, orders };
}

/** Whole numbers below a bound, always the same ones (mulberry32). */
function generator(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  };
}
