import { type Bytestring, DaybookError, limits } from '../base/index.ts';
import {
  documentOf,
  documentOrder,
  type JsonQuery,
  parseQuery,
  projected,
  type Sortable,
  selectorTest,
} from './query.ts';
import {
  encodeIndexValue,
  type Indexes,
  indexPrefix,
  indexStart,
  rowKeyOf,
} from './query-index.ts';

/** How a query is answered. Keys are keys within the namespace. */
export interface QueryPlan {
  readonly query: JsonQuery;
  /** The index whose entries are read, with its number of fields; `undefined`: all rows are read. */
  readonly index: { readonly name: string; readonly fieldCount: number } | undefined;
  /** Intervals to read in this order (`end` empty: no bound): of index entries, or of rows. */
  readonly ranges: readonly { readonly start: Bytestring; readonly end: Bytestring }[];
  /** True when the rows have to be sorted after reading. */
  readonly sortAfter: boolean;
  /** Whether a row that was read belongs to the answer. */
  readonly matches: (document: Record<string, unknown>) => boolean;
}

/** Reads of the state as a query needs them; keys are keys within `namespace`. */
export interface QueryAccess {
  get(namespace: string, key: Bytestring): Eventual<Bytestring | undefined>;
  range(
    namespace: string,
    start: Bytestring,
    end: Bytestring,
    limit: number,
  ): Eventual<readonly QueryRow[]>;
}

/** One row of an answer. */
export interface QueryRow {
  readonly key: Bytestring;
  readonly value: Bytestring;
}

/** One page of an answer; `bookmark` is empty after the last one. */
export interface QueryResult {
  readonly rows: readonly QueryRow[];
  readonly bookmark: Bytestring;
}

type Eventual<T> = T | Promise<T>;

/** Rows that one page may read: beyond that a query needs an index. */
const scannedRowsMax = 100_000;
const inValuesMax = 100;

/**
 * Decides how to answer a query. An index is used when the selector demands a plain value of every
 * one of its fields, for then every row that can match has an entry. The one with most leading
 * fields bound wins, then the first by name; the answer is the same set of rows either way.
 *
 * @throws {DaybookError} `QUERY_INVALID`
 */
export function planQuery(text: string, indexes: Indexes): QueryPlan {
  const query = parseQuery(text);
  const matches = selectorTest(query);
  const conditions = conjuncts(query.selector);
  let best: { name: string; ranges: QueryPlan['ranges']; score: number } | undefined;
  for (const name of Object.keys(indexes).sort()) {
    const found = indexRanges(name, indexes[name] as readonly string[], conditions);
    if (found !== undefined && (best === undefined || found.score > best.score)) {
      best = { name, ...found };
    }
  }
  if (best === undefined) {
    return {
      query,
      index: undefined,
      ranges: allRows,
      sortAfter: query.sort.length > 0,
      matches,
    };
  }
  const fields = indexes[best.name] as readonly string[];
  return {
    query,
    index: { name: best.name, fieldCount: fields.length },
    ranges: best.ranges,
    sortAfter: !isIndexOrder(query, fields, conditions),
    matches,
  };
}

/** All keys of a namespace but the index entries. */
const allRows = [
  { start: '', end: indexPrefix },
  { start: '\u0001', end: '' },
];

/**
 * Answers one page of a query.
 *
 * @param limit - rows on the page at most.
 * @param bookmark - from the page before; empty for the first one.
 * @throws {DaybookError} `QUERY_INVALID` for a bookmark of another query; `LIMIT_EXCEEDED`
 *   (`queryRowsMax`) when too many rows would have to be read or sorted: declare an index.
 */
export function runQuery(
  access: QueryAccess,
  namespace: string,
  plan: QueryPlan,
  limit: number,
  bookmark: Bytestring,
): Eventual<QueryResult> {
  return drive(
    plan.sortAfter
      ? sortedPage(access, namespace, plan, limit, bookmark)
      : scannedPage(access, namespace, plan, limit, bookmark),
  );
}

type Reads<T> = Generator<Eventual<unknown>, T, unknown>;

/** Runs a generator of reads; synchronously as long as no read has to wait. */
function drive<T>(reads: Reads<T>, value?: unknown): Eventual<T> {
  let sent = value;
  for (;;) {
    const step = reads.next(sent);
    if (step.done) return step.value;
    if (step.value instanceof Promise) {
      return step.value.then(
        (resolved) => drive(reads, resolved),
        (error: unknown) => {
          reads.return(undefined as T);
          throw error;
        },
      );
    }
    sent = step.value;
  }
}

/** A page in the order in which rows are read. Its bookmark: rows left to give ‖ last key read. */
function* scannedPage(
  access: QueryAccess,
  namespace: string,
  plan: QueryPlan,
  limit: number,
  bookmark: Bytestring,
): Reads<QueryResult> {
  const mark = bookmark === '' ? undefined : readBookmark(bookmark);
  const left = mark?.count ?? plan.query.limit;
  const wanted = Math.min(limit, left);
  const rows: QueryRow[] = [];
  const scan = matchingRows(access, namespace, plan, mark?.rest, wanted + 1);
  let last = mark?.rest ?? '';
  for (;;) {
    if (rows.length >= left) return { rows, bookmark: '' };
    const next = yield* scan();
    if (next === undefined) return { rows, bookmark: '' };
    if (rows.length >= wanted) {
      return { rows, bookmark: `${left - rows.length}:${last}` };
    }
    last = next.scanned;
    rows.push({ key: next.key, value: projected(next.value, next.document, plan.query.fields) });
  }
}

/** A page of a sorted answer: everything is read each time. Its bookmark: rows to skip. */
function* sortedPage(
  access: QueryAccess,
  namespace: string,
  plan: QueryPlan,
  limit: number,
  bookmark: Bytestring,
): Reads<QueryResult> {
  const skip = bookmark === '' ? 0 : readBookmark(bookmark).count;
  const scan = matchingRows(access, namespace, plan, undefined, limits.queryRowsMax);
  const found: (Sortable & QueryRow)[] = [];
  for (let next = yield* scan(); next !== undefined; next = yield* scan()) {
    found.push(next);
    if (found.length > limits.queryRowsMax) throw tooMany('sort');
  }
  found.sort(documentOrder(plan.query.sort));
  const all = found.slice(0, plan.query.limit);
  const rows = all.slice(skip, skip + limit).map(({ key, value, document }) => ({
    key,
    value: projected(value, document, plan.query.fields),
  }));
  const end = skip + rows.length;
  return { rows, bookmark: end < all.length && rows.length > 0 ? `${end}:` : '' };
}

interface Match extends QueryRow {
  readonly document: Record<string, unknown>;
  /** The key that was read: of the index entry or the row. */
  readonly scanned: Bytestring;
}

/** Gives matching rows one after the other; reads ahead by about as many as are wanted. */
function matchingRows(
  access: QueryAccess,
  namespace: string,
  plan: QueryPlan,
  after: Bytestring | undefined,
  wanted: number,
): () => Reads<Match | undefined> {
  const { index, ranges, matches } = plan;
  let range = after === undefined ? 0 : ranges.findIndex(({ end }) => end === '' || after < end);
  let start = after === undefined ? (ranges[0]?.start ?? '') : `${after}\0`;
  let page: readonly QueryRow[] = [];
  let at = 0;
  let scannedRows = 0;
  let pageRows = Math.min(Math.max(wanted, 8), 256);
  return function* next(): Reads<Match | undefined> {
    for (;;) {
      if (at >= page.length) {
        if (range < 0 || range >= ranges.length) return undefined;
        const { end } = ranges[range] as QueryPlan['ranges'][number];
        page = (yield access.range(namespace, start, end, pageRows)) as readonly QueryRow[];
        at = 0;
        scannedRows += page.length;
        if (scannedRows > scannedRowsMax) throw tooMany('read');
        const last = page.at(-1);
        if (last !== undefined && page.length >= pageRows) {
          start = `${last.key}\0`;
        } else {
          range++;
          start = ranges[range]?.start ?? '';
        }
        pageRows = Math.min(pageRows * 2, 1024);
        continue;
      }
      const row = page[at++] as QueryRow;
      const scanned = row.key;
      const key = index === undefined ? scanned : rowKeyOf(scanned, index.fieldCount);
      const value =
        index === undefined
          ? row.value
          : ((yield access.get(namespace, key)) as Bytestring | undefined);
      const document = value === undefined ? undefined : documentOf(value);
      if (value === undefined || document === undefined || !matches(document)) continue;
      return { key, value, document, scanned };
    }
  };
}

/** The conditions that all rows of an answer fulfil, by field. */
function conjuncts(selector: Readonly<Record<string, unknown>>): Map<string, Operand[]> {
  const found = new Map<string, Operand[]>();
  const collect = (part: Readonly<Record<string, unknown>>): void => {
    for (const [name, condition] of Object.entries(part)) {
      if (name === '$and') {
        for (const inner of condition as Record<string, unknown>[]) collect(inner);
      } else if (!name.startsWith('$')) {
        for (const [operator, operand] of Object.entries(condition as object)) {
          found.set(name, [...(found.get(name) ?? []), { operator, operand }]);
        }
      }
    }
  };
  collect(selector);
  return found;
}

interface Operand {
  readonly operator: string;
  readonly operand: unknown;
}

/** Bounds of one field's encoded values: `from <= value < to`, prefixes included. */
interface Bounds {
  readonly from: Bytestring;
  readonly to: Bytestring;
  readonly exact: boolean;
}

function indexRanges(
  name: string,
  fields: readonly string[],
  conditions: ReadonlyMap<string, readonly Operand[]>,
): { ranges: QueryPlan['ranges']; score: number } | undefined {
  const bounds = fields.map((field) => fieldBounds(conditions.get(field) ?? []));
  if (bounds.some((one) => one.length === 0)) return undefined;
  let prefix = indexStart(name);
  let score = 0;
  for (const own of bounds) {
    const [only] = own;
    if (own.length > 1 || only === undefined || !only.exact) {
      const ranges = own.map(({ from, to }) => ({ start: prefix + from, end: prefix + to }));
      return { ranges, score: score + 1 };
    }
    prefix += only.from;
    score += 2;
  }
  return { ranges: [{ start: prefix, end: `${prefix}\xff` }], score };
}

/**
 * The intervals in which the values of a field lie, ascending; none when the conditions do not
 * demand a value that is in the index. Missing fields equal null, so null demands nothing.
 */
function fieldBounds(operands: readonly Operand[]): Bounds[] {
  let from: Bytestring | undefined;
  let to: Bytestring | undefined;
  for (const { operator, operand } of operands) {
    if (operator === '$in') {
      const values = (operand as unknown[]).map(encodedScalar);
      if (values.length > 0 && values.length <= inValuesMax && !values.includes(undefined)) {
        return [...new Set(values as Bytestring[])].sort().map(exactly);
      }
    }
    const value = encodedScalar(operand);
    if (value === undefined) continue;
    if (operator === '$eq') return [exactly(value)];
    const type = value.charCodeAt(0) >> 4;
    if (operator === '$gt' || operator === '$gte') {
      from = larger(from, operator === '$gt' ? `${value}\xff` : value);
      to = smaller(to, String.fromCharCode((type + 1) << 4));
    } else if (operator === '$lt' || operator === '$lte') {
      to = smaller(to, operator === '$lt' ? value : `${value}\xff`);
      from = larger(from, String.fromCharCode(type << 4));
    }
  }
  if (from === undefined || to === undefined) return [];
  return [{ from, to: to < from ? from : to, exact: false }];
}

function exactly(value: Bytestring): Bounds {
  return { from: value, to: `${value}\xff`, exact: true };
}

function encodedScalar(value: unknown): Bytestring | undefined {
  return value === null ? undefined : encodeIndexValue(value);
}

function larger(left: Bytestring | undefined, right: Bytestring): Bytestring {
  return left === undefined || right > left ? right : left;
}

function smaller(left: Bytestring | undefined, right: Bytestring): Bytestring {
  return left === undefined || right < left ? right : left;
}

/** Whether reading the index gives the rows in the query's order already. */
function isIndexOrder(
  query: JsonQuery,
  fields: readonly string[],
  conditions: ReadonlyMap<string, readonly Operand[]>,
): boolean {
  const isFixed = (field: string): boolean => {
    const [only, ...more] = fieldBounds(conditions.get(field) ?? []);
    return only !== undefined && more.length === 0 && only.exact;
  };
  let at = 0;
  for (const { field, descending } of query.sort) {
    if (isFixed(field)) continue;
    while (at < fields.length && isFixed(fields[at] as string)) at++;
    if (descending || fields[at] !== field) return false;
    at++;
  }
  return true;
}

function readBookmark(bookmark: Bytestring): { count: number; rest: Bytestring } {
  const at = bookmark.indexOf(':');
  const count = Number(bookmark.slice(0, at));
  if (at <= 0 || !Number.isSafeInteger(count) || count < 0) {
    throw new DaybookError('QUERY_INVALID', 'not a bookmark of this query');
  }
  return { count, rest: bookmark.slice(at + 1) };
}

function tooMany(what: string): DaybookError {
  return new DaybookError('LIMIT_EXCEEDED', `too many rows to ${what}: declare an index`, {
    details: { limit: 'queryRowsMax', max: limits.queryRowsMax },
  });
}
