/*
 * Fabric's iterators: `next()` and `close()`, and `for await` over the promise that brings them.
 */

/** One page of rows and how to get the next; `more` is undefined after the last. */
export interface Page<T> {
  readonly rows: readonly T[];
  readonly more: (() => Page<T> | Promise<Page<T>>) | undefined;
}

/**
 * Rows one by one, page after page; what Fabric's contracts are given for ranges, queries and
 * histories.
 */
export class RowIterator<T> {
  #page: Page<T>;
  #at = 0;
  #closed = false;

  constructor(page: Page<T>) {
    this.#page = page;
  }

  async next(): Promise<{ value?: T; done: boolean }> {
    if (this.#closed) return { done: true };
    while (this.#at >= this.#page.rows.length) {
      if (this.#page.more === undefined) return { done: true };
      this.#page = await this.#page.more();
      this.#at = 0;
    }
    return { value: this.#page.rows[this.#at++] as T, done: false };
  }

  async close(): Promise<void> {
    this.#closed = true;
  }
}

/** A page of a paginated query, with its metadata. */
export interface PaginatedResult<T> {
  readonly iterator: RowIterator<T>;
  readonly metadata: { readonly fetchedRecordsCount: number; readonly bookmark: string };
}

/** Makes the promise of an iterator usable in `for await`. */
export function iterable<T, P extends RowIterator<T> | PaginatedResult<T>>(
  promise: Promise<P>,
): Promise<P> {
  void Object.defineProperty(promise, Symbol.asyncIterator, {
    value: () => {
      let iterator: RowIterator<T> | undefined;
      const open = async (): Promise<RowIterator<T>> => {
        const opened = await promise;
        return opened instanceof RowIterator ? opened : opened.iterator;
      };
      return {
        next: async (): Promise<{ value?: T; done: boolean }> => {
          iterator ??= await open();
          return iterator.next();
        },
        return: async (): Promise<{ done: boolean }> => {
          await iterator?.close();
          return { done: true };
        },
      };
    },
  });
  return promise;
}
