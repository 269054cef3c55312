import {
  type Bytestring,
  bytestringOf,
  DaybookError,
  type ErrorJson,
  TransitMap,
} from '../base/index.ts';
import type { Batch, Outcome, TxId } from '../model/index.ts';
import { conflictError, unknownOutcome } from './executor-errors.ts';
import type { AdmittedBatch, Job, OutcomeListener } from './job.ts';
import { OrderQueues } from './order-queues.ts';

const creatorsMax = 10_000;

/** The transactions under way, by id: who waits for each, until when, and which one runs first. */
export class JobTable {
  readonly #max: number;
  readonly #jobs = new TransitMap<TxId, Job>();
  readonly #order = new OrderQueues();
  readonly #creators = new Map<Bytestring, number>();
  #nextCreator = 1;
  #nextUnit = 1;

  /** @param max - transactions under way at the most (`executorTransactionsMax`). */
  constructor(max: number) {
    this.#max = max;
  }

  /** How many are under way. */
  get size(): number {
    return this.#jobs.size;
  }

  /** Whether somebody waits for an answer. */
  get isOwed(): boolean {
    for (const job of this.#jobs.values()) if (!job.answered) return true;
    return false;
  }

  /** @throws {DaybookError} `OVERLOADED` when there is no room for so many more. */
  admit(count: number): void {
    const max = this.#max;
    if (this.#jobs.size + count <= max) return;
    throw new DaybookError('OVERLOADED', `executorTransactionsMax is ${max}`, {
      details: { limit: 'executorTransactionsMax', max },
    });
  }

  /** A batch as its jobs share it. */
  admitted(batch: Batch): AdmittedBatch {
    return { batch, creator: this.#creatorOf(batch.creatorBytes) };
  }

  /** A number that no other unit has; later ones are greater. */
  nextUnit(): number {
    return this.#nextUnit++;
  }

  /**
   * Has the listener wait for a job that is under way already.
   *
   * @returns false: there is none.
   */
  join(txId: TxId, listener: OutcomeListener, deadlineMs: number): boolean {
    const known = this.#jobs.get(txId);
    if (known === undefined) return false;
    known.listeners.push(listener);
    known.deadlineMs = Math.max(known.deadlineMs, deadlineMs);
    known.answered = false;
    return true;
  }

  /** @returns true when the job may run now; otherwise {@link JobTable.finish} will return it. */
  add(job: Job): boolean {
    this.#jobs.set(job.txId, job);
    return this.#order.enter(job);
  }

  /** Tells all who wait. */
  answer(job: Job, outcome: Outcome): void {
    const { listeners } = job;
    job.listeners = [];
    job.answered = true;
    for (const { index, onOutcome } of listeners) onOutcome(index, outcome);
  }

  answerError(job: Job, error: ErrorJson): void {
    this.answer(job, { status: 'rejected', txId: job.txId, error });
  }

  /** Answers all jobs, those on their way to the log as unknown; none ends. */
  answerAll(reason: DaybookError): void {
    for (const job of this.#jobs.values()) {
      this.answerError(job, (job.onItsWay ? unknownOutcome(job.txId) : reason).toJSON());
    }
  }

  /**
   * Answers what is not on its way to the log.
   *
   * @returns the jobs that have ended by that: those that were never executed.
   */
  refuseWaiting(reason: DaybookError): Job[] {
    const over: Job[] = [];
    for (const job of this.#jobs.values()) {
      if (job.answered || job.onItsWay) continue;
      this.answerError(job, reason.toJSON());
      if (job.attempts === 0) over.push(job);
    }
    return over;
  }

  /**
   * Answers jobs whose deadline has passed.
   *
   * @param nowMs - monotonic.
   * @param reason - why what is not on its way has not been done, if that is known.
   * @returns the jobs that have ended by that: what has never left is over; the rest ends when its
   *   fate is known.
   */
  answerOverdue(nowMs: number, reason: DaybookError | undefined): Job[] {
    const over: Job[] = [];
    for (const job of this.#jobs.values()) {
      if (job.answered || job.deadlineMs > nowMs) continue;
      const error = job.onItsWay ? unknownOutcome(job.txId) : (reason ?? conflictError(job));
      this.answerError(job, error.toJSON());
      if (job.attempts === 0) over.push(job);
    }
    return over;
  }

  /**
   * Nothing of the job is under way any more.
   *
   * @returns its successor, which may run now.
   */
  finish(job: Job): Job | undefined {
    if (job.over) return undefined;
    job.over = true;
    this.#jobs.delete(job.txId);
    const successor = this.#order.leave(job);
    if (successor !== undefined) successor.unit = this.#nextUnit++;
    return successor;
  }

  #creatorOf(creatorBytes: Uint8Array): number {
    const key = bytestringOf(creatorBytes);
    let creator = this.#creators.get(key);
    if (creator === undefined) {
      if (this.#creators.size >= creatorsMax && this.#jobs.size === 0) this.#creators.clear();
      creator = this.#nextCreator++;
      this.#creators.set(key, creator);
    }
    return creator;
  }
}
