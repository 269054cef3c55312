import type { RunningExecutor } from '../src/executor/index.ts';
import type { Mutant } from './mutant.ts';

type Submit = RunningExecutor['submit'];

/** Bugs of an executor that holds too much, or holds it for ever. */
export const overloadMutants: readonly Mutant[] = [
  {
    name: 'admit-without-bound',
    seedsMax: 20,
    shows: 'correctness',
    admitsAll: true,
  },
  {
    // As two batches do that each hold what the other needs.
    name: 'batches-wait-for-one-another',
    seedsMax: 10,
    shows: 'liveness',
    executor: (executor) => {
      let underWay = 0;
      let isStuck = false;
      const submit: Submit = (batch, deadlineMs, onOutcome) => {
        let missing = batch.items.length;
        isStuck ||= underWay > 0;
        underWay++;
        executor.submit(batch, deadlineMs, (index, outcome) => {
          if (!isStuck) onOutcome(index, outcome);
          missing--;
          if (missing === 0) underWay--;
          if (underWay === 0) isStuck = false;
        });
      };
      return new Proxy(executor, {
        get: (target, name) => {
          if (name === 'submit') return submit;
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    },
  },
];
