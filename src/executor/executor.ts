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
   *   (already on their way to the log) or `TRANSACTION_CONFLICT`.
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

  /** Refuses new work, finishes what is under way, stops. */
  close(): Promise<void>;
}

export interface EvaluateRequest {
  readonly channel: string;
  readonly contract: string;
  readonly functionName: string;
  readonly args: readonly Uint8Array[];
  readonly creator: Identity;
}
