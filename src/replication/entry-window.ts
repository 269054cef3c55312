import { limits } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import type { Address } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';

/** The part of a node that an {@link EntryWindow} reads. */
export interface EntrySource {
  /** The first address that is not applied. */
  nextAddress(): Address;
  /** Applied entries from `from` on, in order; waits at the tail. */
  follow(from: Address, signal: AbortSignal): AsyncIterable<readonly AppliedEntry[]>;
}

interface Stream {
  /** First address that it has not given out. */
  next: number;
  readonly entries: AsyncIterator<readonly AppliedEntry[]>;
  readonly abort: AbortController;
  usedAtMs: number;
  /** The step under way. */
  step: Promise<readonly AppliedEntry[]> | undefined;
}

const idleMs = 10_000;

/**
 * Reads applied entries for several readers that each go on where they left off: a stream stays open
 * behind every reader, so that the log sends ahead, and entries are decoded once for readers that
 * are near each other. Holds nothing when nobody has read for a while.
 */
export class EntryWindow {
  readonly #io: Pick<Io, 'clock' | 'timers'>;
  readonly #source: EntrySource;
  readonly #entries = new Map<number, { readonly entry: AppliedEntry; readonly bytes: number }>();
  readonly #streams = new Set<Stream>();
  #bytes = 0;
  #timer: Timer | undefined;

  constructor(io: Pick<Io, 'clock' | 'timers'>, source: EntrySource) {
    this.#io = io;
    this.#source = source;
  }

  /**
   * Entries from `from` on, at least one unless `from` is the tail; does not wait for what is not
   * applied.
   *
   * @throws {DaybookError} `LOG_TRIMMED`
   */
  async read(from: Address, limit: number): Promise<readonly AppliedEntry[]> {
    const known = this.#run(from, limit);
    if (known.length > 0) return known;
    while (from < this.#source.nextAddress()) {
      const loaded = await this.#load(from);
      const at = loaded.findIndex(({ address }) => address === from);
      if (at >= 0) return loaded.slice(at, at + limit);
      // Nothing: the node closes.
      if (loaded.length === 0) break;
    }
    return [];
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    for (const stream of this.#streams) this.#end(stream);
    this.#entries.clear();
    this.#bytes = 0;
  }

  #run(from: number, limit: number): AppliedEntry[] {
    const run: AppliedEntry[] = [];
    for (let address = from; run.length < limit; address++) {
      const held = this.#entries.get(address);
      if (held === undefined) break;
      run.push(held.entry);
    }
    return run;
  }

  #load(from: Address): Promise<readonly AppliedEntry[]> {
    const stream = [...this.#streams].find(({ next }) => next === from) ?? this.#open(from);
    stream.usedAtMs = this.#io.clock.monotonicMs();
    stream.step ??= this.#advance(stream);
    return stream.step;
  }

  #open(from: Address): Stream {
    if (this.#streams.size >= limits.followerStreamsMax) {
      const [oldest] = [...this.#streams].sort((a, b) => a.usedAtMs - b.usedAtMs);
      if (oldest !== undefined) this.#end(oldest);
    }
    const abort = new AbortController();
    const entries = this.#source.follow(from, abort.signal)[Symbol.asyncIterator]();
    const stream = { next: from, entries, abort, usedAtMs: 0, step: undefined };
    this.#streams.add(stream);
    this.#timer ??= this.#io.timers.after(idleMs, () => this.#endIdle());
    return stream;
  }

  async #advance(stream: Stream): Promise<readonly AppliedEntry[]> {
    try {
      const { value, done } = await stream.entries.next();
      if (done === true) {
        this.#streams.delete(stream);
        return [];
      }
      const entries: readonly AppliedEntry[] = value;
      const last = entries.at(-1);
      if (last !== undefined) stream.next = last.address + 1;
      for (const entry of entries) this.#hold(entry);
      return entries;
    } catch (error) {
      this.#streams.delete(stream);
      throw error;
    } finally {
      stream.step = undefined;
    }
  }

  #hold(entry: AppliedEntry): void {
    if (this.#entries.has(entry.address)) return;
    const bytes = costOf(entry);
    this.#entries.set(entry.address, { entry, bytes });
    this.#bytes += bytes;
    for (const [address, held] of this.#entries) {
      if (this.#bytes <= limits.followerWindowBytesMax) break;
      this.#entries.delete(address);
      this.#bytes -= held.bytes;
    }
  }

  #endIdle(): void {
    this.#timer = undefined;
    const before = this.#io.clock.monotonicMs() - idleMs;
    for (const stream of this.#streams) if (stream.usedAtMs < before) this.#end(stream);
    if (this.#streams.size > 0) {
      this.#timer = this.#io.timers.after(idleMs, () => this.#endIdle());
    } else this.close();
  }

  #end(stream: Stream): void {
    this.#streams.delete(stream);
    stream.abort.abort();
    // Its last step may be under way, and ends by the signal.
    stream.entries.return?.().catch(() => undefined);
  }
}

/** Roughly what a decoded entry takes in memory. */
function costOf({ records }: AppliedEntry): number {
  let bytes = 512;
  for (const { record } of records) {
    bytes += 1_024 + 3 * record.transactionBytes.length;
    for (const { writes } of record.sets) bytes += 256 * writes.length;
  }
  return bytes;
}
