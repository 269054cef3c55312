import pg from 'pg';
import { DaybookError, toDaybookError } from '../../base/index.ts';
import {
  type Capture,
  captureOutbox,
  type Outbox,
  type OutboxCaptureOptions,
  type OutboxRow,
} from './capture.ts';
import { outboxSql, type SourceTable, takeoverSql, triggersSql } from './outbox-sql.ts';

export type { SourceTable } from './outbox-sql.ts';

/** Settings of {@link installSource}. */
export interface InstallSourceOptions {
  readonly connection: string | pg.ClientConfig;
  /** Name of the source, in this database and in the ledger. */
  readonly source: string;
  readonly tables: readonly SourceTable[];
  /** Puts the rows that are there already into the outbox too. Default true. */
  readonly takeover?: boolean;
}

/**
 * Makes a database write a log row in the same transaction as every change of the given tables.
 * Rows that exist are taken over in the transaction that puts the triggers on, which lets no writer
 * pass: nothing is missed, nothing comes twice.
 *
 * @returns rows taken over.
 * @throws {DaybookError} `SOURCE_UNAVAILABLE`, `INVALID_ARGUMENT` when a table or column is missing.
 */
export function installSource(options: InstallSourceOptions): Promise<number> {
  const { source, tables, takeover = true } = options;
  return withClient(options.connection, async (client) => {
    let taken = 0;
    await client.query('BEGIN');
    await client.query("SELECT pg_advisory_xact_lock(hashtext('daybook outbox'))");
    await client.query(outboxSql);
    for (const table of tables) await client.query(triggersSql(source, table));
    for (const table of takeover ? tables : []) {
      const { rows } = await client.query<{ rows: string }>(takeoverSql(source, table));
      taken += Number(rows[0]?.rows ?? 0);
    }
    await client.query('COMMIT');
    return taken;
  });
}

/** Takes the triggers off again. What is in the outbox stays. */
export function removeSource(options: InstallSourceOptions): Promise<void> {
  return withClient(options.connection, async (client) => {
    for (const table of options.tables) {
      await client.query(triggersSql(options.source, table, true));
    }
  });
}

/** Settings of {@link startCapture}. */
export interface CaptureOptions extends Omit<OutboxCaptureOptions, 'open'> {
  readonly connection: string | pg.ClientConfig;
}

/** {@link captureOutbox} for the outbox that {@link installSource} makes. */
export function startCapture({ connection, ...options }: CaptureOptions): Capture {
  return captureOutbox({ ...options, open: async () => postgresOutbox(await connect(connection)) });
}

const columns = 'seq, txid::text AS txid, entity, revision, content';

/** Transactions without a row behind the first `$2` rows. */
const completeSql = `
  WITH bound AS MATERIALIZED (
    SELECT max(seq) AS last FROM (
      SELECT seq FROM daybook.outbox WHERE source = $1 ORDER BY seq LIMIT $2) AS first)
  SELECT ${columns} FROM daybook.outbox AS o
  WHERE source = $1 AND seq <= (SELECT last FROM bound) AND NOT EXISTS (
    SELECT FROM daybook.outbox AS later
    WHERE later.source = $1 AND later.txid = o.txid AND later.seq > (SELECT last FROM bound))
  ORDER BY seq`;

/** The transaction whose last row comes first. */
const firstEndedSql = `
  SELECT ${columns} FROM daybook.outbox
  WHERE source = $1 AND txid = (
    SELECT txid FROM daybook.outbox WHERE source = $1 GROUP BY txid ORDER BY max(seq) LIMIT 1)
  ORDER BY seq`;

function postgresOutbox(client: pg.Client): Outbox {
  return {
    read: async (source, rowsMax) => {
      const { rows } = await client.query<OutboxRow>(completeSql, [source, rowsMax]);
      if (rows.length > 0) return rows;
      return (await client.query<OutboxRow>(firstEndedSql, [source])).rows;
    },
    remove: async (seqs) => {
      await client.query('DELETE FROM daybook.outbox WHERE seq = ANY($1::bigint[])', [seqs]);
    },
    close: () => client.end(),
  };
}

async function connect(connection: string | pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(
    typeof connection === 'string' ? { connectionString: connection } : connection,
  );
  client.on('error', () => undefined);
  try {
    await client.connect();
  } catch (cause) {
    await client.end().catch(() => undefined);
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `cannot connect to the source: ${why}`;
    throw new DaybookError('SOURCE_UNAVAILABLE', message, { cause });
  }
  return client;
}

async function withClient<T>(
  connection: string | pg.ClientConfig,
  work: (client: pg.Client) => Promise<T>,
): Promise<T> {
  const client = await connect(connection);
  try {
    return await work(client);
  } catch (cause) {
    if (cause instanceof pg.DatabaseError && cause.code?.startsWith('42') === true) {
      throw new DaybookError('INVALID_ARGUMENT', cause.message, { cause });
    }
    throw toDaybookError(cause, 'SOURCE_UNAVAILABLE');
  } finally {
    await client.end().catch(() => undefined);
  }
}
