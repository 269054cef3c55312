import { setTimeout as sleep } from 'node:timers/promises';
import { isDaybookError } from '../../src/base/index.ts';
import type { Client } from '../../src/client/index.ts';

/** What one teller was told, to be compared with what the ledger holds. */
export interface Told {
  /** Transaction id and position of every acknowledged transfer. */
  readonly acknowledged: { readonly txId: string; readonly position: number }[];
  /** Transfers without an answer: they may have taken effect or not. */
  unknown: number;
}

/**
 * Tellers that move 1 from an account of their own to a common one, one call after the other, as fast
 * as they are answered, until `stop`. So an account's balance tells how many transfers of its teller
 * took effect. Accounts are named with `prefix`.
 *
 * @param pauseMs - after each answer; where every call of every node ends in a block of its own, a
 *   machine of two cores has little time left for what is to be tested.
 */
export function startTellers(
  client: Client,
  count: number,
  prefix = '',
  pauseMs = 0,
): { readonly told: readonly Told[]; readonly prefix: string; stop(): Promise<void> } {
  let stopped = false;
  const told = Array.from({ length: count }, (): Told => ({ acknowledged: [], unknown: 0 }));
  const running = told.map(async (mine, teller) => {
    while (!stopped) {
      try {
        const { txId, position } = await client.submit('bench', 'move', [
          `${prefix}teller${teller}`,
          `${prefix}common${teller % 4}`,
          '1',
        ]);
        mine.acknowledged.push({ txId, position });
        if (pauseMs > 0) await sleep(pauseMs);
      } catch (error) {
        if (!isDaybookError(error)) throw error;
        // Anything else was refused for certain and had no effect.
        if (error.code === 'OUTCOME_UNKNOWN' || error.code === 'PEER_UNREACHABLE') mine.unknown++;
        await sleep(20);
      }
    }
  });
  return {
    told,
    prefix,
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
  };
}

/**
 * Compares what tellers were told with the ledger: every acknowledged transfer is there, at its
 * position, none took effect twice, and no money was made or lost. Returns what is wrong.
 */
export async function discrepancies(
  client: Client,
  told: readonly Told[],
  prefix = '',
): Promise<string[]> {
  const wrong: string[] = [];
  const balance = async (account: string): Promise<number> =>
    Number((await client.evaluate('bench', 'read', [account])).text());
  let total = 0;
  for (const [teller, { acknowledged, unknown }] of told.entries()) {
    const effects = -(await balance(`${prefix}teller${teller}`));
    total -= effects;
    if (effects < acknowledged.length || effects > acknowledged.length + unknown) {
      wrong.push(
        `teller ${teller}: ${acknowledged.length} acknowledged, ${unknown} unknown, ` +
          `${effects} took effect`,
      );
    }
  }
  for (let common = 0; common < 4; common++) total += await balance(`${prefix}common${common}`);
  if (total !== 0) wrong.push(`money made or lost: ${total}`);
  const positions = new Set<number>();
  for (const { txId, position } of told.flatMap(({ acknowledged }) => acknowledged)) {
    if (positions.has(position)) wrong.push(`position ${position} was given twice`);
    positions.add(position);
    const status = await client.status(txId);
    if (status?.valid !== true || status.position !== position) {
      wrong.push(`${txId} was acknowledged at ${position}, is ${JSON.stringify(status?.position)}`);
    }
  }
  return wrong;
}
