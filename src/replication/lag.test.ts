import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Journal } from './journal.ts';
import { LagCounter } from './lag.ts';
import { compileSubscription } from './subscription.ts';
import { TestLedger } from './testing/test-ledger.ts';

const subscription = compileSubscription([{ contract: 'catalog', prefix: 'a' }]);

it('counts what a follower lacks, whatever it does and however little time there is', async () => {
  const commit = fc.dictionary(fc.constantFrom('a', 'ab', 'b'), fc.constant('1'), { minKeys: 1 });
  const step = fc.record({
    entries: fc.array(fc.array(commit, { minLength: 1, maxLength: 3 }), { maxLength: 90 }),
    /** How far the follower goes, as a part of what there is; back at times. */
    part: fc.nat(100).map((percent) => percent / 100),
    reads: fc.integer({ min: 0, max: 4 }),
    trim: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 6 }), async (steps) => {
      const ledger = new TestLedger();
      const journal = new Journal(ledger);
      const counter = new LagCounter(journal);
      let at = 0;
      for (const { entries, part, reads, trim } of steps) {
        for (const entry of entries) ledger.append(entry);
        at = Math.floor(part * journal.tail);
        const lacking = ledger.entries.flatMap((entry) =>
          entry.records
            .filter(({ position }) => position >= at)
            .flatMap(({ record }) => {
              const writes = record.sets.flatMap((set) => set.writes);
              const selected = writes.filter(({ key }) => key.startsWith('a'));
              return selected.map(() => entry.logTimeMs);
            }),
        );
        // What the follower has passed may go.
        if (trim) ledger.trimmed = Math.max(ledger.trimmed, Math.floor(at / 4096));
        if (ledger.trimmed > Math.floor(at / 4096)) continue;
        let left = reads;
        const goOn = (): boolean => left-- > 0;
        const some = await counter.lag('f', subscription, at, journal.tail, goOn);
        if (some.exact) expect(some.changes).toBe(lacking.length);
        left = Number.POSITIVE_INFINITY;
        // Time enough for the rest.
        const all = await counter.lag('f', subscription, at, journal.tail, goOn);
        expect(all).toEqual({
          changes: lacking.length,
          bulkUpdates: 0,
          exact: true,
          sinceMs: lacking[0],
        });
      }
    }),
    { numRuns: 150 },
  );
});
