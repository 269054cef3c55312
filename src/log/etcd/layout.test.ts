import fc from 'fast-check';
import { expect, test } from 'vitest';
import { asAddress } from '../../model/index.ts';
import {
  decodeLayout,
  encodeLayout,
  firstOnUnit,
  foundingLayout,
  type Layout,
  type LayoutUnit,
  lastOnUnit,
  lastSegment,
  nextLayout,
  unitOf,
} from './layout.ts';

const unit = (id: string): LayoutUnit => ({ id, endpoints: [`${id}:1`] });
const names = ['a', 'b', 'c', 'd', 'e'];
const someUnits = fc.uniqueArray(fc.constantFrom(...names), { minLength: 1, maxLength: 5 });
const change = fc.record({ ahead: fc.nat(20), trim: fc.nat(60), units: someUnits });

/** A history of layouts, and by the naive rule the unit of every address below the last tail. */
function history(
  first: readonly string[],
  changes: readonly { ahead: number; trim: number; units: readonly string[] }[],
): { layout: Layout; naive: string[]; trim: number } {
  let layout = foundingLayout('log', first.map(unit));
  let [tail, trim, from] = [0, 0, 0];
  let units = first;
  const naive: string[] = [];
  for (const { ahead, trim: wanted, units: next } of changes) {
    for (let n = 0; n < ahead; n++, tail++) naive.push(units[(tail - from) % units.length] ?? '');
    trim = Math.max(trim, Math.min(wanted, tail));
    layout = nextLayout(layout, {
      tail: asAddress(tail),
      trim: asAddress(trim),
      epoch: layout.epoch,
      units: next.map(unit),
    });
    [units, from] = [next, tail];
  }
  for (let n = 0; n < 20; n++, tail++) naive.push(units[(tail - from) % units.length] ?? '');
  return { layout, naive, trim };
}

test('an address never changes its unit, whatever layouts follow', () => {
  fc.assert(
    fc.property(someUnits, fc.array(change, { maxLength: 8 }), (first, changes) => {
      const { layout, naive, trim } = history(first, changes);
      for (let address = trim; address < naive.length; address++) {
        expect(unitOf(layout, asAddress(address))).toBe(naive[address]);
      }
      expect(layout.generation).toBe(changes.length + 1);
      const used = new Set(layout.segments.flatMap((segment) => segment.units));
      expect(new Set(layout.units.map(({ id }) => id))).toEqual(used);
    }),
  );
});

test('firstOnUnit and lastOnUnit are the next addresses that unitOf gives to the unit', () => {
  fc.assert(
    fc.property(
      someUnits,
      fc.array(change, { maxLength: 6 }),
      fc.nat(120),
      (first, changes, start) => {
        const { layout, naive, trim } = history(first, changes);
        const from = Math.min(Math.max(start, trim), naive.length - 5);
        for (const name of names) {
          const expected = naive.findIndex((owner, address) => address >= from && owner === name);
          const found = firstOnUnit(layout, name, asAddress(from));
          if (expected >= 0) expect(found).toBe(expected);
          else if (lastSegment(layout).units.includes(name))
            expect(found).toBeGreaterThanOrEqual(from);
          else expect(found).toBeUndefined();
          const last = naive.findLastIndex(
            (owner, at) => at >= trim && at < from && owner === name,
          );
          const before = lastOnUnit(layout, name, asAddress(from));
          if (last >= 0) expect(before).toBe(last);
          else expect(before ?? 0).toBeLessThanOrEqual(trim);
        }
      },
    ),
  );
});

test('a layout reads back as it was stored, a damaged one is reported', () => {
  const layout = foundingLayout('log', [unit('a'), unit('b')]);
  expect(decodeLayout(encodeLayout(layout))).toEqual(layout);
  expect(() => decodeLayout(Buffer.from('{"segments":[]}'))).toThrow(/damaged/);
  expect(() => decodeLayout(Buffer.from('no'))).toThrow(/damaged/);
});
