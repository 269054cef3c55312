import { join } from 'node:path';
import {
  checkLimit,
  DaybookError,
  isDaybookError,
  limits,
  TransitMap,
  toDaybookError,
} from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import type { LogEntry, SharedLog, Token } from '../shared-log.ts';
import { type FrameContent, frameBytes } from './frame.ts';
import { encodeMeta, type LogMeta } from './meta.ts';
import { metaName } from './names.ts';
import { RecentEntries } from './recent-entries.ts';
import { recover } from './recover.ts';
import { type LogIo, SegmentStore } from './segment-store.ts';
import type { WrittenAddresses } from './written.ts';

/** Where {@link openEmbeddedLog} keeps a log; what is not given has its default in `limits`. */
export interface EmbeddedLogOptions {
  readonly io: LogIo;
  /** Absolute path; made when it does not exist. One process at a time may have it open. */
  readonly directory: string;
  readonly segmentBytesMin?: number;
  readonly segmentBytesMax?: number;
  /** Memory for the newest entries. */
  readonly recentBytesMax?: number;
  /** How far a write may be ahead of the first open address. */
  readonly windowAddressesMax?: number;
}

/**
 * Opens the shared log of one machine.
 *
 * @throws {DaybookError} `LOG_LOCKED`, `LOG_DAMAGED`, `DISK_FULL`, `IO_FAILED`
 */
export async function openEmbeddedLog(options: EmbeddedLogOptions): Promise<SharedLog> {
  const { disk } = options.io;
  await disk.makeDirectory(options.directory);
  const lock = await disk.lock(options.directory);
  try {
    const { io } = options;
    const found = await recover(io, options.directory);
    const sizes = {
      segmentBytesMin: options.segmentBytesMin ?? limits.logSegmentBytesMin,
      segmentBytesMax: options.segmentBytesMax ?? limits.logSegmentBytesMax,
    };
    const { written, meta } = found;
    const store = new SegmentStore(io, options.directory, sizes, found, () => written.contiguous);
    await store.trim(meta.start);
    await store.prepareActive().catch((error: unknown) => {
      // On a full disk the log can be read, and the first write tries again.
      if (!isDaybookError(error, 'DISK_FULL')) throw error;
    });
    return new EmbeddedLog(options, store, written, meta, () => lock.release());
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** A write or fill that is not durable yet. */
interface Pending {
  readonly content: FrameContent;
  readonly done: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

class EmbeddedLog implements SharedLog {
  readonly #io: LogIo;
  readonly #directory: string;
  readonly #windowAddressesMax: number;
  readonly #store: SegmentStore;
  readonly #written: WrittenAddresses;
  readonly #recent: RecentEntries;
  readonly #release: () => Promise<void>;
  /** By address: queued, or in the group being written. */
  readonly #pending = new TransitMap<number, Pending>();
  #pendingBytes = 0;
  #queue: Pending[] = [];
  /** Resolves when the groups that are under way have settled. */
  #running: Promise<void> | undefined;
  /** What the meta file says. */
  #meta: LogMeta;
  /** Epochs below are refused; runs ahead of the meta file while a seal is under way. */
  #fence: number;
  #metaChange: Promise<void> = Promise.resolve();
  /** Followers that wait for the next entry. */
  readonly #waiting = new Set<() => void>();
  #followers = 0;
  #closing: Promise<void> | undefined;

  constructor(
    options: EmbeddedLogOptions,
    store: SegmentStore,
    written: WrittenAddresses,
    meta: LogMeta,
    release: () => Promise<void>,
  ) {
    this.#io = options.io;
    this.#directory = options.directory;
    this.#windowAddressesMax = options.windowAddressesMax ?? limits.logWindowAddressesMax;
    this.#store = store;
    this.#written = written;
    this.#recent = new RecentEntries(
      written.contiguous,
      options.recentBytesMax ?? limits.logRecentBytesMax,
    );
    this.#meta = meta;
    this.#fence = meta.epoch;
    this.#release = release;
  }

  async tail(): Promise<Address> {
    this.#assertOpen();
    return this.#written.tail;
  }

  async epoch(): Promise<number> {
    this.#assertOpen();
    return this.#meta.epoch;
  }

  async start(): Promise<Address> {
    this.#assertOpen();
    return this.#meta.start;
  }

  async write({ address, epoch }: Token, bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) throw new DaybookError('INVALID_ARGUMENT', 'an entry without bytes');
    checkLimit('entryBytesMax', bytes.length);
    for (;;) {
      this.#assertOpen();
      if (address < this.#meta.start) throw trimmed(address);
      const pending = this.#pending.get(address);
      if (pending !== undefined) {
        await pending.done.catch(() => undefined);
      } else if (this.#written.has(address)) {
        const existing = await this.read(address);
        if (existing.kind === 'data' && Buffer.compare(existing.bytes, bytes) === 0) return;
        throw new DaybookError('LOG_ADDRESS_TAKEN', `address ${address} has another entry`, {
          details: { address },
        });
      } else {
        if (epoch < this.#fence) throw sealed(epoch, this.#fence);
        return await this.#enqueue({ kind: 'data', address, epoch, bytes });
      }
    }
  }

  async fill(address: Address): Promise<void> {
    for (;;) {
      this.#assertOpen();
      if (address < this.#meta.start || this.#written.has(address)) return;
      const pending = this.#pending.get(address);
      if (pending === undefined) {
        const bytes = new Uint8Array(0);
        return await this.#enqueue({ kind: 'fill', address, epoch: this.#fence, bytes });
      }
      await pending.done.catch(() => undefined);
    }
  }

  async read(address: Address): Promise<LogEntry> {
    this.#assertOpen();
    if (address < this.#meta.start) throw trimmed(address);
    const recent = this.#recent.get(address);
    if (recent !== undefined) return recent;
    if (!this.#written.has(address)) {
      throw new DaybookError('LOG_NOT_WRITTEN', `nothing is written at address ${address}`, {
        details: { address },
      });
    }
    const [entry] = await this.#readRun(address, (address + 1) as Address);
    return entry as LogEntry;
  }

  async *follow(from: Address, signal?: AbortSignal): AsyncGenerator<readonly LogEntry[]> {
    if (this.#followers >= limits.logFollowersMax) throw overloaded('logFollowersMax');
    this.#followers += 1;
    try {
      let next = from;
      while (signal?.aborted !== true) {
        this.#assertOpen();
        if (next < this.#meta.start) throw trimmed(next);
        const before = this.#written.contiguous;
        if (next >= before) {
          await this.#advanced(signal);
          continue;
        }
        const recent = this.#recent.run(next, before, limits.logRunEntriesMax);
        const run = recent.length > 0 ? recent : await this.#readRun(next, before);
        next = (next + run.length) as Address;
        yield run;
      }
    } finally {
      this.#followers -= 1;
    }
  }

  async trim(before: Address): Promise<void> {
    this.#assertOpen();
    await this.#changeMeta(() => {
      const start = Math.min(before, this.#written.tail) as Address;
      return start > this.#meta.start ? { ...this.#meta, start } : undefined;
    });
    const { start } = this.#meta;
    this.#written.trim(start);
    this.#recent.trim(start);
    this.#wake();
    await this.#store.trim(start);
  }

  async seal(epoch: number): Promise<Address> {
    this.#assertOpen();
    if (epoch <= this.#fence) throw sealed(epoch, this.#fence);
    this.#fence = epoch;
    // Writes accepted before the fence may still be on their way.
    const accepted = [...this.#pending.values()].map(({ done }) => done);
    try {
      await this.#changeMeta(() =>
        epoch > this.#meta.epoch ? { ...this.#meta, epoch } : undefined,
      );
    } catch (error) {
      if (this.#fence === epoch) this.#fence = this.#meta.epoch;
      throw error;
    }
    await Promise.allSettled(accepted);
    return this.#written.tail;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    while (this.#running !== undefined) await this.#running;
    this.#wake();
    await this.#metaChange.catch(() => undefined);
    try {
      await this.#store.close();
    } finally {
      await this.#release();
    }
  }

  #enqueue(content: FrameContent): Promise<void> {
    if (this.#store.broken) {
      throw new DaybookError('IO_FAILED', 'a sync of the log failed; open the log again');
    }
    const { address, bytes } = content;
    if (address >= this.#written.contiguous + this.#windowAddressesMax) {
      throw overloaded('logWindowAddressesMax', { address });
    }
    if (this.#pending.size >= limits.logWritesInFlightMax) throw overloaded('logWritesInFlightMax');
    if (this.#pendingBytes + bytes.length > limits.logBytesInFlightMax) {
      throw overloaded('logBytesInFlightMax');
    }
    let resolve: () => void = () => undefined;
    let reject: (error: unknown) => void = () => undefined;
    const done = new Promise<void>((onDone, onFailed) => {
      resolve = onDone;
      reject = onFailed;
    });
    const pending = { content, done, resolve, reject };
    this.#pending.set(address, pending);
    this.#pendingBytes += bytes.length;
    this.#queue.push(pending);
    this.#running ??= this.#run();
    return done;
  }

  /** Writes groups until the queue is empty: what arrives during a sync is the next group. */
  async #run(): Promise<void> {
    // What arrives in this turn of the event loop shares the first group.
    await new Promise<void>((resolve) => this.#io.timers.soon(resolve));
    while (this.#queue.length > 0) {
      const group = this.#takeGroup();
      try {
        if (this.#store.broken) throw new DaybookError('IO_FAILED', 'a sync of the log failed');
        await this.#store.append(group.map(({ content }) => content));
      } catch (error) {
        for (const pending of group) this.#settle(pending, toDaybookError(error, 'IO_FAILED'));
        continue;
      }
      for (const pending of group) this.#settle(pending, undefined);
      this.#wake();
    }
    this.#running = undefined;
  }

  #takeGroup(): Pending[] {
    let bytes = 0;
    let count = 0;
    for (const { content } of this.#queue) {
      bytes += frameBytes(content.bytes.length);
      if (count > 0 && bytes > limits.logGroupBytesMax) break;
      count += 1;
    }
    const group = this.#queue.slice(0, count);
    this.#queue = this.#queue.slice(count);
    return group;
  }

  #settle({ content, resolve, reject }: Pending, error: DaybookError | undefined): void {
    const { address, kind, epoch, bytes } = content;
    this.#pending.delete(address);
    this.#pendingBytes -= bytes.length;
    if (error !== undefined) {
      reject(error);
      return;
    }
    this.#written.add(address);
    if (kind !== 'end') this.#recent.add({ address, kind, epoch, bytes });
    resolve();
  }

  async #readRun(from: Address, before: Address): Promise<LogEntry[]> {
    try {
      return await this.#store.readRun(from, before);
    } catch (error) {
      // The segment may have been taken away while it was read.
      if (from < this.#meta.start) throw trimmed(from);
      this.#assertOpen();
      throw error;
    }
  }

  /** Replaces the meta file; changes happen one after the other. */
  #changeMeta(change: () => LogMeta | undefined): Promise<void> {
    const result = this.#metaChange.then(async () => {
      const meta = change();
      if (meta === undefined) return;
      await this.#io.disk.writeFile(join(this.#directory, metaName), encodeMeta(meta));
      this.#meta = meta;
    });
    this.#metaChange = result.catch(() => undefined);
    return result;
  }

  /** Resolves at the next change that a follower must look at. */
  #advanced(signal: AbortSignal | undefined): Promise<void> {
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

  #wake(): void {
    for (const wake of this.#waiting) wake();
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw new DaybookError('CLOSED', 'the log is closed');
  }
}

function trimmed(address: Address): DaybookError {
  return new DaybookError('LOG_TRIMMED', `address ${address} is trimmed`, { details: { address } });
}

function sealed(epoch: number, fence: number): DaybookError {
  return new DaybookError('LOG_EPOCH_SEALED', `epoch ${epoch} is refused, ${fence} is sealed`, {
    details: { epoch, sealed: fence },
  });
}

function overloaded(
  limit: keyof typeof limits,
  details: Record<string, number> = {},
): DaybookError {
  return new DaybookError('OVERLOADED', `the log’s ${limit} is reached`, {
    details: { limit, max: limits[limit], ...details },
  });
}
