import type { ChangeRecord } from '../change.ts';
import { jsonOf } from '../change.ts';
import type { Processor, TableDeclaration } from '../processor.ts';

/** Products of a test, with a normalised shop: one entity, rows of three tables. */
export interface TestProduct {
  readonly name: string;
  readonly price: number;
  readonly category?: string;
  readonly tags?: readonly string[];
}

export const shopTables: readonly TableDeclaration[] = [
  { name: 'category', columns: { id: 'text' }, primaryKey: ['id'] },
  {
    name: 'product',
    columns: { sku: 'text', name: 'text not null', price: 'numeric', category: 'text' },
    primaryKey: ['sku'],
    references: [{ columns: ['category'], table: 'category' }],
  },
  {
    name: 'tag',
    columns: { sku: 'text', tag: 'text' },
    primaryKey: ['sku', 'tag'],
    references: [{ columns: ['sku'], table: 'product' }],
  },
];

/** Keys `category/…` and `product/…`. */
export const shopProcessor: Processor = (change: ChangeRecord) => {
  const [kind, id = ''] = change.key.split('/');
  if (kind === 'category') {
    return [
      change.content === undefined
        ? { op: 'delete', table: 'category', key: { id } }
        : { op: 'upsert', table: 'category', row: { id } },
    ];
  }
  const product = jsonOf<TestProduct>(change);
  if (product === undefined) {
    return [
      { op: 'replace', table: 'tag', owner: { sku: id }, rows: [] },
      { op: 'delete', table: 'product', key: { sku: id } },
    ];
  }
  const { name, price, category = null, tags = [] } = product;
  return [
    { op: 'upsert', table: 'product', row: { sku: id, name, price, category } },
    {
      op: 'replace',
      table: 'tag',
      owner: { sku: id },
      rows: tags.map((tag) => ({ sku: id, tag })),
    },
  ];
};

/** What the shop's tables hold when they equal the ledger's state. */
export function shopOf(state: ReadonlyMap<string, { readonly content: string }>): {
  readonly products: string[];
  readonly tags: string[];
} {
  const products: string[] = [];
  const tags: string[] = [];
  for (const [key, { content }] of state) {
    const [kind, id] = key.split('/');
    if (kind !== 'product') continue;
    const product = JSON.parse(content) as TestProduct;
    products.push(`${id}|${product.name}|${product.price}|${product.category ?? ''}`);
    for (const tag of product.tags ?? []) tags.push(`${id}|${tag}`);
  }
  return { products: products.sort(), tags: tags.sort() };
}
