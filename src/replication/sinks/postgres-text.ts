import type { RowValue } from '../processor.ts';
import { refused } from './sink.ts';

/**
 * A value in PostgreSQL's text form; `null` stays null. `array`: the column's type ends in `[]`.
 *
 * @throws {DaybookError} `SINK_REFUSED`: it has none, such as an invalid `Date`.
 */
export function postgresText(value: RowValue | undefined, array: boolean): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? 't' : 'f';
  if (typeof value !== 'object') return String(value);
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value).toString('hex')}`;
  if (array && Array.isArray(value)) return arrayText(value as readonly RowValue[]);
  try {
    return value instanceof Date ? value.toISOString() : JSON.stringify(value);
  } catch (cause) {
    throw refused('PostgreSQL', cause);
  }
}

function arrayText(values: readonly RowValue[]): string {
  const items = values.map((value) => {
    if (Array.isArray(value)) return arrayText(value as readonly RowValue[]);
    const text = postgresText(value, false);
    return text === null ? 'NULL' : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
  });
  return `{${items.join(',')}}`;
}

const special = /[\\\n\r\t]/;
const escapes: Readonly<Record<string, string>> = {
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
};

/** A value in the text form of COPY. */
export function copyText(text: string | null): string {
  if (text === null) return '\\N';
  if (!special.test(text)) return text;
  return text.replace(/[\\\n\r\t]/g, (character) => escapes[character] as string);
}

/** A name as SQL. */
export function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`;
}
