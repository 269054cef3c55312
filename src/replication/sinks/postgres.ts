import pg from 'pg';
import { DaybookError } from '../../base/index.ts';
import type { ChangeRecord } from '../change.ts';
import { entityOf } from '../change.ts';
import type { SinkPosition } from '../follower-core.ts';
import type { MappedChange, TableDeclaration } from '../processor.ts';
import { planRows } from '../row-plan.ts';
import { orphansRefused, takeOrphans } from './orphans.ts';
import { PostgresRows, tablesSql } from './postgres-rows.ts';
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

/** Settings of {@link postgresSink}. */
export interface PostgresSinkOptions {
  /** Name of the follower: several may write into one database. */
  readonly follower: string;
  /** `postgresql://user@host:port/database`, or what the driver `pg` takes. */
  readonly connection: string | pg.ClientConfig;
  /** The follower's own tables, parents first. */
  readonly tables: readonly TableDeclaration[];
  /**
   * True: a page counts as applied only when it is flushed to disk. Default false: after a crash of
   * the database the cursor is back where the rows are, and the rest is delivered again.
   */
  readonly durable?: boolean;
}

const schemaSql = `
  CREATE SCHEMA IF NOT EXISTS daybook;
  CREATE TABLE IF NOT EXISTS daybook.followers (
    follower text PRIMARY KEY, position bigint NOT NULL, cursor text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE IF NOT EXISTS daybook.parked (
    follower text NOT NULL, position bigint NOT NULL, contract text NOT NULL, key text NOT NULL,
    change text NOT NULL, reason text NOT NULL, waits boolean NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (follower, position, contract, key));`;

/** Serialises making the schema between followers of one database. */
const schemaLock = 0x64617962;

const connectMsMax = 15_000;

/** Posts changes to tables of a PostgreSQL database: rows and cursor in one transaction. */
export function postgresSink(options: PostgresSinkOptions): Sink {
  return new PostgresSink(options);
}

class PostgresSink implements Sink {
  readonly #options: PostgresSinkOptions;
  #client: pg.Client | undefined;
  #rows: PostgresRows | undefined;
  #inTransaction = false;

  constructor(options: PostgresSinkOptions) {
    this.#options = options;
  }

  async open(): Promise<SinkState> {
    await this.close();
    const { connection, tables, follower, durable = false } = this.#options;
    const client = new pg.Client({
      keepAlive: true,
      connectionTimeoutMillis: connectMsMax,
      ...(typeof connection === 'string' ? { connectionString: connection } : connection),
    });
    // The error comes again with the next query; without a listener it would end the process.
    client.on('error', () => undefined);
    try {
      await client.connect();
      await client.query("SET client_min_messages = warning; SET timezone = 'UTC'");
      if (!durable) await client.query('SET synchronous_commit = off');
      await client.query(
        `BEGIN; SELECT pg_advisory_xact_lock(${schemaLock}); ${schemaSql}${tablesSql(tables)}; COMMIT`,
      );
      const cursor = await client.query<{ position: string; cursor: string }>(
        'SELECT position, cursor FROM daybook.followers WHERE follower = $1',
        [follower],
      );
      const parked = await client.query<{ change: string }>(
        'SELECT DISTINCT ON (contract, key) change FROM daybook.parked WHERE follower = $1 AND waits',
        [follower],
      );
      this.#client = client;
      this.#rows = new PostgresRows(client);
      const [row] = cursor.rows;
      return {
        at: row === undefined ? undefined : { position: Number(row.position), cursor: row.cursor },
        parked: parked.rows.map(({ change }) => entityOf(JSON.parse(change) as ChangeRecord)),
      };
    } catch (error) {
      void client.end().catch(() => undefined);
      throw mapped(error);
    }
  }

  apply(from: number, batch: SinkBatch, at: SinkPosition): Promise<void> {
    return this.#transaction(async (client) => {
      // First, for the lock: two processes of one follower take turns, and the second finds that
      // the cursor has moved.
      await this.#moveCursor(client, from, at);
      await this.#write(batch);
    });
  }

  tryOut(changes: readonly MappedChange[], whole: boolean): Promise<void> {
    const attempt = async (client: pg.Client): Promise<void> => {
      await this.#write({ changes, parked: [] });
      if (whole) await client.query('SET CONSTRAINTS ALL IMMEDIATE');
    };
    if (this.#inTransaction) return this.#savepoint(attempt, true);
    return this.#transaction(attempt, true);
  }

  async fill(batches: AsyncIterable<FillBatch>, hooks: FillHooks): Promise<SinkPosition> {
    const { follower, tables } = this.#options;
    let end: SinkPosition | undefined;
    await this.#transaction(async (client) => {
      await client.query('DELETE FROM daybook.parked WHERE follower = $1', [follower]);
      await this.#rows?.clear(tables);
      for await (const { revisionMax, at, ...batch } of batches) {
        try {
          await this.#savepoint(() => this.#write(batch, revisionMax));
        } catch (error) {
          const refusal = mapped(error);
          if (refusal.code !== 'SINK_REFUSED') throw refusal;
          const left = await hooks.refused(batch, refusal);
          await this.#write(left, revisionMax);
        }
        end = at ?? end;
      }
      if (end === undefined) throw new DaybookError('CLOSED', 'the fill ended early');
      await this.#checkReferences(client, hooks);
      await client.query(
        `INSERT INTO daybook.followers AS f (follower, position, cursor) VALUES ($1, $2, $3)
         ON CONFLICT (follower) DO UPDATE
         SET position = excluded.position, cursor = excluded.cursor, applied_at = now()`,
        [follower, end.position, end.cursor],
      );
    });
    return end as unknown as SinkPosition;
  }

  async readParked(): Promise<readonly ParkedChange[]> {
    const { rows } = await this.#connected().query<{ change: string; reason: string }>(
      `SELECT change, reason FROM daybook.parked WHERE follower = $1 AND waits
       ORDER BY position, contract, key`,
      [this.#options.follower],
    );
    return rows.map(({ change, reason }) => ({
      change: JSON.parse(change) as ChangeRecord,
      reason,
      waits: true,
    }));
  }

  unpark(batch: SinkBatch, taken: readonly ChangeRecord[]): Promise<void> {
    return this.#transaction(async (client) => {
      await client.query(
        `DELETE FROM daybook.parked AS p
         USING unnest($2::bigint[], $3::text[], $4::text[]) AS v(position, contract, key)
         WHERE p.follower = $1 AND p.position = v.position AND p.contract = v.contract
           AND p.key = v.key`,
        [
          this.#options.follower,
          taken.map(({ position }) => position),
          taken.map(({ contract }) => escaped(contract)),
          taken.map(({ key }) => escaped(key)),
        ],
      );
      await this.#write(batch);
    });
  }

  async close(): Promise<void> {
    const client = this.#client;
    this.#client = undefined;
    this.#rows = undefined;
    await client?.end().catch(() => undefined);
  }

  /** The transaction's end would find it, too, but not say which rows are to blame. */
  async #checkReferences(client: pg.Client, hooks: FillHooks): Promise<void> {
    try {
      await this.#savepoint(async () => {
        await client.query('SET CONSTRAINTS ALL IMMEDIATE');
      });
      await client.query('SET CONSTRAINTS ALL DEFERRED');
    } catch (error) {
      const refusal = mapped(error);
      if (refusal.code !== 'SINK_REFUSED') throw refusal;
      const orphans = await takeOrphans(this.#options.tables, async (text) => {
        const { rows } = await client.query<unknown[]>({ text, rowMode: 'array' });
        return rows;
      });
      if (orphans.length === 0) throw refusal;
      hooks.orphans(orphans);
      throw orphansRefused('PostgreSQL', orphans);
    }
  }

  #connected(): pg.Client {
    if (this.#client === undefined) throw new DaybookError('SINK_UNAVAILABLE', 'not connected');
    return this.#client;
  }

  async #transaction(work: (client: pg.Client) => Promise<void>, rollback = false): Promise<void> {
    const client = this.#connected();
    this.#inTransaction = true;
    this.#rows?.begin();
    try {
      await client.query('BEGIN');
      await work(client);
      await client.query(rollback ? 'ROLLBACK' : 'COMMIT');
    } catch (error) {
      await client.query('ROLLBACK').catch(() => undefined);
      throw mapped(error);
    } finally {
      this.#inTransaction = false;
    }
  }

  async #savepoint(work: (client: pg.Client) => Promise<void>, rollback = false): Promise<void> {
    const client = this.#connected();
    await client.query('SAVEPOINT part');
    try {
      await work(client);
    } catch (error) {
      await client.query('ROLLBACK TO SAVEPOINT part').catch(() => undefined);
      throw mapped(error);
    }
    await client.query(rollback ? 'ROLLBACK TO SAVEPOINT part' : 'RELEASE SAVEPOINT part');
  }

  async #write({ changes, parked }: SinkBatch, revisionMax?: number): Promise<void> {
    await this.#rows?.write(planRows(this.#options.tables, changes, revisionMax));
    if (parked.length === 0) return;
    await this.#connected().query(
      `INSERT INTO daybook.parked (follower, position, contract, key, change, reason, waits)
       SELECT $1, v.* FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
         $7::boolean[]) AS v ON CONFLICT DO NOTHING`,
      [
        this.#options.follower,
        parked.map(({ change }) => change.position),
        parked.map(({ change }) => escaped(change.contract)),
        parked.map(({ change }) => escaped(change.key)),
        parked.map(({ change }) => JSON.stringify(change)),
        parked.map(({ reason }) => escaped(reason)),
        parked.map(({ waits }) => waits),
      ],
    );
  }

  async #moveCursor(client: pg.Client, from: number, at: SinkPosition): Promise<void> {
    const moved = await client.query({
      name: 'daybook_cursor',
      text: `UPDATE daybook.followers SET position = $3, cursor = $4, applied_at = now()
             WHERE follower = $1 AND position = $2`,
      values: [this.#options.follower, from, at.position, at.cursor],
    });
    if (moved.rowCount === 1) return;
    throw new DaybookError('SINK_FENCED', 'the cursor was moved by another process', {
      details: { follower: this.#options.follower, from },
    });
  }
}

/** PostgreSQL stores no U+0000, which keys may have: control characters as in JSON. */
function escaped(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}

/** Classes of SQLSTATE that say nothing about the rows: connection, resources, operator, order. */
const outageClasses = new Set(['08', '40', '53', '55', '57', '58', '25']);

function mapped(error: unknown): DaybookError {
  if (error instanceof DaybookError) return error;
  const code = error instanceof pg.DatabaseError ? (error.code ?? '') : '';
  if (code === '' || outageClasses.has(code.slice(0, 2))) return unavailable('PostgreSQL', error);
  return refused('PostgreSQL', error);
}
