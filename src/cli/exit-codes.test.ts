import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { exitCodeOf } from './exit-codes.ts';

test.each([
  ['CONTRACT_REJECTED', 1],
  ['ACCESS_DENIED', 1],
  ['TRANSACTION_UNKNOWN', 1],
  ['USAGE', 2],
  ['NOT_FOUND', 2],
  ['LISTEN_FAILED', 2],
  ['PEER_UNREACHABLE', 3],
  ['OVERLOADED', 3],
  ['OUTCOME_UNKNOWN', 4],
  ['INTERNAL', 70],
  ['LOG_DAMAGED', 70],
] as const)('%s ends with %i', (code, exitCode) => {
  expect(exitCodeOf(new DaybookError(code, 'x'))).toBe(exitCode);
});

test('a path that cannot be used is the user’s, a broken disk is not', () => {
  const failed = (cause: string): DaybookError =>
    new DaybookError('IO_FAILED', 'x', { details: { path: '/x', cause } });
  expect(exitCodeOf(failed('ENOENT'))).toBe(2);
  expect(exitCodeOf(failed('EIO'))).toBe(70);
});

test('what is not ours is internal', () => {
  expect(exitCodeOf(new TypeError('x'))).toBe(70);
});
