import BTreeModule from 'sorted-btree';
import type { Request, Row, Step } from './step.ts';

// Bundlers and Node disagree about what a CommonJS default is.
const BTree = BTreeModule.default ?? (BTreeModule as unknown as (typeof BTreeModule)['default']);

/** A registry's rows in memory, each as JSON text; runs steps at once, all or nothing. */
export class MemoryStore {
  readonly #rows = new BTree<string, string>(undefined, compare);

  constructor(rows?: Iterable<readonly [string, string]>) {
    for (const [key, value] of rows ?? []) this.#rows.set(key, value);
  }

  /** Rows there are. */
  get size(): number {
    return this.#rows.size;
  }

  /** All rows as JSON text, in key order. */
  *entries(): IterableIterator<readonly [string, string]> {
    yield* this.#rows.entries();
  }

  /**
   * Runs a step to its end; a step that throws has changed nothing.
   *
   * @throws what the step throws.
   */
  run<T>(step: Step<T>): T {
    const before = new Map<string, string | undefined>();
    try {
      let turn = step.next();
      while (turn.done !== true) turn = step.next(this.#answer(turn.value, before));
      return turn.value;
    } catch (error) {
      for (const [key, value] of before) {
        if (value === undefined) this.#rows.delete(key);
        else this.#rows.set(key, value);
      }
      throw error;
    }
  }

  #answer(request: Request, before: Map<string, string | undefined>): unknown {
    if (request.type === 'range') {
      const found: Row[] = [];
      this.#rows.forRange(request.start, request.end, false, (key, value) => {
        found.push({ key, value: JSON.parse(value) });
        return found.length >= request.limit ? { break: true } : undefined;
      });
      return found;
    }
    const text = this.#rows.get(request.key);
    if (request.type === 'get') return text === undefined ? undefined : JSON.parse(text);
    if (!before.has(request.key)) before.set(request.key, text);
    if (request.type === 'delete') this.#rows.delete(request.key);
    else this.#rows.set(request.key, JSON.stringify(request.value));
    return undefined;
  }
}

function compare(left: string, right: string): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
