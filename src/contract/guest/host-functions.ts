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

const refused = 'not bytes, or too long for a string, or the stack is exhausted';

type AnyFunction = (...args: unknown[]) => unknown;

/**
 * The same functions, but no exception of the host comes through (near the end of the stack any
 * call can throw, and the thrown object would be one of the outer realm).
 */
export function guarded(host: HostFunctions): HostFunctions {
  const safe: Record<string, AnyFunction> = {};
  for (const name of Object.keys(host)) {
    const outer = (host as unknown as Record<string, AnyFunction>)[name] as AnyFunction;
    safe[name] =
      name === 'invoke'
        ? (...args) => {
            try {
              return outer(...args);
            } catch {
              throw new RangeError(refused);
            }
          }
        : (a, b, c, d, e) => {
            try {
              return outer(a, b, c, d, e);
            } catch {
              throw new RangeError(refused);
            }
          };
  }
  return safe as unknown as HostFunctions;
}
