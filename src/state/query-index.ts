import { type Bytestring, bytestringOfText, textOf } from '../base/index.ts';

/*
 * Declared indexes: for every row of a contract whose value is a JSON object that has the index's
 * fields there is an index entry, which is a key of the same namespace:
 *
 *   0x00 0xFF ‖ index name ‖ 0x00 ‖ encoded field values ‖ key of the row
 *
 * No contract can write such a key: keys of contracts are UTF-8, where the byte 0xFF never occurs.
 * Open ranges start at U+0001, and ranges over composite keys at 0x00 and a UTF-8 byte, so neither
 * meets them. Index entries are part of a record's write set like other keys; so a query over an
 * index is a range read, safe against phantoms, and replay needs no JSON.
 *
 * Field values are encoded so that byte order is value order: null < booleans < numbers < strings.
 * A row has no entry when a field is missing or is an array or object.
 */

/** First bytes of the keys of all index entries of a namespace. */
export const indexPrefix: Bytestring = '\0\xff';

/** Declared indexes of a contract: name → fields (paths with dots). */
export type Indexes = Readonly<Record<string, readonly string[]>>;

/** One write of an index entry; `value` undefined deletes. Keys are keys within the namespace. */
export interface IndexWrite {
  readonly key: Bytestring;
  readonly value: Bytestring | undefined;
}

/** True for state keys (namespace ‖ 0x00 ‖ key) of index entries. */
export function isIndexKey(stateKey: Bytestring): boolean {
  const at = stateKey.indexOf('\0');
  return stateKey.charCodeAt(at + 1) === 0 && stateKey.charCodeAt(at + 2) === 0xff;
}

/** True for keys, within a namespace, that only Daybook itself writes. */
export function isReservedKey(key: Bytestring): boolean {
  return key.startsWith(indexPrefix);
}

/**
 * How the index entries of a row change when its value does.
 *
 * @param key - the row's key within its namespace.
 * @param oldValue - `undefined`: the row was not there.
 * @param newValue - `undefined`: the row is deleted.
 * @returns writes in no particular order, each key once.
 */
export function indexWrites(
  indexes: Indexes,
  key: Bytestring,
  oldValue: Bytestring | undefined,
  newValue: Bytestring | undefined,
): IndexWrite[] {
  const names = Object.keys(indexes);
  if (names.length === 0 || oldValue === newValue) return [];
  const before = parsedObject(oldValue);
  const after = parsedObject(newValue);
  const writes: IndexWrite[] = [];
  for (const name of names) {
    const fields = indexes[name] as readonly string[];
    const old = before && entryKey(name, fields, before, key);
    const fresh = after && entryKey(name, fields, after, key);
    if (old === fresh) continue;
    if (old !== undefined) writes.push({ key: old, value: undefined });
    if (fresh !== undefined) writes.push({ key: fresh, value: '' });
  }
  return writes;
}

/** Start of the keys of all entries of one index. */
export function indexStart(name: string): Bytestring {
  return `${indexPrefix}${bytestringOfText(name)}\0`;
}

/** First key behind all entries of one index. */
export function indexEnd(name: string): Bytestring {
  return `${indexPrefix}${bytestringOfText(name)}\u0001`;
}

/** The row's key that an index entry stands for. */
export function rowKeyOf(entry: Bytestring, fieldCount: number): Bytestring {
  let at = entry.indexOf('\0', indexPrefix.length) + 1;
  for (let field = 0; field < fieldCount; field++) at = skipValue(entry, at);
  return entry.slice(at);
}

/** A value in a JSON document at a path with dots; `undefined` when it is not there. */
export function fieldOf(document: unknown, path: string): unknown {
  let value: unknown = document;
  for (const step of path.split('.')) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
    value = Object.hasOwn(value, step) ? (value as Record<string, unknown>)[step] : undefined;
  }
  return value;
}

/** Bytes of a value in order-preserving form; `undefined` for what is not indexed. */
export function encodeIndexValue(value: unknown): Bytestring | undefined {
  if (value === null) return '\x10';
  if (value === false) return '\x20';
  if (value === true) return '\x21';
  if (typeof value === 'number') return `\x30${encodeNumber(value)}`;
  // 0x00 within a string becomes 0x00 0xFF, so that 0x00 0x01 can end it.
  if (typeof value === 'string') {
    return `\x40${bytestringOfText(value).replaceAll('\0', '\0\xff')}\0\x01`;
  }
  return undefined;
}

const double = new DataView(new ArrayBuffer(8));

/** IEEE double, big-endian; sign bit flipped, and all bits of negative numbers, so bytes order. */
function encodeNumber(value: number): Bytestring {
  double.setFloat64(0, value === 0 ? 0 : value);
  const flip = double.getUint8(0) >= 0x80 ? 0xff : 0;
  let bytes = '';
  for (let at = 0; at < 8; at++) {
    const mask = at === 0 && flip === 0 ? 0x80 : flip;
    bytes += String.fromCharCode(double.getUint8(at) ^ mask);
  }
  return bytes;
}

function entryKey(
  name: string,
  fields: readonly string[],
  document: object,
  key: Bytestring,
): Bytestring | undefined {
  let values = '';
  for (const field of fields) {
    const encoded = encodeIndexValue(fieldOf(document, field));
    if (encoded === undefined) return undefined;
    values += encoded;
  }
  return `${indexStart(name)}${values}${key}`;
}

function skipValue(entry: Bytestring, at: number): number {
  switch (entry.charCodeAt(at)) {
    case 0x30:
      return at + 9;
    case 0x40: {
      let end = entry.indexOf('\0', at);
      while (entry.charCodeAt(end + 1) === 0xff) end = entry.indexOf('\0', end + 2);
      return end + 2;
    }
    default:
      return at + 1;
  }
}

function parsedObject(value: Bytestring | undefined): object | undefined {
  if (value === undefined || value.charCodeAt(0) !== 0x7b) return undefined;
  try {
    const parsed: unknown = JSON.parse(textOf(value));
    return typeof parsed === 'object' && parsed !== null ? parsed : undefined;
  } catch {
    return undefined;
  }
}
