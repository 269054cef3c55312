import { DaybookError } from '../base/index.ts';
import { type ChangeRecord, changeId } from './change.ts';

/** A value of a row: what a database driver can write. Objects are written as JSON. */
export type RowValue =
  | string
  | number
  | bigint
  | boolean
  | null
  | Date
  | Uint8Array
  | readonly unknown[]
  | { readonly [name: string]: unknown };

/** Values by column. */
export type Row = Readonly<Record<string, RowValue>>;

/** What a change does to the follower's own tables. */
export type RowOperation =
  /**
   * Inserts the row, or sets these columns of the row with the same primary key. Columns that are
   * left out keep their values, so several entities can share one row.
   */
  | { readonly op: 'upsert'; readonly table: string; readonly row: Row }
  /** Deletes the row with this primary key. */
  | { readonly op: 'delete'; readonly table: string; readonly key: Row }
  /** Makes `rows` the only ones of the table with these values: one entity, many rows. */
  | {
      readonly op: 'replace';
      readonly table: string;
      readonly owner: Row;
      readonly rows: readonly Row[];
    };

/**
 * A contents processor: turns a change into operations on the follower's own rows. Must be a pure
 * function of the change. What it throws makes the change a poison record.
 */
export type Processor = (change: ChangeRecord) => readonly RowOperation[];

/** A column of a table: its SQL type, with anything that may follow it, e.g. `integer not null`. */
export type ColumnType = string;

/** One table of the follower's system. It belongs to the follower: a refill empties it. */
export interface TableDeclaration {
  readonly name: string;
  readonly columns: Readonly<Record<string, ColumnType>>;
  readonly primaryKey: readonly string[];
  readonly references?: readonly {
    readonly columns: readonly string[];
    readonly table: string;
    /** Default: that table's primary key. */
    readonly targetColumns?: readonly string[];
  }[];
  /** Columns to index, one index per list. */
  readonly indexes?: readonly (readonly string[])[];
}

/** A change with what it does to the rows. */
export interface MappedChange {
  readonly change: ChangeRecord;
  readonly operations: readonly RowOperation[];
}

/**
 * One processor out of several, each of which sees every change; their operations are done in
 * order.
 */
export function chain(...processors: readonly Processor[]): Processor {
  return (change) => processors.flatMap((processor) => processor(change));
}

/** A processor that hears of one contract only. */
export function forContract(contract: string, processor: Processor): Processor {
  return (change) => (change.contract === contract ? processor(change) : []);
}

/** A processor that hears of keys with one prefix only. */
export function forPrefix(prefix: string, processor: Processor): Processor {
  return (change) => (change.key.startsWith(prefix) ? processor(change) : []);
}

/**
 * Runs a processor on one change and checks what it makes.
 *
 * @throws {DaybookError} `PROCESSOR_FAILED`
 */
export function mapChange(
  processor: Processor,
  tables: ReadonlyMap<string, TableDeclaration>,
  change: ChangeRecord,
): MappedChange {
  let operations: readonly RowOperation[];
  try {
    operations = processor(change);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw failed(change, `the processor threw: ${why}`, cause);
  }
  for (const operation of operations) {
    const table = tables.get(operation.table);
    if (table === undefined) throw failed(change, `table ${operation.table} is not declared`);
    if (operation.op === 'upsert') checkRow(change, table, operation.row);
    if (operation.op === 'replace') {
      for (const row of operation.rows) checkRow(change, table, row);
    }
    if (operation.op === 'delete') checkHas(change, table, operation.key);
  }
  return { change, operations };
}

function checkRow(change: ChangeRecord, table: TableDeclaration, row: Row): void {
  for (const column in row) {
    if (!(column in table.columns)) {
      throw failed(change, `${table.name}.${column} is not declared`);
    }
  }
  checkHas(change, table, row);
}

function checkHas(change: ChangeRecord, table: TableDeclaration, row: Row): void {
  for (const column of table.primaryKey) {
    if (row[column] === undefined || row[column] === null) {
      throw failed(change, `a row of ${table.name} has no ${column}`);
    }
  }
}

function failed(change: ChangeRecord, why: string, cause?: unknown): DaybookError {
  return new DaybookError('PROCESSOR_FAILED', why, {
    details: { change: changeId(change) },
    cause,
  });
}
