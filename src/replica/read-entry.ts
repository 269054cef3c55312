import type { LogEntry } from '../log/index.ts';
import {
  type Address,
  type CommitRecord,
  decodeEntry,
  decodeRecord,
  decodeTransaction,
  type Entry,
  type HeldTransaction,
  positionOf,
  type RecordsEntry,
  type Transaction,
  type VerdictCode,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from './replica.ts';

/* Bytes that came through the log may be anything. */

/** `undefined`: the bytes are no entry. */
export function entryOf(bytes: Uint8Array): Entry | undefined {
  try {
    return decodeEntry(bytes);
  } catch {
    return undefined;
  }
}

/** `undefined`: the bytes are no record. */
export function recordOf(
  bytes: Uint8Array,
  heldAt?: (batch: number, leaf: number) => HeldTransaction | undefined,
): CommitRecord | undefined {
  try {
    return decodeRecord(bytes, heldAt);
  } catch {
    return undefined;
  }
}

/** `undefined`: the bytes are no transaction. */
export function transactionOf(bytes: Uint8Array): Transaction | undefined {
  try {
    return decodeTransaction(bytes);
  } catch {
    return undefined;
  }
}

/** The records of an entry that are records, all with the same verdict. */
export function allWith(
  address: Address,
  entry: RecordsEntry,
  verdict: VerdictCode,
): AppliedRecord[] {
  const records: AppliedRecord[] = [];
  for (const { index, bytes } of entry.records) {
    const record = recordOf(bytes);
    if (record !== undefined) {
      records.push({ position: positionOf(address, index), record, verdict });
    }
  }
  return records;
}

/**
 * What a follower finds again in an entry that was replayed before.
 *
 * @param codes - the verdicts noted then; `undefined`: all valid.
 */
export function replayedBefore(
  { address, kind, bytes }: LogEntry,
  logTimeMs: number,
  codes: readonly VerdictCode[] | undefined,
): AppliedEntry {
  const entry = kind === 'fill' ? undefined : entryOf(bytes);
  if (entry?.kind === 'config') {
    const configVerdict = codes?.[0] ?? verdicts.valid;
    return { address, entry, records: [], configVerdict, logTimeMs };
  }
  const records =
    entry?.kind === 'records'
      ? allWith(address, entry, verdicts.valid).map((applied, at) =>
          codes === undefined ? applied : { ...applied, verdict: codes[at] as VerdictCode },
        )
      : [];
  return { address, entry, records, logTimeMs };
}
