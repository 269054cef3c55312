import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { Batch, BatchItem, Outcome } from '../model/index.ts';
import type { Job } from './job.ts';
import { JobTable } from './job-table.ts';

const batch = { creatorBytes: Buffer.from('ann') } as unknown as Batch;

/** A job, and what its client hears. */
function job(
  table: JobTable,
  txId: string,
  more: Partial<Job> = {},
): { job: Job; heard: string[] } {
  const heard: string[] = [];
  const onOutcome = (_: number, outcome: Outcome): void => {
    heard.push(outcome.status === 'rejected' ? outcome.error.code : outcome.status);
  };
  const made: Job = {
    txId,
    item: {} as BatchItem,
    leaf: 0,
    batch: table.admitted(batch),
    orderKey: undefined,
    listeners: [{ index: 0, onOutcome }],
    deadlineMs: 1_000,
    unit: table.nextUnit(),
    attempts: 0,
    onItsWay: false,
    over: false,
    answered: false,
    ...more,
  };
  return { job: made, heard };
}

test('what may be in the log is never said to be undone, also when all are told to go', () => {
  const table = new JobTable(10);
  const waits = job(table, 'waits');
  const leaves = job(table, 'leaves', { attempts: 1, onItsWay: true });
  for (const one of [waits, leaves]) expect(table.add(one.job)).toBe(true);
  table.answerAll(new DaybookError('CLOSED', 'the executor was closed'));
  expect(waits.heard).toEqual(['CLOSED']);
  expect(leaves.heard).toEqual(['OUTCOME_UNKNOWN']);
});

test('at its deadline a call that never left is over, and its successor may run', () => {
  const table = new JobTable(10);
  const first = job(table, 'first', { orderKey: 'k', attempts: 1 });
  const second = job(table, 'second', { orderKey: 'k', deadlineMs: 5_000 });
  const never = job(table, 'never', { deadlineMs: 500 });
  expect([first, second, never].map((one) => table.add(one.job))).toEqual([true, false, true]);
  expect(table.answerOverdue(999, undefined)).toEqual([never.job]);
  expect(never.heard).toEqual(['TRANSACTION_CONFLICT']);
  expect(table.finish(never.job)).toBeUndefined();

  // It was executed: it ends when its fate is known. Whoever asks again meanwhile is told then.
  const full = new DaybookError('OVERLOADED', 'no room');
  expect(table.answerOverdue(1_000, full)).toEqual([]);
  expect(first.heard).toEqual(['OVERLOADED']);
  const again: string[] = [];
  const listener = { index: 3, onOutcome: (index: number) => again.push(`answer ${index}`) };
  expect(table.join('first', listener, 9_000)).toBe(true);
  expect(table.join('unknown', listener, 9_000)).toBe(false);
  expect(table.isOwed).toBe(true);
  table.answer(first.job, { status: 'committed', txId: 'first', position: 1 as never, result: '' });
  expect([first.heard, again]).toEqual([['OVERLOADED'], ['answer 3']]);
  const unit = second.job.unit;
  expect(table.finish(first.job)).toBe(second.job);
  expect(second.job.unit).toBeGreaterThan(unit);
  expect(table.finish(first.job)).toBeUndefined();
});
