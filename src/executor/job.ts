import {
  type Batch,
  type BatchItem,
  type Outcome,
  type RecordHead,
  recordTypeOf,
} from '../model/index.ts';
import type { RunnerCall } from './frames.ts';

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

/** What is known of a job from the beginning. */
export interface JobParts {
  readonly item: BatchItem;
  /** Index of the item in its batch: the leaf under which it was signed. */
  readonly leaf: number;
  readonly batch: AdmittedBatch;
  /** Jobs of one creator with the same key run one after another; `undefined`: no order. */
  readonly orderKey: string | undefined;
  /** Of the first who asked. */
  readonly onOutcome: OnOutcome | undefined;
  /** Monotonic time at which the job is answered in any case. */
  readonly deadlineMs: number;
  /** Mode `batch`: jobs of one unit go to the log in one piece. */
  readonly unit: number;
  /** Executed and endorsed before: this record is sent as it is, or not at all. */
  readonly prepared?: { readonly body: Buffer; readonly summary: Buffer };
}

/**
 * One transaction from its admission until its fate is known; also the call of it, which goes to the
 * contract process in one attempt after the other.
 */
export class Job implements RunnerCall {
  readonly kind = 'submit';
  readonly item: BatchItem;
  readonly leaf: number;
  readonly batch: AdmittedBatch;
  readonly orderKey: string | undefined;
  readonly prepared: JobParts['prepared'];
  /** No longer kept when the job was answered. */
  onOutcome: OnOutcome | undefined;
  /** Who asked again meanwhile. */
  others: OutcomeListener[] | undefined;
  deadlineMs: number;
  unit: number;
  /** Of the newest attempt. */
  call = 0;
  /** Executions so far. */
  attempts = 0;
  /** A record of it may be in the log: it must not be executed again before its fate is known. */
  onItsWay = false;
  /** Nothing of it is under way any more. */
  over = false;
  /** Answered; nothing more to do but to learn the fate of what is on its way. */
  answered = false;
  /** In the table of jobs: another one whose id begins alike. */
  alike: Job | undefined;

  constructor(parts: JobParts) {
    this.item = parts.item;
    this.leaf = parts.leaf;
    this.batch = parts.batch;
    this.orderKey = parts.orderKey;
    this.prepared = parts.prepared;
    this.onOutcome = parts.onOutcome;
    this.deadlineMs = parts.deadlineMs;
    this.unit = parts.unit;
  }

  get txId(): Uint8Array {
    return this.item.txId;
  }

  get creator(): Uint8Array {
    return this.batch.batch.creatorBytes;
  }

  get transactionBytes(): Uint8Array {
    return this.item.bytes;
  }
}

/** The head of a job's record. @param batch - index of the batch in the entry's table. */
export function headOf({ item, leaf }: Pick<Job, 'item' | 'leaf'>, batch: number): RecordHead {
  const { transaction, txId, bytes } = item;
  return { type: recordTypeOf(transaction), txId, batch, leaf, transactionBytes: bytes };
}
