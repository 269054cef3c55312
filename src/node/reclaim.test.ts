import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import type { LogRoom } from '../log/index.ts';
import { keepReclaiming } from './reclaim.ts';

it('gives space back once before it returns, then again and again, unless another node does', async () => {
  const closing = new AbortController();
  const events: string[] = [];
  let calls = 0;
  let leaves = true;
  const rooms: (LogRoom | undefined)[] = ['enough', 'full', undefined, 'full', 'none', 'enough'];
  const log = {
    reclaim: async () => {
      calls++;
      if (calls === 1) throw new DaybookError('TIMEOUT', 'no answer');
      return rooms.shift();
    },
  };
  const until = async (isSo: () => boolean): Promise<void> => {
    while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
  };
  let looks = 0;
  const leavesTrimming = (): boolean => {
    looks++;
    return leaves;
  };
  await keepReclaiming(
    { io: realIo(), log, everyMs: 1, leavesTrimming, onEvent: (text) => events.push(text) },
    closing.signal,
  );
  // A node without a way to etcd starts, and finds that out elsewhere.
  expect(calls).toBe(1);
  expect(events).toEqual([expect.stringContaining('no answer')]);
  await until(() => looks > 3);
  expect(calls).toBe(1);
  leaves = false;
  await until(() => rooms.length === 0);
  expect(events.slice(1)).toEqual([
    expect.stringContaining('the log is full'),
    expect.stringContaining('its quota'),
    'the log has room again',
  ]);
  closing.abort();
  const last = calls;
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(calls).toBe(last);
});
