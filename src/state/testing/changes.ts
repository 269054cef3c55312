import { type Address, asAddress, positionOf, sha256 } from '../../model/index.ts';
import type { StateChange } from '../state.ts';

/** Keys that {@link changeAt} writes to. */
export const changedKeys: readonly string[] = Array.from(
  { length: 40 },
  (_, at) => `ns\0key ${at}`,
);

/** The transaction that stands at an address in a test. */
export function txIdAt(address: number): Buffer {
  return sha256(Buffer.from(String(address)));
}

/** What the entry at an address does: always the same, so that any process can foretell it. */
export function changeAt(address: Address): StateChange {
  const version = positionOf(address, 0);
  const first = changedKeys[(address * 7) % changedKeys.length] as string;
  const second = changedKeys[(address * 11 + 5) % changedKeys.length] as string;
  const writes = [{ key: first, value: address % 3 === 0 ? undefined : `at ${address}`, version }];
  if (second !== first) writes.push({ key: second, value: `also ${address}`, version });
  return {
    address,
    writes,
    records: [{ record: { txId: txIdAt(address) }, position: version, verdict: 0 }],
    timestampsMs: [1000 + address],
    logTimeMs: 1000 + address,
    horizonMs: address,
  };
}

/** Rows after all changes below an address. */
export function rowsAt(end: Address): Map<string, { value: string; version: number }> {
  const rows = new Map<string, { value: string; version: number }>();
  for (let address = 0; address < end; address++) {
    for (const { key, value, version } of changeAt(asAddress(address)).writes) {
      if (value === undefined) rows.delete(key);
      else rows.set(key, { value, version });
    }
  }
  return rows;
}
