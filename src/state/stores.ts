import { openStateReader, type StateReader } from './lmdb-store.ts';
import { type BucketStore, openBucketStore } from './merkle/index.ts';

/**
 * What lies on a node's disk besides the store that its state writes: how others read that store, and
 * where state trees are kept. LMDB; the simulator has stores of its own.
 */
export interface Stores {
  /**
   * Opens the rows in a state's directory for reading.
   *
   * @throws {DaybookError} `STATE_DAMAGED` when there is no store yet, or an unreadable one.
   */
  readonly openReader: (directory: string) => StateReader;
  /** Opens what keeps a state tree in a directory of its own. */
  readonly openBuckets: (directory: string) => BucketStore;
  /** Of new state trees; default that of `StateTree`. */
  readonly bucketBits?: number;
}

/** The stores of a real node. */
export const lmdbStores: Stores = { openReader: openStateReader, openBuckets: openBucketStore };
