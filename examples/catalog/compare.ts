import Database from 'better-sqlite3';
import pg from 'pg';

/** Where everything is. */
export interface Places {
  readonly catalog: string;
  readonly shop: string;
  readonly search: string;
  readonly report: string;
}

/** The names of the systems that do not hold what the catalogue holds. */
export async function differences(places: Places): Promise<string[]> {
  const catalog = (sql: string): Promise<string[]> => postgresLines(places.catalog, sql);
  const shop = (sql: string): Promise<string[]> => postgresLines(places.shop, sql);
  const comparisons: [string, Promise<string[]>, Promise<string[]>][] = [
    [
      'shop: categories',
      catalog(`SELECT id || '|' || name FROM category`),
      shop(`SELECT id || '|' || name FROM category`),
    ],
    [
      'shop: paths',
      catalog(`SELECT id || '|' || (n - 1) || '|' || (step ->> 'id') FROM category,
               jsonb_array_elements(path) WITH ORDINALITY AS p(step, n)`),
      shop(`SELECT category || '|' || depth || '|' || ancestor FROM category_path`),
    ],
    [
      'shop: subcategories',
      catalog(`SELECT parent || '|' || child || '|' || name FROM subcategory`),
      shop(`SELECT parent || '|' || child || '|' || name FROM category_child`),
    ],
    [
      'shop: services',
      catalog(`SELECT DISTINCT id || '|' || service FROM store,
               jsonb_array_elements_text(services) AS s(service)`),
      shop(`SELECT store || '|' || service FROM store_service`),
    ],
    [
      'search: titles',
      catalog(`SELECT name FROM category UNION ALL SELECT name FROM store`),
      postgresLines(places.search, 'SELECT title FROM document'),
    ],
    [
      'report: stores',
      catalog(`SELECT id || '|' || state || '|' || jsonb_array_length(services) FROM store`),
      sqliteLines(places.report, `SELECT id || '|' || state || '|' || services FROM store_report`),
    ],
  ];
  const found: string[] = [];
  for (const [name, left, right] of comparisons) {
    if ((await left).join('\n') !== (await right).join('\n')) found.push(name);
  }
  return found;
}

async function postgresLines(url: string, sql: string): Promise<string[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    const { rows } = await client.query<string[]>({ text: sql, rowMode: 'array' });
    return rows.map(([line]) => line ?? '').sort();
  } finally {
    await client.end();
  }
}

async function sqliteLines(file: string, sql: string): Promise<string[]> {
  const database = new Database(file, { readonly: true });
  try {
    return (database.prepare(sql).pluck().all() as string[]).sort();
  } finally {
    database.close();
  }
}
