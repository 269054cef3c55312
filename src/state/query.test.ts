import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Bytestring, bytestringOfText, compareBytestrings, textOf } from '../base/index.ts';
import { parseQuery } from './query.ts';
import {
  encodeIndexValue,
  type Indexes,
  indexPrefix,
  indexWrites,
  isIndexKey,
  rowKeyOf,
} from './query-index.ts';
import { planQuery, type QueryAccess, type QueryRow, runQuery } from './query-plan.ts';

/** A namespace in memory; `wait` makes every read asynchronous. */
class Rows implements QueryAccess {
  readonly rows = new Map<Bytestring, Bytestring>();
  readonly indexes: Indexes;
  readonly wait: boolean;
  reads = 0;

  constructor(indexes: Indexes, wait = false) {
    this.indexes = indexes;
    this.wait = wait;
  }

  put(key: Bytestring, value: Bytestring | undefined): void {
    for (const write of indexWrites(this.indexes, key, this.rows.get(key), value)) {
      if (write.value === undefined) expect(this.rows.delete(write.key)).toBe(true);
      else this.rows.set(write.key, write.value);
    }
    if (value === undefined) this.rows.delete(key);
    else this.rows.set(key, value);
  }

  get(_: string, key: Bytestring): never {
    this.reads++;
    const value = this.rows.get(key);
    return (this.wait ? Promise.resolve(value) : value) as never;
  }

  range(_: string, start: Bytestring, end: Bytestring, limit: number): never {
    const rows = [...this.rows.entries()]
      .filter(([key]) => key >= start && (end === '' || key < end))
      .sort(([left], [right]) => compareBytestrings(left, right))
      .slice(0, limit)
      .map(([key, value]) => ({ key, value }));
    this.reads += rows.length;
    return (this.wait ? Promise.resolve(rows) : rows) as never;
  }
}

async function answer(rows: Rows, query: unknown, pageRows: number): Promise<QueryRow[]> {
  const plan = planQuery(JSON.stringify(query), rows.indexes);
  const all: QueryRow[] = [];
  let bookmark = '';
  do {
    const page = await runQuery(rows, 'ns', plan, pageRows, bookmark);
    expect(page.rows.length).toBeLessThanOrEqual(pageRows);
    all.push(...page.rows);
    bookmark = page.bookmark;
  } while (bookmark !== '');
  return all;
}

const scalar = fc.oneof(
  fc.constantFrom<unknown>(null, true, false, 0, -1, 1, 2.5, -1e300, 1e-300, '', 'a', 'ab', 'b'),
  fc.constantFrom('\u{1f600}', '\uffee', 'a\0', 'a\0b', 'ä'),
);
const value = fc.oneof(
  { weight: 5, arbitrary: scalar },
  { weight: 1, arbitrary: fc.array(scalar, { maxLength: 2 }) },
  { weight: 1, arbitrary: fc.record({ z: scalar }) },
);
const fields = ['x', 'y', 'o.z'];
const document = fc
  .record({ x: value, y: value, o: fc.record({ z: value }) }, { requiredKeys: [] })
  .map((content) => bytestringOfText(JSON.stringify(content)));
const stored = fc.oneof(
  { weight: 9, arbitrary: document },
  { weight: 1, arbitrary: fc.constantFrom('', 'text', '[1]', '{"x":', undefined) },
);
const key = fc.constantFrom('k1', 'k2', 'k3', '\0type\0k1\0', '\0type\0k2\0', '\xc3\xa4', 'l');
const operation = fc.oneof(
  fc.tuple(fc.constantFrom('$eq', '$ne'), value),
  fc.tuple(fc.constantFrom('$gt', '$gte', '$lt', '$lte'), scalar),
  fc.tuple(fc.constantFrom('$in', '$nin'), fc.array(scalar, { maxLength: 3 })),
  fc.tuple(fc.constant('$exists'), fc.boolean()),
);
const condition = fc.array(operation, { minLength: 1, maxLength: 2 }).map(Object.fromEntries);
const conditions = fc.dictionary(
  fc.constantFrom(...fields),
  fc.oneof(scalar, condition) as fc.Arbitrary<unknown>,
  { minKeys: 1, maxKeys: 3 },
);
const selector = fc.oneof(
  { weight: 4, arbitrary: conditions },
  {
    weight: 1,
    arbitrary: fc
      .tuple(
        fc.constantFrom('$and', '$or', '$nor'),
        fc.array(conditions, { minLength: 1, maxLength: 2 }),
      )
      .map(([name, parts]) => ({ [name]: parts })),
  },
);
const sort = fc.array(
  fc.oneof(
    fc.constantFrom(...fields),
    fc.tuple(fc.constantFrom(...fields), fc.constantFrom('asc', 'desc')).map(([field, order]) => ({
      [field]: order,
    })),
  ),
  { maxLength: 2 },
);
const indexes = fc.dictionary(
  fc.constantFrom('one', 'two'),
  fc.uniqueArray(fc.constantFrom(...fields), { minLength: 1, maxLength: 3 }),
);

describe('queries', () => {
  it('answer the same with any index, any page size, waiting or not', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(key, stored), { maxLength: 14 }),
        selector,
        sort,
        fc.option(fc.nat(4), { nil: undefined }),
        indexes,
        fc.integer({ min: 1, max: 4 }),
        async (puts, picked, order, limit, declared, pageRows) => {
          const plain = new Rows({});
          const indexed = new Rows(declared, true);
          for (const [at, content] of puts) {
            plain.put(at, content);
            indexed.put(at, content);
          }
          const query = { selector: picked, sort: order };
          const expected = await answer(plain, query, 1000);
          const found = await answer(indexed, query, pageRows);
          if (order.length > 0) expect(found).toEqual(expected);
          const sorted = (rows: QueryRow[]): QueryRow[] =>
            [...rows].sort((left, right) => compareBytestrings(left.key, right.key));
          expect(sorted(found)).toEqual(sorted(expected));
          if (limit !== undefined) {
            expect(await answer(indexed, { ...query, limit }, pageRows)).toEqual(
              found.slice(0, limit),
            );
          }
        },
      ),
      { numRuns: 1500 },
    );
  });

  it('read an index instead of everything', async () => {
    const rows = new Rows({ byColor: ['color', 'size'] });
    for (let at = 0; at < 1000; at++) {
      rows.put(`k${at}`, JSON.stringify({ color: `c${at % 100}`, size: at }));
    }
    const query = {
      selector: { color: 'c7', size: { $gte: 500 } },
      sort: ['size'],
      fields: ['size'],
    };
    const found = await answer(rows, query, 3);
    expect(found.map((row) => row.value)).toEqual(
      ['507', '607', '707', '807', '907'].map((size) => `{"size":${size}}`),
    );
    expect(rows.reads).toBeLessThan(60);
  });

  it('take conditions on nested objects as paths', async () => {
    const rows = new Rows({ byZ: ['o.z'] });
    rows.put('k', '{"o":{"z":1,"q":2}}');
    expect(await answer(rows, { selector: { o: { z: 1 } } }, 9)).toHaveLength(1);
    expect(await answer(rows, { selector: { o: { z: 1 } }, fields: ['o.q'] }, 9)).toEqual([
      { key: 'k', value: '{"o":{"q":2}}' },
    ]);
  });

  it('refuse what is not deterministic or not known', () => {
    const refuse = (query: unknown, operator?: string): void => {
      expect(() => planQuery(JSON.stringify(query), {})).toThrow(
        expect.objectContaining({
          code: 'QUERY_INVALID',
          ...(operator === undefined ? {} : { details: { operator } }),
        }),
      );
    };
    refuse({ selector: { $where: 'true' } }, '$where');
    refuse({ selector: { $expr: { $gt: [{ $rand: {} }, 0.5] } } }, '$expr');
    refuse({ selector: { a: { $function: {} } } }, '$function');
    refuse({ selector: { a: { $elemMatch: { $where: '1' } } } }, '$where');
    refuse({ selector: { a: { $not: { $jsonSchema: {} } } } }, '$jsonSchema');
    refuse({ selector: { $or: [{ a: { $text: 'x' } }] } }, '$text');
    refuse({ selector: { a: { $regex: '(' } } }, '$regex');
    refuse({ selector: { a: { $in: 3 } } }, '$in');
    refuse({});
    refuse({ selector: {}, sort: [{ a: 'up' }] });
    refuse({ selector: {}, extra: 1 });
    expect(() => parseQuery('{')).toThrow(expect.objectContaining({ code: 'QUERY_INVALID' }));
  });

  it('know the usual operators', async () => {
    const rows = new Rows({});
    rows.put('k', bytestringOfText('{"t":"größe","n":7,"l":[1,2,{"a":3}]}'));
    const holds = async (picked: unknown): Promise<boolean> =>
      (await answer(rows, { selector: picked }, 9)).length === 1;
    expect(await holds({ t: { $regex: '^.{5}$' } })).toBe(true);
    expect(await holds({ t: { $regex: 'GRÖ', $options: 'i' } })).toBe(true);
    expect(await holds({ n: { $mod: [4, 3] } })).toBe(true);
    expect(await holds({ l: { $size: 3 } })).toBe(true);
    expect(await holds({ l: { $all: [1, 2] } })).toBe(true);
    expect(await holds({ l: { $elemMatch: { a: { $gt: 2 } } } })).toBe(true);
    expect(await holds({ l: { $elemMatch: { $eq: 9 } } })).toBe(false);
    expect(await holds({ n: { $type: 'number' } })).toBe(true);
    expect(await holds({ n: { $not: { $gt: 7 } } })).toBe(true);
    expect(await holds({ $not: { n: 7 } })).toBe(false);
    expect(await holds({})).toBe(true);
  });
});

describe('index entries', () => {
  it('order as values do', () => {
    const order = (one: unknown, other: unknown): number => {
      if (typeof one === 'number' && typeof other === 'number') {
        // Not by their difference: that of two infinities is NaN, and that of -0 and 0 is -0.
        return Number(one > other) - Number(one < other);
      }
      const [left, right] = [one, other].map((text) => Buffer.from(String(text)));
      return Buffer.compare(left as Buffer, right as Buffer);
    };
    const same = fc.oneof(
      fc.tuple(fc.double({ noNaN: true }), fc.double({ noNaN: true })),
      fc.tuple(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' })),
    );
    fc.assert(
      fc.property(same, ([one, other]) => {
        const left = encodeIndexValue(one) as string;
        const right = encodeIndexValue(other) as string;
        expect(Math.sign(compareBytestrings(left, right))).toBe(order(one, other));
      }),
      {
        numRuns: 2000,
        examples: [[[Infinity, Infinity]], [[-0, 0]], [[0, -0]], [[-Infinity, Infinity]]],
      },
    );
  });

  it('give the row’s key back, and are told apart from rows', () => {
    fc.assert(
      fc.property(
        fc.array(scalar, { minLength: 1, maxLength: 3 }),
        fc.string().map(bytestringOfText),
        (values, rowKey) => {
          const names = values.map((_, at) => `f${at}`);
          const content = Object.fromEntries(values.map((one, at) => [`f${at}`, one]));
          const text = bytestringOfText(JSON.stringify(content));
          const [write] = indexWrites({ index: names }, rowKey, undefined, text);
          expect(rowKeyOf(write?.key ?? '', names.length)).toBe(rowKey);
          expect(isIndexKey(`ns\0${write?.key}`)).toBe(true);
          expect(isIndexKey(`ns\0${rowKey}`)).toBe(rowKey.startsWith(indexPrefix));
          expect(textOf(rowKey).includes('\ufffd')).toBe(false);
        },
      ),
    );
  });
});
