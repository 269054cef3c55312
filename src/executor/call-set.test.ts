import fc from 'fast-check';
import { expect, it } from 'vitest';
import { KeyedRows } from './call-set.ts';

it('finds rows by key, however many there are, and keeps the order in which they came', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ unit: 'binary-ascii' }), { maxLength: 40 }), (keys) => {
      const rows = new KeyedRows<{ readonly key: string }>();
      for (const key of keys) {
        expect(rows.get(key)).toBeUndefined();
        const row = { key };
        rows.add(row);
        expect(rows.get(key)).toBe(row);
      }
      expect(rows.all.map(({ key }) => key)).toEqual(keys);
      for (const key of keys) expect(rows.get(key)?.key).toBe(key);
      rows.sort();
      expect(rows.all.map(({ key }) => key)).toEqual([...keys].sort());
    }),
  );
});
