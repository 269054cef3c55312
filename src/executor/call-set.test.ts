import fc from 'fast-check';
import { expect, it } from 'vitest';
import { CallSet, seenRow } from './call-set.ts';

it('finds rows by key, however many there are, and keeps the order in which they came', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ unit: 'binary-ascii' }), { maxLength: 40 }), (keys) => {
      const set = new CallSet('n', false);
      const sorted = [...keys].sort();
      for (const key of keys) {
        expect(set.read(key)).toBeUndefined();
        expect(set.written(key)).toBeUndefined();
        const row = seenRow(key, `n\0${key}`, undefined, undefined, undefined);
        set.addRead(row);
        set.write(key, 'first');
        expect(set.read(key)).toBe(row);
      }
      for (const key of keys) set.write(key, `last of ${key}`);
      expect(set.reads.map(({ key }) => key)).toEqual(keys);
      expect(set.writes.map(({ key }) => key)).toEqual(keys);
      for (const key of keys) expect(set.read(key)?.key).toBe(key);
      for (const key of keys) expect(set.written(key)?.value).toBe(`last of ${key}`);
      set.sortReads();
      set.sortWrites();
      expect(set.reads.map(({ key }) => key)).toEqual(sorted);
      expect(set.writes.map(({ key }) => key)).toEqual(sorted);
    }),
  );
});
