import { expect, it } from 'vitest';
import type { ChangeRecord } from './change.ts';
import { PoisonFilter } from './poison.ts';
import type { Processor, TableDeclaration } from './processor.ts';

const table: TableDeclaration = { name: 't', columns: { id: 'text' }, primaryKey: ['id'] };
const processor: Processor = ({ key }) => {
  if (key === 'throws') throw new Error('never');
  if (key === 'nothing') return undefined as never;
  return [{ op: 'upsert', table: key === 'strange' ? 'other' : 't', row: { id: key } }];
};
const changes: ChangeRecord[] = ['a', 'throws', 'b', 'strange', 'throws', 'nothing', 'c'].map(
  (key, position) => ({ position, timeMs: 0, txId: '', contract: 'c', key, content: 'text' }),
);

it('parks the same changes whether they were mapped before or not', () => {
  const batches = [false, true].map((early) => {
    const filter = new PoisonFilter(processor, [table], 'park', ['c/b']);
    if (early) filter.prepare(changes);
    return filter.batch(changes);
  });
  expect(batches[1]).toEqual(batches[0]);
  expect(batches[0]?.changes.map(({ change }) => change.key)).toEqual(['a', 'c']);
  expect(batches[0]?.parked.map(({ change, reason }) => [change.key, reason])).toEqual([
    ['throws', 'the processor threw: never'],
    ['b', 'behind a parked change'],
    ['strange', 'table other is not declared'],
    ['throws', 'behind a parked change'],
    ['nothing', expect.stringContaining('not operations')],
  ]);
});

it('a page that is mapped early ends nothing before its turn', () => {
  const filter = new PoisonFilter(processor, [table], 'stop', []);
  filter.prepare(changes);
  expect(() => filter.batch(changes)).toThrow(/1\/c\/throws/);
});
