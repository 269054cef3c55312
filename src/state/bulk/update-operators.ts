import { DaybookError, limits } from '../../base/index.ts';
import { define, isObject, type Json } from '../json.ts';
import {
  addDecimals,
  compareDecimals,
  type Decimal,
  decimalInteger,
  decimalOf,
  decimalText,
  multiplyDecimals,
} from './decimal.ts';

/*
 * Updates in MongoDB's form: { "$inc": { "balance": "0.50" }, "$set": { "a.b": 1 }, … }. Paths lead
 * through objects, never into arrays. Arithmetic is exact or the row is left as it is: a text stays
 * a text, a number stays a number.
 */

/** Changes the document in place; false when it cannot be done exactly. */
type Step = (document: Json) => boolean;

/** A checked update. */
export interface Update {
  /** Paths that it changes. */
  readonly paths: readonly string[];
  /** Changes a document in place. @returns false when that cannot be done; then drop the document. */
  readonly apply: (document: Json) => boolean;
}

const operators: Readonly<Record<string, (path: string, operand: unknown) => Step>> = {
  $set: (path, operand) => (document) => put(document, path, structuredClone(operand)),
  $unset: (path) => (document) => {
    const parent = parentOf(document, path, false);
    if (parent !== undefined) delete parent.object[parent.name];
    return true;
  },
  $rename: (path, operand) => (document) => {
    const parent = parentOf(document, path, false);
    if (parent === undefined || !Object.hasOwn(parent.object, parent.name)) return true;
    const value = parent.object[parent.name];
    delete parent.object[parent.name];
    return put(document, operand as string, value);
  },
  $inc: arithmetic((old, operand) => addDecimals(old ?? zero, operand)),
  $mul: arithmetic((old, operand) => multiplyDecimals(old ?? zero, operand)),
  $min: arithmetic((old, operand) =>
    old !== undefined && compareDecimals(old, operand) <= 0 ? old : operand,
  ),
  $max: arithmetic((old, operand) =>
    old !== undefined && compareDecimals(old, operand) >= 0 ? old : operand,
  ),
};

const zero: Decimal = { units: 0n, scale: 0 };

/**
 * Reads an update.
 *
 * @throws {DaybookError} `UPDATE_INVALID`, with `details.operator` where one is to blame.
 */
export function parseUpdate(text: string): Update {
  if (text.length > limits.bulkTextMax) throw invalid('the update is longer than bulkTextMax');
  let update: unknown;
  try {
    update = JSON.parse(text);
  } catch (cause) {
    throw invalid('an update is JSON', undefined, cause);
  }
  if (!isObject(update)) throw invalid('an update is a JSON object');
  const steps: Step[] = [];
  const paths: string[] = [];
  for (const [name, fields] of Object.entries(update)) {
    const operator = Object.hasOwn(operators, name) ? operators[name] : undefined;
    if (operator === undefined) throw invalid(`the operator ${name} is not allowed`, name);
    if (!isObject(fields)) throw invalid(`${name} takes an object of fields`, name);
    for (const [path, operand] of Object.entries(fields)) {
      paths.push(checkedPath(path, name));
      if (name === '$rename') paths.push(checkedPath(operand, name));
      if (arithmeticNames.has(name) && decimalOf(operand) === undefined) {
        throw invalid(`${name} takes integers and decimal texts`, name);
      }
      steps.push(operator(path, operand));
    }
  }
  if (steps.length === 0) throw invalid('the update is empty');
  paths.forEach((path, at) => {
    const clash = paths.some(
      (other, i) => i !== at && (other === path || other.startsWith(`${path}.`)),
    );
    if (clash) throw invalid(`${path} is changed twice`);
  });
  return { paths, apply: (document) => steps.every((step) => step(document)) };
}

/** Whether an update of these paths may change one of the fields: it, what holds it, or a part. */
export function changesField(paths: readonly string[], fields: readonly string[]): boolean {
  return paths.some((path) =>
    fields.some(
      (field) => path === field || path.startsWith(`${field}.`) || field.startsWith(`${path}.`),
    ),
  );
}

const arithmeticNames = new Set(['$inc', '$mul', '$min', '$max']);

function arithmetic(
  result: (old: Decimal | undefined, operand: Decimal) => Decimal,
): (path: string, operand: unknown) => Step {
  return (path, operandValue) => {
    const operand = decimalOf(operandValue) as Decimal;
    return (document) => {
      const parent = parentOf(document, path, true);
      if (parent === undefined) return false;
      const { object, name } = parent;
      const before = Object.hasOwn(object, name) ? object[name] : undefined;
      const old = decimalOf(before);
      if (before !== undefined && old === undefined) return false;
      const value = result(old, operand);
      const kind = typeof (before ?? operandValue);
      const after = kind === 'number' ? decimalInteger(value) : decimalText(value);
      if (after === undefined) return false;
      define(object, name, after);
      return true;
    };
  };
}

function put(document: Json, path: string, value: unknown): boolean {
  const parent = parentOf(document, path, true);
  if (parent === undefined) return false;
  define(parent.object, parent.name, value);
  return true;
}

/** The object that a path's last step names a field of; `undefined` when it is not there. */
function parentOf(
  document: Json,
  path: string,
  create: boolean,
): { readonly object: Json; readonly name: string } | undefined {
  const steps = path.split('.');
  const name = steps.pop() as string;
  let object = document;
  for (const step of steps) {
    let next: unknown = Object.hasOwn(object, step) ? object[step] : undefined;
    if (next === undefined && create) {
      next = {};
      define(object, step, next);
    }
    if (!isObject(next)) return undefined;
    object = next;
  }
  return { object, name };
}

function checkedPath(path: unknown, operator: string): string {
  const valid =
    typeof path === 'string' &&
    path.split('.').every((step) => step !== '' && !step.startsWith('$'));
  if (!valid) throw invalid(`${operator} names fields`, operator);
  return path as string;
}

function invalid(message: string, operator?: string, cause?: unknown): DaybookError {
  return new DaybookError('UPDATE_INVALID', message, { details: { operator }, cause });
}
