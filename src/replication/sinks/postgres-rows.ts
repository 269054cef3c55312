import pg from 'pg';
import type { TableDeclaration } from '../processor.ts';
import type { OwnerGroup, TablePlan, UpsertGroup } from '../row-plan.ts';
import { CopyRows, copyIn } from './postgres-copy.ts';
import { postgresText, quoted } from './postgres-text.ts';

/** Column of every table that says which change last wrote the row. */
export const revisionColumn = 'daybook_revision';

/** From so many rows on, COPY is the quicker way. */
const copyRowsMin = 100;

/** How many groups of rows of a table are merged after the first one, and after several, had old rows. */
const mergedAfterOne = 8;
const mergedMax = 64;

/** SQL that makes the tables of a follower, parents first. */
export function tablesSql(tables: readonly TableDeclaration[]): string {
  const byName = new Map(tables.map((table) => [table.name, table]));
  return tables.flatMap((table) => tableSql(table, byName)).join(';\n');
}

function tableSql(
  { name, columns, primaryKey, references = [], indexes = [] }: TableDeclaration,
  byName: ReadonlyMap<string, TableDeclaration>,
): string[] {
  const parts = Object.entries(columns).map(([column, type]) => `${quoted(column)} ${type}`);
  parts.push(`${revisionColumn} bigint NOT NULL`, `PRIMARY KEY (${list(primaryKey)})`);
  for (const { columns: own, table, targetColumns } of references) {
    const target = targetColumns ?? byName.get(table)?.primaryKey ?? own;
    // Deferred: a commit may insert a child before its parent, and delete them in either order.
    parts.push(
      `FOREIGN KEY (${list(own)}) REFERENCES ${quoted(table)} (${list(target)}) ` +
        'DEFERRABLE INITIALLY DEFERRED',
    );
  }
  return [
    `CREATE TABLE IF NOT EXISTS ${quoted(name)} (${parts.join(', ')})`,
    ...indexes.map(
      (index) =>
        `CREATE INDEX IF NOT EXISTS ${quoted(`${name}_${index.join('_')}`)} ` +
        `ON ${quoted(name)} (${list(index)})`,
    ),
  ];
}

/** Writes plans into PostgreSQL on one connection, inside a transaction of the caller. */
export class PostgresRows {
  readonly #client: pg.Client;
  readonly #stages = new Set<string>();
  readonly #filled = new Set<string>();
  /** Tables that had old rows where new ones came: how many groups are to be merged now, and next time. */
  readonly #merges = new Map<string, { left: number; next: number }>();

  constructor(client: pg.Client) {
    this.#client = client;
  }

  /** A transaction begins. */
  begin(): void {
    this.#filled.clear();
    // One that was made in a transaction that was rolled back is gone.
    this.#stages.clear();
  }

  /** @param plans - parents first. */
  async write(plans: readonly TablePlan[]): Promise<void> {
    for (const plan of plans) {
      for (const group of plan.upserts) await this.#upsert(plan.table, group);
    }
    for (const plan of [...plans].reverse()) {
      for (const group of plan.owners) await this.#deleteOwned(plan.table, group);
      if (plan.deletes.length > 0) await this.#delete(plan);
    }
  }

  /** Empties the tables. */
  async clear(tables: readonly TableDeclaration[]): Promise<void> {
    for (const { name } of [...tables].reverse()) {
      await this.#client.query(`DELETE FROM ${quoted(name)}`);
    }
    this.#merges.clear();
  }

  async #upsert(table: TableDeclaration, group: UpsertGroup): Promise<void> {
    const { columns } = group;
    const all = [...columns, revisionColumn];
    const rest = columns.filter((column) => !table.primaryKey.includes(column));
    const updates = [...rest, revisionColumn].map((c) => `${quoted(c)} = excluded.${quoted(c)}`);
    const insert = `INSERT INTO ${quoted(table.name)} AS t (${list(all)})`;
    const merge =
      `ON CONFLICT (${list(table.primaryKey)}) DO UPDATE SET ${updates.join(', ')} ` +
      `WHERE t.${revisionColumn} <= excluded.${revisionColumn}`;
    const arrays = columns.map((column) => isArray(table, column));
    if (group.rows.length < copyRowsMin) {
      const types = columns.map((column) => typeOf(table, column));
      const values = columns.map((_column, at) =>
        group.rows.map((row) => postgresText(row[at], arrays[at] === true)),
      );
      await this.#client.query({
        name: statementName('u', table.name, columns),
        text:
          `${insert} SELECT ${types.map((type, at) => `c${at}::${type}`).join(', ')}, r ` +
          `FROM unnest(${types.map((_type, at) => `$${at + 1}::text[]`).join(', ')}, ` +
          `$${types.length + 1}::bigint[]) AS v(${types.map((_type, at) => `c${at}`).join(', ')}, r) ` +
          merge,
        values: [...values, group.revisions],
      });
      return;
    }
    const rows = new CopyRows(group.rows, group.revisions, arrays);
    if (await this.#insert(table.name, all, rows)) return;
    const stage = await this.#stage(table);
    // Empty at the begin of a transaction; it is emptied only when it is used again in the same.
    if (this.#filled.has(stage)) await this.#client.query(`TRUNCATE ${stage}`);
    this.#filled.add(stage);
    await copyIn(this.#client, `COPY ${stage} (${list(all)}) FROM STDIN`, rows);
    await this.#client.query(`${insert} SELECT ${list(all)} FROM ${stage} ${merge}`);
  }

  /**
   * Rows where there are none cost half of what a merge costs, and need no look at revisions. Whether
   * there are any the primary key says; a table that had some is left alone for a while.
   *
   * @returns false when nothing was written: merge them.
   */
  async #insert(table: string, columns: readonly string[], rows: CopyRows): Promise<boolean> {
    const known = this.#merges.get(table);
    if (known !== undefined && known.left > 0) {
      known.left--;
      return false;
    }
    const copy = `COPY ${quoted(table)} (${list(columns)}) FROM STDIN`;
    try {
      await copyIn(this.#client, `SAVEPOINT fresh; ${copy}; RELEASE SAVEPOINT fresh`, rows);
    } catch (error) {
      // Whatever it is, the merge meets it again, and says it.
      if (!(error instanceof pg.DatabaseError)) throw error;
      await this.#client.query('ROLLBACK TO SAVEPOINT fresh; RELEASE SAVEPOINT fresh');
      const left = known?.next ?? mergedAfterOne;
      this.#merges.set(table, { left, next: mergedMax });
      return false;
    }
    this.#merges.delete(table);
    return true;
  }

  async #deleteOwned(table: TableDeclaration, { columns, owners }: OwnerGroup): Promise<void> {
    const types = columns.map((column) => typeOf(table, column));
    const match = columns.map((column, at) => `t.${quoted(column)} = v.c${at}::${types[at]}`);
    await this.#client.query({
      name: statementName('o', table.name, columns),
      text:
        `DELETE FROM ${quoted(table.name)} AS t USING unnest(` +
        `${types.map((_type, at) => `$${at + 1}::text[]`).join(', ')}, $${types.length + 1}::bigint[]) ` +
        `AS v(${types.map((_type, at) => `c${at}`).join(', ')}, r) ` +
        `WHERE ${match.join(' AND ')} AND t.${revisionColumn} < v.r`,
      values: [
        ...columns.map((column, at) =>
          owners.map(({ values }) => postgresText(values[at], isArray(table, column))),
        ),
        owners.map(({ revision }) => revision),
      ],
    });
  }

  async #delete({ table, deletes }: TablePlan): Promise<void> {
    const { primaryKey } = table;
    const types = primaryKey.map((column) => typeOf(table, column));
    const match = primaryKey.map((column, at) => `t.${quoted(column)} = v.c${at}::${types[at]}`);
    await this.#client.query({
      name: statementName('d', table.name, primaryKey),
      text:
        `DELETE FROM ${quoted(table.name)} AS t USING unnest(` +
        `${types.map((_type, at) => `$${at + 1}::text[]`).join(', ')}, $${types.length + 1}::bigint[]) ` +
        `AS v(${types.map((_type, at) => `c${at}`).join(', ')}, r) ` +
        `WHERE ${match.join(' AND ')} AND t.${revisionColumn} <= v.r`,
      values: [
        ...primaryKey.map((_column, at) => deletes.map(({ key }) => postgresText(key[at], false))),
        deletes.map(({ revision }) => revision),
      ],
    });
  }

  /** A temporary table of the same columns, all of them nullable. */
  async #stage({ name, columns }: TableDeclaration): Promise<string> {
    const stage = quoted(`daybook_in_${name}`.slice(0, 60));
    if (this.#stages.has(name)) return stage;
    const parts = Object.keys(columns).map(
      (column) => `${quoted(column)} ${bareType(columns[column] ?? 'text')}`,
    );
    await this.#client.query(
      `CREATE TEMPORARY TABLE IF NOT EXISTS ${stage} (${parts.join(', ')}, ${revisionColumn} bigint) ON COMMIT DELETE ROWS`,
    );
    this.#stages.add(name);
    return stage;
  }
}

function list(columns: readonly string[]): string {
  return columns.map(quoted).join(', ');
}

/** The type of a declaration such as `numeric(10,2) not null default 0`. */
export function bareType(declaration: string): string {
  return declaration
    .replace(/\b(not\s+null|null|default|unique|check|references|collate|generated)\b.*$/i, '')
    .trim();
}

function typeOf(table: TableDeclaration, column: string): string {
  return bareType(table.columns[column] ?? 'text');
}

function isArray(table: TableDeclaration, column: string): boolean {
  return typeOf(table, column).endsWith('[]');
}

function statementName(
  kind: string,
  table: string,
  columns: readonly string[],
): string | undefined {
  const name = `${kind}_${table}_${columns.join('_')}`;
  // PostgreSQL cuts longer names off.
  return name.length <= 60 ? name : undefined;
}
