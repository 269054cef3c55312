import { createHash } from 'node:crypto';
import type { Account } from './records.ts';

/** Up to 20,000.0000 in ten-thousandths: some accounts run dry within the year. */
const openingMax = 200_000_000;

/** What an account holds at the start; made from its id, as the files do not say. */
export function openingBalance(account: Account): bigint {
  const hash = createHash('sha256').update(`opening balance ${account.id}`).digest();
  return BigInt(hash.readUInt32BE(0) % openingMax) * 100n;
}
