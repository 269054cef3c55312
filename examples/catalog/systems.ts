import {
  chain,
  type FollowerConfig,
  forPrefix,
  jsonOf,
  type Processor,
  type SinkConfig,
} from '../../src/replication/index.ts';
import type { StoreData } from './catalog.ts';

/*
 * Three systems that other people built, each with tables of its own form. A processor turns a
 * change of the catalogue into rows of its system, and is all that has to be written for it.
 */

interface Category {
  readonly id: string;
  readonly name: string;
  readonly path: readonly { readonly id: string; readonly name: string }[];
}

interface Link {
  readonly parent: string;
  readonly child: string;
  readonly name: string;
}

/** What all three subscribe to. */
const subscription = ['category/', 'subcategory/', 'store/'].map((prefix) => ({
  contract: 'capture',
  prefix,
}));

/** The columns of the key, as the source wrote them. */
function keyParts(key: string): string[] {
  return key.split('/').slice(1).map(decodeURIComponent);
}

/** The shop: normalised tables. A category's path and a store's services become rows. */
export function shop(sink: SinkConfig): FollowerConfig {
  const category: Processor = (change) => {
    const [id = ''] = keyParts(change.key);
    const content = jsonOf<Category>(change);
    const path = content?.path ?? [];
    const steps = path.map((step, depth) => ({ category: id, depth, ancestor: step.id }));
    return [
      { op: 'replace', table: 'category_path', owner: { category: id }, rows: steps },
      content === undefined
        ? { op: 'delete', table: 'category', key: { id } }
        : { op: 'upsert', table: 'category', row: { id, name: content.name } },
    ];
  };
  const link: Processor = (change) => {
    const [parent = '', child = ''] = keyParts(change.key);
    const content = jsonOf<Link>(change);
    return [
      content === undefined
        ? { op: 'delete', table: 'category_child', key: { parent, child } }
        : { op: 'upsert', table: 'category_child', row: { parent, child, name: content.name } },
    ];
  };
  const store: Processor = (change) => {
    const id = Number(keyParts(change.key)[0]);
    const content = jsonOf<StoreData>(change);
    const services = [...new Set(content?.services ?? [])].map((service) => ({
      store: id,
      service,
    }));
    return [
      { op: 'replace', table: 'store_service', owner: { store: id }, rows: services },
      content === undefined
        ? { op: 'delete', table: 'store', key: { id } }
        : { op: 'upsert', table: 'store', row: { id, name: content.name, city: content.city } },
    ];
  };
  return {
    name: 'shop',
    sink,
    subscription,
    tables: [
      { name: 'category', columns: { id: 'text', name: 'text not null' }, primaryKey: ['id'] },
      {
        name: 'category_path',
        columns: { category: 'text', depth: 'integer', ancestor: 'text' },
        primaryKey: ['category', 'depth'],
        references: [{ columns: ['category'], table: 'category' }],
      },
      {
        name: 'category_child',
        columns: { parent: 'text', child: 'text', name: 'text' },
        primaryKey: ['parent', 'child'],
        references: [{ columns: ['parent'], table: 'category' }],
      },
      {
        name: 'store',
        columns: { id: 'integer', name: 'text', city: 'text' },
        primaryKey: ['id'],
      },
      {
        name: 'store_service',
        columns: { store: 'integer', service: 'text' },
        primaryKey: ['store', 'service'],
        references: [{ columns: ['store'], table: 'store' }],
      },
    ],
    processor: chain(
      forPrefix('category/', category),
      forPrefix('subcategory/', link),
      forPrefix('store/', store),
    ),
  };
}

/** The search index: one document for each category and store, all in one table. */
export function search(sink: SinkConfig): FollowerConfig {
  const document: Processor = (change) => {
    const content = jsonOf<Category | StoreData>(change);
    if (content === undefined)
      return [{ op: 'delete', table: 'document', key: { id: change.key } }];
    const words =
      'path' in content
        ? content.path.map(({ name }) => name)
        : [content.city, content.state, ...content.services];
    const row = { id: change.key, title: content.name, body: words.join(' '), source: content };
    return [{ op: 'upsert', table: 'document', row: row as never }];
  };
  return {
    name: 'search',
    sink,
    subscription,
    tables: [
      {
        name: 'document',
        columns: { id: 'text', title: 'text', body: 'text', source: 'jsonb' },
        primaryKey: ['id'],
      },
    ],
    processor: chain(forPrefix('category/', document), forPrefix('store/', document)),
  };
}

/** The report: what people count. */
export function report(sink: SinkConfig): FollowerConfig {
  return {
    name: 'report',
    sink,
    subscription: [
      { contract: 'capture', prefix: 'store/', fields: ['state', 'type', 'services'] },
    ],
    tables: [
      {
        name: 'store_report',
        columns: { id: 'INTEGER', state: 'TEXT', type: 'TEXT', services: 'INTEGER' },
        primaryKey: ['id'],
      },
    ],
    processor: (change) => {
      const id = Number(keyParts(change.key)[0]);
      const content = jsonOf<StoreData>(change);
      if (content === undefined) return [{ op: 'delete', table: 'store_report', key: { id } }];
      const { state, type, services } = content;
      const row = { id, state, type, services: services.length };
      return [{ op: 'upsert', table: 'store_report', row }];
    },
  };
}

/** By name. */
export const systems = { shop, search, report } as const;
