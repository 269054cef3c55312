import { type Bytestring, compareBytestrings, lowerBound } from '../base/index.ts';
import type { Address, Position } from '../model/index.ts';
import type { EntrySummary, Row } from './state.ts';
import type {
  HistoryHead,
  RowHeader,
  StateStore,
  StoreBatch,
  StoredWrite,
  StoreMeta,
  StoreSnapshot,
} from './store.ts';

/**
 * A store in memory for tests and the simulator. It stands for the disk: hand the same object to
 * the next `openState` and it holds what was committed, and nothing else.
 */
export class MemoryStore implements StateStore {
  #meta: StoreMeta | undefined;
  readonly #rows = new Map<Bytestring, StoredWrite & Row>();
  readonly #heads = new Map<Bytestring, HistoryHead>();
  readonly #entries = new Map<Address, EntrySummary>();
  #keys: Bytestring[] | undefined;

  get meta(): StoreMeta | undefined {
    return this.#meta;
  }

  get(key: Bytestring): Row | undefined {
    return this.#rows.get(key);
  }

  version(key: Bytestring): Position | undefined {
    return this.#rows.get(key)?.version;
  }

  head(key: Bytestring): HistoryHead {
    return this.#heads.get(key) ?? 0;
  }

  look(key: Bytestring): RowHeader | undefined {
    return this.#rows.get(key);
  }

  range(start: Bytestring, end: Bytestring, limit: number = Number.POSITIVE_INFINITY): Row[] {
    const keys = this.#sorted();
    const rows: Row[] = [];
    for (let at = lowerBound(keys, start); at < keys.length && rows.length < limit; at++) {
      const key = keys[at] as Bytestring;
      if (end !== '' && key >= end) break;
      rows.push(this.#rows.get(key) as Row);
    }
    return rows;
  }

  entry(address: Address): EntrySummary | undefined {
    return this.#entries.get(address);
  }

  async commit(batch: StoreBatch): Promise<void> {
    // As a real store would, so that nobody relies on a commit within the same turn.
    await Promise.resolve();
    for (const write of batch.writes) {
      if (write.value === undefined) this.#rows.delete(write.key);
      else this.#rows.set(write.key, write as StoredWrite & Row);
      if (write.head !== 0) this.#heads.set(write.key, write.head);
    }
    for (const entry of batch.entries) this.#entries.set(entry.address, entry);
    this.#meta = batch.meta;
    this.#keys = undefined;
  }

  snapshot(): StoreSnapshot {
    const frozen = this.frozen();
    return {
      meta: this.#meta,
      page: (start, limit) => frozen.range(start, '', limit),
      release: () => undefined,
    };
  }

  /** The rows and the progress as they are now. */
  frozen(): MemoryStore {
    const copy = new MemoryStore();
    for (const [key, row] of this.#rows) copy.#rows.set(key, row);
    copy.#meta = this.#meta;
    return copy;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #sorted(): Bytestring[] {
    this.#keys ??= [...this.#rows.keys()].sort(compareBytestrings);
    return this.#keys;
  }
}
