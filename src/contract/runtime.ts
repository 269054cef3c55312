import type { Bytestring, ErrorCode } from '../base/index.ts';
import type { ContractBundle, ContractOptions } from '../model/index.ts';

export type { ContractBundle, ContractOptions } from '../model/index.ts';

/** One contract call as the runtime executes it. */
export interface ContractCall {
  readonly channel: string;
  readonly contract: string;
  /** `name` or `ContractClass:name`. */
  readonly functionName: string;
  readonly args: readonly Bytestring[];
  /** 64 hexadecimal digits. */
  readonly txId: string;
  /** Serialised identity. */
  readonly creator: Uint8Array;
  readonly nonce: Uint8Array;
  /** What the contract sees as the current time. */
  readonly timestampMs: number;
}

/**
 * The state as one call sees it. Keys are keys within `namespace`. Implemented by the executor,
 * which records reads and writes and keeps calls apart. An answer is a plain value on the fast
 * path and a promise only when the call must wait for a lock. May throw `DaybookError`
 * (limits, abort of the call).
 */
export interface StateAccess {
  get(namespace: string, key: Bytestring): MaybePromise<Bytestring | undefined>;
  put(namespace: string, key: Bytestring, value: Bytestring): void;
  delete(namespace: string, key: Bytestring): void;
  /** Rows of `start <= key < end` (`end` empty: no bound), at most `limit`. */
  range(
    namespace: string,
    start: Bytestring,
    end: Bytestring,
    limit: number,
  ): MaybePromise<readonly { readonly key: Bytestring; readonly value: Bytestring }[]>;
  /** Rows whose JSON value matches a query (Mango/MongoDB operators); phantom-safe like a range. */
  query(
    namespace: string,
    query: string,
    limit: number,
    bookmark: Bytestring,
  ): MaybePromise<QueryPage>;
  history(
    namespace: string,
    key: Bytestring,
    limit: number,
    bookmark: string,
  ): MaybePromise<HistoryPage>;
  /**
   * Updates all rows of `start <= key < end` (`end` empty: no bound) whose JSON value matches, as
   * data where there are many (design §7). Neither sees nor changes the call's own writes.
   */
  updateRange(
    namespace: string,
    range: { start: Bytestring; end: Bytestring },
    query: string,
    update: string,
  ): MaybePromise<void>;
}

/** A value at once where nothing had to be waited for: a promise each would slow every read. */
export type MaybePromise<T> = T | Promise<T>;

/** A page of what a JSON query found. */
export interface QueryPage {
  readonly rows: readonly { readonly key: Bytestring; readonly value: Bytestring }[];
  /** Where the next page starts; empty when this was the last. */
  readonly bookmark: Bytestring;
}

/** A page of what a key held, newest first. */
export interface HistoryPage {
  readonly rows: readonly {
    readonly txId: string;
    readonly timestampMs: number;
    /** `undefined`: deleted. */
    readonly value: Bytestring | undefined;
  }[];
  readonly bookmark: string;
}

/** How a call ended. A refusal is a value: the contract threw, or a limit ended it. */
export type CallOutcome =
  | {
      readonly ok: true;
      readonly result: Bytestring;
      readonly event: { readonly name: string; readonly payload: Bytestring } | undefined;
    }
  | { readonly ok: false; readonly code: ErrorCode; readonly message: string };

/**
 * Runs contracts inside one process, deterministically (invariant I8). One per contract process;
 * limits on CPU time and memory are kept from outside, by the process that started it.
 */
export interface ContractRuntime {
  /** Replaces an older version. @throws {DaybookError} `CONTRACT_BUNDLE_INVALID` */
  install(bundle: ContractBundle): void;
  options(contract: string): ContractOptions | undefined;
  /** Never rejects, except with what `access` threw to abort the call. */
  call(call: ContractCall, access: StateAccess): MaybePromise<CallOutcome>;
}
