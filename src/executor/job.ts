import {
  type Batch,
  type BatchItem,
  type Outcome,
  type RecordHead,
  recordTypeOf,
} from '../model/index.ts';

/** A batch that was admitted, shared by its jobs. */
export interface AdmittedBatch {
  readonly batch: Batch;
  /** Stands for the creator: equal for equal `creatorBytes`. */
  readonly creator: number;
}

/** Told how a job ended. @param index - of the transaction in the batch that was submitted. */
export type OnOutcome = (index: number, outcome: Outcome) => void;

/** Who waits for the outcome of a job besides the first who asked. */
export interface OutcomeListener {
  readonly index: number;
  readonly onOutcome: OnOutcome;
}

/** One transaction from its admission until its fate is known. */
export interface Job {
  readonly item: BatchItem;
  /** Index of the item in its batch: the leaf under which it was signed. */
  readonly leaf: number;
  readonly batch: AdmittedBatch;
  /** Jobs of one creator with the same key run one after another; `undefined`: no order. */
  readonly orderKey: string | undefined;
  /** The first who asked; no longer kept when the job was answered. */
  onOutcome: OnOutcome | undefined;
  /** Who asked again meanwhile. */
  others: OutcomeListener[] | undefined;
  /** Monotonic time at which the job is answered in any case. */
  deadlineMs: number;
  /** Mode `batch`: jobs of one unit go to the log in one piece. */
  unit: number;
  /** Executions so far. */
  attempts: number;
  /** A record of it may be in the log: it must not be executed again before its fate is known. */
  onItsWay: boolean;
  /** Executed and endorsed before: this record is sent as it is, or not at all. */
  readonly prepared: { readonly body: Buffer; readonly summary: Buffer } | undefined;
  /** Nothing of it is under way any more. */
  over: boolean;
  /** Answered; nothing more to do but to learn the fate of what is on its way. */
  answered: boolean;
  /** In the table of jobs: another one whose id begins alike. */
  alike: Job | undefined;
}

/** What {@link jobOf} makes a job of. */
export type NewJob = Pick<
  Job,
  'item' | 'leaf' | 'batch' | 'orderKey' | 'onOutcome' | 'deadlineMs' | 'unit'
> & { readonly prepared?: Job['prepared'] };

/** A job that nothing has been done for. */
export function jobOf(job: NewJob): Job {
  const { item, leaf, batch, orderKey, onOutcome, deadlineMs, unit, prepared } = job;
  return {
    item,
    leaf,
    batch,
    orderKey,
    onOutcome,
    others: undefined,
    deadlineMs,
    unit,
    attempts: 0,
    onItsWay: false,
    prepared,
    over: false,
    answered: false,
    alike: undefined,
  };
}

/** The head of a job's record. @param batch - index of the batch in the entry's table. */
export function headOf({ item, leaf }: Pick<Job, 'item' | 'leaf'>, batch: number): RecordHead {
  const { transaction, txId, bytes } = item;
  return { type: recordTypeOf(transaction), txId, batch, leaf, transactionBytes: bytes };
}
