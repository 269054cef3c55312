import { DaybookError } from '../../base/index.ts';
import type { LogEntry, SharedLog, Token } from '../../log/index.ts';
import { type Address, asAddress } from '../../model/index.ts';

/** A shared log in memory, for tests of those who read one. */
export class MemoryLog implements SharedLog {
  readonly #entries = new Map<Address, LogEntry>();
  readonly #waiting = new Set<() => void>();
  #tail = asAddress(0);
  #start = asAddress(0);
  #epoch = 0;
  /** When set, thrown by every follower, once each time it is set. */
  failure: DaybookError | undefined;
  /** Entries that `follow` yields at a time at most. */
  pageMax = 7;

  tail(): Promise<Address> {
    return Promise.resolve(this.#tail);
  }

  write(token: Token, bytes: Uint8Array): Promise<void> {
    if (this.#entries.has(token.address)) {
      return Promise.reject(new DaybookError('LOG_ADDRESS_TAKEN', 'taken'));
    }
    this.#put({ address: token.address, kind: 'data', epoch: token.epoch, bytes });
    return Promise.resolve();
  }

  /** Writes at the tail. */
  append(bytes: Uint8Array): Address {
    const address = this.#tail;
    this.#put({ address, kind: 'data', epoch: 0, bytes });
    return address;
  }

  fill(address: Address): Promise<void> {
    if (!this.#entries.has(address)) {
      this.#put({ address, kind: 'fill', epoch: 0, bytes: new Uint8Array() });
    }
    return Promise.resolve();
  }

  async read(address: Address): Promise<LogEntry> {
    await Promise.resolve();
    const entry = this.#entries.get(address);
    if (entry === undefined) throw new DaybookError('LOG_NOT_WRITTEN', 'not written');
    return entry;
  }

  async *follow(from: Address, signal?: AbortSignal): AsyncGenerator<readonly LogEntry[], void> {
    let next = from;
    while (signal?.aborted !== true) {
      if (this.failure !== undefined) {
        const { failure } = this;
        this.failure = undefined;
        throw failure;
      }
      if (next < this.#start) throw new DaybookError('LOG_TRIMMED', 'trimmed');
      const page: LogEntry[] = [];
      for (; page.length < this.pageMax; next = asAddress(next + 1)) {
        const entry = this.#entries.get(next);
        if (entry === undefined) break;
        page.push(entry);
      }
      if (page.length > 0) yield page;
      else await this.#change(signal);
    }
  }

  trim(before: Address): Promise<void> {
    this.#start = before;
    return Promise.resolve();
  }

  seal(epoch: number): Promise<Address> {
    this.#epoch = epoch;
    return this.tail();
  }

  epoch(): Promise<number> {
    return Promise.resolve(this.#epoch);
  }

  start(): Promise<Address> {
    return Promise.resolve(this.#start);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** Wakes all followers, so that they meet {@link MemoryLog.failure}. */
  wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #put(entry: LogEntry): void {
    this.#entries.set(entry.address, entry);
    if (entry.address >= this.#tail) this.#tail = asAddress(entry.address + 1);
    this.wake();
  }

  #change(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiting.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiting.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }
}
