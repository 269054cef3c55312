import type { Bytestring } from '../base/index.ts';
import type { BulkWork, SweptRow } from './bulk/index.ts';
import type { HistoryFile } from './history.ts';
import type { Overlay } from './overlay.ts';
import type { Row } from './state.ts';
import type { StateStore, StoredWrite } from './store.ts';

const headsMax = 200_000;

/** What a {@link RowSettler} works on. */
export interface RowParts {
  readonly store: StateStore;
  readonly history: HistoryFile;
  readonly overlay: Overlay<StoredWrite>;
  readonly bulk: BulkWork;
}

/** Brings rows up to date with the bulk updates that they have not taken, each with its history. */
export class RowSettler {
  readonly #parts: RowParts;
  /** History heads of rows that were looked at since the last change: most writes follow a read. */
  readonly #heads = new Map<Bytestring, number>();

  constructor(parts: RowParts) {
    this.#parts = parts;
  }

  /** Keeps a head that was come upon, until the next change. */
  noteHead(key: Bytestring, head: number): void {
    if (this.#heads.size < headsMax) this.#heads.set(key, head);
  }

  /** Forgets what was noted: rows have changed. */
  clearHeads(): void {
    this.#heads.clear();
  }

  /** Where the newest version of a row stands in the history. */
  head(key: Bytestring): number {
    const write = this.#parts.overlay.peek(key);
    if (write !== undefined) return write.head;
    return this.#heads.get(key) ?? this.#parts.store.head(key);
  }

  /** Applies to a row what it has not taken of bulk updates below `before`. */
  settle(key: Bytestring, before: number): void {
    const { overlay, store } = this.#parts;
    const write = overlay.peek(key);
    const row = write === undefined ? store.get(key) : rowOf(write);
    if (row !== undefined) this.settleRow(row, write?.head, before);
  }

  /**
   * {@link RowSettler.settle} for a row at hand.
   *
   * @param knownHead - its head, if it is known.
   * @returns whether that changed it.
   */
  settleRow(row: Row, knownHead: number | undefined, before: number): boolean {
    const { bulk, history, overlay } = this.#parts;
    let head = knownHead;
    const now = bulk.settle(row, before, ({ position, timestampMs, txId }, value) => {
      head ??= this.head(row.key);
      head = history.append(head, position, timestampMs, txId, value);
    });
    if (now === row) return false;
    overlay.set({ key: now.key, value: now.value, version: now.version, head: head ?? 0 });
    return true;
  }

  /**
   * Takes over what was worked out for a row elsewhere; a row that has changed since it was read is
   * settled here.
   *
   * @returns whether that changed it.
   */
  take(swept: SweptRow): boolean {
    const { bulk, history, overlay, store } = this.#parts;
    const { key, version } = swept;
    const write = overlay.peek(key);
    if (write !== undefined) {
      const row = rowOf(write);
      return row !== undefined && this.settleRow(row, write.head, Number.POSITIVE_INFINITY);
    }
    const stored = store.look(key);
    if (stored === undefined) return false;
    let { head } = stored;
    if (stored.version !== version) {
      const row = store.get(key);
      return row !== undefined && this.settleRow(row, head, Number.POSITIVE_INFINITY);
    }
    const last = bulk.take(swept, ({ position, timestampMs, txId }, value) => {
      head = history.append(head, position, timestampMs, txId, value);
    });
    if (last === undefined) return false;
    overlay.set({ key, value: last.value, version: last.position, head });
    return true;
  }
}

/** A write as a row; `undefined`: it deletes. */
export function rowOf(write: StoredWrite): Row | undefined {
  return write.value === undefined ? undefined : (write as StoredWrite & Row);
}
