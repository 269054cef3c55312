import type { MappedChange, Row, RowValue, TableDeclaration } from './processor.ts';

/** What many changes together do to one table: every row is touched once. */
export interface TablePlan {
  readonly table: TableDeclaration;
  /** Rows that have the same columns, which are written together. */
  readonly upserts: readonly UpsertGroup[];
  /** Rows with these values and an older revision go. */
  readonly owners: readonly OwnerGroup[];
  /** Rows with these primary keys go. */
  readonly deletes: readonly { readonly key: readonly RowValue[]; readonly revision: number }[];
}

/** See {@link TablePlan.upserts}. */
export interface UpsertGroup {
  readonly columns: readonly string[];
  /** Values in the order of `columns`, and the revision of each row. */
  readonly rows: readonly (readonly RowValue[])[];
  readonly revisions: readonly number[];
}

/** See {@link TablePlan.owners}. */
export interface OwnerGroup {
  readonly columns: readonly string[];
  readonly owners: readonly { readonly values: readonly RowValue[]; readonly revision: number }[];
}

interface PendingRow {
  values: Row;
  /** A copy, which the processor does not have. */
  own: boolean;
  revision: number;
}

interface PendingTable {
  readonly table: TableDeclaration;
  readonly upserts: Map<string, PendingRow>;
  readonly owners: Map<string, { readonly owner: Row; readonly revision: number }>;
  readonly deletes: Map<string, { readonly key: readonly RowValue[]; readonly revision: number }>;
}

/**
 * Puts the operations of many changes together, in order, so that the outcome is that of doing them
 * one after the other.
 *
 * @param tables - parents first; the plan has them in this order.
 * @param revisionMax - no row gets a greater revision (for rows of a scan, which changes that are
 *   older than some of them follow).
 */
export function planRows(
  tables: readonly TableDeclaration[],
  changes: readonly MappedChange[],
  revisionMax: number = Number.MAX_SAFE_INTEGER,
): TablePlan[] {
  const pending = new Map<string, PendingTable>();
  for (const table of tables) {
    pending.set(table.name, {
      table,
      upserts: new Map(),
      owners: new Map(),
      deletes: new Map(),
    });
  }
  for (const { change, operations } of changes) {
    const revision = Math.min(change.position, revisionMax);
    for (const operation of operations) {
      const into = pending.get(operation.table);
      if (into === undefined) continue;
      switch (operation.op) {
        case 'upsert':
          upsert(into, operation.row, revision);
          break;
        case 'delete': {
          const key = into.table.primaryKey.map((column) => operation.key[column] ?? null);
          const name = nameOfKey(key);
          into.upserts.delete(name);
          into.deletes.set(name, { key, revision });
          break;
        }
        case 'replace': {
          const { owner } = operation;
          const columns = Object.keys(owner).sort();
          const name = nameOf(columns.flatMap((column) => [column, owner[column] ?? null]));
          into.owners.set(name, { owner, revision });
          // Older rows of the same batch have an older revision, so they go with the others.
          for (const row of operation.rows) upsert(into, row, revision);
          break;
        }
      }
    }
  }
  return [...pending.values()].map(finish);
}

function upsert(into: PendingTable, row: Row, revision: number): void {
  const { primaryKey, columns } = into.table;
  const name = nameOfKey(primaryKey.map((column) => row[column] ?? null));
  const known = into.upserts.get(name);
  if (known !== undefined) {
    known.values = known.own ? Object.assign(known.values, row) : { ...known.values, ...row };
    known.own = true;
    known.revision = revision;
    return;
  }
  if (into.deletes.size > 0 && into.deletes.delete(name)) {
    // The old row is overwritten instead of deleted: nothing of it may stay.
    const values: Record<string, RowValue> = { ...row };
    for (const column in columns) values[column] ??= null;
    into.upserts.set(name, { values, own: true, revision });
    return;
  }
  into.upserts.set(name, { values: row, own: false, revision });
}

function finish({ table, upserts, owners, deletes }: PendingTable): TablePlan {
  const groups = new Map<string, { columns: string[]; rows: RowValue[][]; revisions: number[] }>();
  let group: { columns: string[]; rows: RowValue[][]; revisions: number[] } | undefined;
  for (const { values, revision } of upserts.values()) {
    // Most rows have the columns of the row before.
    if (group === undefined || !hasColumns(values, group.columns)) {
      const columns = Object.keys(values);
      const name = columns.join('\0');
      group = groups.get(name) ?? { columns, rows: [], revisions: [] };
      groups.set(name, group);
    }
    group.rows.push(Object.values(values));
    group.revisions.push(revision);
  }
  const ownerGroups = new Map<
    string,
    { columns: string[]; owners: { values: RowValue[]; revision: number }[] }
  >();
  for (const { owner, revision } of owners.values()) {
    const columns = Object.keys(owner).sort();
    const name = columns.join('\0');
    let group = ownerGroups.get(name);
    if (group === undefined) {
      group = { columns, owners: [] };
      ownerGroups.set(name, group);
    }
    group.owners.push({ values: columns.map((column) => owner[column] ?? null), revision });
  }
  return {
    table,
    upserts: [...groups.values()],
    owners: [...ownerGroups.values()],
    deletes: [...deletes.values()],
  };
}

/** In this order. */
function hasColumns(row: Row, columns: readonly string[]): boolean {
  let at = 0;
  for (const column in row) if (column !== columns[at++]) return false;
  return at === columns.length;
}

/** Most keys are one text, which needs no quoting. */
function nameOfKey(values: readonly RowValue[]): string {
  const [value] = values;
  return values.length === 1 && typeof value === 'string' ? value : nameOf(values);
}

function nameOf(values: readonly RowValue[]): string {
  return JSON.stringify(values, (_name, value: unknown) =>
    typeof value === 'bigint' ? `${value}n` : value,
  );
}
