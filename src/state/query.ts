import { Context } from 'mingo/core';
import { $all, $elemMatch, $size } from 'mingo/operators/query/array';
import { $exists, $type } from 'mingo/operators/query/element';
import { $mod, $regex } from 'mingo/operators/query/evaluation';
import { $and, $nor, $not, $or } from 'mingo/operators/query/logical';
import { Query } from 'mingo/query';
import { isEqual } from 'mingo/util';
import { type Bytestring, bytestringOfText, DaybookError, limits, textOf } from '../base/index.ts';
import { define, isObject, type Json } from './json.ts';
import { encodeIndexValue, fieldOf } from './query-index.ts';

/*
 * JSON queries in the form that Fabric took over from CouchDB:
 *
 *   { "selector": {…}, "sort": ["field", { "field": "desc" }], "fields": ["field", …], "limit": n }
 *
 * Operators are those of the table below, all deterministic; everything else is refused.
 * Comparisons do not reach into arrays, differ by type (a number is never less than a string), and
 * order strings by their UTF-8 bytes, as keys are. A nested object without operators is a path:
 * {"a":{"b":1}} is {"a.b":1}.
 */

/** A parsed query. */
export interface JsonQuery {
  /** Conditions by path, flattened; combinations under `$and`, `$or`, `$nor`. */
  readonly selector: Readonly<Record<string, unknown>>;
  readonly sort: readonly SortField[];
  /** Fields to answer with; `undefined`: whole values. */
  readonly fields: readonly string[] | undefined;
  /** Rows to answer with at most, over all pages. */
  readonly limit: number;
}

/** One field of an order. */
export interface SortField {
  readonly field: string;
  readonly descending: boolean;
}

type Predicate = (document: Json) => boolean;
type Operator = (field: string, operand: unknown) => Predicate;

const scalarOrder =
  (holds: (left: Bytestring, right: Bytestring) => boolean): Operator =>
  (field, operand) => {
    const right = encodeIndexValue(operand);
    return (document) => {
      const left = encodeIndexValue(fieldOf(document, field));
      // The first character tells the type; both booleans are one type.
      return (
        left !== undefined &&
        right !== undefined &&
        left.charCodeAt(0) >> 4 === right.charCodeAt(0) >> 4 &&
        holds(left, right)
      );
    };
  };

const equals: Operator = (field, operand) => (document) => {
  const value = fieldOf(document, field);
  return value === undefined ? operand === null : isEqual(value, operand);
};

const isOneOf: Operator = (field, operand) => {
  const tests = (operand as readonly unknown[]).map((one) => equals(field, one));
  return (document) => tests.some((test) => test(document));
};

const negated =
  (operator: Operator): Operator =>
  (field, operand) => {
    const test = operator(field, operand);
    return (document) => !test(document);
  };

const context = Context.init({
  query: {
    $eq: equals,
    $ne: negated(equals),
    $gt: scalarOrder((left, right) => left > right),
    $gte: scalarOrder((left, right) => left >= right),
    $lt: scalarOrder((left, right) => left < right),
    $lte: scalarOrder((left, right) => left <= right),
    $in: isOneOf,
    $nin: negated(isOneOf),
    $and,
    $or,
    $nor,
    $not,
    $exists,
    $type,
    $size,
    $mod,
    $regex,
    $all,
    $elemMatch,
  } as never,
});

const combinations = new Set(['$and', '$or', '$nor']);
const lists = new Set(['$in', '$nin', '$all', '$mod']);
const operators = new Set([
  ...['$eq', '$ne', '$gt', '$gte', '$lt', '$lte', '$in', '$nin', '$not', '$exists', '$type'],
  ...['$size', '$mod', '$regex', '$options', '$all', '$elemMatch'],
]);
const selectorDepthMax = 32;

/**
 * Reads a query.
 *
 * @throws {DaybookError} `QUERY_INVALID`, with `details.operator` when an operator is not allowed.
 */
export function parseQuery(text: string): JsonQuery {
  let query: unknown;
  try {
    query = JSON.parse(text);
  } catch (cause) {
    throw invalid('a query is JSON', undefined, cause);
  }
  if (!isObject(query)) throw invalid('a query is a JSON object');
  for (const name of Object.keys(query)) {
    if (!['selector', 'sort', 'fields', 'limit', 'use_index'].includes(name)) {
      throw invalid(`unknown part of a query: ${name}`);
    }
  }
  if (!isObject(query.selector)) throw invalid('a query has a selector');
  const { limit = limits.queryRowsMax, fields } = query;
  if (!Number.isSafeInteger(limit) || (limit as number) < 0) throw invalid('limit is a number');
  if (fields !== undefined && !isStrings(fields)) throw invalid('fields is a list of names');
  return {
    selector: flattened(query.selector, 0),
    sort: readSort(query.sort),
    fields: fields === undefined || fields.length === 0 ? undefined : fields,
    limit: Math.min(limit as number, limits.queryRowsMax),
  };
}

/**
 * What a query says about one row.
 *
 * @throws {DaybookError} `QUERY_INVALID` when an operand does not fit its operator.
 */
export function selectorTest(query: JsonQuery): Predicate {
  try {
    const compiled = new Query(query.selector, { context });
    return (document) => compiled.test(document);
  } catch (cause) {
    throw invalid(cause instanceof Error ? cause.message : String(cause), undefined, cause);
  }
}

/** The JSON object that a value holds, or `undefined` when it is something else. */
export function documentOf(value: Bytestring): Json | undefined {
  if (value.charCodeAt(0) !== 0x7b) return undefined;
  try {
    const document: unknown = JSON.parse(textOf(value));
    return isObject(document) ? document : undefined;
  } catch {
    return undefined;
  }
}

/** A value with only the fields that were asked for. */
export function projected(
  value: Bytestring,
  document: Json,
  fields: readonly string[] | undefined,
): Bytestring {
  if (fields === undefined) return value;
  const result: Json = {};
  for (const path of fields) {
    const found = fieldOf(document, path);
    if (found === undefined) continue;
    const steps = path.split('.');
    const last = steps.pop() as string;
    let target = result;
    for (const step of steps) {
      if (!isObject(target[step])) define(target, step, {});
      target = target[step] as Json;
    }
    define(target, last, found);
  }
  return bytestringOfText(JSON.stringify(result));
}

/** Compares documents by the fields of an order; equal ones by their keys. */
export function documentOrder(
  sort: readonly SortField[],
): (left: Sortable, right: Sortable) => number {
  return (left, right) => {
    for (const { field, descending } of sort) {
      const a = sortValue(left.document, field);
      const b = sortValue(right.document, field);
      if (a !== b) return a < b !== descending ? -1 : 1;
    }
    return left.key < right.key ? -1 : left.key > right.key ? 1 : 0;
  };
}

/** What {@link documentOrder} compares. */
export interface Sortable {
  readonly key: Bytestring;
  readonly document: Json;
}

/** Missing fields first, then null, booleans, numbers, strings, and arrays and objects last. */
function sortValue(document: Json, field: string): Bytestring {
  const value = fieldOf(document, field);
  if (value === undefined) return '';
  return encodeIndexValue(value) ?? `\xff${JSON.stringify(value)}`;
}

/** Turns nested objects into paths and checks every operator on the way. */
function flattened(selector: Json, depth: number): Json {
  if (depth > selectorDepthMax) throw invalid('the selector is nested too deeply');
  const all: Json[] = [];
  for (const [name, condition] of Object.entries(selector)) {
    if (combinations.has(name)) {
      if (!Array.isArray(condition) || condition.length === 0 || !condition.every(isObject)) {
        throw invalid(`${name} takes a list of selectors`, name);
      }
      all.push({ [name]: condition.map((part) => flattened(part, depth + 1)) });
    } else if (name === '$not' && isObject(condition)) {
      all.push({ $nor: [flattened(condition, depth + 1)] });
    } else if (name.startsWith('$')) {
      throw invalid(`the operator ${name} is not allowed here`, name);
    } else {
      all.push(...fieldConditions(name, condition, depth + 1));
    }
  }
  const [first] = all;
  // An empty selector takes every document.
  return all.length === 0 ? {} : all.length === 1 && first !== undefined ? first : { $and: all };
}

function fieldConditions(field: string, condition: unknown, depth: number): Json[] {
  if (depth > selectorDepthMax) throw invalid('the selector is nested too deeply');
  if (!isObject(condition)) return [{ [field]: { $eq: condition } }];
  const names = Object.keys(condition);
  if (names.length === 0) return [{ [field]: { $eq: condition } }];
  if (names.some((name) => name.startsWith('$'))) {
    for (const name of names) checkOperator(name, condition[name], condition, depth);
    return [{ [field]: condition }];
  }
  return names.flatMap((name) => fieldConditions(`${field}.${name}`, condition[name], depth + 1));
}

function checkOperator(name: string, operand: unknown, condition: Json, depth: number): void {
  if (depth > selectorDepthMax) throw invalid('the selector is nested too deeply');
  if (!operators.has(name)) throw invalid(`the operator ${name} is not allowed`, name);
  if (lists.has(name) && !Array.isArray(operand)) throw invalid(`${name} takes a list`, name);
  if (name === '$regex') {
    const { $options = '' } = condition;
    if (typeof operand !== 'string' || !/^[imsu]*$/.test(String($options))) {
      throw invalid('$regex takes a pattern, and i, m, s or u as $options', name);
    }
    try {
      new RegExp(operand, String($options));
    } catch (cause) {
      throw invalid('$regex takes a pattern', name, cause);
    }
  }
  if (name === '$not' || name === '$elemMatch') {
    if (!isObject(operand)) throw invalid(`${name} takes a condition`, name);
    for (const [inner, value] of Object.entries(operand)) {
      if (inner.startsWith('$')) checkOperator(inner, value, operand, depth + 1);
      else if (name === '$not') throw invalid('$not takes operators', name);
      else fieldConditions(inner, value, depth + 1);
    }
  }
}

function readSort(sort: unknown): SortField[] {
  if (sort === undefined) return [];
  if (!Array.isArray(sort)) throw invalid('sort is a list');
  return sort.map((item: unknown) => {
    if (typeof item === 'string') return { field: item, descending: false };
    const [pair, ...more] = isObject(item) ? Object.entries(item) : [];
    if (pair === undefined || more.length > 0 || (pair[1] !== 'asc' && pair[1] !== 'desc')) {
      throw invalid('sort names fields, each with asc or desc');
    }
    return { field: pair[0], descending: pair[1] === 'desc' };
  });
}

function isStrings(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((item) => typeof item === 'string');
}

function invalid(message: string, operator?: string, cause?: unknown): DaybookError {
  return new DaybookError('QUERY_INVALID', message, { details: { operator }, cause });
}
