import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nearKeyOrder } from './lmdb-store.ts';

describe('order of writes to LMDB', () => {
  it('keeps every write once', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.string({ unit: 'binary-ascii' })), (keys) => {
        const writes = keys.map((key) => ({ key }));
        const ordered = nearKeyOrder(writes);
        expect(ordered).toHaveLength(writes.length);
        expect(new Set(ordered)).toEqual(new Set(writes));
      }),
    );
  });

  it('goes by the bytes after the common beginning', () => {
    const keys = ['bank\0b7', 'bank\0a', 'bank\0', 'bank\0b1', 'bank\0\xff'];
    const ordered = nearKeyOrder(keys.map((key) => ({ key })));
    expect(ordered.map(({ key }) => key)).toEqual([...keys].sort());
  });
});
