import { type Outcome, rows } from './rows.ts';
import { get, put, remove, type Step } from './step.ts';

/** Outcomes that a node keeps, the newest. */
export const outcomesMax = 10_000;

/** Notes what became of a change of this node, and forgets old ones. */
export function* noteOutcome(outcome: Outcome): Step<void> {
  const { usn } = outcome.change;
  yield* put(rows.outcome(usn), outcome);
  if (usn > outcomesMax) yield* remove(rows.outcome(usn - outcomesMax));
}

/** What became of the change with this USN of this node. */
export function* outcomeOf(usn: number): Step<Outcome | undefined> {
  return yield* get<Outcome>(rows.outcome(usn));
}
