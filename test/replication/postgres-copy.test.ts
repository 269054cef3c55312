import fc from 'fast-check';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import {
  type MappedChange,
  postgresSink,
  type RowOperation,
  type RowValue,
  type Sink,
  type TableDeclaration,
} from '../../src/replication/index.ts';
import { noPostgres } from '../../src/replication/testing/postgres-server.ts';
import { postgresSuite } from './postgres-suite.ts';

/* Pages of so many rows that they go by COPY: into the table itself, or merged with what is there. */

const missing = noPostgres();
if (missing !== undefined) console.warn(`COPY into PostgreSQL is not tested: ${missing}`);

const item: TableDeclaration = {
  name: 'item',
  columns: { id: 'text', value: 'integer', note: "text default 'none'", day: 'timestamptz' },
  primaryKey: ['id'],
};

const changed = (position: number, operations: readonly RowOperation[]): MappedChange => ({
  change: { position, timeMs: 0, txId: '', contract: 'c', key: 'k', content: undefined },
  operations,
});
const put = (position: number, id: number, rest: Record<string, RowValue>): MappedChange =>
  changed(position, [{ op: 'upsert', table: 'item', row: { id: `i${id}`, ...rest } }]);
const putAll = (position: number, ids: Iterable<number>, value = position): MappedChange[] =>
  Array.from(ids, (id) => put(position, id, { value }));
const range = (from: number, to: number): number[] =>
  Array.from({ length: to - from }, (_, at) => from + at);

describe.skipIf(missing !== undefined)('COPY into PostgreSQL', () => {
  const server = postgresSuite();

  /** A sink that was filled with nothing, and what one may ask about its table. */
  const opened = async (name: string) => {
    const url = await server().database(name);
    const sink = postgresSink({ follower: 'f', connection: url, tables: [item] });
    await sink.open();
    const nothing = async function* () {
      yield { changes: [], parked: [], revisionMax: 0, at: { position: 0, cursor: '' } };
    };
    await sink.fill(nothing(), {
      refused: (_batch, error) => Promise.reject(error),
      orphans: () => undefined,
    });
    const client = new pg.Client(url);
    await client.connect();
    const rows = async (): Promise<Map<string, string>> => {
      const found = await client.query<{ id: string; line: string }>(
        "SELECT id, value || ' ' || note || ' ' || daybook_revision AS line FROM item",
      );
      return new Map(found.rows.map(({ id, line }) => [id, line]));
    };
    /** How many rows the last page merged: others were put in behind a savepoint. */
    const merged = async (): Promise<number> => {
      const found = await client.query<{ n: string }>(
        'SELECT count(*) AS n FROM item WHERE xmin = (SELECT xmin FROM daybook.followers)',
      );
      return Number(found.rows[0]?.n);
    };
    const close = async (): Promise<void> => {
      await client.end();
      await sink.close();
    };
    return { sink, rows, merged, close };
  };
  const apply = (sink: Sink, from: number, to: number, changes: readonly MappedChange[]) =>
    sink.apply(from, { changes, parked: [] }, { position: to, cursor: '' });

  it('new rows, old rows and both, whatever came before', async () => {
    const { sink, rows, close } = await opened('mixed');
    const page = fc.record({
      first: fc.nat(500),
      count: fc.integer({ min: 90, max: 300 }),
      gone: fc.boolean(),
      note: fc.boolean(),
    });
    const pages = fc.sample(fc.array(page, { minLength: 25, maxLength: 25 }), 1).flat();
    const expected = new Map<string, { value: number; note: string; revision: number }>();
    for (const [at, { first, count, gone, note }] of pages.entries()) {
      const position = at + 1;
      const ids = range(first, first + count);
      const changes = ids.map((id) => {
        // Of the columns that are left out a new row has the defaults, an old one what it has.
        const known = expected.get(`i${id}`);
        const row = { value: position, note: note ? `n\t${at}` : (known?.note ?? 'none') };
        expected.set(`i${id}`, { ...row, revision: position });
        return put(position, id, note ? row : { value: position });
      });
      if (gone) {
        expected.delete(`i${first}`);
        const key = { id: `i${first}` };
        changes.push(changed(position, [{ op: 'delete', table: 'item', key }]));
      }
      await apply(sink, at, position, changes);
    }
    const lines = [...expected].map(([id, { value, note, revision }]) => [
      id,
      `${value} ${note} ${revision}`,
    ]);
    expect(await rows()).toEqual(new Map(lines as [string, string][]));
    await close();
  }, 30_000);

  it('no row is overwritten by an older one', async () => {
    const { sink, rows, close } = await opened('older');
    await apply(sink, 0, 10, putAll(9, range(0, 200)));
    await sink.unpark({ changes: putAll(5, range(100, 300)), parked: [] }, []);
    const found = await rows();
    expect(found.size).toBe(300);
    expect(found.get('i150')).toBe('9 none 9');
    expect(found.get('i250')).toBe('5 none 5');
    await close();
  }, 30_000);

  it('rows are merged for a while after there were old ones, then put in again', async () => {
    const { sink, merged, close } = await opened('ways');
    const ways: number[] = [];
    for (let at = 0; at < 11; at++) {
      // The second page has rows of the first.
      const first = at * 200 - (at === 1 ? 50 : 0);
      await apply(sink, at, at + 1, putAll(at + 1, range(first, first + 200)));
      ways.push(await merged());
    }
    expect(ways).toEqual([0, ...Array.from({ length: 9 }, () => 200), 0]);
    await close();
  }, 30_000);

  it('a row that is refused early in a large page costs the page only', async () => {
    const { sink, rows, close } = await opened('early');
    const note = 'x'.repeat(10_000);
    const large = range(0, 2_000).map((id) =>
      put(1, id, { value: id === 3 ? 'no number' : id, note }),
    );
    for (let time = 0; time < 2; time++) {
      await expect(apply(sink, 0, 1, large)).rejects.toMatchObject({
        code: 'SINK_REFUSED',
        message: expect.stringContaining('no number'),
      });
    }
    expect((await rows()).size).toBe(0);
    await apply(sink, 0, 1, putAll(1, range(0, 200)));
    expect((await rows()).size).toBe(200);
    await close();
  }, 30_000);

  it('refuses values that cannot be written, in small pages and in large ones', async () => {
    const { sink, rows, close } = await opened('unwritable');
    for (const count of [5, 50_000]) {
      const changes = putAll(1, range(0, count));
      changes.push(put(1, count, { value: 1, day: new Date(Number.NaN) }));
      await expect(apply(sink, 0, 1, changes)).rejects.toMatchObject({
        code: 'SINK_REFUSED',
        message: expect.stringContaining('time value'),
      });
    }
    expect((await rows()).size).toBe(0);
    await apply(sink, 0, 1, putAll(1, range(0, 200)));
    expect((await rows()).size).toBe(200);
    await close();
  }, 30_000);
});
