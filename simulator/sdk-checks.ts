import type { LedgerModel } from './ledger-model.ts';
import type { SdkCall, SdkClient } from './sdk-client.ts';
import { SimulationFailure } from './world.ts';

/** Ends of a call that only a network that does not answer can bring. */
const noAnswer = ['OUTCOME_UNKNOWN', 'TIMEOUT', 'PEER_UNREACHABLE'];

/** What the client library promises, held against the whole log. @throws {SimulationFailure} */
export function checkSdk(client: SdkClient, model: LedgerModel): void {
  checkRefused(client, model);
  checkMarked(client, model);
  checkOrder(client);
  checkCounter(client, model);
}

/** Only a call that has not taken effect, and never will, ends in anything but `OUTCOME_UNKNOWN`. */
function checkRefused({ name, calls }: SdkClient, model: LedgerModel): void {
  for (const { txId, functionName, error } of calls) {
    if (error === undefined || error.code === 'OUTCOME_UNKNOWN' || txId === undefined) continue;
    if (model.find(Buffer.from(txId, 'hex')) === undefined) continue;
    wrong(`${name} was told ${error.code} of ${functionName} ${txId}, which took effect`);
  }
}

/**
 * The same of a call that was made into several transactions, one after the other, and it cannot be
 * signed singly only where no Fabric peer would understand it.
 */
function checkMarked({ name, calls }: SdkClient, model: LedgerModel): void {
  for (const { mark, functionName, position, error } of calls) {
    if (mark === undefined) continue;
    const isTaken = model.hasTaken(mark);
    if (position !== undefined && !isTaken) wrong(`${name}: ${mark} has not taken effect`);
    if (error === undefined) continue;
    if (isTaken && error.code !== 'OUTCOME_UNKNOWN') {
      wrong(`${name} was told ${error.code} of ${functionName} ${mark}, which took effect`);
    }
    if (error.code === 'NOT_ENDORSABLE' && functionName !== 'raise') {
      wrong(`${name} was told ${error.code} of ${functionName}: ${error.message}`);
    }
  }
}

/** Calls with one ordering key take effect as they were made, up to an unknown outcome. */
function checkOrder({ name, calls }: SdkClient): void {
  const last = new Map<string, number>();
  for (const { orderingKey, position, error, functionName } of calls) {
    if (orderingKey === '') continue;
    if (error?.code === 'OUTCOME_UNKNOWN') last.delete(orderingKey);
    if (position === undefined) continue;
    const before = last.get(orderingKey) ?? -1;
    if (position < before) {
      wrong(`${name}: ${functionName} of ${orderingKey} stands at ${position}, behind ${before}`);
    }
    last.set(orderingKey, position);
  }
}

/** Exactly once as a program sees it: what it counted is what it was told, and what it was not. */
function checkCounter({ name, calls, counter }: SdkClient, model: LedgerModel): void {
  const own = calls.filter(({ isOwnCount }) => isOwnCount);
  const told = own.filter(({ position }) => position !== undefined).length;
  const unknown = own.filter(({ error }) => error?.code === 'OUTCOME_UNKNOWN').length;
  const count = Number(model.rows.get(counter) ?? 0);
  if (count >= told && count <= told + unknown) return;
  wrong(`I6: ${name} counted ${told} times, perhaps ${unknown} more; its counter says ${count}`);
}

/** Calls that were made after all had healed are answered in time. @throws {SimulationFailure} */
export function checkSdkAnswered(
  { name, calls, signing }: SdkClient,
  healedUs: number,
  boundMs: number,
): void {
  for (const { functionName, submittedUs, endedUs, error } of calls) {
    if (submittedUs <= healedUs) continue;
    const tookMs = (endedUs - submittedUs) / 1000;
    if (error !== undefined && noAnswer.includes(error.code) && !isBehind(error)) {
      late(`${name} was told ${error.code} of ${functionName} after ${tookMs} ms`);
    }
    // Who signs singly takes no locks: what is always changed by others stays stale until they stop.
    const isOvertaken = signing === 'single' && error?.code === 'TRANSACTION_CONFLICT';
    if (tookMs > boundMs && !isOvertaken) late(`${name} waited ${tookMs} ms for ${functionName}`);
  }
}

/** It was not sent, since an older call with its key has an unknown outcome. */
function isBehind({ details }: NonNullable<SdkCall['error']>): boolean {
  return details.unknownTxId !== undefined;
}

function wrong(what: string): never {
  throw new SimulationFailure('correctness', `client: ${what}`);
}

function late(what: string): never {
  throw new SimulationFailure('liveness', `client: ${what}, though all had healed`);
}
