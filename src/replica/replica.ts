import type { Address, CommitRecord, Entry, Position, VerdictCode } from '../model/index.ts';

/** An entry after replay: what every node finds, byte for byte (invariants I3, I7). */
export interface AppliedEntry {
  readonly address: Address;
  /** `undefined` for a fill. */
  readonly entry: Entry | undefined;
  readonly records: readonly AppliedRecord[];
  /** Log time after this entry, milliseconds since 1970. */
  readonly logTimeMs: number;
}

/** A record with what replay found about it. */
export interface AppliedRecord {
  readonly position: Position;
  readonly record: CommitRecord;
  readonly verdict: VerdictCode;
}

/** Receives entries in address order, right after they were applied. Must not throw. */
export type AppliedListener = (entries: readonly AppliedEntry[]) => void;
