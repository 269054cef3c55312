import {
  type Batch,
  type BatchItem,
  type Outcome,
  type RecordHead,
  recordTypeOf,
  type TxId,
} from '../model/index.ts';

/** A batch that was admitted, shared by its jobs. */
export interface AdmittedBatch {
  readonly batch: Batch;
  /** Stands for the creator: equal for equal `creatorBytes`. */
  readonly creator: number;
}

/** Who waits for a job's outcome. */
export interface OutcomeListener {
  readonly index: number;
  readonly onOutcome: (index: number, outcome: Outcome) => void;
}

/** One transaction from its admission until its fate is known. */
export interface Job {
  readonly txId: TxId;
  readonly item: BatchItem;
  /** Index of the item in its batch: the leaf under which it was signed. */
  readonly leaf: number;
  readonly batch: AdmittedBatch;
  /** Jobs of one creator with the same key run one after another; `undefined`: no order. */
  readonly orderKey: string | undefined;
  /** Emptied when the job is answered. */
  listeners: OutcomeListener[];
  /** Monotonic time at which the job is answered in any case. */
  deadlineMs: number;
  /** Mode `batch`: jobs of one unit go to the log in one piece. */
  unit: number;
  /** Executions so far. */
  attempts: number;
  /** A record of it may be in the log: it must not be executed again before its fate is known. */
  onItsWay: boolean;
  /** Executed and endorsed before: this record is sent as it is, or not at all. */
  readonly prepared?: { readonly body: Buffer; readonly summary: Buffer };
  /** Nothing of it is under way any more. */
  over: boolean;
  /** Answered; nothing more to do but to learn the fate of what is on its way. */
  answered: boolean;
}

/** The head of a job's record. @param batch - index of the batch in the entry's table. */
export function headOf({ item, leaf }: Pick<Job, 'item' | 'leaf'>, batch: number): RecordHead {
  const { transaction, txId, bytes } = item;
  return { type: recordTypeOf(transaction), txId, batch, leaf, transactionBytes: bytes };
}
