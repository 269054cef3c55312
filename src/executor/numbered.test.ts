import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Numbered } from './numbered.ts';

it('holds what a map would hold, whatever comes and goes', () => {
  const step = fc.record({ take: fc.boolean(), by: fc.integer({ min: -200, max: 200 }) });
  const begin = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER - 100_000 });
  fc.assert(
    fc.property(begin, fc.array(step, { maxLength: 200 }), (first, steps) => {
      const numbered = new Numbered<object>();
      const map = new Map<number, object>();
      let newest = first + 1_000;
      for (const { take, by } of steps) {
        const number = Math.max(0, newest + by);
        if (take) {
          expect(numbered.take(number)).toBe(map.get(number));
          map.delete(number);
        } else if (!map.has(number)) {
          const thing = {};
          numbered.add(number, thing);
          map.set(number, thing);
          newest = Math.max(newest, number);
        }
        expect(numbered.size).toBe(map.size);
        expect(numbered.get(number)).toBe(map.get(number));
      }
      const ascending = [...map].sort(([left], [right]) => left - right);
      expect(numbered.values()).toEqual(ascending.map(([, thing]) => thing));
      for (const [number, thing] of map) expect(numbered.get(number)).toBe(thing);
      numbered.clear();
      expect(numbered.size).toBe(0);
      expect(numbered.values()).toEqual([]);
    }),
  );
});
