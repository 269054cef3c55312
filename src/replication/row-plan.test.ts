import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { MappedChange, Row, RowOperation, TableDeclaration } from './processor.ts';
import { planRows, type TablePlan } from './row-plan.ts';

const table: TableDeclaration = {
  name: 't',
  columns: { id: 'text', owner: 'text', value: 'integer' },
  primaryKey: ['id'],
};

type Table = Map<string, { row: Record<string, unknown>; revision: number }>;

/** What a database does with a plan. */
function execute(rows: Table, [plan]: TablePlan[]): void {
  for (const { columns, rows: values, revisions } of plan?.upserts ?? []) {
    values.forEach((line, at) => {
      const row = Object.fromEntries(columns.map((column, index) => [column, line[index]]));
      const known = rows.get(row.id as string);
      const revision = revisions[at] as number;
      if (known === undefined) rows.set(row.id as string, { row, revision });
      else if (known.revision <= revision) {
        Object.assign(known.row, row);
        known.revision = revision;
      }
    });
  }
  for (const { columns, owners } of plan?.owners ?? []) {
    for (const { values, revision } of owners) {
      for (const [id, known] of rows) {
        const owned = columns.every((column, at) => known.row[column] === values[at]);
        if (owned && known.revision < revision) rows.delete(id);
      }
    }
  }
  for (const { key, revision } of plan?.deletes ?? []) {
    const known = rows.get(key[0] as string);
    if (known !== undefined && known.revision <= revision) rows.delete(key[0] as string);
  }
}

/** One operation after the other. */
function naive(rows: Table, operation: RowOperation, revision: number): void {
  if (operation.op === 'delete') rows.delete(operation.key.id as string);
  else if (operation.op === 'upsert') put(rows, operation.row, revision);
  else {
    for (const [id, known] of rows) {
      if (known.row.owner === operation.owner.owner) rows.delete(id);
    }
    for (const row of operation.rows) put(rows, row, revision);
  }
}

function put(rows: Table, row: Row, revision: number): void {
  rows.set(row.id as string, { row: { ...row }, revision });
}

const id = fc.constantFrom('a', 'b', 'c', 'd');
const owner = fc.constantFrom('x', 'y');
const operation: fc.Arbitrary<RowOperation> = fc.oneof(
  fc.record({
    op: fc.constant('upsert' as const),
    table: fc.constant('t'),
    row: fc.record({ id, owner, value: fc.nat(9) }),
  }),
  fc.record({
    op: fc.constant('delete' as const),
    table: fc.constant('t'),
    key: fc.record({ id }),
  }),
  fc
    .record({
      op: fc.constant('replace' as const),
      table: fc.constant('t'),
      owner: fc.record({ owner }),
      ids: fc.uniqueArray(id),
      value: fc.nat(9),
    })
    .map(({ ids, value, ...rest }) => ({
      ...rest,
      rows: ids.map((one) => ({ id: one, owner: rest.owner.owner, value })),
    })),
);

it('does to the rows what one operation after the other does, in any division into batches', () => {
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 25 }),
      fc.integer({ min: 1, max: 9 }),
      (operations, size) => {
        const expected: Table = new Map();
        const found: Table = new Map();
        const changes = operations.map((one, position): MappedChange => {
          naive(expected, one, position);
          const change = { position, timeMs: 0, txId: '', contract: 'c', key: 'k', content: '' };
          return { change, operations: [one] };
        });
        for (let at = 0; at < changes.length; at += size) {
          const plan = planRows([table], changes.slice(at, at + size));
          execute(found, plan);
          // Delivered once more, it changes nothing.
          execute(found, plan);
        }
        const rows = (from: Table) =>
          [...from.values()]
            .map(({ row }) => JSON.stringify([row.id, row.owner, row.value]))
            .sort();
        expect(rows(found)).toEqual(rows(expected));
      },
    ),
    { numRuns: 500 },
  );
});

it('merges what several entities say of one row, and forgets what was deleted before', () => {
  const change = (position: number, operations: RowOperation[]): MappedChange => ({
    change: { position, timeMs: 0, txId: '', contract: 'c', key: 'k', content: '' },
    operations,
  });
  const [plan] = planRows(
    [table],
    [
      change(1, [{ op: 'upsert', table: 't', row: { id: 'a', owner: 'x' } }]),
      change(2, [{ op: 'upsert', table: 't', row: { id: 'a', value: 1 } }]),
      change(3, [{ op: 'delete', table: 't', key: { id: 'b' } }]),
      change(4, [{ op: 'upsert', table: 't', row: { id: 'b', value: 2 } }]),
    ],
  );
  const rows = plan?.upserts.flatMap(({ columns, rows: values }) =>
    values.map((line) => Object.fromEntries(columns.map((column, at) => [column, line[at]]))),
  );
  expect(rows).toEqual([
    { id: 'a', owner: 'x', value: 1 },
    { id: 'b', owner: null, value: 2 },
  ]);
  expect(plan?.deletes).toEqual([]);
});

it('leaves the processor’s rows as they are, and keeps kinds of rows apart', () => {
  const rows: Row[] = [
    { id: 'a', value: 1 },
    { id: 'b', owner: 'x' },
    { id: 'c', value: 2 },
    { id: 'a', owner: 'y' },
  ];
  const changes = rows.map((row, position) => ({
    change: { position, timeMs: 0, txId: '', contract: 'c', key: 'k', content: undefined },
    operations: [{ op: 'upsert' as const, table: 't', row: Object.freeze(row) }],
  }));
  const [plan] = planRows([table], changes);
  expect(plan?.upserts).toEqual([
    { columns: ['id', 'value', 'owner'], rows: [['a', 1, 'y']], revisions: [3] },
    { columns: ['id', 'owner'], rows: [['b', 'x']], revisions: [1] },
    { columns: ['id', 'value'], rows: [['c', 2]], revisions: [2] },
  ]);
});
