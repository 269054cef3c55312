import type { Bytestring } from '../base/index.ts';
import type { Batch, Identity, Outcome } from '../model/index.ts';

export type { CommittedOutcome, Outcome, RejectedOutcome } from '../model/index.ts';

/** Executes calls and brings their records into the log. */
export interface Executor {
  /**
   * Admits a decoded and verified batch as a whole, or throws and admits nothing. `onOutcome` is
   * called once for every item (by index), in any order, also for duplicates, which get the
   * original outcome.
   *
   * @param deadlineMs - monotonic time at which unfinished calls are answered `OUTCOME_UNKNOWN`
   *   (already on their way to the log), or what keeps all of them from getting there
   *   (`OVERLOADED`, `PEER_UNREACHABLE`, `TIMEOUT`), or `TRANSACTION_CONFLICT`.
   * @throws {DaybookError} `OVERLOADED` naming the limit; `CLOSED`.
   */
  submit(
    batch: Batch,
    deadlineMs: number,
    onOutcome: (index: number, outcome: Outcome) => void,
  ): void;

  /**
   * Runs a function on committed state without writing to the log.
   *
   * @throws {DaybookError} `CONTRACT_…` as the contract or a limit refused it.
   */
  evaluate(query: EvaluateRequest): Promise<Bytestring>;

  /**
   * Executes a batch's only transaction on committed state and endorses what comes out. Nothing is
   * written: it waits, for `preparedLifetimeMs`, for {@link Executor.submitPrepared}.
   *
   * @param waitMs - how long it may wait for the chain to know the versions that were read.
   * @returns the payload that the client is to sign.
   * @throws {DaybookError} `CONTRACT_…` as the contract or a limit refused it; `NOT_ENDORSABLE`,
   *   `OVERLOADED`, `TIMEOUT`, `TRANSACTION_EXPIRED`, `CLOCKS_APART`, `CLOSED`.
   */
  prepare(batch: Batch, waitMs: number): Promise<Buffer>;

  /**
   * Brings a prepared transaction into the log, with its client's signature over the payload.
   * Given again, it has the original outcome.
   *
   * @param deadlineMs - as of {@link Executor.submit}.
   * @param onOutcome - called once; `ENDORSEMENT_STALE` when what it read has changed.
   * @throws {DaybookError} `ENDORSEMENT_UNKNOWN`, `SIGNATURE_INVALID`, `OVERLOADED`, `CLOSED`.
   */
  submitPrepared(
    txId: Uint8Array,
    signature: Uint8Array,
    deadlineMs: number,
    onOutcome: (outcome: Outcome) => void,
  ): void;

  /** Refuses new work, finishes what is under way, stops. */
  close(): Promise<void>;
}

/** A call for {@link Executor.evaluate}; its signature has been verified. */
export interface EvaluateRequest {
  readonly channel: string;
  readonly contract: string;
  readonly functionName: string;
  readonly args: readonly Uint8Array[];
  readonly creator: Identity;
}
