import type pg from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import type { RowValue, TableDeclaration } from '../processor.ts';
import type { OwnerGroup, TablePlan, UpsertGroup } from '../row-plan.ts';
import { copyText, postgresText, quoted } from './postgres-text.ts';

/** Column of every table that says which change last wrote the row. */
export const revisionColumn = 'daybook_revision';

/** From so many rows on, COPY to a temporary table is the quicker way. */
const copyRowsMin = 100;

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
    const stage = await this.#stage(table);
    // Empty at the begin of a transaction; it is emptied only when it is used again in the same.
    if (this.#filled.has(stage)) await this.#client.query(`TRUNCATE ${stage}`);
    this.#filled.add(stage);
    const stream = this.#client.query(copyFrom(`COPY ${stage} (${list(all)}) FROM STDIN`));
    const done = new Promise<void>((resolve, reject) => {
      stream.on('finish', resolve);
      stream.on('error', reject);
    });
    let text = '';
    for (let at = 0; at < group.rows.length; at++) {
      const row = group.rows[at] as readonly RowValue[];
      for (let column = 0; column < columns.length; column++) {
        text += `${copyText(postgresText(row[column], arrays[column] === true))}\t`;
      }
      text += `${group.revisions[at]}\n`;
      if (text.length > 1_000_000) {
        stream.write(text);
        text = '';
      }
    }
    stream.end(text);
    await done;
    await this.#client.query(`${insert} SELECT ${list(all)} FROM ${stage} ${merge}`);
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
