import type { Bytestring } from '../base/index.ts';
import type { Token } from '../log/index.ts';
import type { Address, Position, ReadVersion } from '../model/index.ts';

/**
 * Grants log addresses to groups of records and tells which records of a group would be found
 * invalid at replay. It only saves work (invariant I3): replay decides.
 */
export interface Sequencer {
  /**
   * @throws {DaybookError} `SNAPSHOT_TOO_OLD` or `SEQUENCER_NOT_READY`: apply more of the log,
   *   execute again on fresh state, ask again. `MALFORMED`: a summary that is not in canonical form.
   */
  request(group: GroupSummary): Promise<Grant>;
}

/** What the sequencer needs to know of a group. */
export interface GroupSummary {
  /** Name of the executor that asks. */
  readonly requester: string;
  /** How many records it has; at least one. */
  readonly count: number;
  /** `encodeRecordSummary` of every record, each after its u32 length, in the order of the entry. */
  readonly summaries: Uint8Array;
}

/** One version seen: of a row, or of a delete that is still in flight. */
export interface SeenVersion {
  readonly stateKey: Bytestring;
  readonly version: ReadVersion;
}

/**
 * Reads and writes of one record. Keys are state keys (namespace and key). Unlike in the commit
 * record, a key that was found deleted by a record in flight names that record as its version, and
 * such deletes stand among the rows of a range: the sequencer knows only that somebody wrote.
 */
export interface RecordSummary {
  /**
   * All positions below this one were applied to the state in which the record was executed (fills
   * count as applied).
   */
  readonly snapshot: Position;
  /** The transaction lost several times: its keys are to be kept for it for a while. */
  readonly urgent: boolean;
  readonly reads: readonly SeenVersion[];
  /** Intervals read (`start <= key < end`, `end` empty: no bound), with the versions found in them. */
  readonly ranges: readonly {
    readonly start: Bytestring;
    readonly end: Bytestring;
    readonly rows: readonly SeenVersion[];
  }[];
  readonly writes: readonly Bytestring[];
  /** Intervals written by bulk updates. */
  readonly writtenRanges: readonly WrittenRange[];
}

/** An interval of state keys, `start <= key < end`; `end` empty: no bound. */
export interface WrittenRange {
  readonly start: Bytestring;
  readonly end: Bytestring;
}

/** The answer. When every record conflicts there is no token, and nothing to write. */
export interface Grant {
  readonly token: Token | undefined;
  /**
   * Without a token: everything before this address is granted. Whoever got the last of it may have
   * died before writing; then no entry will ever stand behind the hole and show it.
   */
  readonly next?: Address;
  /** Per record of the group: the state key that conflicts, or `undefined` to go ahead. */
  readonly conflicts: readonly (Bytestring | undefined)[];
}
