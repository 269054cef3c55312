import type { Address } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';

/** The newest entries, for followers near the tail; the oldest leave when there are too many bytes. */
export class RecentEntries {
  readonly #entries = new Map<number, LogEntry>();
  readonly #bytesMax: number;
  #bytes = 0;
  /** No entry below this address is kept. */
  #from: number;

  constructor(from: Address, bytesMax: number) {
    this.#from = from;
    this.#bytesMax = bytesMax;
  }

  get(address: Address): LogEntry | undefined {
    return this.#entries.get(address);
  }

  add(entry: LogEntry): void {
    if (entry.address < this.#from) return;
    this.#entries.set(entry.address, entry);
    this.#bytes += costOf(entry);
    while (this.#bytes > this.#bytesMax) this.#dropFirst();
  }

  /** Consecutive entries from `from` on, all below `before`, at most `countMax`. */
  run(from: Address, before: Address, countMax: number): LogEntry[] {
    const run: LogEntry[] = [];
    for (let address: number = from; address < before && run.length < countMax; address += 1) {
      const entry = this.#entries.get(address);
      if (entry === undefined) break;
      run.push(entry);
    }
    return run;
  }

  /** Forgets the addresses below `start`. */
  trim(start: Address): void {
    if (this.#entries.size === 0) this.#from = Math.max(this.#from, start);
    while (this.#from < start && this.#entries.size > 0) this.#dropFirst();
  }

  #dropFirst(): void {
    const entry = this.#entries.get(this.#from);
    if (entry !== undefined) {
      this.#entries.delete(this.#from);
      this.#bytes -= costOf(entry);
    }
    this.#from += 1;
  }
}

/** Small entries cost more than their bytes. */
function costOf(entry: LogEntry): number {
  return entry.bytes.length + 200;
}
