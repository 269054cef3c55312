import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { Batch, BatchItem, Outcome } from '../model/index.ts';
import { Job } from './job.ts';
import { JobTable } from './job-table.ts';

const batch = { creatorBytes: Buffer.from('ann') } as unknown as Batch;

/** Ids whose first bytes are equal. */
const idOf = (name: string): Buffer => Buffer.from(name.padStart(32, '.'));

/** A job, and what its client hears. */
function job(
  table: JobTable,
  txId: Buffer,
  more: Partial<Job> = {},
): { job: Job; heard: string[] } {
  const heard: string[] = [];
  const onOutcome = (_: number, outcome: Outcome): void => {
    heard.push(outcome.status === 'rejected' ? outcome.error.code : outcome.status);
  };
  const made = new Job({
    item: { txId } as unknown as BatchItem,
    leaf: 0,
    batch: table.admitted(batch),
    orderKey: undefined,
    onOutcome,
    deadlineMs: 1_000,
    unit: table.nextUnit(),
  });
  return { job: Object.assign(made, more), heard };
}

test('what may be in the log is never said to be undone, also when all are told to go', () => {
  const table = new JobTable(10);
  const waits = job(table, idOf('waits'));
  const leaves = job(table, idOf('leaves'), { attempts: 1, onItsWay: true });
  for (const one of [waits, leaves]) expect(table.add(one.job)).toBe(true);
  table.answerAll(new DaybookError('CLOSED', 'the executor was closed'));
  expect(waits.heard).toEqual(['CLOSED']);
  expect(leaves.heard).toEqual(['OUTCOME_UNKNOWN']);
});

test('at its deadline a call that never left is over, and its successor may run', () => {
  const table = new JobTable(10);
  const first = job(table, idOf('first'), { orderKey: 'k', attempts: 1 });
  const second = job(table, idOf('second'), { orderKey: 'k', deadlineMs: 5_000 });
  const never = job(table, idOf('never'), { deadlineMs: 500 });
  expect([first, second, never].map((one) => table.add(one.job))).toEqual([true, false, true]);
  expect(table.answerOverdue(999, undefined)).toEqual([never.job]);
  expect(never.heard).toEqual(['TRANSACTION_CONFLICT']);
  expect(table.finish(never.job)).toBeUndefined();

  // It was executed: it ends when its fate is known. Whoever asks again meanwhile is told then.
  const full = new DaybookError('OVERLOADED', 'no room');
  expect(table.answerOverdue(1_000, full)).toEqual([]);
  expect(first.heard).toEqual(['OVERLOADED']);
  const again: string[] = [];
  const tell = (index: number): number => again.push(`answer ${index}`);
  expect(table.join(idOf('first'), 3, tell, 9_000)).toBe(true);
  expect(table.join(idOf('unknown'), 3, tell, 9_000)).toBe(false);
  expect(table.isOwed).toBe(true);
  table.answer(first.job, { status: 'committed', position: 1 as never, result: '' });
  expect([first.heard, again]).toEqual([['OVERLOADED'], ['answer 3']]);
  const unit = second.job.unit;
  expect(table.finish(first.job)).toBe(second.job);
  expect(second.job.unit).toBeGreaterThan(unit);
  expect(table.finish(first.job)).toBeUndefined();
});

test('jobs are found by their whole id, also where ids begin alike', () => {
  const table = new JobTable(10);
  const names = ['a', 'b', 'c', 'd'];
  const jobs = names.map((name) => job(table, idOf(name)).job);
  const tell = (): void => undefined;
  const found = (): boolean[] => names.map((name) => table.join(idOf(name), 0, tell, 0));
  for (const one of jobs) table.add(one);
  expect(found()).toEqual([true, true, true, true]);
  for (const [at, expected] of [
    [1, [true, false, true, true]],
    [3, [true, false, true, false]],
    [0, [false, false, true, false]],
    [2, [false, false, false, false]],
  ] as const) {
    table.finish(jobs[at] as Job);
    expect(found()).toEqual(expected);
  }
  expect(table.size).toBe(0);
});
