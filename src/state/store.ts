import type { Bytestring } from '../base/index.ts';
import type { Address, Position } from '../model/index.ts';
import type { EntrySummary, Row, StateView, StateWrite } from './state.ts';

/**
 * Where a key's history begins: offset + 1 of its newest row in the history file; 0 for none. It
 * is kept beside the row, and outlives the row's deletion.
 */
export type HistoryHead = number;

/** A write on its way into a {@link StateStore}. */
export interface StoredWrite extends StateWrite {
  head: HistoryHead;
}

/** What the store knows about itself; changes together with the rows, atomically. */
export interface StoreMeta {
  readonly formatVersion: 1;
  /** Everything below is in the store. */
  readonly nextAddress: Address;
  readonly logTimeMs: number;
  readonly horizonMs: number;
  /** First address the store can tell of: 0, or where its snapshot was taken. */
  readonly startAddress: Address;
  readonly historyBytes: number;
  readonly transactions: TransactionFiles;
  /** Bulk updates that not all rows have taken, as `BulkWork` saves them. */
  readonly bulkUpdates?: readonly string[];
}

/** The files that make up the transaction index. */
export interface TransactionFiles {
  /** Numbers of the sealed segments, oldest first. */
  readonly segments: readonly number[];
  /** Number of the tail file, and how much of it counts. */
  readonly tail: number;
  readonly tailBytes: number;
  /** Spreads the ids; secret, odd, and the same for the life of the index. */
  readonly salt: number;
}

/** One atomic step of a store. */
export interface StoreBatch {
  /** One per key. */
  readonly writes: Iterable<StoredWrite>;
  readonly entries: readonly EntrySummary[];
  readonly meta: StoreMeta;
}

/**
 * Rows that outlive the process. Rebuildable from the log or a snapshot at any time, so it need
 * not survive a crash of the machine; it MUST survive the end of the process, and then hold exactly
 * what the last completed commit left.
 */
export interface StateStore extends StateView {
  /** `undefined`: a fresh store. */
  readonly meta: StoreMeta | undefined;
  version(key: Bytestring): Position | undefined;
  /** Head of the key's history, also of a deleted key. */
  head(key: Bytestring): HistoryHead;
  /** Version and head of a row in one look-up; `undefined`: no such row. Valid until the next call. */
  look(key: Bytestring): RowHeader | undefined;
  entry(address: Address): EntrySummary | undefined;
  /** Reads show the batch once this has resolved, not before. One at a time. */
  commit(batch: StoreBatch): Promise<void>;
  /** A frozen view of the rows, in key order. Release it soon. */
  snapshot(): StoreSnapshot;
  /** Makes everything durable and closes. */
  close(): Promise<void>;
}

/** A row without its key and value. */
export interface RowHeader {
  version: Position;
  head: HistoryHead;
}

/** A frozen view: commits go on beside it. */
export interface StoreSnapshot {
  readonly meta: StoreMeta | undefined;
  /** All rows in key order, a page at a time; go on from `last key ‖ 0x00`. */
  page(start: Bytestring, limit: number): Row[];
  release(): void;
}

/** Opens the store in a state's directory, or an empty one. */
export type OpenStore = (directory: string) => StateStore;
