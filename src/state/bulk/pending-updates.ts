import {
  type ByteReader,
  type Bytestring,
  ByteWriter,
  bytestringOfText,
  DaybookError,
  limits,
} from '../../base/index.ts';
import {
  asPosition,
  type BulkUpdate,
  type Position,
  rangeEndKey,
  sha256,
  stateKey,
} from '../../model/index.ts';
import { documentOf, parseQuery, selectorTest } from '../query.ts';
import { isIndexKey } from '../query-index.ts';
import type { Row, StateView } from '../state.ts';
import { parseUpdate } from './update-operators.ts';

/** One range of a bulk update. */
export type BulkPart = Pick<BulkUpdate, 'start' | 'end' | 'query' | 'update'> & {
  readonly namespace: string;
};

/** All bulk updates of one record: they take effect together, in this order. */
export interface RecordedUpdate {
  /** Of the record; the version that updated rows get. */
  readonly position: Position;
  /** Deferred: rows take it in the background. Otherwise the state updates them at once. */
  readonly heavy: boolean;
  readonly txId: Uint8Array;
  readonly timestampMs: number;
  readonly parts: readonly BulkPart[];
}

/** A part, ready to be used. */
interface CompiledPart {
  /** State keys; `end` is never empty. */
  readonly start: Bytestring;
  readonly end: Bytestring;
  readonly matches: (document: Record<string, unknown>) => boolean;
  readonly apply: (document: Record<string, unknown>) => boolean;
}

/** What a part does to a value: `same`: it does not match; `refused`: it matches, but not exactly. */
export type PartEffect = { readonly value: Bytestring } | 'same' | 'refused';

/**
 * A recorded update, compiled.
 *
 * @throws {DaybookError} `QUERY_INVALID`, `UPDATE_INVALID`
 */
export class PendingUpdate {
  readonly recorded: RecordedUpdate;
  readonly #parts: readonly CompiledPart[];

  constructor(recorded: RecordedUpdate) {
    this.recorded = recorded;
    this.#parts = recorded.parts.map(compilePart);
  }

  get position(): Position {
    return this.recorded.position;
  }

  /** Intervals of state keys, one per part. */
  get ranges(): readonly { readonly start: Bytestring; readonly end: Bytestring }[] {
    return this.#parts;
  }

  /** True when it may concern the row of this state key. */
  covers(key: Bytestring): boolean {
    for (const { start, end } of this.#parts) if (key >= start && key < end) return true;
    return false;
  }

  /**
   * The value of a row after this update; `undefined` when it leaves the row as it is. A row that
   * matches but cannot be updated exactly is left as it is, too.
   */
  valueAfter(key: Bytestring, value: Bytestring): Bytestring | undefined {
    if (isIndexKey(key)) return undefined;
    let after: Bytestring | undefined;
    for (const part of this.#parts) {
      if (key < part.start || key >= part.end) continue;
      const effect = effectOf(part, after ?? value);
      if (typeof effect === 'object') after = effect.value;
    }
    return after;
  }

  /** Whether it matches a row but has to leave it: for contracts, before anything is recorded. */
  refuses(key: Bytestring, value: Bytestring): boolean {
    return this.#parts.some(
      (part) => key >= part.start && key < part.end && effectOf(part, value) === 'refused',
    );
  }
}

/**
 * Bulk updates that not all rows have taken yet, in log order. The *mark* that a row has taken one
 * is its version: the update at position p concerns rows of versions below p only, and gives those
 * that match version p. So it makes no difference how many rows have been updated in the store
 * already, and several updates compose in log order.
 */
export class PendingUpdates {
  #updates: PendingUpdate[] = [];

  /** Ascending positions. */
  get all(): readonly PendingUpdate[] {
    return this.#updates;
  }

  get size(): number {
    return this.#updates.length;
  }

  /** Adds one behind the others; one that is there already counts once. */
  add(update: PendingUpdate): void {
    if (this.#updates.some(({ position }) => position === update.position)) return;
    this.#updates.push(update);
    this.#updates.sort((left, right) => left.position - right.position);
  }

  /** Forgets one: all its rows are updated in whatever lies below. */
  remove(position: Position): void {
    this.#updates = this.#updates.filter((update) => update.position !== position);
  }

  covers(key: Bytestring): boolean {
    for (const update of this.#updates) if (update.covers(key)) return true;
    return false;
  }

  /** A row with all updates of positions below `before` applied; the same object if none concerns it. */
  row(row: Row, before: number = Number.POSITIVE_INFINITY): Row {
    let now = row;
    for (const update of this.#updates) {
      if (update.position >= before) break;
      if (now.version >= update.position || !update.covers(now.key)) continue;
      const value = update.valueAfter(now.key, now.value);
      if (value !== undefined) now = { key: now.key, value, version: update.position };
    }
    return now;
  }

  /** Reads of `base` with the updates applied. */
  view(base: StateView): StateView & { version(key: Bytestring): Position | undefined } {
    return {
      get: (key) => {
        const row = base.get(key);
        return row === undefined || this.#updates.length === 0 ? row : this.row(row);
      },
      range: (start, end, limit) => {
        const rows = base.range(start, end, limit);
        return this.#updates.length === 0 ? rows : rows.map((row) => this.row(row));
      },
      version: (key) => {
        if (this.#updates.length > 0 && this.covers(key)) {
          const row = base.get(key);
          return row && this.row(row).version;
        }
        return base.version === undefined ? base.get(key)?.version : base.version(key);
      },
    };
  }
}

/**
 * The selector of a bulk update: a query's selector, or a whole query with a selector and nothing
 * else. `$regex` is refused: it would run on every node without a limit on its time.
 */
function selectorOf(text: string): (document: Record<string, unknown>) => boolean {
  if (text.length > limits.bulkTextMax) throw queryInvalid('the query is longer than bulkTextMax');
  let given: unknown;
  try {
    given = JSON.parse(text);
  } catch {
    throw queryInvalid('a query is JSON');
  }
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw queryInvalid('a query is a JSON object');
  }
  const whole = Object.hasOwn(given, 'selector') ? given : { selector: given };
  if (Object.keys(whole).length !== 1) {
    throw queryInvalid('the query of a bulk update has a selector and nothing else');
  }
  if (/"\$(regex|options)"/.test(JSON.stringify(whole))) {
    throw queryInvalid('$regex is not allowed in a bulk update');
  }
  return selectorTest(parseQuery(JSON.stringify(whole)));
}

function queryInvalid(message: string): DaybookError {
  return new DaybookError('QUERY_INVALID', message);
}

function compilePart({ namespace, start, end, query, update }: BulkPart): CompiledPart {
  return {
    start: stateKey(namespace, start),
    end: rangeEndKey(namespace, end),
    matches: selectorOf(query),
    apply: parseUpdate(update).apply,
  };
}

function effectOf(part: CompiledPart, value: Bytestring): PartEffect {
  const document = documentOf(value);
  if (document === undefined) return 'same';
  try {
    if (!part.matches(document)) return 'same';
  } catch {
    // An operand that does not fit this document: the same on every node.
    return 'same';
  }
  // Numbers that JavaScript would write differently must not change beside the update.
  if (!keepsNumbers(value)) return 'refused';
  if (!part.apply(document)) return 'refused';
  const after = bytestringOfText(JSON.stringify(document));
  return after.length > limits.valueBytesMax ? 'refused' : { value: after };
}

const doubtful = /\d{16}|\d[eE]|\d\.\d/;
const jsonText = /"(?:[^"\\]|\\.)*"/g;
const jsonNumber = /-?\d[\d.eE+-]*/g;

/** Whether all numbers of a JSON text come out of JavaScript as they went in. */
function keepsNumbers(json: Bytestring): boolean {
  if (!doubtful.test(json)) return true;
  for (const number of json.replace(jsonText, '""').match(jsonNumber) ?? []) {
    if (String(Number(number)) !== number) return false;
  }
  return true;
}

const leafDomain = Buffer.from('daybook pending update v1\0');

/** What the state root says of an update that rows have not taken: a leaf of the pending root. */
export function pendingLeaf({
  position,
  parts,
}: Pick<RecordedUpdate, 'position' | 'parts'>): Buffer {
  const writer = new ByteWriter(256).u64(position);
  writeParts(writer, parts);
  return sha256(leafDomain, writer.view());
}

/** A recorded update's bytes, for the disk and for other processes. */
export function encodeRecordedUpdate(writer: ByteWriter, update: RecordedUpdate): void {
  writer.u64(update.position).u8(update.heavy ? 1 : 0);
  writer.raw(update.txId).u64(update.timestampMs);
  writeParts(writer, update.parts);
}

/** Reads {@link encodeRecordedUpdate}. @throws {DaybookError} `MALFORMED` */
export function decodeRecordedUpdate(reader: ByteReader): RecordedUpdate {
  const position = asPosition(reader.u64());
  const heavy = reader.u8() === 1;
  const txId = Buffer.from(reader.raw(32));
  const timestampMs = reader.u64();
  const parts: BulkPart[] = [];
  for (let count = reader.length(limits.writesPerRecordMax); count > 0; count--) {
    parts.push({
      namespace: reader.text(limits.nameBytesMax),
      start: reader.bytestring(limits.keyBytesMax),
      end: reader.bytestring(limits.keyBytesMax),
      query: reader.text(limits.valueBytesMax),
      update: reader.text(limits.valueBytesMax),
    });
  }
  return { position, heavy, txId, timestampMs, parts };
}

function writeParts(writer: ByteWriter, parts: readonly BulkPart[]): void {
  writer.u32(parts.length);
  for (const { namespace, start, end, query, update } of parts) {
    writer.text(namespace).bytestring(start).bytestring(end).text(query).text(update);
  }
}

/** The bulk updates of a record; `undefined` when it has none. */
export function recordedUpdateOf(
  sets: readonly { readonly namespace: string; readonly bulkUpdates: readonly BulkUpdate[] }[],
  at: Pick<RecordedUpdate, 'position' | 'txId' | 'timestampMs'>,
  heavyRowsMin: number,
): RecordedUpdate | undefined {
  // The rule, for every record.
  if (sets.every(({ bulkUpdates }) => bulkUpdates.length === 0)) return undefined;
  const parts: BulkPart[] = [];
  let rows = 0;
  for (const { namespace, bulkUpdates } of sets) {
    for (const bulk of bulkUpdates) {
      parts.push({ namespace, ...bulk });
      rows = Math.max(rows, bulk.rows);
    }
  }
  return { ...at, heavy: rows >= heavyRowsMin, parts };
}
