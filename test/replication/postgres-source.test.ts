import pg from 'pg';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DaybookError } from '../../src/base/index.ts';
import { realIo } from '../../src/io/index.ts';
import {
  installSource,
  removeSource,
  type SourceLedger,
  startCapture,
} from '../../src/replication/index.ts';
import {
  noPostgres,
  type PostgresServer,
  startPostgres,
} from '../../src/replication/testing/postgres-server.ts';

const missing = noPostgres();
if (missing !== undefined) console.warn(`PostgreSQL tests are skipped: ${missing}`);

const io = realIo();

interface Change {
  readonly entity: string;
  readonly revision: number;
  readonly content: string | null;
}

/** Does what the contract `capture` does; answers get lost. */
class LossyLedger implements SourceLedger {
  readonly state = new Map<string, string>();
  readonly transactions: Change[][] = [];
  readonly #revisions = new Map<string, number>();
  lose: () => 'request' | 'answer' | undefined = () => undefined;

  submit = async (_contract: string, _name: string, args: readonly string[]): Promise<void> => {
    const lost = this.lose();
    const error = new DaybookError('OUTCOME_UNKNOWN', 'lost');
    if (lost === 'request') throw error;
    const changes = JSON.parse(args[1] as string) as Change[];
    this.transactions.push(changes);
    for (const { entity, revision, content } of changes) {
      if ((this.#revisions.get(entity) ?? 0) >= revision) continue;
      this.#revisions.set(entity, revision);
      if (content === null) this.state.delete(entity);
      else this.state.set(entity, content);
    }
    if (lost === 'answer') throw error;
  };
}

describe.skipIf(missing !== undefined)('PostgreSQL source', () => {
  let server: PostgresServer;
  let url: string;
  let number = 0;
  let clients: pg.Client[] = [];
  const client = async (): Promise<pg.Client> => {
    const made = new pg.Client(url);
    await made.connect();
    clients.push(made);
    return made;
  };
  beforeAll(async () => {
    server = await startPostgres();
  }, 60_000);
  beforeEach(async () => {
    url = await server.database(`source${++number}`);
    const setup = await client();
    await setup.query('CREATE TABLE item (id text PRIMARY KEY, value integer)');
    return async () => {
      await Promise.all(clients.map((one) => one.end()));
      clients = [];
    };
  });
  afterAll(async () => {
    await server.close();
  }, 30_000);

  const install = () =>
    installSource({ connection: url, source: 'shop', tables: [{ table: 'item', key: ['id'] }] });
  const capture = (ledger: SourceLedger, rowsMax = 2_000) => {
    const outbox = { io, connection: url, source: 'shop', contract: 'capture', pollMs: 10 };
    return startCapture({ ...outbox, ledger, rowsMax });
  };
  const drained = async (): Promise<void> => {
    const one = await client();
    for (let tries = 0; tries < 400; tries++) {
      if ((await one.query('SELECT 1 FROM daybook.outbox')).rowCount === 0) return;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error('the outbox does not empty');
  };
  const table = async () => {
    const one = await client();
    const { rows } = await one.query<{ id: string; value: number }>('SELECT id, value FROM item');
    return new Map(rows.map(({ id, value }) => [`item/${id}`, value]));
  };
  const values = (ledger: LossyLedger) =>
    new Map(
      [...ledger.state].map(([key, content]) => [
        key,
        (JSON.parse(content) as { value: number }).value,
      ]),
    );

  it('keeps the order of three interleaved transactions', async () => {
    await install();
    const ledger = new LossyLedger();
    const [a, b, c] = [await client(), await client(), await client()];
    const polled = async (): Promise<void> => {
      const running = capture(ledger);
      await new Promise((resolve) => setTimeout(resolve, 150));
      await running.stop();
    };
    await b.query("BEGIN; INSERT INTO item VALUES ('Z', 1)");
    await c.query("BEGIN; INSERT INTO item VALUES ('Y', 1)");
    await a.query("BEGIN; INSERT INTO item VALUES ('X', 100); COMMIT");
    await polled();
    expect(values(ledger)).toEqual(new Map([['item/X', 100]]));
    await b.query("UPDATE item SET value = 200 WHERE id = 'X'; COMMIT");
    await polled();
    await c.query('COMMIT');
    await polled();
    await polled();
    expect(values(ledger)).toEqual(
      new Map([
        ['item/X', 200],
        ['item/Y', 1],
        ['item/Z', 1],
      ]),
    );
    // Each transaction of the source is one of the ledger.
    expect(ledger.transactions.map((changes) => changes.map(({ entity }) => entity))).toEqual([
      ['item/X'],
      ['item/Z', 'item/X'],
      ['item/Y'],
    ]);
  }, 30_000);

  it('takes no transaction before one that it came after, however few rows it reads', async () => {
    await install();
    const ledger = new LossyLedger();
    const [a, b] = [await client(), await client()];
    // Begins first, and comes to X only after the other: its first row is the outbox's first.
    await b.query("BEGIN; INSERT INTO item VALUES ('Y', 1)");
    await a.query("INSERT INTO item VALUES ('X', 100)");
    await b.query("UPDATE item SET value = 200 WHERE id = 'X'; COMMIT");
    const running = capture(ledger, 1);
    await drained();
    await running.stop();
    expect(ledger.transactions.map((changes) => changes.map(({ entity }) => entity))).toEqual([
      ['item/X'],
      ['item/Y', 'item/X'],
    ]);
  }, 30_000);

  it('takes over what is there, and every kind of change', async () => {
    const writer = await client();
    await writer.query("INSERT INTO item SELECT 'old/' || n, n FROM generate_series(1, 50) n");
    expect(await install()).toBe(50);
    const ledger = new LossyLedger();
    const running = capture(ledger);
    await writer.query("UPDATE item SET id = 'renamed' WHERE value = 7");
    await writer.query('DELETE FROM item WHERE value > 40');
    await writer.query("BEGIN; INSERT INTO item VALUES ('never', 1); ROLLBACK");
    await drained();
    expect(ledger.state.has('item/old%2F1')).toBe(true);
    expect(ledger.state.has('item/old%2F7')).toBe(false);
    expect(values(ledger).get('item/renamed')).toBe(7);
    expect(ledger.state.size).toBe(40);
    await writer.query('TRUNCATE item');
    await drained();
    expect(ledger.state.size).toBe(0);
    await running.stop();
    await removeSource({
      connection: url,
      source: 'shop',
      tables: [{ table: 'item', key: ['id'] }],
    });
    await writer.query("INSERT INTO item VALUES ('free', 1)");
    expect((await writer.query('SELECT 1 FROM daybook.outbox')).rowCount).toBe(0);
  }, 30_000);

  it('ends equal under concurrent writers, a ledger that loses, and restarts', async () => {
    await install();
    const ledger = new LossyLedger();
    let calls = 0;
    ledger.lose = () => (++calls % 7 === 3 ? 'request' : calls % 7 === 5 ? 'answer' : undefined);
    let running = capture(ledger);
    const writers = await Promise.all(
      [1, 2, 3].map(async (writer) => {
        const one = await client();
        for (let at = 0; at < 40; at++) {
          const id = `k${(at * 7 + writer * 3) % 11}`;
          const other = `k${(at * 5 + writer) % 11}`;
          // In order of ids, or writers would wait for each other for ever.
          const [first, second] = id < other ? [id, other] : [other, id];
          await one.query('BEGIN');
          for (const key of new Set([first, second])) {
            await one.query(
              'INSERT INTO item VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET value = $2',
              [key, writer * 1000 + at],
            );
          }
          if (at % 6 === 5) await one.query('DELETE FROM item WHERE id = $1', [second]);
          await one.query(at % 9 === 8 ? 'ROLLBACK' : 'COMMIT');
          if (at === 20 && writer === 2) {
            await running.stop();
            running = capture(ledger);
          }
        }
      }),
    );
    expect(writers).toHaveLength(3);
    await drained();
    await running.stop();
    expect(values(ledger)).toEqual(await table());
  }, 60_000);

  it('lets the source run on while the ledger is down, and stops at what it refuses', async () => {
    await install();
    const ledger = new LossyLedger();
    ledger.lose = () => 'request';
    const running = capture(ledger);
    const writer = await client();
    for (let at = 0; at < 20; at++)
      await writer.query('INSERT INTO item VALUES ($1, 1)', [`n${at}`]);
    expect(ledger.state.size).toBe(0);
    ledger.lose = () => undefined;
    await drained();
    expect(ledger.state.size).toBe(20);
    await running.stop();
    const refusing = capture({
      submit: () => Promise.reject(new DaybookError('CONTRACT_REJECTED', 'no')),
    });
    await writer.query("INSERT INTO item VALUES ('refused', 1)");
    await expect(refusing.ended).rejects.toMatchObject({ code: 'CONTRACT_REJECTED' });
    expect((await writer.query('SELECT 1 FROM daybook.outbox')).rowCount).toBe(1);
  }, 30_000);
});
