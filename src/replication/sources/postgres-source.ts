import pg from 'pg';
import { DaybookError, limits, toDaybookError } from '../../base/index.ts';
import type { Io } from '../../io/index.ts';
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

/** The ledger as a source needs it; `daybook/client`'s `Client` is one. */
export interface SourceLedger {
  submit(
    contract: string,
    functionName: string,
    args: readonly string[],
    options: { readonly orderingKey?: string },
  ): Promise<unknown>;
}

/** Settings of {@link startCapture}. */
export interface CaptureOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly connection: string | pg.ClientConfig;
  readonly source: string;
  readonly ledger: SourceLedger;
  /** The contract that takes the changes: `examples/contracts/capture` or one like it. */
  readonly contract: string;
  /** Pause at an empty outbox, milliseconds. Default 50. */
  readonly pollMs?: number;
  /** Most rows at once. Default `limits.outboxRowsMax`. */
  readonly rowsMax?: number;
  readonly onEvent?: (text: string) => void;
}

/** A capture that runs. */
export interface Capture {
  /** Changes that the ledger has confirmed since the start. */
  readonly captured: number;
  /** Resolves after `stop`; rejects with what the ledger refused. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

interface OutboxRow {
  readonly seq: string;
  readonly txid: string;
  readonly entity: string;
  readonly revision: string;
  readonly content: string | null;
}

/** A transaction's argument may have 1 MiB. */
const argumentCharactersMax = 300_000;
const pauseMaxMs = 5_000;

/**
 * Brings the changes of an outbox into the ledger, in order, one ledger transaction for each
 * transaction of the source. A row leaves the outbox when the ledger has confirmed it; what is sent
 * twice for that reason, the contract recognises by its revision.
 */
export function startCapture(options: CaptureOptions): Capture {
  const capture = new RunningCapture(options);
  return capture;
}

class RunningCapture implements Capture {
  captured = 0;
  readonly ended: Promise<void>;
  readonly #options: CaptureOptions;
  #stopping = false;
  #wake: () => void = () => undefined;

  constructor(options: CaptureOptions) {
    this.#options = options;
    this.ended = this.#run();
    this.ended.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake();
    await this.ended.catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { pollMs = 50, onEvent } = this.#options;
    let pauseMs = 100;
    let client: pg.Client | undefined;
    while (!this.#stopping) {
      try {
        client ??= await connect(this.#options.connection);
        const count = await this.#round(client);
        pauseMs = 100;
        if (count === 0) await this.#pause(pollMs);
      } catch (thrown) {
        const error = toDaybookError(thrown, 'SOURCE_UNAVAILABLE');
        await client?.end().catch(() => undefined);
        client = undefined;
        // A refused transaction would be refused again; anything else passes.
        if (error.retry === 'never') throw error;
        onEvent?.(`capture: ${error.code} ${error.message}`);
        await this.#pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, pauseMaxMs);
      }
    }
    await client?.end().catch(() => undefined);
  }

  /** Captures what is in the outbox now, up to a limit. */
  async #round(client: pg.Client): Promise<number> {
    const { source, contract, ledger, rowsMax = limits.outboxRowsMax } = this.#options;
    const { rows } = await client.query<OutboxRow>(
      `SELECT seq, txid::text AS txid, entity, revision, content FROM daybook.outbox
       WHERE source = $1 AND txid IN (
         SELECT txid FROM daybook.outbox WHERE source = $1 ORDER BY seq LIMIT $2)
       ORDER BY seq`,
      [source, rowsMax],
    );
    if (rows.length === 0) return 0;
    const parts = groupBySourceTransaction(rows).flatMap(splitLarge);
    const outcomes = await Promise.allSettled(
      parts.map((part) =>
        ledger.submit(contract, 'apply', [source, JSON.stringify(part.map(changeOf))], {
          orderingKey: `source/${source}`,
        }),
      ),
    );
    const done = parts.filter((_part, at) => outcomes[at]?.status === 'fulfilled').flat();
    if (done.length > 0) {
      await client.query('DELETE FROM daybook.outbox WHERE seq = ANY($1::bigint[])', [
        done.map(({ seq }) => seq),
      ]);
      this.captured += done.length;
    }
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return rows.length;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        resolve();
      };
      const timer = this.#options.io.timers.after(ms, end, { keepAlive: true });
      this.#wake = end;
      if (this.#stopping) end();
    });
  }
}

/**
 * Rows by the transaction of the source that wrote them, transactions by their last row: a
 * transaction that came after another at some entity has a later row, so it comes after it here.
 */
function groupBySourceTransaction(rows: readonly OutboxRow[]): OutboxRow[][] {
  const groups = new Map<string, OutboxRow[]>();
  for (const row of rows) {
    const group = groups.get(row.txid);
    // Entered again at the end, for the order of last rows.
    if (group === undefined) groups.set(row.txid, [row]);
    else {
      groups.delete(row.txid);
      group.push(row);
      groups.set(row.txid, group);
    }
  }
  return [...groups.values()];
}

function splitLarge(rows: OutboxRow[]): OutboxRow[][] {
  const parts: OutboxRow[][] = [];
  let part: OutboxRow[] = [];
  let characters = 0;
  for (const row of rows) {
    const length = (row.content?.length ?? 0) + row.entity.length + 64;
    if (part.length > 0 && characters + length > argumentCharactersMax) {
      parts.push(part);
      part = [];
      characters = 0;
    }
    part.push(row);
    characters += length;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

function changeOf({ entity, revision, content }: OutboxRow): object {
  return { entity, revision: Number(revision), content };
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
    throw new DaybookError('SOURCE_UNAVAILABLE', 'cannot connect to the source', { cause });
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
