import type {
  Address,
  Batch,
  ChannelConfig,
  CommitRecord,
  ContractDefinition,
  Entry,
  IdentityVerifier,
  Position,
  TxId,
  VerdictCode,
} from '../model/index.ts';
import type { State, TransactionStatus } from '../state/index.ts';

/** An entry after replay: what every node finds, byte for byte (invariants I3, I7). */
export interface AppliedEntry {
  readonly address: Address;
  /** `undefined` for a fill, and for bytes that are no entry. */
  readonly entry: Entry | undefined;
  /**
   * The entry's records in order. Bytes in the place of a record that are none are left out: they
   * name no transaction, and nothing can refer to them.
   */
  readonly records: readonly AppliedRecord[];
  /** Config entries only: whether the configuration took effect. */
  readonly configVerdict?: VerdictCode;
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

/** The part of a node that follows the log and keeps state: validate, apply, publish. */
export interface Replica {
  /** What was applied so far, to read from; nobody but the replica may change it. */
  readonly state: State;
  /** The first address that is not applied. */
  readonly nextAddress: Address;
  /** Everything below this position is applied. */
  readonly position: Position;
  readonly logTimeMs: number;
  /** The channel's configuration; `undefined` until the founding entry is applied. */
  readonly config: ChannelConfig | undefined;
  /** Checks identities against {@link Replica.config}. */
  readonly verifier: IdentityVerifier | undefined;
  /** Deployed contracts by name. */
  readonly contracts: ReadonlyMap<string, ContractDefinition>;

  /** @returns a function that ends it. */
  onApplied(listener: AppliedListener): () => void;

  /**
   * Resolves once everything below `position` is applied.
   *
   * @param deadlineMs - monotonic time.
   * @throws {DaybookError} `TIMEOUT`, `CLOSED`, `OVERLOADED` (`replicaWaitersMax`), or why the
   *   replica stopped.
   */
  waitFor(position: Position, deadlineMs: number): Promise<void>;

  /**
   * All entries from the one that holds `from` on, with verdicts, whether applied long ago or not
   * yet; without end. Yields what is there in arrays. Ends quietly when `signal` aborts.
   *
   * @throws {DaybookError} `LOG_TRIMMED` when the log or this state does not reach back so far;
   *   `CLOSED`, or why the replica stopped.
   */
  readApplied(from: Position, signal?: AbortSignal): AsyncIterable<readonly AppliedEntry[]>;

  /**
   * Tells that everything before `end` was granted to somebody. What of it stays unwritten is closed
   * like any hole, though no entry stands behind it, as long as this is told again and again.
   */
  expect(end: Address): void;

  /** Where a transaction stands in the log; `undefined` when it is unknown or long ago. */
  status(txId: TxId | Uint8Array): TransactionStatus | undefined;

  /**
   * Tells that a batch was verified here already, so that its records need not be verified once
   * more when they come back in the log. Saves work and changes no verdict: what is remembered is
   * compared with the log byte for byte.
   */
  trustBatch(batch: Batch): void;

  /** Why the replica stopped for good (`LOG_DAMAGED`, `LOG_TRIMMED`, a bug); else `undefined`. */
  readonly alarm: Error | undefined;
  onAlarm(listener: (alarm: Error) => void): () => void;

  /** Stops following. Does not close the state or the log. */
  close(): Promise<void>;
}
