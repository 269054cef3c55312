import { DaybookError, limits } from '../../base/index.ts';
import type { Row, RowOperation, RowValue, TableDeclaration } from '../processor.ts';
import { postgresText, quoted } from './postgres-text.ts';

/** A row that refers to a row that is not there. */
export interface OrphanRow {
  readonly table: string;
  /** Values of its primary key as texts, in the order of the declaration. */
  readonly key: readonly string[];
}

/**
 * Takes rows out of the tables until every reference holds: what refers to nothing, then what
 * referred to that.
 *
 * @param deleted - runs a `DELETE … RETURNING` and gives its rows.
 * @returns what was taken out.
 * @throws {DaybookError} `LIMIT_EXCEEDED` (`followerParkedMax`)
 */
export async function takeOrphans(
  tables: readonly TableDeclaration[],
  deleted: (sql: string) => Promise<readonly (readonly unknown[])[]>,
): Promise<OrphanRow[]> {
  const found: OrphanRow[] = [];
  for (let before = -1; found.length > before; ) {
    before = found.length;
    for (const table of tables) {
      for (const sql of orphansSql(table, tables)) {
        for (const key of await deleted(sql))
          found.push({ table: table.name, key: key.map(String) });
        const max = limits.followerParkedMax;
        if (found.length > max) {
          throw new DaybookError('LIMIT_EXCEEDED', `followerParkedMax is ${max}`, {
            details: { limit: 'followerParkedMax', max },
          });
        }
      }
    }
  }
  return found;
}

function orphansSql(table: TableDeclaration, tables: readonly TableDeclaration[]): string[] {
  const { name, primaryKey, references = [] } = table;
  const key = primaryKey.map((column) => `CAST(${quoted(column)} AS text)`).join(', ');
  return references.map(({ columns, table: parent, targetColumns }) => {
    const target =
      targetColumns ?? tables.find((other) => other.name === parent)?.primaryKey ?? columns;
    const set = columns.map((column) => `t.${quoted(column)} IS NOT NULL`).join(' AND ');
    const match = columns
      .map((column, at) => `p.${quoted(target[at] ?? column)} = t.${quoted(column)}`)
      .join(' AND ');
    return (
      `DELETE FROM ${quoted(name)} AS t WHERE ${set} AND NOT EXISTS ` +
      `(SELECT 1 FROM ${quoted(parent)} AS p WHERE ${match}) RETURNING ${key}`
    );
  });
}

/** The refusal of a fill that leaves such rows. */
export function orphansRefused(what: string, orphans: readonly OrphanRow[]): DaybookError {
  const [first] = orphans;
  const row = first === undefined ? 'a row' : `${first.table} (${first.key.join(', ')})`;
  return new DaybookError('SINK_REFUSED', `${what}: ${row} refers to a row that is not there`, {
    details: { table: first?.table, rows: orphans.length },
  });
}

/** Names a row of {@link OrphanRow}, to look it up. */
export function orphanName({ table, key }: OrphanRow): string {
  return JSON.stringify([table, ...key]);
}

/** Whether operations write one of the rows. */
export function writesOrphan(
  operations: readonly RowOperation[],
  tables: ReadonlyMap<string, TableDeclaration>,
  orphans: ReadonlySet<string>,
): boolean {
  const isOrphan = (table: string, row: Row): boolean => {
    const key = tables.get(table)?.primaryKey.map((column) => keyText(row[column])) ?? [];
    return orphans.has(orphanName({ table, key }));
  };
  return operations.some((operation) => {
    if (operation.op === 'upsert') return isOrphan(operation.table, operation.row);
    if (operation.op === 'replace')
      return operation.rows.some((row) => isOrphan(operation.table, row));
    return false;
  });
}

function keyText(value: RowValue | undefined): string {
  return typeof value === 'boolean' ? String(value) : (postgresText(value, false) ?? '');
}
