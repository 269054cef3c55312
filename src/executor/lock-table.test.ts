import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type LockMode, LockOwner, type LockRequest, LockTable } from './lock-table.ts';

type Owner = LockOwner<undefined>;
type LockTarget =
  | { readonly key: string; readonly mode: LockMode }
  | { readonly start: string; readonly end: string; readonly mode: 'shared' };

function ownersOf(count: number): LockOwner<undefined>[] {
  return Array.from({ length: count }, (_, at) => new LockOwner(at + 1, undefined));
}

it('shares, excludes, and grants in the order of arrival', () => {
  const table = new LockTable<undefined>();
  const [one, two, three, four] = ownersOf(4) as [Owner, Owner, Owner, Owner];
  expect(table.requestKey(one, 'k', 'shared')).toBeUndefined();
  expect(table.requestKey(two, 'k', 'shared')).toBeUndefined();
  const writer = table.requestKey(three, 'k', 'exclusive');
  const reader = table.requestKey(four, 'k', 'shared');
  expect([writer?.owner, reader?.owner]).toEqual([three, four]);
  expect(table.release(one)).toEqual([]);
  expect(table.release(two)).toEqual([writer]);
  expect(table.release(three)).toEqual([reader]);
  table.release(four);
  expect(table.size).toBe(0);
});

it('a range keeps writers out of the whole interval, and waits for those inside', () => {
  const table = new LockTable<undefined>();
  const [one, two, three, four] = ownersOf(4) as [Owner, Owner, Owner, Owner];
  expect(table.requestKey(one, 'b', 'exclusive')).toBeUndefined();
  const range = table.requestRange(two, 'a', 'c');
  expect(range?.owner).toBe(two);
  // First come, first served: this one may not overtake the range.
  const later = table.requestKey(three, 'a', 'exclusive');
  expect(later?.owner).toBe(three);
  expect(table.requestKey(four, 'c', 'exclusive')).toBeUndefined();
  expect(table.release(one)).toEqual([range]);
  expect(table.release(two)).toEqual([later]);
});

it('finds the circle of two upgrades, and names the younger', () => {
  const table = new LockTable<undefined>();
  const [one, two] = ownersOf(2) as [Owner, Owner];
  table.requestKey(one, 'k', 'shared');
  table.requestKey(two, 'k', 'shared');
  const first = table.requestKey(one, 'k', 'exclusive');
  expect(table.deadlock(one)).toBeUndefined();
  table.requestKey(two, 'k', 'exclusive');
  expect(table.deadlock(two)).toEqual({ youngest: two, oldest: one });
  expect(table.release(two)).toEqual([first]);
});

it('looks for circles in long lines, too', () => {
  const table = new LockTable<undefined>();
  const all = ownersOf(20_000);
  const [one, last] = [all[0] as Owner, all.at(-1) as Owner];
  for (const owner of all) {
    table.requestKey(owner, `own ${owner.number}`, 'exclusive');
    table.requestKey(owner, 'k', 'exclusive');
    expect(table.deadlock(owner)).toBeUndefined();
  }
  table.requestKey(one, `own ${last.number}`, 'exclusive');
  expect(table.deadlock(one)).toEqual({ youngest: last, oldest: one });
  table.release(last);
  for (const owner of all) table.release(owner);
  expect(table.size).toBe(0);
});

it('keys that nobody has or wants any more are forgotten', () => {
  const table = new LockTable<undefined>();
  const [one, two] = ownersOf(2) as [Owner, Owner];
  const keys = Array.from({ length: 10_000 }, (_, at) => `k${at}`);
  for (const key of keys) table.requestKey(one, key, 'exclusive');
  const waiting = table.requestKey(two, 'k7', 'shared');
  expect(table.size).toBe(keys.length);
  expect(table.release(one)).toEqual([waiting]);
  expect(table.size).toBe(1);
  expect(table.kept).toBe(1);
  expect(table.requestKey(one, 'k7', 'exclusive')?.owner).toBe(one);
});

/*
 * Naive model: lists of held and waiting locks, every question by looking at all of them.
 */
/** A lock that somebody has or wants. */
interface Lock {
  readonly owner: Owner;
  readonly target: LockTarget;
  /** What the table made of it, when it was not granted at once. */
  readonly request: LockRequest<undefined> | undefined;
  granted: boolean;
}

type Step = { readonly owner: number; readonly target: LockTarget | undefined };

const keyTarget: fc.Arbitrary<LockTarget> = fc.record({
  key: fc.constantFrom('a', 'b', 'c', 'd'),
  mode: fc.constantFrom<LockMode>('shared', 'exclusive'),
});
const rangeTarget = fc.constantFrom<LockTarget>(
  { start: 'a', end: 'c', mode: 'shared' },
  { start: 'b', end: '', mode: 'shared' },
  { start: 'a', end: 'd', mode: 'shared' },
);
/** Somebody asks for a lock, or lets go of all that it has. */
const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    owner: fc.integer({ min: 0, max: 4 }),
    target: fc.oneof(
      { weight: 10, arbitrary: keyTarget },
      { weight: 2, arbitrary: rangeTarget },
      { weight: 3, arbitrary: fc.constant(undefined) },
    ),
  }),
  { maxLength: 60 },
);

function overlap(left: LockTarget, right: LockTarget): boolean {
  if ('key' in left && 'key' in right) return left.key === right.key;
  const [range, other] = 'key' in left ? [right, left] : [left, right];
  if ('key' in range || !('key' in other)) return false;
  return other.key >= range.start && (range.end === '' || other.key < range.end);
}

function conflict(left: Lock, right: Lock): boolean {
  return (
    left.owner !== right.owner &&
    (left.target.mode === 'exclusive' || right.target.mode === 'exclusive') &&
    overlap(left.target, right.target)
  );
}

/** A table, and next to it all that its owners have and want. */
class Watched {
  readonly table = new LockTable<undefined>();
  locks: Lock[] = [];
  deadlocks = 0;

  waits(owner: Owner): boolean {
    return this.locks.some((one) => one.owner === owner && !one.granted);
  }

  ask(owner: Owner, target: LockTarget): void {
    const request =
      'key' in target
        ? this.table.requestKey(owner, target.key, target.mode)
        : this.table.requestRange(owner, target.start, target.end);
    this.locks.push({ owner, target, request, granted: request === undefined });
    for (;;) {
      const victim = this.table.deadlock(owner)?.youngest;
      if (victim === undefined) break;
      this.deadlocks++;
      expect(this.waits(victim)).toBe(true);
      this.free(victim);
    }
  }

  free(owner: Owner): void {
    this.locks = this.locks.filter((one) => one.owner !== owner);
    for (const request of this.table.release(owner)) {
      const granted = this.locks.filter((one) => one.request === request);
      expect(granted.map((one) => one.granted)).toContain(false);
      for (const one of granted) one.granted = true;
    }
  }

  check(): void {
    const held = this.locks.filter(({ granted }) => granted);
    for (const one of held) for (const other of held) expect(conflict(one, other)).toBe(false);
    // Whoever waits has a reason: a holder, or somebody who waits too and came first or holds.
    for (const one of this.locks) {
      if (one.granted) continue;
      const wanted = this.locks.filter(({ request }) => request === one.request);
      const isReason = (other: Lock): boolean => wanted.some((want) => conflict(want, other));
      expect(this.locks.some(isReason)).toBe(true);
    }
    // No circle is left: somebody among those who hold locks can go on.
    if (this.locks.length > 0) {
      expect(this.locks.some(({ owner }) => !this.waits(owner))).toBe(true);
    }
  }

  /** When everybody ends, everybody is served. */
  end(): void {
    for (let left = 100; this.locks.length > 0 && left > 0; left--) {
      const done = this.locks.find(({ owner }) => !this.waits(owner));
      expect(done, 'somebody can always go on').toBeDefined();
      if (done !== undefined) this.free(done.owner);
    }
    expect(this.locks).toEqual([]);
    expect(this.table.size).toBe(0);
  }
}

for (const waitsMax of [1, 3]) {
  it(`never grants conflicting locks, forgets nobody, breaks every circle: ${waitsMax} at a time`, () => {
    let deadlocks = 0;
    let waits = 0;
    fc.assert(
      fc.property(steps, (script) => {
        const owners = ownersOf(5);
        const watched = new Watched();
        for (const { owner: number, target } of script) {
          const owner = owners[number] as Owner;
          const waiting = watched.locks.filter((one) => one.owner === owner && !one.granted).length;
          if (target === undefined) {
            // Strict two-phase: only an owner that waits for nothing ends by itself.
            if (waiting === 0) watched.free(owner);
          } else if (waiting < waitsMax) {
            watched.ask(owner, target);
            if (watched.waits(owner)) waits++;
          }
          watched.check();
        }
        watched.end();
        deadlocks += watched.deadlocks;
      }),
      { numRuns: 2000 },
    );
    expect(deadlocks).toBeGreaterThan(50);
    expect(waits).toBeGreaterThan(1000);
  });
}
