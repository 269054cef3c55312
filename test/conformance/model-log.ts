import { DaybookError, isDaybookError } from '../../src/base/index.ts';
import type { LogEntry, SharedLog, Token } from '../../src/log/index.ts';
import type { Address } from '../../src/model/index.ts';

/** The shared log as its interface describes it, in the simplest form. */
export class ModelLog implements SharedLog {
  readonly #entries = new Map<number, LogEntry>();
  #start = 0;
  #epoch = 0;
  #tail = 0;

  async tail(): Promise<Address> {
    return this.#tail as Address;
  }

  async epoch(): Promise<number> {
    return this.#epoch;
  }

  async start(): Promise<Address> {
    return this.#start as Address;
  }

  /** The first address from the start on at which nothing stands. */
  contiguous(): Address {
    let address = this.#start;
    while (this.#entries.has(address)) address += 1;
    return address as Address;
  }

  async write({ address, epoch }: Token, bytes: Uint8Array): Promise<void> {
    if (address < this.#start) throw new DaybookError('LOG_TRIMMED', '');
    const there = this.#entries.get(address);
    if (there !== undefined) {
      if (there.kind === 'data' && Buffer.compare(there.bytes, bytes) === 0) return;
      throw new DaybookError('LOG_ADDRESS_TAKEN', '');
    }
    if (epoch < this.#epoch) throw new DaybookError('LOG_EPOCH_SEALED', '');
    this.#put({ address, epoch, kind: 'data', bytes });
  }

  async fill(address: Address): Promise<void> {
    if (address < this.#start || this.#entries.has(address)) return;
    this.#put({ address, epoch: this.#epoch, kind: 'fill', bytes: new Uint8Array(0) });
  }

  async read(address: Address): Promise<LogEntry> {
    if (address < this.#start) throw new DaybookError('LOG_TRIMMED', '');
    const entry = this.#entries.get(address);
    if (entry === undefined) throw new DaybookError('LOG_NOT_WRITTEN', '');
    return entry;
  }

  async trim(before: Address): Promise<void> {
    this.#start = Math.max(this.#start, Math.min(before, this.#tail));
  }

  async seal(epoch: number): Promise<Address> {
    if (epoch <= this.#epoch) throw new DaybookError('LOG_EPOCH_SEALED', '');
    this.#epoch = epoch;
    return this.#tail as Address;
  }

  async *follow(from: Address): AsyncGenerator<readonly LogEntry[]> {
    for (let address: number = from; ; address += 1) {
      const entry = this.#entries.get(address);
      if (entry === undefined) return;
      yield [entry];
    }
  }

  async close(): Promise<void> {}

  #put(entry: LogEntry): void {
    this.#entries.set(entry.address, entry);
    this.#tail = Math.max(this.#tail, entry.address + 1);
  }
}

/** Follows a log up to an address. */
export async function followed(
  log: SharedLog,
  from: Address,
  before: Address,
): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  if (from >= before) return entries;
  const stop = new AbortController();
  for await (const run of log.follow(from, stop.signal)) {
    entries.push(...run);
    if (from + entries.length >= before) stop.abort();
  }
  return entries.slice(0, before - from);
}

/** `'ok'` or the value of a call, or the code of its error. */
export async function outcomeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    return (await work) ?? 'ok';
  } catch (error) {
    if (isDaybookError(error)) return error.code;
    throw error;
  }
}
