import fc from 'fast-check';
import { expect, test } from 'vitest';
import { TransitMap } from './transit-map.ts';

test('holds what a map holds, whatever comes and goes', () => {
  const key = fc.integer({ min: 0, max: 7 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant('set' as const), key }),
    fc.record({ kind: fc.constant('delete' as const), key }),
    fc.record({ kind: fc.constant('clear' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const map = new TransitMap<number, { readonly at: number }>();
      const model = new Map<number, { readonly at: number }>();
      for (const [at, one] of steps.entries()) {
        if (one.kind === 'clear') {
          map.clear();
          model.clear();
        } else if (one.kind === 'set') {
          const value = { at };
          map.set(one.key, value);
          model.set(one.key, value);
        } else {
          expect(map.delete(one.key)).toBe(model.get(one.key));
          model.delete(one.key);
        }
        for (let known = 0; known < 8; known++) expect(map.get(known)).toBe(model.get(known));
        expect(map.size).toBe(model.size);
        expect([...map.keys()]).toEqual([...model.keys()]);
        expect([...map.values()]).toEqual([...model.values()]);
      }
    }),
  );
});

test('what is removed while the values are looked at is not shown', () => {
  const map = new TransitMap<string, { readonly name: string }>();
  for (const name of ['a', 'b', 'c']) map.set(name, { name });
  const seen: string[] = [];
  for (const { name } of map.values()) {
    seen.push(name);
    map.delete('b');
  }
  expect(seen).toEqual(['a', 'c']);
});
