import type { Bytestring } from '../base/index.ts';
import type { Address, Position, TxId, VerdictCode } from '../model/index.ts';
import type { RecordedUpdate } from './bulk/pending-updates.ts';

/** One row of the state. `key` is a state key: namespace ‖ 0x00 ‖ key. */
export interface Row {
  readonly key: Bytestring;
  readonly value: Bytestring;
  /** Position of the record that last wrote the row. */
  readonly version: Position;
}

/** Read access to a state, synchronous: a read costs microseconds. */
export interface StateView {
  get(key: Bytestring): Row | undefined;
  /** Rows of `start <= key < end` (`end` empty: no bound) in key order, at most `limit`. */
  range(start: Bytestring, end: Bytestring, limit?: number): Row[];
  /** The version alone, cheaper than {@link StateView.get}; views may leave it out. */
  version?(key: Bytestring): Position | undefined;
}

/** One write as it is applied; `value` undefined deletes. */
export interface StateWrite {
  readonly key: Bytestring;
  readonly value: Bytestring | undefined;
  readonly version: Position;
  /**
   * Where the key's history begins: filled in by the state when it applies the write, which keeps
   * the object. Whoever hands writes to a state had better create them with 0 here.
   */
  head?: number;
}

/** One version of a key in its history, newest first; `value` undefined: it was deleted. */
export interface HistoryRow {
  readonly version: Position;
  readonly txId: TxId;
  readonly timestampMs: number;
  readonly value: Bytestring | undefined;
}

/** Where a transaction stands in the log and what replay found about it. */
export interface TransactionStatus {
  readonly position: Position;
  readonly verdict: VerdictCode;
}

/** All that one entry does to the state; the replica hands it over in address order. */
export interface StateChange {
  readonly address: Address;
  readonly writes: readonly StateWrite[];
  /** Bulk updates of valid records, in log order. Rows written above them do not take them. */
  readonly bulkUpdates?: readonly RecordedUpdate[];
  /** Every record of the entry, valid or not. */
  readonly records: readonly {
    readonly position: Position;
    readonly record: { readonly txId: Uint8Array };
    readonly verdict: VerdictCode;
  }[];
  /** The timestamps of their transactions, in the same order. */
  readonly timestampsMs: readonly number[];
  /** Config entries only. */
  readonly configVerdict?: VerdictCode;
  /** A tick: no record before it is in a block that is still open after it. */
  readonly endsBlock?: boolean;
  /** Log time after this entry. */
  readonly logTimeMs: number;
  /**
   * Transactions with an older timestamp are expired for ever. The transaction index is exact from
   * here on.
   */
  readonly horizonMs: number;
}

/** What is kept of every entry, so that its `AppliedEntry` can be made again later. */
export interface EntrySummary {
  readonly address: Address;
  readonly logTimeMs: number;
  /** A verdict per record, or that of a configuration; `undefined` when all are valid. */
  readonly verdicts: readonly VerdictCode[] | undefined;
}

/** One page of a key's history, newest first. `bookmark` is empty after the last page. */
export interface HistoryRows {
  readonly rows: readonly HistoryRow[];
  readonly bookmark: string;
}
