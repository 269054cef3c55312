import { basename, dirname } from 'node:path/posix';
import { DaybookError } from '../src/base/index.ts';
import type { Disk, DiskFile } from '../src/io/index.ts';
import { PagedBytes, PagePool } from './paged-bytes.ts';
import type { SimProcess, World } from './world.ts';

const sectorBytes = 512;
const bootIdPath = '/proc/sys/kernel/random/boot_id';

interface Inode {
  /** What programs see: the page cache. */
  readonly content: PagedBytes;
  size: number;
  /** What the medium holds for sure. */
  readonly durable: PagedBytes;
  durableSize: number;
  /** Written, but not yet on the medium, in order. */
  dirty: DirtyWrite[];
  /** The bytes of these writes, one after the other, and their end. */
  readonly unsaved: PagedBytes;
  unsavedEnd: number;
  /** A sync failed: the cache shows what the medium does not hold, and nobody will save it. */
  isForgotten: boolean;
}

interface DirtyWrite {
  readonly offset: number;
  readonly length: number;
  /** Where its bytes begin in {@link Inode.unsaved}. */
  readonly start: number;
}

/** What is wrong with a disk. */
export interface DiskFaults {
  /** Probability that a sync fails: what it should have saved is then never saved. */
  syncFails: number;
  /** Probability that a sync takes 20–200 ms. */
  slow: number;
  /** Writes beyond so many bytes in all files fail. */
  bytesMax: number;
  /** Deliberate bug: syncs do nothing. */
  skipSync: boolean;
}

/**
 * One machine's disk: latency, a page cache that outlives processes, and power failures, which keep
 * of unsynced writes only some sectors. Names are durable at once, as `Disk` promises.
 */
export class SimDisk {
  readonly faults: DiskFaults = {
    syncFails: 0,
    slow: 0,
    bytesMax: Number.POSITIVE_INFINITY,
    skipSync: false,
  };
  readonly #world: World;
  readonly #inodes = new Map<string, Inode>();
  /** Stores of a library whose files are not simulated, by path: they move and go with directories. */
  readonly #objects = new Map<string, unknown>();
  readonly #locks = new Map<string, SimProcess>();
  readonly #pages = new PagePool();
  #boots = 1;

  constructor(world: World) {
    this.#world = world;
    world.onEnd.push(() => this.#pages.release());
  }

  /** The machine loses power; its processes must be dead. @returns files that lost something. */
  powerFailure(): string[] {
    const { chance } = this.#world;
    const torn = new Set<string>();
    this.#boots++;
    for (const [path, inode] of this.#inodes) {
      const isSaved = inode.dirty.length === 0 && inode.size === inode.durableSize;
      if (isSaved && !inode.isForgotten) continue;
      let end = inode.durableSize;
      for (const { offset, length, start } of inode.dirty) {
        let kept = 0;
        let lost = 0;
        for (let at = 0; at < length; ) {
          const next = Math.min(length, at + sectorBytes - ((offset + at) % sectorBytes));
          if (!chance.happens(0.5)) lost++;
          else {
            kept++;
            inode.durable.copy(inode.unsaved, start + at, next - at, offset + at);
            end = Math.max(end, offset + next);
          }
          at = next;
        }
        if (lost > 0) {
          torn.add(path);
          this.#world.happened(kept > 0 ? 'disk: a torn write' : 'disk: an unsynced write is lost');
        }
      }
      // A file system may or may not have written the new size.
      if (chance.happens(0.5)) end = Math.max(end, inode.size);
      inode.size = end;
      inode.durableSize = end;
      inode.content.become(inode.durable);
      forgetUnsaved(inode);
      inode.isForgotten = false;
    }
    return [...torn];
  }

  /**
   * Bit rot: one bit of one file whose name matches changes, in the cache and on the medium.
   *
   * @returns the file's name; `undefined` when there is none.
   */
  rot(name: RegExp): string | undefined {
    const { chance } = this.#world;
    const paths = [...this.#inodes.keys()].filter((path) => name.test(path)).sort();
    if (paths.length === 0) return undefined;
    const path = chance.pick(paths);
    const inode = this.#inodes.get(path) as Inode;
    if (inode.durableSize === 0) return undefined;
    this.#world.happened('disk: a bit rots');
    this.rotAt(path, chance.below(inode.durableSize));
    return path;
  }

  /** What the files of a directory hold, by their names. */
  files(directory: string): Map<string, Buffer> {
    const found = new Map<string, Buffer>();
    for (const [path, { content, size }] of this.#inodes) {
      if (dirname(path) === directory) found.set(basename(path), content.head(size));
    }
    return found;
  }

  /** One bit of a file changes, in the cache and on the medium. */
  rotAt(path: string, offset: number): void {
    const inode = this.#inodes.get(path) as Inode;
    const bit = 1 << this.#world.chance.below(8);
    inode.durable.flip(offset, bit);
    inode.content.flip(offset, bit);
  }

  /** Copies the files of a directory, at once. @param disk - where they lie; default: here. */
  copy(from: string, to: string, disk: SimDisk = this): void {
    for (const [path, inode] of [...disk.#inodes]) {
      if (path.startsWith(`${from}/`)) this.#copyFile(inode, to + path.slice(from.length));
    }
  }

  /** Copies a file, at once and for good, unless there is one already. */
  keep(from: string, to: string): void {
    const inode = this.#inodes.get(from);
    if (inode !== undefined && !this.#inodes.has(to)) this.#copyFile(inode, to);
  }

  #copyFile(inode: Inode, to: string): void {
    this.#save(to, inode.content.head(inode.size));
  }

  /** A file that holds this, for good. */
  #save(path: string, bytes: Uint8Array): void {
    const inode = this.#emptyInode();
    inode.content.write(bytes, 0);
    inode.durable.write(bytes, 0);
    inode.size = bytes.length;
    inode.durableSize = bytes.length;
    this.#inodes.set(path, inode);
  }

  #emptyInode(): Inode {
    return {
      content: new PagedBytes(this.#pages),
      size: 0,
      durable: new PagedBytes(this.#pages),
      durableSize: 0,
      dirty: [],
      unsaved: new PagedBytes(this.#pages),
      unsavedEnd: 0,
      isForgotten: false,
    };
  }

  /** Removes a directory at once; `''`: all that the disk holds. */
  wipe(directory: string): void {
    for (const files of [this.#inodes, this.#objects]) {
      for (const path of [...files.keys()]) {
        if (path.startsWith(`${directory}/`)) files.delete(path);
      }
    }
  }

  /** What stands for the files of a library at a path; made when nothing is there. */
  object<T>(path: string, make: () => T): T {
    const found = this.#objects.get(path) as T | undefined;
    if (found !== undefined) return found;
    const made = make();
    this.#objects.set(path, made);
    return made;
  }

  #rename(from: string, to: string): void {
    let found = false;
    for (const files of [this.#inodes, this.#objects] as Map<string, unknown>[]) {
      for (const [path, file] of [...files]) {
        if (path !== from && !path.startsWith(`${from}/`)) continue;
        found = true;
        files.delete(path);
        files.set(to + path.slice(from.length), file);
      }
    }
    if (!found) throw new DaybookError('IO_FAILED', `no ${from}`);
  }

  /** The disk as one process of the machine sees it. */
  of(process: SimProcess): Disk {
    const short = (): number => this.#world.chance.between(5, 60);
    const turn = <T>(us: number, work: () => T): Promise<T> => this.#turn(process, us, work);
    return {
      open: (path, options) =>
        turn(short(), () => {
          let inode = this.#inodes.get(path);
          if (inode === undefined) {
            if (options?.create !== true) throw new DaybookError('NOT_FOUND', path);
            inode = this.#emptyInode();
            this.#inodes.set(path, inode);
          }
          return this.#file(process, inode);
        }),
      list: (directory) =>
        turn(short(), () => {
          const names = new Set<string>();
          for (const path of this.#inodes.keys()) {
            if (!path.startsWith(`${directory}/`)) continue;
            const name = path.slice(directory.length + 1).split('/')[0] as string;
            if (dirname(path) === directory || name !== '') names.add(name);
          }
          return [...names].sort();
        }),
      // The simulated state lies in memory; nobody asks before it writes.
      availableBytes: () => turn(short(), () => Number.MAX_SAFE_INTEGER),
      makeDirectory: () => turn(short(), () => undefined),
      readFile: (path) =>
        turn(short(), () => {
          if (path === bootIdPath) return Buffer.from(`boot-${this.#boots}`);
          const inode = this.#inodes.get(path);
          return inode?.content.head(inode.size);
        }),
      writeFile: (path, bytes) => {
        const content = Buffer.from(bytes);
        return turn(this.#syncUs(), () => {
          this.#room(content.length);
          this.#save(path, content);
        });
      },
      rename: (from, to) => turn(this.#syncUs(), () => this.#rename(from, to)),
      remove: (path) =>
        turn(this.#syncUs(), () => {
          this.#inodes.delete(path);
          this.wipe(path);
        }),
      lock: (directory) =>
        turn(short(), () => {
          if (this.#locks.get(directory)?.alive === true) {
            throw new DaybookError('LOG_LOCKED', directory);
          }
          this.#locks.set(directory, process);
          return {
            release: async () => {
              this.#locks.delete(directory);
            },
          };
        }),
    };
  }

  #file(process: SimProcess, inode: Inode): DiskFile {
    let closed = false;
    const check = (): void => {
      if (closed) throw new DaybookError('CLOSED', 'file is closed');
    };
    const readSync = (target: Uint8Array, offset: number): number => {
      check();
      const length = Math.min(target.length, Math.max(0, inode.size - offset));
      inode.content.read(target.subarray(0, length), offset);
      return length;
    };
    const turn = <T>(us: number, work: () => T): Promise<T> => this.#turn(process, us, work);
    const short = (): number => this.#world.chance.between(5, 60);
    return {
      size: () => turn(short(), () => inode.size),
      readSync,
      read: (target, offset) => turn(short(), () => readSync(target, offset)),
      write: (parts, offset) => {
        let length = 0;
        for (const part of parts) length += part.length;
        try {
          check();
          this.#room(Math.max(0, offset + length - inode.size));
          cache(inode, parts, length, offset);
        } catch (error) {
          cache(inode, parts, length >> 1, offset);
          return turn(short(), () => {
            throw error;
          });
        }
        return turn(short(), () => undefined);
      },
      sync: () => {
        const covered = inode.dirty.length;
        const { size } = inode;
        return turn(this.#syncUs(), () => {
          check();
          if (this.faults.skipSync) return;
          // A power failure or another sync may have come in between.
          const saved = inode.dirty.splice(0, covered);
          if (this.#world.chance.happens(this.faults.syncFails)) {
            this.#world.happened('disk: a sync fails');
            this.#world.note(`${process.name}: a sync fails`);
            inode.isForgotten = true;
            throw new DaybookError('IO_FAILED', 'sync failed');
          }
          for (const { offset, length, start } of saved) {
            inode.durable.copy(inode.unsaved, start, length, offset);
          }
          if (inode.dirty.length === 0) forgetUnsaved(inode);
          inode.durableSize = Math.max(inode.durableSize, size);
        });
      },
      truncate: (size) =>
        turn(short(), () => {
          check();
          if (size > inode.size) this.#room(size - inode.size);
          if (size < inode.size) {
            inode.content.clear(size);
            inode.durable.clear(size);
            inode.durableSize = Math.min(inode.durableSize, size);
            // What was written before the cut still waits for the medium.
            inode.dirty = inode.dirty
              .filter(({ offset }) => offset < size)
              .map((one) => ({ ...one, length: Math.min(one.length, size - one.offset) }));
            if (inode.dirty.length === 0) forgetUnsaved(inode);
          }
          inode.size = size;
        }),
      close: () =>
        turn(short(), () => {
          closed = true;
        }),
    };
  }

  #syncUs(): number {
    const { chance } = this.#world;
    if (chance.happens(this.faults.slow)) {
      this.#world.happened('disk: a slow sync');
      return chance.between(20_000, 200_000);
    }
    return chance.between(100, 1_200);
  }

  #room(bytes: number): void {
    if (this.faults.bytesMax === Number.POSITIVE_INFINITY) return;
    let used = 0;
    for (const { size } of this.#inodes.values()) used += size;
    if (used + bytes <= this.faults.bytesMax) return;
    this.#world.happened('disk: full');
    throw new DaybookError('DISK_FULL', 'disk is full');
  }

  #turn<T>(process: SimProcess, us: number, work: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#world.after(process, us, 'disk', () => {
        try {
          resolve(work());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }
}

/** Writes the first bytes of the parts into the page cache. */
function cache(inode: Inode, parts: readonly Uint8Array[], length: number, offset: number): void {
  const start = inode.unsavedEnd;
  let done = 0;
  for (const part of parts) {
    const bytes = part.subarray(0, length - done);
    inode.content.write(bytes, offset + done);
    inode.unsaved.write(bytes, start + done);
    done += bytes.length;
  }
  inode.size = Math.max(inode.size, offset + length);
  inode.unsavedEnd = start + length;
  inode.dirty.push({ offset, length, start });
}

/** Nothing that was written waits for the medium any more. */
function forgetUnsaved(inode: Inode): void {
  inode.dirty = [];
  inode.unsavedEnd = 0;
}
