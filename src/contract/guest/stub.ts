import { bufferOfBytestring, bufferOfText, bytestringOfValue } from './buffers.ts';
import { createCompositeKey, lastCodePoint, splitCompositeKey } from './composite-key.ts';
import type { GuestCall } from './current-call.ts';
import { demandOpen, unsupported } from './errors.ts';
import type { HostFunctions, HostReply } from './host-functions.ts';
import { iterable, type PaginatedResult, type RowIterator } from './iterators.ts';
import { type KeyModification, type KeyRange, type KeyValue, RowSource } from './row-source.ts';
import { LongValue, type Timestamp, timestampOf } from './timestamp.ts';
import { answered, hostError, waitFor } from './waiting.ts';

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
    demandOpen(this.#call);
    const found = this.#host.get(this.#call.id, keyText(key));
    if (typeof found === 'string') return bufferOfBytestring(found);
    if (found === undefined) return bufferOfBytestring('');
    if (found === false) throw hostError(this.#host);
    return waitFor(this.#call, found, (value) => bufferOfBytestring(value ?? ''));
  }

  async putState(key: string, value: unknown): Promise<Uint8Array> {
    demandOpen(this.#call);
    this.#demandNoPages();
    if (value === undefined || value === null) throw new TypeError('putState needs a value');
    const bytes = bytestringOfValue(value, 'the value of putState');
    this.#hasWritten = true;
    return this.#written(this.#host.put(this.#call.id, keyText(key), bytes));
  }

  async deleteState(key: string): Promise<Uint8Array> {
    demandOpen(this.#call);
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
    return rowsOf(this.#rows().range({ start, end, isSimple: true }));
  }

  getStateByRangeWithPagination(
    start: string | undefined,
    end: string | undefined,
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return pageOf(async () => {
      const limit = this.#startPaging(pageSize);
      return this.#rows().rangePage({ start, end, isSimple: true }, limit, `${bookmark ?? ''}`);
    });
  }

  getStateByPartialCompositeKey(
    objectType: string,
    attributes: string[],
  ): Promise<RowIterator<KeyValue>> {
    return rowsOf((async () => this.#rows().range(partialRange(objectType, attributes)))());
  }

  getStateByPartialCompositeKeyWithPagination(
    objectType: string,
    attributes: string[],
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return pageOf(async () => {
      const limit = this.#startPaging(pageSize);
      return this.#rows().rangePage(
        partialRange(objectType, attributes),
        limit,
        `${bookmark ?? ''}`,
      );
    });
  }

  getQueryResult(query: unknown): Promise<RowIterator<KeyValue>> {
    return rowsOf((async () => this.#rows().query(queryText(query)))());
  }

  getQueryResultWithPagination(
    query: unknown,
    pageSize: number,
    bookmark?: string,
  ): Promise<PaginatedResult<KeyValue>> {
    return pageOf(async () => {
      const limit = this.#startPaging(pageSize);
      return this.#rows().queryPage(queryText(query), limit, `${bookmark ?? ''}`);
    });
  }

  getHistoryForKey(key: string): Promise<RowIterator<KeyModification>> {
    return iterable<KeyModification, RowIterator<KeyModification>>(
      (async () => this.#rows().history(keyText(key)))(),
    );
  }

  // --- events, other contracts

  setEvent(name: string, payload?: unknown): void {
    demandOpen(this.#call);
    if (typeof name !== 'string' || name === '') {
      throw new Error('the name of an event must be a non-empty string');
    }
    const bytes =
      payload === undefined || payload === null
        ? ''
        : bytestringOfValue(payload, 'the payload of an event');
    if (this.#host.setEvent(this.#call.id, name, bytes) === false) throw hostError(this.#host);
  }

  async invokeChaincode(
    contract: string,
    args: readonly unknown[],
    channel?: string,
  ): Promise<{ status: number; message: string; payload: Uint8Array }> {
    demandOpen(this.#call);
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

  /**
   * Daybook's own: updates every row of a range whose JSON value matches `query` (query operators)
   * by `update` (`$set $unset $inc $mul $min $max $rename`), as data when there are many rows. The
   * call's own writes stay as they are.
   */
  async updateRange(range: UpdatedRange, query: unknown, update: unknown): Promise<void> {
    demandOpen(this.#call);
    this.#demandNoPages();
    const { start, end } = updatedKeys(range);
    this.#hasWritten = true;
    const reply = this.#host.updateRange(
      this.#call.id,
      start,
      end,
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
    return rowsOf(refuse('private data'));
  }

  getPrivateDataByPartialCompositeKey(): Promise<RowIterator<KeyValue>> {
    return rowsOf(refuse('private data'));
  }

  getPrivateDataQueryResult(): Promise<RowIterator<KeyValue>> {
    return rowsOf(refuse('private data'));
  }

  // --- inside

  /** A write answers an empty Buffer, as in Fabric: contracts return it and clients see it. */
  #written(reply: HostReply): Uint8Array {
    if (reply === false) throw hostError(this.#host);
    empty ??= Object.freeze(bufferOfBytestring(''));
    return empty;
  }

  #rows(): RowSource {
    return new RowSource(this.#host, this.#call, this.#contract);
  }

  #demandNoPages(): void {
    if (this.#hasPaged) {
      throw new Error('a transaction that ran a paginated query must not write');
    }
  }

  #startPaging(pageSize: unknown): number {
    demandOpen(this.#call);
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
}

/** Shared by all, so frozen. */
let empty: Uint8Array | undefined;

const nothing = (): void => undefined;

async function refuse(what: string): Promise<never> {
  throw unsupported(what);
}

function rowsOf(rows: Promise<RowIterator<KeyValue>>): Promise<RowIterator<KeyValue>> {
  return iterable<KeyValue, RowIterator<KeyValue>>(rows);
}

function pageOf(
  fetch: () => Promise<PaginatedResult<KeyValue>>,
): Promise<PaginatedResult<KeyValue>> {
  return iterable<KeyValue, PaginatedResult<KeyValue>>(fetch());
}

function partialRange(objectType: string, attributes: string[]): KeyRange {
  const start = createCompositeKey(objectType, attributes);
  return { start, end: start + lastCodePoint, isSimple: false };
}

function keyText(key: unknown): string {
  if (typeof key !== 'string' || key === '') throw new Error('a key must be a non-empty string');
  return key;
}

/** Which keys {@link ChaincodeStub.updateRange} updates; an end that is left out is no bound. */
type UpdatedRange =
  | { readonly start?: string; readonly end?: string }
  | { readonly prefix: string };

function updatedKeys(range: UpdatedRange): { start: string; end: string } {
  if (typeof range !== 'object' || range === null) {
    throw new TypeError('updateRange takes { start, end } or { prefix }');
  }
  if ('prefix' in range) {
    const prefix = keyText(range.prefix);
    // The greatest character: no composite key has it.
    return { start: prefix, end: `${prefix}\u{10ffff}` };
  }
  const { start = '', end = '' } = range;
  if (typeof start !== 'string' || typeof end !== 'string') {
    throw new TypeError('start and end of updateRange are texts');
  }
  return { start, end };
}

function queryText(query: unknown): string {
  return typeof query === 'string' ? query : JSON.stringify(query);
}

function textOf(bytestring: string): string {
  return bufferOfBytestring(bytestring).toString();
}
