/*
 * The registry's protocol is written as generators that ask for rows and return a result. So one
 * text is a synchronous state machine in tests and benches, and an asynchronous contract on the
 * ledger, where every read is a promise.
 */

/** A value as it lies in a row. */
export type Json = unknown;

/** A row of a range, in key order. */
export interface Row {
  readonly key: string;
  readonly value: Json;
}

/** What a step asks of the store it runs on. */
export type Request =
  | { readonly type: 'get'; readonly key: string }
  | { readonly type: 'put'; readonly key: string; readonly value: Json }
  | { readonly type: 'delete'; readonly key: string }
  | {
      readonly type: 'range';
      readonly start: string;
      /** Exclusive. */
      readonly end: string;
      readonly limit: number;
    };

/**
 * A piece of the protocol. Whoever drives it answers `get` with the row's value or `undefined` and
 * `range` with `Row[]`, sees to it that a step reads its own writes, and drops all writes of a step
 * that throws.
 */
export type Step<T> = Generator<Request, T, unknown>;

/** Reads one row. */
export function* get<T>(key: string): Step<T | undefined> {
  return (yield { type: 'get', key }) as T | undefined;
}

/** Writes one row. */
export function* put(key: string, value: Json): Step<void> {
  yield { type: 'put', key, value };
}

/** Removes one row. */
export function* remove(key: string): Step<void> {
  yield { type: 'delete', key };
}

/** At most `limit` rows with `start <= key < end`, in order. */
export function* range(start: string, end: string, limit: number): Step<readonly Row[]> {
  return (yield { type: 'range', start, end, limit }) as readonly Row[];
}

/** At most `limit` rows whose key starts with `prefix`, from `after` (exclusive) on. */
export function* rowsUnder(prefix: string, limit: number, after?: string): Step<readonly Row[]> {
  return yield* range(after === undefined ? prefix : `${after}\u0001`, `${prefix}~`, limit);
}
