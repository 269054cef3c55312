import { isDaybookError, limits } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';
import type { KeyValue } from './etcd-api.ts';
import { FollowBuffer } from './follow-buffer.ts';
import { firstOnUnit, type Layout, lastSegment, unitOf } from './layout.ts';
import { bytesOfStored, logEntry, trimmed } from './reader.ts';
import { decodeStored, type StoredEntry } from './stored-entry.ts';
import type { TailFinder } from './tail.ts';
import type { Page, Unit } from './unit.ts';
import { watchUnit } from './unit-watch.ts';
import type { Units } from './units.ts';

const holePauseMs = 20;
const sealedPauseMs = 50;
const failurePauseMs = 200;
const takeBytes = 1024 * 1024;

/**
 * One reader of the log. A loop per unit reads pages from the first address that it lacks, until
 * it has all there is; from that revision on it watches. When the watch ends for whatever reason
 * (connection, compaction, no room, silence) the loop reads pages again: that alone decides what
 * is there, the watch only saves asking.
 */
export class Follower {
  readonly #units: Units;
  readonly #tail: TailFinder;
  readonly #buffer: FollowBuffer<StoredEntry>;
  readonly #stop = new AbortController();
  #layoutChange = new AbortController();
  #loops: Promise<void>[] = [];
  /** An entry that was taken from the buffer could not be given: nothing behind it may be. */
  #broken = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: () => void = () => undefined;
  #room: (() => void)[] = [];
  #averageBytes = 4096;

  constructor(units: Units, tail: TailFinder, from: Address) {
    this.#units = units;
    this.#tail = tail;
    this.#buffer = new FollowBuffer(from, limits.logFollowBytesMax);
  }

  /** See `SharedLog.follow`. */
  async *entries(signal: AbortSignal): AsyncGenerator<readonly LogEntry[]> {
    const stop = (): void => {
      this.#stop.abort();
      this.#layoutChange.abort();
      this.#wake();
    };
    if (signal.aborted) return;
    signal.addEventListener('abort', stop, { once: true });
    try {
      this.#startLoops();
      while (!signal.aborted) {
        if (this.#buffer.isReady && !this.#broken) {
          const entries = await this.#assemble(this.#buffer.take(takeBytes));
          this.#giveRoom();
          if (entries.length > 0 && !signal.aborted) yield entries;
        } else if (this.#failure !== undefined) {
          throw this.#failure.error;
        } else {
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', stop);
      stop();
      this.#giveRoom();
    }
  }

  /** Up to the first one that cannot be had: the reader gets the others before the error. */
  async #assemble(stored: readonly StoredEntry[]): Promise<LogEntry[]> {
    const entries: LogEntry[] = [];
    for (const each of stored) {
      try {
        entries.push(logEntry({ stored: each, bytes: await this.#bytesOf(each) }));
      } catch (error) {
        this.#broken = true;
        this.#fail(error);
        break;
      }
    }
    return entries;
  }

  async #bytesOf(stored: StoredEntry): Promise<Buffer> {
    if (stored.split === undefined) return stored.bytes;
    const unit = this.#units.holder(stored.address);
    if (unit === undefined) throw trimmed(stored.address);
    for (;;) {
      try {
        return await bytesOfStored(this.#units, unit, stored);
      } catch (error) {
        if (!isTransient(error) || this.#stop.signal.aborted) throw error;
      }
      await unit.client.sleep(failurePauseMs);
    }
  }

  #startLoops(): void {
    const { layout } = this.#units;
    this.#layoutChange = new AbortController();
    if (this.#stop.signal.aborted) return;
    if (unitOf(layout, this.#buffer.missing) === undefined) {
      this.#fail(trimmed(this.#buffer.missing));
      return;
    }
    const signal = this.#layoutChange.signal;
    this.#loops = layout.units
      .filter(({ id }) => firstOnUnit(layout, id, this.#buffer.missing) !== undefined)
      .map(({ id }) => this.#followUnit(layout, this.#units.unit(id), signal));
  }

  async #followUnit(layout: Layout, unit: Unit, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        const from = this.#lacking(layout, unit);
        if (from === undefined) return;
        if (this.#buffer.isFull && from !== this.#buffer.missing) {
          await this.#untilRoom();
          continue;
        }
        const page = await this.#readPage(layout, unit, from);
        if (signal.aborted) return;
        if (!this.#seeFence(layout, page.fence)) return;
        // A unit that is sealed may have left the log: nothing but a newer layout would tell.
        if (page.fence.sealed && (await this.#hasLeft(layout))) return;
        this.#averageBytes = averageBytes(page.kvs, this.#averageBytes);
        const all = this.#take(page.kvs);
        this.#wake();
        // Not even the reader can make room while the next entry is missing.
        if (!all && this.#buffer.isReady) await this.#untilRoom();
        else if (!all) await unit.client.sleep(holePauseMs);
        else if (page.fence.sealed) await unit.client.sleep(sealedPauseMs);
        else if (!page.more) await this.#watch(layout, unit, page.revision + 1, signal);
        // A full page behind a hole: there is no point in holding what lies further ahead.
        else if (this.#lacking(layout, unit) === from) await unit.client.sleep(holePauseMs);
      } catch (error) {
        if (signal.aborted) return;
        if (!isTransient(error)) {
          this.#fail(error);
          return;
        }
        await unit.client.sleep(failurePauseMs);
      }
    }
  }

  async #readPage(layout: Layout, unit: Unit, from: Address): Promise<Page> {
    const limit = pageEntries(this.#averageBytes);
    const before = from + limit * lastSegment(layout).units.length;
    if (before < this.#tail.reached) return unit.pageBefore(from, asAddress(before));
    const page = await unit.page(from, limit);
    // So many entries have different addresses.
    if (page.count > 0) this.#tail.learn(asAddress(from + page.count - 1));
    return page;
  }

  /** Until the watch ends. */
  #watch(layout: Layout, unit: Unit, revision: number, signal: AbortSignal): Promise<void> {
    const { keys, io, settings } = this.#units;
    return watchUnit({
      client: unit.client,
      timers: io.timers,
      key: keys.entry(this.#buffer.missing),
      end: keys.watchedEnd,
      revision,
      silenceMs: settings.followCheckMs,
      signal,
      onKeys: (kvs) => {
        const entries = kvs.filter((kv) => !kv.key.equals(keys.fence));
        const fence = kvs.findLast((kv) => kv.key.equals(keys.fence));
        const all = this.#take(entries);
        this.#wake();
        if (fence === undefined) return all;
        try {
          const known = unit.learnFence(fence);
          return this.#seeFence(layout, known) && !known.sealed && all;
        } catch (error) {
          // Nobody would catch it here: the stream calls this.
          this.#fail(error);
          return false;
        }
      },
    });
  }

  /** The first address on `unit` that is not here yet. */
  #lacking(layout: Layout, unit: Unit): Address | undefined {
    let address = firstOnUnit(layout, unit.id, this.#buffer.missing);
    while (address !== undefined && this.#buffer.has(address)) {
      address = firstOnUnit(layout, unit.id, (address + 1) as Address);
    }
    return address;
  }

  /** False when there was no room for all. */
  #take(kvs: readonly KeyValue[]): boolean {
    try {
      for (const kv of kvs) {
        const address = this.#units.keys.addressOf(kv.key);
        if (this.#buffer.has(address)) continue;
        this.#tail.learn(address);
        if (!this.#buffer.add(decodeStored(address, kv.value))) return false;
      }
      return true;
    } catch (error) {
      this.#fail(error);
      return false;
    }
  }

  /** False when the loops of this layout are to end. */
  #seeFence(layout: Layout, fence: { trim: Address; generation: number }): boolean {
    if (fence.trim > this.#buffer.missing) {
      this.#fail(trimmed(this.#buffer.missing));
      return false;
    }
    if (fence.generation <= layout.generation) return true;
    if (!this.#layoutChange.signal.aborted) {
      this.#stopLoops();
      void this.#changeLayout(layout);
    }
    return false;
  }

  /** True when there is a newer layout: the loops of this one end then. */
  async #hasLeft(layout: Layout): Promise<boolean> {
    const newest = await this.#units.refresh();
    return !this.#seeFence(layout, { trim: newest.trim, generation: newest.generation });
  }

  async #changeLayout(old: Layout): Promise<void> {
    await Promise.all(this.#loops);
    while (!this.#stop.signal.aborted && this.#failure === undefined) {
      try {
        if (this.#units.layout.generation > old.generation) return this.#startLoops();
        await this.#units.refresh();
      } catch (error) {
        if (!isTransient(error)) return this.#fail(error);
        await this.#units.home.client.sleep(failurePauseMs);
      }
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#stopLoops();
    this.#wake();
  }

  #stopLoops(): void {
    this.#layoutChange.abort();
    this.#giveRoom();
  }

  #untilRoom(): Promise<void> {
    return new Promise((resolve) => {
      this.#room.push(resolve);
    });
  }

  #giveRoom(): void {
    for (const resolve of this.#room.splice(0)) resolve();
  }
}

/** Errors after which the follower tries again for as long as it is wanted. */
function isTransient(error: unknown): boolean {
  return isDaybookError(error, 'TIMEOUT', 'OVERLOADED');
}

function averageBytes(kvs: readonly KeyValue[], before: number): number {
  if (kvs.length === 0) return before;
  return Math.max(1, kvs.reduce((sum, kv) => sum + kv.value.length, 0) / kvs.length);
}

/** Entries that one page may hold. */
function pageEntries(averageBytes: number): number {
  return Math.max(16, Math.min(128, Math.floor((limits.logBatchBytesMax * 4) / averageBytes)));
}
