/*
 * What the sandbox may ask of the process around it. Only primitives cross, in both directions, and
 * the guest alone holds these functions: a contract that got hold of an outer object or function
 * would be out of the sandbox (its `constructor.constructor` compiles code outside).
 */

/**
 * Answer of a state operation: `true` when it is done; a number when the call has to wait, under
 * which the guest's `resume` comes later; `false` when it failed (see `lastError`, `lastCode`).
 */
export type HostReply = true | number | false;

/**
 * What the host does for the guest. Keys and values are bytestrings unless a line says otherwise.
 */
export interface HostFunctions {
  /** The value (`undefined` when there is none) in place of `true`. */
  get(call: number, key: string): string | undefined | number | false;
  put(call: number, key: string, value: string): HostReply;
  delete(call: number, key: string): HostReply;
  /** Rows are collected with the `row…` functions; `rowCount` says how many. */
  range(call: number, start: string, startIsBytes: boolean, end: string, limit: number): HostReply;
  query(call: number, query: string, limit: number, bookmark: string): HostReply;
  history(call: number, key: string, limit: number, bookmark: string): HostReply;
  updateRange(call: number, start: string, end: string, query: string, update: string): HostReply;
  /** Runs another contract in the same transaction; a number or `false`; arguments are bytestrings. */
  invoke(call: number, contract: string, functionName: string, ...args: string[]): HostReply;

  rowCount(): number;
  rowKey(index: number): string;
  /** The row's key as a bytestring. */
  rowKeyBytes(index: number): string;
  rowValue(index: number): string | undefined;
  rowTxId(index: number): string;
  rowTimestampMs(index: number): number;
  rowBookmark(): string;

  lastError(): string;
  lastCode(): string;

  argument(call: number, index: number): string;
  binding(call: number): string;
  nonce(call: number): string;
  channel(call: number): string;
  txId(call: number): string;
  mspId(call: number): string;
  certificate(call: number): string;
  /** JSON `{id, attributes}` of the creator's certificate, or '' when it is unreadable. */
  clientIdentity(call: number): string;

  setEvent(call: number, name: string, payload: string): HostReply;
  /** Ends a call. `isText`: `result` is text; else a bytestring. */
  finished(call: number, result: string, isText: boolean): void;
  /** Ends a call with the contract's refusal or a typed error. */
  refused(call: number, code: string, message: string): void;
  log(call: number, level: string, text: string): void;

  hash(algorithm: string, data: string): string;

  latin1Write(target: Uint8Array, text: string): void;
  latin1Slice(source: Uint8Array): string;
  utf8Write(target: Uint8Array, text: string): void;
  utf8Slice(source: Uint8Array): string;
  utf8Length(text: string): number;
}

const refused = 'not bytes, not a text, too long, or the stack is exhausted';

type AnyFunction = (...args: unknown[]) => unknown;

/** Functions whose first argument is a typed array of the realm. */
const takeBytes = ['latin1Write', 'latin1Slice', 'utf8Write', 'utf8Slice'];

/**
 * The same functions, but no exception of the host comes through (near the end of the stack any
 * call can throw, and the thrown object would be one of the outer realm), and no object goes out
 * (converting one to a text outside would run the contract's code there).
 */
export function guarded(host: HostFunctions): HostFunctions {
  const safe: Record<string, AnyFunction> = {};
  for (const name of Object.keys(host)) {
    const outer = (host as unknown as Record<string, AnyFunction>)[name] as AnyFunction;
    if (name === 'invoke') safe[name] = guardedVariadic(outer);
    else safe[name] = takeBytes.includes(name) ? guardedBytes(outer) : guardedPlain(outer);
  }
  return safe as unknown as HostFunctions;
}

function guardedPlain(outer: AnyFunction): AnyFunction {
  return (a, b, c, d, e) => {
    if (isObject(a) || isObject(b) || isObject(c) || isObject(d) || isObject(e)) {
      throw new TypeError(refused);
    }
    try {
      return outer(a, b, c, d, e);
    } catch {
      throw new RangeError(refused);
    }
  };
}

function guardedBytes(outer: AnyFunction): AnyFunction {
  return (bytes, text) => {
    if (isObject(text)) throw new TypeError(refused);
    try {
      return outer(bytes, text);
    } catch {
      throw new RangeError(refused);
    }
  };
}

function guardedVariadic(outer: AnyFunction): AnyFunction {
  return (...args) => {
    for (let index = 0; index < args.length; index++) {
      if (isObject(args[index])) throw new TypeError(refused);
    }
    try {
      return outer(...args);
    } catch {
      throw new RangeError(refused);
    }
  };
}

function isObject(value: unknown): boolean {
  return (typeof value === 'object' && value !== null) || typeof value === 'function';
}
