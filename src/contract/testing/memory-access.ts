import type { Bytestring } from '../../base/index.ts';
import { DaybookError, textOf } from '../../base/index.ts';
import type { ContractCall, HistoryPage, QueryPage, StateAccess } from '../runtime.ts';

/** One version of a key, newest last. */
interface Version {
  readonly txId: string;
  readonly timestampMs: number;
  readonly value: Bytestring | undefined;
}

/**
 * State in memory for tests: calls one at a time, Fabric's rule that own writes are invisible,
 * `commit` after each.
 */
export class MemoryState {
  readonly rows = new Map<string, Bytestring>();
  readonly histories = new Map<string, Version[]>();

  access(call: Pick<ContractCall, 'txId' | 'timestampMs'>, readYourWrites = false): MemoryAccess {
    return new MemoryAccess(this, call, readYourWrites);
  }

  /** What lies in a namespace, as text, in key order. */
  texts(namespace: string): Record<string, string> {
    const found: Record<string, string> = {};
    for (const key of [...this.rows.keys()].sort()) {
      const prefix = `${namespace}\u0000`;
      if (key.startsWith(prefix)) {
        found[textOf(key.slice(prefix.length))] = textOf(this.rows.get(key) ?? '');
      }
    }
    return found;
  }
}

export class MemoryAccess implements StateAccess {
  readonly reads: string[] = [];
  readonly writes = new Map<string, Bytestring | undefined>();
  readonly #state: MemoryState;
  readonly #call: Pick<ContractCall, 'txId' | 'timestampMs'>;
  readonly #readYourWrites: boolean;

  constructor(
    state: MemoryState,
    call: Pick<ContractCall, 'txId' | 'timestampMs'>,
    readYourWrites: boolean,
  ) {
    this.#state = state;
    this.#call = call;
    this.#readYourWrites = readYourWrites;
  }

  get(namespace: string, key: Bytestring): Bytestring | undefined {
    const whole = `${namespace}\u0000${key}`;
    this.reads.push(textOf(key));
    if (this.#readYourWrites && this.writes.has(whole)) return this.writes.get(whole);
    return this.#state.rows.get(whole);
  }

  put(namespace: string, key: Bytestring, value: Bytestring): void {
    this.writes.set(`${namespace}\u0000${key}`, value);
  }

  delete(namespace: string, key: Bytestring): void {
    this.writes.set(`${namespace}\u0000${key}`, undefined);
  }

  range(
    namespace: string,
    start: Bytestring,
    end: Bytestring,
    limit: number,
  ): { key: Bytestring; value: Bytestring }[] {
    const prefix = `${namespace}\u0000`;
    return [...this.#state.rows]
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, value]) => ({ key: key.slice(prefix.length), value }))
      .filter(({ key }) => key >= start && (end === '' || key < end))
      .sort((left, right) => (left.key < right.key ? -1 : 1))
      .slice(0, limit);
  }

  query(namespace: string, query: string, limit: number, bookmark: Bytestring): QueryPage {
    const selector = selectorOf(query);
    const rows = this.range(namespace, bookmark, '', Number.MAX_SAFE_INTEGER).filter((row) => {
      const json = JSON.parse(textOf(row.value)) as Record<string, unknown>;
      return Object.entries(selector).every(([field, value]) => json[field] === value);
    });
    return { rows: rows.slice(0, limit), bookmark: rows[limit]?.key ?? '' };
  }

  history(namespace: string, key: Bytestring, limit: number, bookmark: string): HistoryPage {
    const all = [...(this.#state.histories.get(`${namespace}\u0000${key}`) ?? [])].reverse();
    const from = bookmark === '' ? 0 : Number(bookmark);
    return {
      rows: all.slice(from, from + limit),
      bookmark: from + limit < all.length ? `${from + limit}` : '',
    };
  }

  updateRange(): void {
    throw new DaybookError('CONTRACT_UNSUPPORTED', 'updateRange is not supported');
  }

  /** Makes the writes visible to later calls. */
  commit(): void {
    for (const [key, value] of this.writes) {
      if (value === undefined) this.#state.rows.delete(key);
      else this.#state.rows.set(key, value);
      const history = this.#state.histories.get(key) ?? [];
      history.push({ txId: this.#call.txId, timestampMs: this.#call.timestampMs, value });
      this.#state.histories.set(key, history);
    }
  }
}

function selectorOf(query: string): Record<string, unknown> {
  try {
    const { selector } = JSON.parse(query) as { selector: Record<string, unknown> };
    if (typeof selector === 'object') return selector;
  } catch {
    // Reported below.
  }
  throw new DaybookError('QUERY_INVALID', 'malformed query');
}
