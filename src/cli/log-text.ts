import { counted } from './terminal.ts';

/** Bytes in the gateway's JSON. */
export type JsonBytes = string | { readonly base64: string };

/** A commit record in the gateway's JSON, as far as the command line shows it. */
export interface LogRecord {
  readonly position: number;
  readonly txId: string;
  readonly verdict: string;
  readonly valid: boolean;
  readonly type: string;
  readonly contract?: string;
  readonly function?: string;
  readonly args?: readonly JsonBytes[];
  readonly sets: readonly {
    readonly namespace: string;
    readonly reads: readonly { readonly key: JsonBytes }[];
    readonly ranges: readonly { readonly start: JsonBytes; readonly end: JsonBytes }[];
    readonly writes: readonly {
      readonly key: JsonBytes;
      readonly value?: JsonBytes;
      readonly deleted?: boolean;
    }[];
  }[];
  readonly event?: { readonly name: string; readonly payload: JsonBytes };
}

/** An entry in the gateway's JSON. */
export interface LogEntryDocument {
  readonly address: number;
  readonly kind: string;
  readonly logTimeMs: number;
  readonly writer?: string;
  readonly records?: readonly LogRecord[];
}

const argumentCharactersMax = 40;
const recordsShownMax = 10;

/** Bytes as one short piece of a line. */
export function brief(value: JsonBytes): string {
  const text = typeof value === 'string' ? value : `base64:${value.base64}`;
  const short =
    text.length > argumentCharactersMax ? `${text.slice(0, argumentCharactersMax)}…` : text;
  // Control characters of a foreign argument must not reach the terminal.
  return /^[\w.,:@/+-]+…?$/.test(short) ? short : JSON.stringify(short);
}

/** A record's call on one line. */
export function recordLine(record: LogRecord): string {
  const args = (record.args ?? []).map(brief).join(', ');
  return `${record.contract ?? '?'}.${record.function ?? '?'}(${args})`;
}

/** An entry for people: a heading and a line for each of its first records. */
export function entryLines(entry: LogEntryDocument): string[] {
  const time = new Date(entry.logTimeMs).toISOString();
  const records = entry.records ?? [];
  const what = entry.kind === 'records' ? counted(records.length, 'record') : entry.kind;
  const lines = [
    `${entry.address}  ${time}  ${what}${entry.writer === undefined ? '' : `  by ${entry.writer}`}`,
    ...records
      .slice(0, recordsShownMax)
      .map(
        (record) =>
          `  ${record.txId.slice(0, 12)}  ${record.valid ? 'valid' : record.verdict}  ` +
          recordLine(record),
      ),
  ];
  const more = records.length - recordsShownMax;
  if (more > 0) lines.push(`  … and ${more} more; --json shows all`);
  return lines;
}
