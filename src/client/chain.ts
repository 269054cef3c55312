import { isDaybookError } from '../base/index.ts';
import type { PendingCall } from './call.ts';
import type { Transport } from './transport.ts';

/*
 * A *chain* is two or more calls of one batch with the same ordering key. When the answer to a
 * batch with a chain is lost, sending it again could let an early call that was refused take effect
 * behind a later one that was committed. So first the lost attempt must be over for certain; then
 * the ledger tells which calls took effect, and calls before those are not sent again.
 */

/** The chains among calls, each in order. */
export function chainsOf(calls: readonly PendingCall[]): PendingCall[][] {
  const byKey = new Map<string, PendingCall[]>();
  for (const call of calls) {
    if (call.orderingKey === '') continue;
    const chain = byKey.get(call.orderingKey);
    if (chain === undefined) byKey.set(call.orderingKey, [call]);
    else chain.push(call);
  }
  return [...byKey.values()].filter((chain) => chain.length > 1);
}

/**
 * The calls of a chain that did not take effect while a later one did.
 *
 * @throws {DaybookError} when the gateway does not answer.
 */
export async function overtaken(
  transport: Transport,
  gateway: string,
  chain: readonly PendingCall[],
  waitMs: number,
): Promise<PendingCall[]> {
  const passed: PendingCall[] = [];
  let later = false;
  for (const call of [...chain].reverse()) {
    if (await tookEffect(transport, gateway, call, waitMs)) later = true;
    else if (later) passed.push(call);
  }
  return passed;
}

async function tookEffect(
  transport: Transport,
  gateway: string,
  call: PendingCall,
  waitMs: number,
): Promise<boolean> {
  try {
    const status = await transport.getJson(gateway, `transactions/${call.txId}`, waitMs);
    return (status as { valid?: unknown }).valid === true;
  } catch (error) {
    if (isDaybookError(error, 'TRANSACTION_UNKNOWN')) return false;
    throw error;
  }
}
