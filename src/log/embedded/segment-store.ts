import { join } from 'node:path';
import { assert, DaybookError, limits } from '../../base/index.ts';
import type { DiskFile, Io } from '../../io/index.ts';
import type { Address } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';
import {
  encodeGroup,
  encodeSegmentHeader,
  type FrameContent,
  frameBytes,
  headerBytes,
  type SegmentIdentity,
} from './frame.ts';
import { indexFileName, segmentFileName, spareName } from './names.ts';
import { encodeIndex, GrowingIndex } from './segment-index.ts';
import { damaged, type Segment, SegmentReader } from './segment-reader.ts';

/** What the log takes of the outside world. */
export type LogIo = Pick<Io, 'disk' | 'timers' | 'random'>;

/** A segment file that nothing is written to yet. */
export interface EmptySegment {
  readonly identity: SegmentIdentity;
  readonly file: DiskFile;
  readonly sizeBytes: number;
}

interface ActiveSegment extends EmptySegment {
  readonly index: GrowingIndex;
  endOffset: number;
  group: number;
  attempt: number;
}

/** How long segment files are, in bytes. */
export interface SegmentSizes {
  /** Size of the first segment of a log; each further one is twice as big. */
  readonly segmentBytesMin: number;
  readonly segmentBytesMax: number;
}

const zeros = Buffer.alloc(1024 * 1024);
const endFrame: FrameContent = {
  kind: 'end',
  address: 0 as Address,
  epoch: 0,
  bytes: Buffer.alloc(0),
};

/**
 * The segment files of a log. One is written to; it was zero-filled (or recycled) beforehand, so
 * that a sync has no file size to update, and the next one is prepared in the background. A full
 * segment ends with an `end` frame and gets an index file.
 *
 * `append` must not be called again before it settled; everything else may overlap.
 */
export class SegmentStore {
  readonly reader: SegmentReader;
  readonly #io: LogIo;
  readonly #directory: string;
  readonly #sizes: SegmentSizes;
  readonly #contiguous: () => Address;
  /** Full segments by generation. */
  #segments: Segment[];
  #active: ActiveSegment | undefined;
  #next: Promise<EmptySegment> | undefined;
  #nextGeneration: number;
  #staging: Buffer = Buffer.allocUnsafeSlow(64 * 1024);
  #broken: unknown;
  /** After a failure (full disk): what little space there is may do for a small segment. */
  #smallOnly = false;
  /** Preparing, saving indexes and removing segments happen one after the other. */
  #maintenance: Promise<unknown> = Promise.resolve();

  /** @param contiguous - tells the first address that is not written, for index files. */
  constructor(
    io: LogIo,
    directory: string,
    sizes: SegmentSizes,
    found: { segments: Segment[]; empty: EmptySegment[]; nextGeneration: number },
    contiguous: () => Address,
  ) {
    this.#io = io;
    this.#directory = directory;
    this.#sizes = sizes;
    this.#segments = found.segments;
    this.#nextGeneration = found.nextGeneration;
    this.#contiguous = contiguous;
    this.reader = new SegmentReader(io.disk, directory);
    const [first, second] = found.empty;
    if (first !== undefined) this.#active = activate(first);
    if (second !== undefined) this.#next = Promise.resolve(second);
  }

  /** Whether a sync failed: what is on the disk is unknown until the log is opened again. */
  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /**
   * Makes the entries durable as one group.
   *
   * @throws {DaybookError} `DISK_FULL` or `IO_FAILED`; none of the entries stands then, unless
   *   `broken` is set.
   */
  async append(contents: readonly FrameContent[]): Promise<void> {
    let bytes = 0;
    for (const content of contents) bytes += frameBytes(content.bytes.length);
    const active = await this.#spaceFor(bytes);
    const offsets = await this.#writeGroup(active, contents, bytes);
    for (const [at, { address, bytes: payload }] of contents.entries()) {
      const offset = active.endOffset + (offsets[at] as number);
      active.index.add(address, { offset, length: payload.length });
    }
    active.endOffset += bytes;
    if (active.endOffset * 2 > active.sizeBytes) this.prepareNext();
  }

  /**
   * Entries from `from` on, at least one, consecutive, all below `before`.
   *
   * @throws {DaybookError} `LOG_DAMAGED`
   */
  async readRun(from: Address, before: Address): Promise<LogEntry[]> {
    const active = this.#activeSegment();
    const candidates = active === undefined ? this.#segments : [...this.#segments, active];
    for (let at = candidates.length - 1; at >= 0; at -= 1) {
      const segment = candidates[at] as Segment;
      if (segment.first > from || segment.last < from) continue;
      const run = await this.reader.readRun(segment, from, before);
      if (run.length > 0) return run;
    }
    throw new DaybookError('LOG_DAMAGED', `no segment holds the entry at address ${from}`, {
      details: { address: from },
    });
  }

  /** Starts to make the segment that comes after the active one. */
  prepareNext(): void {
    if (this.#next !== undefined) return;
    const next = this.#maintain(() => this.#prepare());
    this.#next = next;
    next.catch(() => {
      // Told to the writer that needs the segment; the next one tries again.
      if (this.#next === next) this.#next = undefined;
    });
  }

  /** Makes sure that there is a segment to write to. */
  async prepareActive(): Promise<void> {
    this.#active ??= activate(await this.#takeNext());
  }

  /** Removes the segments in which all addresses are below `start`. */
  trim(start: Address): Promise<void> {
    return this.#maintain(async () => {
      for (const segment of this.#segments.filter(({ last }) => last < start)) {
        this.#segments = this.#segments.filter((other) => other !== segment);
        await this.#removeSegment(segment);
      }
    });
  }

  /** Ends the active segment, so that the next opening has nothing to scan. */
  async close(): Promise<void> {
    const active = this.#active;
    try {
      if (active !== undefined && active.index.size > 0 && !this.broken) {
        await this.#endActive(active);
        await this.#maintenance;
        await active.file.truncate(active.endOffset + headerBytes);
      }
    } finally {
      const next = await this.#next?.catch(() => undefined);
      await this.#maintenance.catch(() => undefined);
      await active?.file.close();
      await next?.file.close();
      this.reader.close();
    }
  }

  async #spaceFor(bytes: number): Promise<ActiveSegment> {
    const active = this.#active;
    if (active !== undefined) {
      const free = active.sizeBytes - active.endOffset - headerBytes;
      // An entry that is larger than a segment gets one of its own, which grows.
      if (bytes <= free || active.index.size === 0) return active;
      const next = await this.#takeNext();
      try {
        await this.#endActive(active);
      } catch (error) {
        this.#next = Promise.resolve(next);
        throw error;
      }
      await active.file.close();
      this.#active = activate(next);
      return this.#active;
    }
    this.#active = activate(await this.#takeNext());
    return this.#active;
  }

  async #takeNext(): Promise<EmptySegment> {
    this.prepareNext();
    const next = await this.#next;
    assert(next !== undefined, 'a segment was being prepared');
    this.#next = undefined;
    return next;
  }

  /** Writes and syncs a group at the end of the segment; returns the frames' offsets in the group. */
  async #writeGroup(
    active: ActiveSegment,
    contents: readonly FrameContent[],
    bytes: number,
  ): Promise<number[]> {
    if (this.#staging.length < bytes) this.#staging = Buffer.allocUnsafeSlow(bytes);
    const { identity, group, attempt } = active;
    const offsets = encodeGroup(this.#staging, contents, identity, group + 1, attempt);
    try {
      await active.file.write([this.#staging.subarray(0, bytes)], active.endOffset);
    } catch (error) {
      // Parts of this group may stand there; another number keeps them from being taken for
      // parts of the group that will be written over them.
      active.attempt += 1;
      throw error;
    }
    try {
      await active.file.sync();
    } catch (error) {
      this.#broken = error;
      throw error;
    }
    active.group += 1;
    active.attempt = 0;
    if (this.#staging.length > limits.logGroupBytesMax * 2) {
      this.#staging = Buffer.allocUnsafeSlow(64 * 1024);
    }
    return offsets;
  }

  async #endActive(active: ActiveSegment): Promise<void> {
    await this.#writeGroup(active, [endFrame], headerBytes);
    const segment = this.#activeSegment();
    assert(segment !== undefined, 'a segment with entries is ended');
    this.#segments = [...this.#segments, segment];
    this.#active = undefined;
    this.#maintain(() => this.#saveIndexes()).catch(() => undefined);
  }

  #activeSegment(): Segment | undefined {
    if (this.#active === undefined || this.#active.index.size === 0) return undefined;
    const { identity, index } = this.#active;
    return {
      generation: identity.generation,
      first: index.first,
      last: index.last,
      unsaved: { identity, index },
    };
  }

  /** Writes the index files that are missing; what fails now is tried again with the next one. */
  async #saveIndexes(): Promise<void> {
    for (const segment of this.#segments) {
      if (segment.unsaved === undefined) continue;
      await saveIndex(this.#io, this.#directory, segment, this.#contiguous());
      const { generation, first, last } = segment;
      const saved = { generation, first, last };
      this.#segments = this.#segments.map((other) => (other === segment ? saved : other));
    }
  }

  async #prepare(): Promise<EmptySegment> {
    const { disk, random } = this.#io;
    const generation = this.#nextGeneration;
    const identity = { generation, salt: random.bytes(4).readUInt32BE(0) };
    const path = join(this.#directory, spareName);
    const file = await disk.open(path, { create: true });
    try {
      const wanted = this.#nextSize();
      let sizeBytes = await file.size();
      while (sizeBytes < wanted) {
        const count = Math.min(zeros.length, wanted - sizeBytes);
        await file.write([zeros.subarray(0, count)], sizeBytes);
        sizeBytes += count;
        // Small steps: a big sync here would hold up the syncs of the writers.
        await file.sync();
      }
      await file.write([encodeSegmentHeader(identity)], 0);
      await file.sync();
      await disk.rename(path, join(this.#directory, segmentFileName(generation)));
      this.#nextGeneration += 1;
      this.#smallOnly = false;
      return { identity, file, sizeBytes };
    } catch (error) {
      this.#smallOnly = true;
      await file.close().catch(() => undefined);
      // Give a full disk back what was taken of it.
      await disk.remove(path).catch(() => undefined);
      throw error;
    }
  }

  #nextSize(): number {
    const { segmentBytesMin, segmentBytesMax } = this.#sizes;
    if (this.#smallOnly) return segmentBytesMin;
    const doublings = Math.min(this.#segments.length, 20);
    return Math.min(segmentBytesMax, segmentBytesMin * 2 ** doublings);
  }

  /** The file goes before its index: an index alone tells that a segment is missing. */
  async #removeSegment(segment: Segment): Promise<void> {
    const { disk } = this.#io;
    this.reader.forget(segment.generation);
    const path = join(this.#directory, segmentFileName(segment.generation));
    const names = await disk.list(this.#directory);
    if (names.includes(spareName)) await disk.remove(path);
    else await disk.rename(path, join(this.#directory, spareName));
    await disk.remove(join(this.#directory, indexFileName(segment)));
  }

  #maintain<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#maintenance.then(work, work);
    this.#maintenance = result.catch(() => undefined);
    return result;
  }
}

/** Writes the index file of a segment. */
export async function saveIndex(
  io: LogIo,
  directory: string,
  segment: Segment,
  contiguous: Address,
): Promise<void> {
  if (segment.unsaved === undefined) throw damaged(segment.generation, 0);
  const { identity, index } = segment.unsaved;
  const bytes = encodeIndex({ ...identity, contiguous }, index);
  await io.disk.writeFile(join(directory, indexFileName(segment)), bytes);
}

function activate(empty: EmptySegment): ActiveSegment {
  return { ...empty, index: new GrowingIndex(), endOffset: headerBytes, group: 0, attempt: 0 };
}
