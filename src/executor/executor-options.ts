import type { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import type { Replica } from '../replica/index.ts';
import type { Sequencer } from '../sequencer/index.ts';
import type { Executor } from './executor.ts';
import type { Endorser } from './prepared.ts';
import type { RunnerLimits } from './runner.ts';

/** What an executor stands on. */
export interface ExecutorOptions {
  readonly io: Pick<Io, 'clock' | 'timers' | 'processes' | 'random'>;
  /** Name of the node, as it will stand in its entries; no two running nodes share one. */
  readonly name: string;
  readonly log: SharedLog;
  /** Without one, groups are appended at the tail and more of them turn out invalid (I3). */
  readonly sequencer?: Sequencer | undefined;
  readonly replica: Replica;
  /** Directory of the replica's state; the contract process reads it. */
  readonly stateDirectory: string;
  readonly limits?: Partial<RunnerLimits>;
  readonly transactionsMax?: number;
  readonly groupsInFlightMax?: number;
  readonly groupBytesMax?: number;
  /** Endorses transactions that are signed singly; without one there are none. */
  readonly endorser?: Endorser | undefined;
  /** Endorsed transactions that wait for their signature, and for how long; default `limits`. */
  readonly preparedTransactionsMax?: number;
  readonly preparedLifetimeMs?: number;
  /** The contract process's program; for tests and the simulator. */
  readonly runnerModule?: URL;
}

/** Counters since the start, and gauges. */
export interface ExecutorMetrics {
  /** Calls that ran to an end in the contract process. */
  executed: number;
  committed: number;
  /** Refused by contracts and limits. */
  refused: number;
  conflictsAtSequencer: number;
  conflictsAtReplay: number;
  /** Executions that followed from those conflicts, or from lost addresses. */
  retries: number;
  groups: number;
  contractRestarts: number;
  /** Transactions under way. */
  transactions: number;
  /** Bulk updates that go through the rows now; rows they looked at, and updated, so far. */
  bulkUpdates: number;
  bulkRowsSeen: number;
  bulkRowsUpdated: number;
}

/** Of an executor that has done nothing. */
export const idleMetrics: Readonly<ExecutorMetrics> = {
  executed: 0,
  committed: 0,
  refused: 0,
  conflictsAtSequencer: 0,
  conflictsAtReplay: 0,
  retries: 0,
  groups: 0,
  contractRestarts: 0,
  transactions: 0,
  bulkUpdates: 0,
  bulkRowsSeen: 0,
  bulkRowsUpdated: 0,
};

/** An executor with its counters. */
export interface RunningExecutor extends Executor {
  metrics(): ExecutorMetrics;
  /**
   * Answers every call that is not on its way to the log with `reason`: it has no effect, and another
   * node can do it.
   */
  refuseWaiting(reason: DaybookError): void;
}
