import { join } from 'node:path';
import { DaybookError, limits } from '../../base/index.ts';
import type { Disk } from '../../io/index.ts';
import type { Address } from '../../model/index.ts';
import type { LogEntry } from '../shared-log.ts';
import {
  decodeFrame,
  decodeSegmentHeader,
  frameBytes,
  headerBytes,
  type SegmentIdentity,
  scanSegment,
} from './frame.ts';
import { indexFileName, segmentFileName } from './names.ts';
import { OpenFiles } from './open-files.ts';
import {
  decodeIndex,
  type FrameLocation,
  GrowingIndex,
  type SegmentIndex,
} from './segment-index.ts';

/** A segment that holds entries. */
export interface Segment {
  readonly generation: number;
  /** Lowest and highest address in it; others may be missing in between. */
  readonly first: Address;
  readonly last: Address;
  /** Present while the index file is not written. */
  readonly unsaved?: { readonly identity: SegmentIdentity; readonly index: GrowingIndex };
}

interface LoadedIndex {
  readonly identity: SegmentIdentity;
  readonly index: SegmentIndex;
}

const indexesLoadedMax = 8;

/** Reads entries from segments. Keeps a few indexes and open files, however long the log is. */
export class SegmentReader {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #files: OpenFiles;
  /** By generation, least recently used first. */
  readonly #loaded = new Map<number, LoadedIndex>();

  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
    this.#files = new OpenFiles(disk, directory);
  }

  /**
   * Entries from `from` on, consecutive, all below `before`, as many as the segment has and the
   * limits of a run allow; empty when the segment has not got `from`.
   *
   * @throws {DaybookError} `LOG_DAMAGED` when the entry at `from` fails its checksum.
   */
  async readRun(segment: Segment, from: Address, before: Address): Promise<LogEntry[]> {
    const { identity, index } = await this.load(segment);
    const locations = planRun(index, from, before);
    if (locations.length === 0) return [];
    const begin = locations.reduce((low, at) => Math.min(low, at.offset), Number.MAX_SAFE_INTEGER);
    const end = locations.reduce(
      (high, at) => Math.max(high, at.offset + frameBytes(at.length)),
      0,
    );
    const bytes = Buffer.allocUnsafeSlow(end - begin);
    const name = segmentFileName(segment.generation);
    const filled = await this.#files.use(name, (file) => file.read(bytes, begin));
    const entries: LogEntry[] = [];
    for (const { offset } of locations) {
      const at = offset - begin;
      const address = (from + entries.length) as Address;
      const frame = decodeFrame(bytes.subarray(0, filled), at, identity);
      if (frame === undefined || frame.kind === 'end' || frame.address !== address) {
        // What comes before the damage is good; the next call reports it.
        if (entries.length > 0) break;
        throw damaged(segment.generation, offset, address);
      }
      const payload = at + headerBytes;
      entries.push({
        address,
        kind: frame.kind,
        epoch: frame.epoch,
        bytes: bytes.subarray(payload, payload + frame.length),
      });
    }
    return entries;
  }

  /** The index of a segment; made again from the segment when its file is damaged. */
  async load(segment: Segment): Promise<LoadedIndex> {
    if (segment.unsaved !== undefined) return segment.unsaved;
    let loaded = this.#loaded.get(segment.generation);
    if (loaded === undefined) {
      const bytes = await this.#disk.readFile(join(this.#directory, indexFileName(segment)));
      const index = bytes === undefined ? undefined : decodeIndex(bytes);
      loaded =
        index?.segment.generation === segment.generation
          ? { identity: index.segment, index }
          : await this.#rebuild(segment.generation);
    }
    this.#loaded.delete(segment.generation);
    this.#loaded.set(segment.generation, loaded);
    for (const oldest of this.#loaded.keys()) {
      if (this.#loaded.size <= indexesLoadedMax) break;
      this.#loaded.delete(oldest);
    }
    return loaded;
  }

  /** Drops what is kept of a segment whose file goes away. */
  forget(generation: number): void {
    this.#loaded.delete(generation);
    this.#files.forget(segmentFileName(generation));
  }

  close(): void {
    this.#loaded.clear();
    this.#files.closeAll();
  }

  async #rebuild(generation: number): Promise<LoadedIndex> {
    const bytes = await this.#disk.readFile(join(this.#directory, segmentFileName(generation)));
    const identity = bytes === undefined ? undefined : decodeSegmentHeader(bytes);
    if (bytes === undefined || identity?.generation !== generation) throw damaged(generation, 0);
    const scan = scanSegment(bytes, identity);
    if (!scan.ended) throw damaged(generation, scan.endOffset);
    const index = new GrowingIndex();
    for (const frame of scan.frames) index.add(frame.address, frame);
    return { identity, index };
  }
}

/** A run that one read can bring: bounded, and lying together in the file. */
function planRun(index: SegmentIndex, from: Address, before: Address): FrameLocation[] {
  const locations: FrameLocation[] = [];
  let begin = Number.MAX_SAFE_INTEGER;
  let end = 0;
  for (let address = from; address < before; address = (address + 1) as Address) {
    const location = index.find(address);
    if (location === undefined || locations.length === limits.logRunEntriesMax) break;
    begin = Math.min(begin, location.offset);
    end = Math.max(end, location.offset + frameBytes(location.length));
    if (end - begin > limits.logRunBytesMax && locations.length > 0) break;
    locations.push(location);
  }
  return locations;
}

/** What stands there is not what was written. */
export function damaged(generation: number, offset: number, address?: Address): DaybookError {
  const file = segmentFileName(generation);
  const what = address === undefined ? 'a frame' : `the entry at address ${address}`;
  return new DaybookError('LOG_DAMAGED', `${what} in ${file} fails its checksum`, {
    details: { file, offset, address },
  });
}
