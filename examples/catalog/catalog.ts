import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';

/** What the catalogue management system is about. */
export interface CatalogData {
  readonly categories: readonly CategoryData[];
  readonly stores: readonly StoreData[];
}

interface Reference {
  readonly id: string;
  readonly name: string;
}

/** One category as the open data set has it. Some references lead nowhere, some names are missing. */
export interface CategoryData extends Reference {
  readonly path: readonly Reference[];
  readonly subCategories: readonly Reference[];
}

/** One store. */
export interface StoreData {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly city: string;
  readonly state: string;
  readonly services: readonly string[];
}

/** Reads `categories.json` and `stores.json`; `undefined` when they are not there. */
export async function readCatalog(folder: string): Promise<CatalogData | undefined> {
  try {
    const [categories, stores] = await Promise.all(
      ['categories.json', 'stores.json'].map(
        async (name) => JSON.parse(await readFile(join(folder, name), 'utf8')) as unknown,
      ),
    );
    return { categories: categories as CategoryData[], stores: stores as StoreData[] };
  } catch {
    return undefined;
  }
}

/** A made-up catalogue, for machines without the data set. */
export function sampleCatalog(count: number): CatalogData {
  const reference = (at: number): Reference => ({ id: `c${at}`, name: `Category ${at}` });
  const categories = Array.from({ length: count }, (_, at) => {
    const parent = Math.floor(at / 5);
    return {
      ...reference(at),
      path: at === 0 ? [reference(0)] : [reference(parent), reference(at)],
      subCategories: [1, 2, 3, 4, 5].map((child) => reference(at * 5 + child)),
    };
  });
  const stores = Array.from({ length: Math.ceil(count / 3) }, (_, at) => ({
    id: 1000 + at,
    type: at % 4 === 0 ? 'Mobile' : 'BigBox',
    name: `Store ${at}`,
    city: `City ${at % 20}`,
    state: ['MN', 'AZ', 'CA'][at % 3] as string,
    services: ['Repair', 'Recycling', 'Delivery'].slice(0, at % 4),
  }));
  return { categories, stores };
}

/** The tables of the catalogue management system, which knows nothing of ledgers. */
export const catalogSql = `
  CREATE TABLE category (id text PRIMARY KEY, name text NOT NULL, path jsonb NOT NULL);
  CREATE TABLE subcategory (
    parent text REFERENCES category ON DELETE CASCADE, child text, name text NOT NULL,
    PRIMARY KEY (parent, child));
  CREATE TABLE store (
    id integer PRIMARY KEY, type text, name text, city text, state text, services jsonb NOT NULL);`;

/** Fills the catalogue management system. */
export async function loadCatalog(database: pg.Client, data: CatalogData): Promise<void> {
  const { categories, stores } = data;
  await database.query('BEGIN');
  await database.query(
    `INSERT INTO category SELECT id, coalesce(name, ''), path FROM json_to_recordset($1::json)
       AS v(id text, name text, path jsonb)`,
    [JSON.stringify(categories)],
  );
  const links = categories.flatMap(({ id, subCategories }) =>
    subCategories.map((sub) => ({ parent: id, child: sub.id, name: sub.name })),
  );
  await database.query(
    `INSERT INTO subcategory SELECT parent, child, coalesce(name, '') FROM json_to_recordset($1::json)
       AS v(parent text, child text, name text) ON CONFLICT DO NOTHING`,
    [JSON.stringify(links)],
  );
  await database.query(
    `INSERT INTO store SELECT id, type, name, city, state, services
     FROM json_to_recordset($1::json)
       AS v(id integer, type text, name text, city text, state text, services jsonb)`,
    [JSON.stringify(stores)],
  );
  await database.query('COMMIT');
}

/** People at work in the catalogue: each call is one transaction. */
export async function edit(database: pg.Client, step: number): Promise<void> {
  const pick = `(SELECT id FROM category ORDER BY id OFFSET ${(step * 37) % 100} LIMIT 1)`;
  switch (step % 6) {
    case 0:
      await database.query(`UPDATE category SET name = name || '.' WHERE id = ${pick}`);
      return;
    case 1:
      await database.query(
        `BEGIN; UPDATE category SET name = upper(name) WHERE id = ${pick};
         INSERT INTO subcategory VALUES (${pick}, 'new-${step}', 'New ${step}');
         UPDATE store SET services = services || '["Edit ${step}"]'
           WHERE id IN (SELECT id FROM store ORDER BY id LIMIT 2 OFFSET ${step % 50}); COMMIT`,
      );
      return;
    case 2:
      await database.query(`DELETE FROM subcategory WHERE parent = ${pick}`);
      return;
    case 3:
      // With all its subcategories.
      await database.query(`DELETE FROM category WHERE id = ${pick}`);
      return;
    case 4:
      await database.query(
        `BEGIN; INSERT INTO category VALUES ('edit-${step}', 'Edited', '[]');
         INSERT INTO subcategory VALUES ('edit-${step}', 'x', 'X'); COMMIT`,
      );
      return;
    default:
      await database.query(
        `UPDATE store SET services = '[]', name = 'Renamed ${step}'
         WHERE id IN (SELECT id FROM store ORDER BY id OFFSET ${(step * 13) % 60} LIMIT 3)`,
      );
  }
}
