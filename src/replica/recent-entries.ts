import { limits } from '../base/index.ts';
import type { Address } from '../model/index.ts';
import type { AppliedEntry } from './replica.ts';

/** The entries applied last, for those who read along; bounded by count and bytes. */
export class RecentEntries {
  readonly #entries: AppliedEntry[] = [];
  readonly #sizes: number[] = [];
  #bytes = 0;

  add(entry: AppliedEntry, bytes: number): void {
    this.#entries.push(entry);
    this.#sizes.push(bytes);
    this.#bytes += bytes;
    const over =
      this.#entries.length > limits.replicaRecentEntriesMax ||
      this.#bytes > limits.replicaRecentBytesMax;
    if (!over) return;
    // Half of them at once, so that moving the rest is rare; the newest one always stays.
    const gone = Math.ceil((this.#entries.length - 1) / 2);
    this.#entries.splice(0, gone);
    for (const size of this.#sizes.splice(0, gone)) this.#bytes -= size;
  }

  clear(): void {
    this.#entries.length = 0;
    this.#sizes.length = 0;
    this.#bytes = 0;
  }

  /** All entries kept from `address` on, or `undefined` when that one is gone. */
  from(address: Address): readonly AppliedEntry[] | undefined {
    const first = this.#entries[0]?.address;
    return first === undefined || address < first
      ? undefined
      : this.#entries.slice(address - first);
  }
}
