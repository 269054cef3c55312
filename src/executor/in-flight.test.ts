import fc from 'fast-check';
import { expect, it } from 'vitest';
import { InFlightWrites, newWrite } from './in-flight.ts';

it('sees what is in flight, whatever came and went before', () => {
  const step = fc.record({
    key: fc.nat({ max: 2_500 }).map((number) => `k${String(number).padStart(5, '0')}`),
    settles: fc.boolean(),
    looks: fc.integer({ min: 0, max: 40 }),
  });
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 6_000, size: 'max' }), (steps) => {
      const writes = new InFlightWrites();
      const model = new Map<number, string>();
      steps.forEach(({ key, settles, looks }, execution) => {
        writes.push(execution, [newWrite(key, String(execution))]);
        model.set(execution, key);
        if (settles) {
          // The oldest, as when records become valid; now and then another one, as when they fail.
          const open = [...model.keys()];
          const gone = open[looks > 35 ? Math.floor(open.length / 2) : 0] as number;
          expect(writes.remove(gone)?.[0]?.key).toBe(model.get(gone));
          model.delete(gone);
        }
        if (looks > 0) return;
        const newest = new Map([...model].map(([number, name]) => [name, String(number)]));
        const found = writes.range('k00100', 'k02000').map((write) => [write.key, write.value]);
        const expected = [...newest]
          .filter(([name]) => name >= 'k00100' && name < 'k02000')
          .sort(([left], [right]) => (left < right ? -1 : 1));
        expect(found).toEqual(expected);
        expect(writes.top(key)?.value).toBe(newest.get(key));
      });
      expect(writes.size).toBe(model.size);
    }),
    { numRuns: 4 },
  );
});
