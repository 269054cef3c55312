import Database from 'better-sqlite3';
import { DaybookError } from '../../base/index.ts';
import { type ChangeRecord, entityOf } from '../change.ts';
import type { SinkPosition } from '../follower-core.ts';
import type { MappedChange, Row, RowValue, TableDeclaration } from '../processor.ts';
import { planRows, type TablePlan } from '../row-plan.ts';
import { orphansRefused, takeOrphans } from './orphans.ts';
import { revisionColumn, tablesSql } from './postgres-rows.ts';
import { quoted } from './postgres-text.ts';
import {
  type FillBatch,
  type FillHooks,
  type ParkedChange,
  refused,
  type Sink,
  type SinkBatch,
  type SinkState,
  unavailable,
} from './sink.ts';

/** Settings of {@link sqliteSink}. */
export interface SqliteSinkOptions {
  readonly follower: string;
  /** Path of the database file. */
  readonly file: string;
  /** The follower's own tables, parents first; types are SQLite's. */
  readonly tables: readonly TableDeclaration[];
}

const schemaSql = `
  CREATE TABLE IF NOT EXISTS daybook_followers (
    follower TEXT PRIMARY KEY, position INTEGER NOT NULL, cursor TEXT NOT NULL);
  CREATE TABLE IF NOT EXISTS daybook_parked (
    follower TEXT NOT NULL, position INTEGER NOT NULL, entity TEXT NOT NULL, change TEXT NOT NULL,
    reason TEXT NOT NULL, waits INTEGER NOT NULL, PRIMARY KEY (follower, position, entity));`;

/** Posts changes to tables of a SQLite file: rows and cursor in one transaction. */
export function sqliteSink(options: SqliteSinkOptions): Sink {
  return new SqliteSink(options);
}

class SqliteSink implements Sink {
  readonly #options: SqliteSinkOptions;
  #database: Database.Database | undefined;
  #inTransaction = false;

  constructor(options: SqliteSinkOptions) {
    this.#options = options;
  }

  async open(): Promise<SinkState> {
    await this.close();
    return this.#guarded(() => {
      const { file, tables, follower } = this.#options;
      const database = new Database(file);
      this.#database = database;
      database.pragma('journal_mode = WAL');
      database.pragma('synchronous = NORMAL');
      database.pragma('foreign_keys = ON');
      database.exec(schemaSql);
      if (tables.length > 0) database.exec(tablesSql(tables));
      const at = database
        .prepare('SELECT position, cursor FROM daybook_followers WHERE follower = ?')
        .get(follower) as SinkPosition | undefined;
      return { at, parked: this.#parked().map(({ change }) => entityOf(change)) };
    });
  }

  async apply(from: number, batch: SinkBatch, at: SinkPosition): Promise<void> {
    this.#transaction((database) => {
      const moved = database
        .prepare(
          'UPDATE daybook_followers SET position = ?, cursor = ? WHERE follower = ? AND position = ?',
        )
        .run(at.position, at.cursor, this.#options.follower, from);
      if (moved.changes !== 1) {
        throw new DaybookError('SINK_FENCED', 'the cursor was moved by another process', {
          details: { follower: this.#options.follower, from },
        });
      }
      this.#write(batch);
    });
  }

  async tryOut(changes: readonly MappedChange[], whole: boolean): Promise<void> {
    const batch = { changes, parked: [] };
    if (this.#inTransaction) {
      this.#savepoint(() => this.#write(batch), true);
      return;
    }
    const database = this.#open();
    // Constraints that wait for the end of the transaction are found by ending it, inside another.
    this.#guarded(() => {
      database.exec('BEGIN');
      this.#inTransaction = true;
      try {
        this.#savepoint(() => this.#write(batch));
        if (whole && (database.pragma('foreign_key_check') as unknown[]).length > 0) {
          throw new DaybookError('SINK_REFUSED', 'SQLite: FOREIGN KEY constraint failed');
        }
      } finally {
        this.#inTransaction = false;
        if (database.inTransaction) database.exec('ROLLBACK');
      }
    });
  }

  async fill(batches: AsyncIterable<FillBatch>, hooks: FillHooks): Promise<SinkPosition> {
    const { follower, tables } = this.#options;
    const database = this.#open();
    let end: SinkPosition | undefined;
    this.#guarded(() => database.exec('BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON'));
    this.#inTransaction = true;
    try {
      database.prepare('DELETE FROM daybook_parked WHERE follower = ?').run(follower);
      for (const { name } of [...tables].reverse()) database.exec(`DELETE FROM ${quoted(name)}`);
      for await (const { revisionMax, at, ...batch } of batches) {
        try {
          this.#savepoint(() => this.#write(batch, revisionMax));
        } catch (error) {
          const refusal = mapped(error);
          if (refusal.code !== 'SINK_REFUSED') throw refusal;
          this.#write(await hooks.refused(batch, refusal), revisionMax);
        }
        end = at ?? end;
      }
      if (end === undefined) throw new DaybookError('CLOSED', 'the fill ended early');
      if ((database.pragma('foreign_key_check') as unknown[]).length > 0) {
        const orphans = await takeOrphans(tables, async (sql) => {
          return database.prepare(sql).raw().all() as unknown[][];
        });
        hooks.orphans(orphans);
        throw orphansRefused('SQLite', orphans);
      }
      database
        .prepare(
          'INSERT OR REPLACE INTO daybook_followers (follower, position, cursor) VALUES (?, ?, ?)',
        )
        .run(follower, end.position, end.cursor);
      database.exec('COMMIT');
      return end;
    } catch (error) {
      if (database.inTransaction) database.exec('ROLLBACK');
      throw mapped(error);
    } finally {
      this.#inTransaction = false;
    }
  }

  async readParked(): Promise<readonly ParkedChange[]> {
    return this.#guarded(() => this.#parked());
  }

  async unpark(batch: SinkBatch, taken: readonly ChangeRecord[]): Promise<void> {
    this.#transaction((database) => {
      const remove = database.prepare(
        'DELETE FROM daybook_parked WHERE follower = ? AND position = ? AND entity = ?',
      );
      for (const change of taken) {
        remove.run(this.#options.follower, change.position, entityOf(change));
      }
      this.#write(batch);
    });
  }

  async close(): Promise<void> {
    this.#database?.close();
    this.#database = undefined;
  }

  #parked(): ParkedChange[] {
    const rows = this.#open()
      .prepare(
        'SELECT change, reason FROM daybook_parked WHERE follower = ? AND waits ORDER BY position',
      )
      .all(this.#options.follower) as { change: string; reason: string }[];
    return rows.map(({ change, reason }) => ({
      change: JSON.parse(change) as ChangeRecord,
      reason,
      waits: true,
    }));
  }

  #open(): Database.Database {
    if (this.#database === undefined) throw new DaybookError('SINK_UNAVAILABLE', 'not open');
    return this.#database;
  }

  #guarded<T>(work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw mapped(error);
    }
  }

  #transaction(work: (database: Database.Database) => void): void {
    const database = this.#open();
    this.#guarded(() => {
      database.exec('BEGIN IMMEDIATE; PRAGMA defer_foreign_keys = ON');
      try {
        work(database);
        database.exec('COMMIT');
      } catch (error) {
        if (database.inTransaction) database.exec('ROLLBACK');
        throw error;
      }
    });
  }

  #savepoint(work: () => void, rollback = false): void {
    const database = this.#open();
    this.#guarded(() => {
      database.exec('SAVEPOINT part; PRAGMA defer_foreign_keys = ON');
      try {
        work();
      } catch (error) {
        database.exec('ROLLBACK TO part; RELEASE part');
        throw error;
      }
      database.exec(rollback ? 'ROLLBACK TO part; RELEASE part' : 'RELEASE part');
    });
  }

  #write({ changes, parked }: SinkBatch, revisionMax?: number): void {
    const database = this.#open();
    const plans = planRows(this.#options.tables, changes, revisionMax);
    for (const plan of plans) upsert(database, plan);
    for (const plan of plans.reverse()) remove(database, plan);
    if (parked.length === 0) return;
    const park = database.prepare('INSERT OR IGNORE INTO daybook_parked VALUES (?, ?, ?, ?, ?, ?)');
    for (const { change, reason, waits } of parked) {
      const text = JSON.stringify(change);
      const { follower } = this.#options;
      park.run(follower, change.position, entityOf(change), text, reason, waits ? 1 : 0);
    }
  }
}

function upsert(database: Database.Database, { table, upserts }: TablePlan): void {
  for (const { columns, rows, revisions } of upserts) {
    const all = [...columns, revisionColumn];
    const updates = all
      .filter((column) => !table.primaryKey.includes(column))
      .map((column) => `${quoted(column)} = excluded.${quoted(column)}`);
    const statement = database.prepare(
      `INSERT INTO ${quoted(table.name)} (${all.map(quoted).join(', ')}) ` +
        `VALUES (${all.map(() => '?').join(', ')}) ` +
        `ON CONFLICT (${table.primaryKey.map(quoted).join(', ')}) DO UPDATE SET ` +
        `${updates.join(', ')} WHERE ${revisionColumn} <= excluded.${revisionColumn}`,
    );
    rows.forEach((row, at) => {
      statement.run(...row.map(sqliteValue), revisions[at]);
    });
  }
}

function remove(database: Database.Database, { table, owners, deletes }: TablePlan): void {
  const where = (columns: readonly string[]): string =>
    columns.map((column) => `${quoted(column)} = ?`).join(' AND ');
  for (const { columns, owners: list } of owners) {
    const statement = database.prepare(
      `DELETE FROM ${quoted(table.name)} WHERE ${where(columns)} AND ${revisionColumn} < ?`,
    );
    for (const { values, revision } of list) statement.run(...values.map(sqliteValue), revision);
  }
  if (deletes.length === 0) return;
  const statement = database.prepare(
    `DELETE FROM ${quoted(table.name)} WHERE ${where(table.primaryKey)} AND ${revisionColumn} <= ?`,
  );
  for (const { key, revision } of deletes) statement.run(...key.map(sqliteValue), revision);
}

function sqliteValue(value: RowValue): string | number | bigint | Buffer | null {
  if (value === null || typeof value === 'string' || typeof value === 'bigint') return value;
  if (typeof value === 'number') return value;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (value instanceof Date) return value.toISOString();
  if (value instanceof Uint8Array) return Buffer.from(value);
  return JSON.stringify(value as Row);
}

function mapped(error: unknown): DaybookError {
  if (error instanceof DaybookError) return error;
  const code = (error as { code?: unknown }).code;
  const aboutRows =
    typeof code === 'string' && /^SQLITE_(CONSTRAINT|MISMATCH|TOOBIG|RANGE|ERROR)/.test(code);
  if (aboutRows || error instanceof RangeError || error instanceof TypeError) {
    return refused('SQLite', error);
  }
  return unavailable('SQLite', error);
}
