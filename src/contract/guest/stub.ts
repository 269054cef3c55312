import { bufferOfBytestring, bufferOfText, bytestringOfValue } from './buffers.ts';
import {
  checkSimpleKey,
  createCompositeKey,
  lastCodePoint,
  splitCompositeKey,
} from './composite-key.ts';
import type { GuestCall } from './current-call.ts';
import { SandboxError, unsupported } from './errors.ts';
import type { HostFunctions, HostReply } from './host-functions.ts';
import { iterable, type Page, type PaginatedResult, RowIterator } from './iterators.ts';
import { LongValue, type Timestamp, timestampOf } from './timestamp.ts';
import { answered, hostError, waitFor } from './waiting.ts';

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

/** Rows fetched at a time: few at first, as many loops stop early, then more. */
const firstPageRows = 64;
const pageRows = 1024;
const queryRows = 1_000;
/** In place of an empty start: keys below it are composite keys. */
const firstSimpleKey = '\u0001';

/** Fabric's `ChaincodeStub`: what a contract sees as `ctx.stub`. */
export class ChaincodeStub {
  readonly #host: HostFunctions;
  readonly #call: GuestCall;
  readonly #contract: string;
  readonly #functionName: string;
  readonly #params: readonly string[];
  #hasWritten = false;
  #hasPaged = false;

  constructor(
    host: HostFunctions,
    call: GuestCall,
    contract: string,
    functionName: string,
    params: readonly string[],
  ) {
    this.#host = host;
    this.#call = call;
    this.#contract = contract;
    this.#functionName = functionName;
    this.#params = params;
  }

  // --- the call

  getArgs(): string[] {
    return [this.#functionName, ...this.#params];
  }

  getStringArgs(): string[] {
    return this.getArgs();
  }

  getBufferArgs(): Uint8Array[] {
    const args = [bufferOfText(this.#functionName)];
    for (let index = 0; index < this.#params.length; index++) {
      args[index + 1] = bufferOfBytestring(this.#host.argument(this.#call.id, index));
    }
    return args;
  }

  getFunctionAndParameters(): { fcn: string; params: string[] } {
    return { fcn: this.#functionName, params: [...this.#params] };
  }

  getTxID(): string {
    return this.#host.txId(this.#call.id);
  }

  getChannelID(): string {
    return this.#host.channel(this.#call.id);
  }

  getCreator(): { mspid: string; idBytes: Uint8Array } {
    return {
      mspid: this.#host.mspId(this.#call.id),
      idBytes: bufferOfText(this.#host.certificate(this.#call.id)),
    };
  }

  getMspID(): string {
    throw unsupported('getMspID (it differs between nodes)');
  }

  getTransient(): Map<string, Uint8Array> {
    return new Map();
  }

  getTxTimestamp(): Timestamp {
    return timestampOf(this.#call.timestampMs);
  }

  getDateTimestamp(): Date {
    return new Date(this.#call.timestampMs);
  }

  getBinding(): string {
    return this.#host.binding(this.#call.id);
  }

  /** As much of the proposal as a Daybook transaction has. */
  getSignedProposal(): unknown {
    return {
      signature: bufferOfBytestring(''),
      proposal: {
        header: {
          channelHeader: {
            type: 3,
            version: 0,
            timestamp: this.getTxTimestamp(),
            channelId: this.getChannelID(),
            txId: this.getTxID(),
            epoch: new LongValue(0),
            extension: bufferOfBytestring(''),
            tlsCertHash: bufferOfBytestring(''),
          },
          signatureHeader: {
            creator: this.getCreator(),
            nonce: bufferOfBytestring(this.#host.nonce(this.#call.id)),
          },
        },
        payload: { input: bufferOfBytestring(''), transientMap: new Map() },
      },
    };
  }

  // --- keys

  async getState(key: string): Promise<Uint8Array> {
    this.#demandOpen();
    const found = this.#host.get(this.#call.id, keyText(key));
    if (typeof found === 'string') return bufferOfBytestring(found);
    if (found === undefined) return bufferOfBytestring('');
    if (found === false) throw hostError(this.#host);
    return waitFor(this.#call, found, (value) => bufferOfBytestring(value ?? ''));
  }

  async putState(key: string, value: unknown): Promise<Uint8Array> {
    this.#demandOpen();
    this.#demandNoPages();
    if (value === undefined || value === null) throw new TypeError('putState needs a value');
    const bytes = bytestringOfValue(value, 'the value of putState');
    this.#hasWritten = true;
    return this.#written(this.#host.put(this.#call.id, keyText(key), bytes));
  }

  async deleteState(key: string): Promise<Uint8Array> {
    this.#demandOpen();
    this.#demandNoPages();
    this.#hasWritten = true;
    return this.#written(this.#host.delete(this.#call.id, keyText(key)));
  }

  createCompositeKey(objectType: string, attributes: string[]): string {
    return createCompositeKey(objectType, attributes);
  }

  splitCompositeKey(key: string): { objectType: string; attributes: string[] } {
    return splitCompositeKey(key);
  }

  // --- ranges and queries

  getStateByRange(start?: string, end?: string): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(this.#rangeIterator(start, end, true));
  }

  getStateByRangeWithPagination(
    start: string | undefined,
    end: string | undefined,
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return iterable<KeyValue, PaginatedResult<KeyValue>>(
      this.#rangePage(start, end, pageSize, bookmark, true),
    );
  }

  getStateByPartialCompositeKey(
    objectType: string,
    attributes: string[],
  ): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(
      (async () => {
        const start = createCompositeKey(objectType, attributes);
        return this.#rangeIterator(start, start + lastCodePoint, false);
      })(),
    );
  }

  getStateByPartialCompositeKeyWithPagination(
    objectType: string,
    attributes: string[],
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return iterable<KeyValue, PaginatedResult<KeyValue>>(
      (async () => {
        const start = createCompositeKey(objectType, attributes);
        return this.#rangePage(start, start + lastCodePoint, pageSize, bookmark, false);
      })(),
    );
  }

  getQueryResult(query: unknown): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(
      (async () => new RowIterator(await this.#queryPages(queryText(query), '')))(),
    );
  }

  getQueryResultWithPagination(
    query: unknown,
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return iterable<KeyValue, PaginatedResult<KeyValue>>(
      (async () => {
        const limit = this.#startPaging(pageSize);
        const reply = this.#host.query(
          this.#call.id,
          queryText(query),
          limit,
          bookmark === undefined ? '' : `${bookmark}`,
        );
        const { rows, bookmark: next } = await answered(this.#host, this.#call, reply, () => ({
          rows: this.#takeRows(),
          bookmark: this.#host.rowBookmark(),
        }));
        return paginated(rows, next);
      })(),
    );
  }

  getHistoryForKey(key: string): Promise<RowIterator<KeyModification>> {
    return iterable<KeyModification, RowIterator<KeyModification>>(
      (async () => new RowIterator(await this.#historyPages(keyText(key), '')))(),
    );
  }

  // --- events, other contracts

  setEvent(name: string, payload?: unknown): void {
    this.#demandOpen();
    if (typeof name !== 'string' || name === '') {
      throw new Error('the name of an event must be a non-empty string');
    }
    const bytes =
      payload === undefined || payload === null
        ? ''
        : bytestringOfValue(payload, 'the payload of an event');
    this.#host.setEvent(this.#call.id, name, bytes);
  }

  async invokeChaincode(
    contract: string,
    args: readonly unknown[],
    channel?: string,
  ): Promise<{ status: number; message: string; payload: Uint8Array }> {
    this.#demandOpen();
    if (channel !== undefined && channel !== '' && channel !== this.getChannelID()) {
      throw unsupported('invokeChaincode on another channel');
    }
    if (!Array.isArray(args) || args.length === 0) {
      throw new TypeError('invokeChaincode needs the function name and its arguments');
    }
    const bytes: string[] = [];
    for (let index = 1; index < args.length; index++) {
      bytes[index - 1] = bytestringOfValue(args[index], 'an argument');
    }
    const functionName =
      typeof args[0] === 'string'
        ? args[0]
        : textOf(bytestringOfValue(args[0], 'the function name'));
    this.#hasWritten = true;
    const reply = this.#host.invoke(this.#call.id, `${contract}`, functionName, ...bytes);
    return answered(this.#host, this.#call, reply, (value) => ({
      status: 200,
      message: '',
      payload: bufferOfBytestring(value ?? ''),
    }));
  }

  /** Reserved for bulk updates. */
  async updateRange(start: string, end: string, query: unknown, update: unknown): Promise<void> {
    this.#demandOpen();
    const reply = this.#host.updateRange(
      this.#call.id,
      keyText(start),
      `${end}`,
      queryText(query),
      queryText(update),
    );
    return answered(this.#host, this.#call, reply, nothing);
  }

  // --- what Daybook does not have

  async setStateValidationParameter(): Promise<void> {
    throw unsupported('state-based endorsement');
  }

  async getStateValidationParameter(): Promise<Uint8Array> {
    throw unsupported('state-based endorsement');
  }

  async getPrivateData(): Promise<Uint8Array> {
    throw unsupported('private data');
  }

  async getPrivateDataHash(): Promise<Uint8Array> {
    throw unsupported('private data');
  }

  async putPrivateData(): Promise<void> {
    throw unsupported('private data');
  }

  async deletePrivateData(): Promise<void> {
    throw unsupported('private data');
  }

  async purgePrivateData(): Promise<void> {
    throw unsupported('private data');
  }

  async setPrivateDataValidationParameter(): Promise<void> {
    throw unsupported('private data');
  }

  async getPrivateDataValidationParameter(): Promise<Uint8Array> {
    throw unsupported('private data');
  }

  getPrivateDataByRange(): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(refuse('private data'));
  }

  getPrivateDataByPartialCompositeKey(): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(refuse('private data'));
  }

  getPrivateDataQueryResult(): Promise<RowIterator<KeyValue>> {
    return iterable<KeyValue, RowIterator<KeyValue>>(refuse('private data'));
  }

  // --- inside

  /** A write answers an empty Buffer, as in Fabric: contracts return it and clients see it. */
  #written(reply: HostReply): Uint8Array {
    if (reply === false) throw hostError(this.#host);
    empty ??= Object.freeze(bufferOfBytestring(''));
    return empty;
  }

  #demandOpen(): void {
    if (!this.#call.open) {
      throw new SandboxError('CONTRACT_REJECTED', 'the transaction has already ended');
    }
    if (this.#call.fatal !== undefined) throw this.#call.fatal;
  }

  #demandNoPages(): void {
    if (this.#hasPaged) {
      throw new Error('a transaction that ran a paginated query must not write');
    }
  }

  #startPaging(pageSize: unknown): number {
    this.#demandOpen();
    if (this.#hasWritten) {
      throw new Error('a transaction that wrote must not run a paginated query');
    }
    const limit = Number(pageSize);
    if (!Number.isSafeInteger(limit) || limit < 1) {
      throw new Error('the page size must be a positive integer');
    }
    this.#hasPaged = true;
    return limit;
  }

  async #rangeIterator(
    start: unknown,
    end: unknown,
    simple: boolean,
  ): Promise<RowIterator<KeyValue>> {
    const [from, to] = bounds(start, end, simple);
    return new RowIterator(await this.#rangePages(from, false, to, firstPageRows));
  }

  #rangePages(
    from: string,
    fromIsBytes: boolean,
    to: string,
    limit: number,
  ): Page<KeyValue> | Promise<Page<KeyValue>> {
    this.#demandOpen();
    const reply = this.#host.range(this.#call.id, from, fromIsBytes, to, limit);
    return answered(this.#host, this.#call, reply, () => {
      const count = this.#host.rowCount();
      // The next page starts at the key right after the last row.
      const next = count === 0 ? '' : `${this.#host.rowKeyBytes(count - 1)}\u0000`;
      const rows = this.#takeRows();
      return {
        rows,
        more: count < limit ? undefined : () => this.#rangePages(next, true, to, pageRows),
      };
    });
  }

  async #rangePage(
    start: unknown,
    end: unknown,
    pageSize: unknown,
    bookmark: unknown,
    simple: boolean,
  ): Promise<PaginatedResult<KeyValue>> {
    const limit = this.#startPaging(pageSize);
    const [from, to] = bounds(start, end, simple);
    const first =
      bookmark === undefined || bookmark === null || bookmark === '' ? from : `${bookmark}`;
    // One row more than the page: its key is the bookmark.
    const reply = this.#host.range(this.#call.id, first, false, to, limit + 1);
    const rows = await answered(this.#host, this.#call, reply, () => this.#takeRows());
    const next = rows.length > limit ? (rows[limit] as KeyValue).key : '';
    rows.length = Math.min(rows.length, limit);
    return paginated(rows, next);
  }

  #queryPages(query: string, bookmark: string): Page<KeyValue> | Promise<Page<KeyValue>> {
    this.#demandOpen();
    const reply = this.#host.query(this.#call.id, query, queryRows, bookmark);
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
    this.#demandOpen();
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
        namespace: this.#contract,
        key: this.#host.rowKey(index),
        value: bufferOfBytestring(this.#host.rowValue(index) ?? ''),
      };
    }
    return rows;
  }
}

/** Shared by all, so frozen. */
let empty: Uint8Array | undefined;

const nothing = (): void => undefined;

async function refuse(what: string): Promise<never> {
  throw unsupported(what);
}

function paginated(rows: KeyValue[], bookmark: string): PaginatedResult<KeyValue> {
  return {
    iterator: new RowIterator<KeyValue>({ rows, more: undefined }),
    metadata: { fetchedRecordsCount: rows.length, bookmark },
  };
}

function bounds(start: unknown, end: unknown, simple: boolean): [string, string] {
  const from =
    start === undefined || start === null || start === '' ? firstSimpleKey : `${start as string}`;
  const to = end === undefined || end === null ? '' : `${end as string}`;
  if (simple) {
    checkSimpleKey(from);
    checkSimpleKey(to);
  }
  return [from, to];
}

function keyText(key: unknown): string {
  if (typeof key !== 'string' || key === '') throw new Error('a key must be a non-empty string');
  return key;
}

function queryText(query: unknown): string {
  return typeof query === 'string' ? query : JSON.stringify(query);
}

function textOf(bytestring: string): string {
  return bufferOfBytestring(bytestring).toString();
}
