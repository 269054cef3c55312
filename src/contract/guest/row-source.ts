import { bufferOfBytestring } from './buffers.ts';
import { checkSimpleKey } from './composite-key.ts';
import type { GuestCall } from './current-call.ts';
import { demandOpen } from './errors.ts';
import type { HostFunctions } from './host-functions.ts';
import { type Page, type PaginatedResult, RowIterator } from './iterators.ts';
import { type Timestamp, timestampOf } from './timestamp.ts';
import { answered } from './waiting.ts';

/** A row of a range or query. */
export interface KeyValue {
  readonly namespace: string;
  readonly key: string;
  readonly value: Uint8Array;
}

/** One version in the history of a key. */
export interface KeyModification {
  readonly txId: string;
  readonly timestamp: Timestamp;
  readonly isDelete: boolean;
  readonly value: Uint8Array;
}

/** A range of keys; `isSimple`: not over composite keys. */
export interface KeyRange {
  readonly start: unknown;
  readonly end: unknown;
  readonly isSimple: boolean;
}

/** Rows fetched at a time: few at first, as many loops stop early, then more. */
const firstPageRows = 64;
const laterPageRows = 1024;
const queryPageRows = 1_000;
/** In place of an empty start: keys below it are composite keys and Daybook's own. */
const firstSimpleKey = '\u0001';

/** Fetches ranges, queries and histories for one call, page by page. */
export class RowSource {
  readonly #host: HostFunctions;
  readonly #call: GuestCall;
  readonly #namespace: string;

  constructor(host: HostFunctions, call: GuestCall, namespace: string) {
    this.#host = host;
    this.#call = call;
    this.#namespace = namespace;
  }

  async range(range: KeyRange): Promise<RowIterator<KeyValue>> {
    const [from, to] = bounds(range);
    return new RowIterator(await this.#rangePages(from, false, to, firstPageRows));
  }

  async rangePage(
    range: KeyRange,
    limit: number,
    bookmark: string,
  ): Promise<PaginatedResult<KeyValue>> {
    const [from, to] = bounds(range);
    if (range.isSimple) checkSimpleKey(bookmark);
    const first = bookmark === '' ? from : bookmark;
    // One row more than the page: its key is the bookmark.
    const reply = this.#host.range(this.#call.id, first, false, to, limit + 1);
    const rows = await answered(this.#host, this.#call, reply, () => this.#takeRows());
    const next = rows.length > limit ? (rows[limit] as KeyValue).key : '';
    rows.length = Math.min(rows.length, limit);
    return paginated(rows, next);
  }

  async query(query: string): Promise<RowIterator<KeyValue>> {
    return new RowIterator(await this.#queryPages(query, ''));
  }

  async queryPage(
    query: string,
    limit: number,
    bookmark: string,
  ): Promise<PaginatedResult<KeyValue>> {
    const reply = this.#host.query(this.#call.id, query, limit, bookmark);
    const page = await answered(this.#host, this.#call, reply, () => ({
      rows: this.#takeRows(),
      next: this.#host.rowBookmark(),
    }));
    return paginated(page.rows, page.next);
  }

  async history(key: string): Promise<RowIterator<KeyModification>> {
    return new RowIterator(await this.#historyPages(key, ''));
  }

  #rangePages(
    from: string,
    fromIsBytes: boolean,
    to: string,
    limit: number,
  ): Page<KeyValue> | Promise<Page<KeyValue>> {
    demandOpen(this.#call);
    const reply = this.#host.range(this.#call.id, from, fromIsBytes, to, limit);
    return answered(this.#host, this.#call, reply, () => {
      const count = this.#host.rowCount();
      // The next page starts at the key right after the last row.
      const next = count === 0 ? '' : `${this.#host.rowKeyBytes(count - 1)}\u0000`;
      const rows = this.#takeRows();
      return {
        rows,
        more: count < limit ? undefined : () => this.#rangePages(next, true, to, laterPageRows),
      };
    });
  }

  #queryPages(query: string, bookmark: string): Page<KeyValue> | Promise<Page<KeyValue>> {
    demandOpen(this.#call);
    const reply = this.#host.query(this.#call.id, query, queryPageRows, bookmark);
    return answered(this.#host, this.#call, reply, () => {
      const next = this.#host.rowBookmark();
      return {
        rows: this.#takeRows(),
        more: next === '' ? undefined : () => this.#queryPages(query, next),
      };
    });
  }

  #historyPages(
    key: string,
    bookmark: string,
  ): Page<KeyModification> | Promise<Page<KeyModification>> {
    demandOpen(this.#call);
    const reply = this.#host.history(this.#call.id, key, firstPageRows, bookmark);
    return answered(this.#host, this.#call, reply, () => {
      const rows: KeyModification[] = [];
      const count = this.#host.rowCount();
      for (let index = 0; index < count; index++) {
        const value = this.#host.rowValue(index);
        rows[index] = {
          txId: this.#host.rowTxId(index),
          timestamp: timestampOf(this.#host.rowTimestampMs(index)),
          isDelete: value === undefined,
          value: bufferOfBytestring(value ?? ''),
        };
      }
      const next = this.#host.rowBookmark();
      return { rows, more: next === '' ? undefined : () => this.#historyPages(key, next) };
    });
  }

  #takeRows(): KeyValue[] {
    const rows: KeyValue[] = [];
    const count = this.#host.rowCount();
    for (let index = 0; index < count; index++) {
      rows[index] = {
        namespace: this.#namespace,
        key: this.#host.rowKey(index),
        value: bufferOfBytestring(this.#host.rowValue(index) ?? ''),
      };
    }
    return rows;
  }
}

function bounds({ start, end, isSimple }: KeyRange): [string, string] {
  const from = text(start) || firstSimpleKey;
  const to = text(end);
  if (isSimple) {
    checkSimpleKey(from);
    checkSimpleKey(to);
  }
  return [from, to];
}

function text(key: unknown): string {
  return key === undefined || key === null ? '' : `${key as string}`;
}

function paginated(rows: KeyValue[], bookmark: string): PaginatedResult<KeyValue> {
  return {
    iterator: new RowIterator<KeyValue>({ rows, more: undefined }),
    metadata: { fetchedRecordsCount: rows.length, bookmark },
  };
}
