import { expect, it } from 'vitest';
import { DaybookError } from '../../base/index.ts';
import type { GatewayBackend } from '../../gateway/index.ts';
import { asPosition, type Batch, type Outcome } from '../../model/index.ts';
import { Guard, guardedExecutor } from './guard.ts';

/** What a client is told of a transaction that was under way when the guard closed. */
function toldOf(outcome: Outcome): Outcome | undefined {
  const guard = new Guard();
  let answer: ((index: number, outcome: Outcome) => void) | undefined;
  const inner = {
    submit: (_batch: Batch, _deadlineMs: number, onOutcome: typeof answer) => {
      answer = onOutcome;
    },
  } as unknown as GatewayBackend['executor'];
  let told: Outcome | undefined;
  guardedExecutor(inner, guard).submit({} as Batch, 0, (_index, one) => {
    told = one;
  });
  guard.set({ state: 'repairing', reason: 'a wrong row' });
  answer?.(0, outcome);
  return told;
}

function rejectedWith(code: 'CONTRACT_REJECTED' | 'OUTCOME_UNKNOWN'): Outcome {
  return { status: 'rejected', error: new DaybookError(code, 'why').toJSON() };
}

it('does not let a client believe that a transaction which took effect did not', () => {
  const committed: Outcome = { status: 'committed', position: asPosition(7), result: '' };
  for (const outcome of [committed, rejectedWith('OUTCOME_UNKNOWN')]) {
    expect(toldOf(outcome)).toMatchObject({ error: { code: 'OUTCOME_UNKNOWN', retry: 'same' } });
  }
  // Nothing of it is in the log: another node may find otherwise.
  expect(toldOf(rejectedWith('CONTRACT_REJECTED'))).toMatchObject({
    error: { code: 'NODE_DIVERGED', retry: 'same' },
  });
});
