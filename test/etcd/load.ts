import { expect } from 'vitest';
import { isDaybookError } from '../../src/base/index.ts';
import { realIo } from '../../src/io/index.ts';
import { type EtcdLog, openEtcdLog } from '../../src/log/etcd/index.ts';
import { type Address, asAddress } from '../../src/model/index.ts';

/** Writers that put numbered entries at addresses from one counter, and remember what was said. */
export class Load {
  /** Contents by address, of every write that succeeded. */
  readonly acknowledged = new Map<number, string>();
  readonly #logs: readonly EtcdLog[];
  readonly #entryBytes: number;
  readonly #running: Promise<void>[] = [];
  #nextAddress = 0;
  #nextEntry = 0;
  #stopping = false;
  #failure: { readonly error: unknown } | undefined;
  /** Longest time between two acknowledgements, milliseconds. */
  stallMs = 0;
  #lastMs = performance.now();

  constructor(logs: readonly EtcdLog[], options: { writers: number; entryBytes?: number }) {
    this.#logs = logs;
    this.#entryBytes = options.entryBytes ?? 200;
    for (let writer = 0; writer < options.writers; writer++) {
      const log = logs[writer % logs.length] as EtcdLog;
      const running = this.#write(log).catch((error: unknown) => {
        this.#failure ??= { error };
      });
      this.#running.push(running);
    }
  }

  /** Resolves when `count` more entries are acknowledged. */
  async more(count: number, timeoutMs = 90_000): Promise<void> {
    const target = this.acknowledged.size + count;
    const untilMs = performance.now() + timeoutMs;
    while (this.acknowledged.size < target) {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (performance.now() > untilMs) {
        throw new Error(`${this.acknowledged.size} of ${target} entries after ${timeoutMs} ms`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Fills the holes, reads everything, and compares it with what was acknowledged. */
  async check(): Promise<void> {
    const log = this.#logs[0] as EtcdLog;
    for (let address = 0; address < this.#nextAddress; address++) {
      if (!this.acknowledged.has(address)) await log.fill(asAddress(address));
    }
    const tail = await log.tail();
    expect(tail).toBeGreaterThanOrEqual(this.acknowledged.size);
    const start = await log.start();
    const found = await readAll(log, start, tail);
    const seen = new Set<string>();
    for (const [address, text] of found) {
      if (text === '') continue;
      expect(seen.has(text), `${text} twice`).toBe(false);
      seen.add(text);
      const acknowledged = this.acknowledged.get(address);
      if (acknowledged !== undefined) expect(text).toBe(acknowledged);
    }
    for (const [address, text] of this.acknowledged) {
      if (address >= start) expect(found.get(address)).toBe(text);
    }
  }

  async #write(log: EtcdLog): Promise<void> {
    while (!this.#stopping) {
      const entry = `entry ${this.#nextEntry++} `;
      const bytes = Buffer.alloc(this.#entryBytes, entry);
      for (let done = false; !done && !this.#stopping; ) {
        const address = asAddress(this.#nextAddress++);
        try {
          await this.#untilKnown(log, address, bytes);
          this.acknowledged.set(address, bytes.toString());
          const nowMs = performance.now();
          this.stallMs = Math.max(this.stallMs, nowMs - this.#lastMs);
          this.#lastMs = nowMs;
          done = true;
        } catch (error) {
          if (this.#stopping && isDaybookError(error, 'TIMEOUT', 'OVERLOADED')) return;
          if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN', 'LOG_EPOCH_SEALED')) throw error;
        }
      }
    }
  }

  /** Repeats the same write while its outcome is open. */
  async #untilKnown(log: EtcdLog, address: Address, bytes: Buffer): Promise<void> {
    for (;;) {
      try {
        await log.write({ epoch: 1_000_000, address }, bytes);
        return;
      } catch (error) {
        if (!isDaybookError(error, 'TIMEOUT', 'OVERLOADED')) throw error;
        if (this.#stopping) throw error;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    }
  }
}

/** Texts of the entries in `[from, tail)` by address; '' for a fill. */
export async function readAll(
  log: EtcdLog,
  from: Address,
  tail: Address,
): Promise<Map<number, string>> {
  const found = new Map<number, string>();
  let next: number = from;
  if (from >= tail) return found;
  for await (const entries of log.follow(from)) {
    for (const { address, bytes } of entries) {
      expect(address).toBe(next);
      next++;
      found.set(address, Buffer.from(bytes).toString());
    }
    if (next >= tail) break;
  }
  return found;
}

/** Follows the log until stopped; checks that addresses come one after the other. */
export class Reader {
  readonly texts: string[] = [];
  readonly #abort = new AbortController();
  readonly #running: Promise<void>;
  #failure: { readonly error: unknown } | undefined;

  constructor(log: EtcdLog, from: Address = asAddress(0)) {
    this.#running = this.#read(log, from).catch((error: unknown) => {
      this.#failure = { error };
    });
  }

  /** Resolves when the reader has passed `address`; fails with what ended it before that. */
  async passed(address: number, timeoutMs = 90_000): Promise<void> {
    const untilMs = performance.now() + timeoutMs;
    while (this.texts.length <= address) {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (performance.now() > untilMs) throw new Error(`reader is at ${this.texts.length}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  async #read(log: EtcdLog, from: Address): Promise<void> {
    let next: number = from;
    for await (const entries of log.follow(from, this.#abort.signal)) {
      for (const { address, bytes } of entries) {
        expect(address).toBe(next);
        next++;
        this.texts[address] = Buffer.from(bytes).toString();
      }
    }
  }
}

/** Opens logs on the given endpoints, with short timeouts. */
export function openLogs(
  count: number,
  units: readonly (readonly string[])[],
  prefix: string,
  options: { quotaBytes?: number } = {},
): Promise<EtcdLog[]> {
  const io = realIo();
  return Promise.all(
    Array.from({ length: count }, () =>
      openEtcdLog(io, {
        units: units.map((endpoints) => ({ endpoints })),
        prefix,
        attemptTimeoutMs: 1000,
        ...options,
      }),
    ),
  );
}
