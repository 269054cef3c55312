import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type LockMode, type LockRequest, LockTable, type LockTarget } from './lock-table.ts';

const key = (name: string): LockTarget => ({ key: name });

it('shares, excludes, and grants in the order of arrival', () => {
  const table = new LockTable();
  expect(table.request(1, key('k'), 'shared').granted).toBe(true);
  expect(table.request(2, key('k'), 'shared').granted).toBe(true);
  const writer = table.request(3, key('k'), 'exclusive');
  const reader = table.request(4, key('k'), 'shared');
  expect([writer.granted, reader.granted]).toEqual([false, false]);
  expect(table.release(1)).toEqual([]);
  expect(table.release(2)).toEqual([writer]);
  expect(table.release(3)).toEqual([reader]);
  table.release(4);
  expect(table.size).toBe(0);
});

it('a range keeps writers out of the whole interval, and waits for those inside', () => {
  const table = new LockTable();
  expect(table.request(1, key('b'), 'exclusive').granted).toBe(true);
  const range = table.request(2, { start: 'a', end: 'c' }, 'shared');
  expect(range.granted).toBe(false);
  // First come, first served: this one may not overtake the range.
  const later = table.request(3, key('a'), 'exclusive');
  expect(later.granted).toBe(false);
  expect(table.request(4, key('c'), 'exclusive').granted).toBe(true);
  expect(table.release(1)).toEqual([range]);
  expect(table.release(2)).toEqual([later]);
});

it('finds the circle of two upgrades, and names the younger', () => {
  const table = new LockTable();
  table.request(1, key('k'), 'shared');
  table.request(2, key('k'), 'shared');
  const first = table.request(1, key('k'), 'exclusive');
  expect(table.deadlock(1)).toBeUndefined();
  table.request(2, key('k'), 'exclusive');
  expect(table.deadlock(2)).toEqual({ youngest: 2, oldest: 1 });
  expect(table.release(2)).toEqual([first]);
});

/*
 * Naive model: lists of held and waiting locks, every question by looking at all of them.
 */
type Step =
  | {
      readonly do: 'lock';
      readonly owner: number;
      readonly target: LockTarget;
      readonly mode: LockMode;
    }
  | { readonly do: 'release'; readonly owner: number };

const names = ['a', 'b', 'c', 'd'];
const target: fc.Arbitrary<{ target: LockTarget; mode: LockMode }> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      target: fc.constantFrom(...names).map(key),
      mode: fc.constantFrom<LockMode>('shared', 'exclusive'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      target: fc.constantFrom<LockTarget>(
        { start: 'a', end: 'c' },
        { start: 'b', end: '' },
        { start: 'a', end: 'd' },
      ),
      mode: fc.constant<LockMode>('shared'),
    }),
  },
);
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 4,
      arbitrary: fc
        .tuple(fc.integer({ min: 1, max: 5 }), target)
        .map(([owner, rest]): Step => ({ do: 'lock', owner, ...rest })),
    },
    {
      weight: 1,
      arbitrary: fc.integer({ min: 1, max: 5 }).map((owner): Step => ({ do: 'release', owner })),
    },
  ),
  { maxLength: 60 },
);

function overlap(left: LockTarget, right: LockTarget): boolean {
  if ('key' in left && 'key' in right) return left.key === right.key;
  const [range, other] = 'key' in left ? [right, left] : [left, right];
  if ('key' in range || !('key' in other)) return false;
  return other.key >= range.start && (range.end === '' || other.key < range.end);
}

function conflict(left: LockRequest, right: LockRequest): boolean {
  return (
    left.owner !== right.owner &&
    (left.mode === 'exclusive' || right.mode === 'exclusive') &&
    overlap(left.target, right.target)
  );
}

it('never grants conflicting locks, forgets nobody, and breaks every circle', () => {
  let deadlocks = 0;
  let waits = 0;
  fc.assert(
    fc.property(steps, (script) => {
      const table = new LockTable();
      let requests: LockRequest[] = [];
      const free = (owner: number): void => {
        requests = requests.filter((request) => request.owner !== owner);
        for (const granted of table.release(owner)) expect(requests).toContain(granted);
      };
      for (const step of script) {
        if (step.do === 'release') {
          // Strict two-phase: only an owner that waits for nothing ends by itself.
          if (requests.some((one) => one.owner === step.owner && !one.granted)) continue;
          free(step.owner);
        } else {
          if (requests.some((one) => one.owner === step.owner && !one.granted)) continue;
          const request = table.request(step.owner, step.target, step.mode);
          requests.push(request);
          if (!request.granted) waits++;
          for (;;) {
            const victim = table.deadlock(step.owner)?.youngest;
            if (victim === undefined) break;
            deadlocks++;
            expect(requests.some((one) => one.owner === victim && !one.granted)).toBe(true);
            free(victim);
          }
        }
        const held = requests.filter((request) => request.granted);
        for (const one of held) {
          for (const other of held) expect(conflict(one, other)).toBe(false);
        }
        // Whoever waits has a reason: a holder, or somebody who waits too and came first or holds.
        for (const request of requests.filter((one) => !one.granted)) {
          expect(requests.some((other) => other !== request && conflict(request, other))).toBe(
            true,
          );
        }
        // No circle is left: somebody among those who hold locks can go on.
        if (requests.length > 0) {
          const waiting = new Set(requests.filter((one) => !one.granted).map((one) => one.owner));
          expect(requests.some((one) => !waiting.has(one.owner))).toBe(true);
        }
      }
      // When everybody ends, everybody is served.
      for (let left = 100; requests.length > 0 && left > 0; left--) {
        const waiting = new Set(requests.filter((one) => !one.granted).map((one) => one.owner));
        const done = requests.find((one) => !waiting.has(one.owner));
        expect(done, 'somebody can always go on').toBeDefined();
        free(done?.owner ?? 0);
      }
      expect(requests).toEqual([]);
      expect(table.size).toBe(0);
    }),
    { numRuns: 2000 },
  );
  expect(deadlocks).toBeGreaterThan(50);
  expect(waits).toBeGreaterThan(1000);
});
