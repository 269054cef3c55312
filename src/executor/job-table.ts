import {
  type Bytestring,
  bytestringOf,
  DaybookError,
  type ErrorJson,
  TransitMap,
} from '../base/index.ts';
import { type Batch, firstWord, type Outcome } from '../model/index.ts';
import { conflictError, unknownOutcome } from './executor-errors.ts';
import type { AdmittedBatch, Job, OnOutcome } from './job.ts';
import { OrderQueues } from './order-queues.ts';

const creatorsMax = 10_000;

/** The transactions under way, by id: who waits for each, until when, and which one runs first. */
export class JobTable {
  readonly #max: number;
  /** By the first bytes of their ids, those that begin alike in a list. */
  readonly #jobs = new TransitMap<number, Job>();
  #size = 0;
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
    return this.#size;
  }

  /** Whether somebody waits for an answer. */
  get isOwed(): boolean {
    for (const job of this.#all()) if (!job.answered) return true;
    return false;
  }

  /** @throws {DaybookError} `OVERLOADED` when there is no room for so many more. */
  admit(count: number): void {
    const max = this.#max;
    if (this.#size + count <= max) return;
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
  join(txId: Uint8Array, index: number, onOutcome: OnOutcome, deadlineMs: number): boolean {
    let known = this.#jobs.get(firstWord(txId));
    while (known !== undefined && !isSame(known.item.txId, txId)) known = known.alike;
    if (known === undefined) return false;
    known.others = [...(known.others ?? []), { index, onOutcome }];
    known.deadlineMs = Math.max(known.deadlineMs, deadlineMs);
    known.answered = false;
    return true;
  }

  /** @returns true when the job may run now; otherwise {@link JobTable.finish} will return it. */
  add(job: Job): boolean {
    const word = firstWord(job.item.txId);
    job.alike = this.#jobs.get(word);
    this.#jobs.set(word, job);
    this.#size++;
    return this.#order.enter(job);
  }

  /** Tells all who wait. */
  answer(job: Job, outcome: Outcome): void {
    const { onOutcome, others } = job;
    job.onOutcome = undefined;
    job.others = undefined;
    job.answered = true;
    onOutcome?.(job.leaf, outcome);
    if (others === undefined) return;
    for (const other of others) other.onOutcome(other.index, outcome);
  }

  answerError(job: Job, error: ErrorJson): void {
    this.answer(job, { status: 'rejected', error });
  }

  /** Answers all jobs, those on their way to the log as unknown; none ends. */
  answerAll(reason: DaybookError): void {
    for (const job of this.#all()) {
      this.answerError(job, (job.onItsWay ? unknownOutcome(job.item.txId) : reason).toJSON());
    }
  }

  /**
   * Answers what is not on its way to the log.
   *
   * @returns the jobs that have ended by that: those that were never executed.
   */
  refuseWaiting(reason: DaybookError): Job[] {
    const over: Job[] = [];
    for (const job of this.#all()) {
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
    for (const job of this.#all()) {
      if (job.answered || job.deadlineMs > nowMs) continue;
      const error = job.onItsWay ? unknownOutcome(job.item.txId) : (reason ?? conflictError(job));
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
    this.#remove(job);
    const successor = this.#order.leave(job);
    if (successor !== undefined) successor.unit = this.#nextUnit++;
    return successor;
  }

  #remove(job: Job): void {
    const word = firstWord(job.item.txId);
    const first = this.#jobs.get(word);
    if (first === undefined) return;
    this.#size--;
    if (first !== job) {
      let before = first;
      while (before.alike !== undefined && before.alike !== job) before = before.alike;
      before.alike = job.alike;
    } else if (job.alike === undefined) {
      this.#jobs.delete(word);
    } else {
      this.#jobs.set(word, job.alike);
    }
  }

  *#all(): Generator<Job> {
    for (const first of this.#jobs.values()) {
      for (let job: Job | undefined = first; job !== undefined; job = job.alike) yield job;
    }
  }

  #creatorOf(creatorBytes: Uint8Array): number {
    const key = bytestringOf(creatorBytes);
    let creator = this.#creators.get(key);
    if (creator === undefined) {
      if (this.#creators.size >= creatorsMax && this.#size === 0) this.#creators.clear();
      creator = this.#nextCreator++;
      this.#creators.set(key, creator);
    }
    return creator;
  }
}

function isSame(left: Uint8Array, right: Uint8Array): boolean {
  return Buffer.compare(left, right) === 0;
}
