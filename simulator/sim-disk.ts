import { dirname } from 'node:path/posix';
import { DaybookError } from '../src/base/index.ts';
import type { Disk, DiskFile } from '../src/io/index.ts';
import type { SimProcess, World } from './world.ts';

const sectorBytes = 512;
const bootIdPath = '/proc/sys/kernel/random/boot_id';

interface Inode {
  /** What programs see: the page cache. Longer than `size`. */
  content: Buffer;
  size: number;
  /** What the medium holds for sure. */
  durable: Buffer;
  durableSize: number;
  /** Written, but not yet on the medium. */
  dirty: { readonly offset: number; readonly bytes: Buffer }[];
  /** A sync failed: the cache shows what the medium does not hold, and nobody will save it. */
  isForgotten: boolean;
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
  #boots = 1;

  constructor(world: World) {
    this.#world = world;
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
      for (const { offset, bytes } of inode.dirty) {
        let kept = 0;
        let lost = 0;
        for (let at = 0; at < bytes.length; ) {
          const next = Math.min(bytes.length, at + sectorBytes - ((offset + at) % sectorBytes));
          if (!chance.happens(0.5)) lost++;
          else {
            kept++;
            inode.durable = grown(inode.durable, offset + next);
            bytes.copy(inode.durable, offset + at, at, next);
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
      inode.durable = grown(inode.durable, end);
      inode.content = Buffer.from(inode.durable);
      inode.dirty = [];
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
    const at = chance.below(inode.durableSize);
    const bit = 1 << chance.below(8);
    this.#world.happened('disk: a bit rots');
    inode.durable = Buffer.from(inode.durable);
    inode.durable[at] = (inode.durable[at] as number) ^ bit;
    inode.content[at] = (inode.content[at] as number) ^ bit;
    return path;
  }

  /** Copies the files of a directory, at once. */
  copy(from: string, to: string): void {
    for (const path of [...this.#inodes.keys()]) {
      if (path.startsWith(`${from}/`)) this.#copyFile(path, to + path.slice(from.length));
    }
  }

  /** Copies a file, at once and for good, unless there is one already. */
  keep(from: string, to: string): void {
    if (!this.#inodes.has(to)) this.#copyFile(from, to);
  }

  #copyFile(from: string, to: string): void {
    const inode = this.#inodes.get(from);
    if (inode === undefined) return;
    const { size } = inode;
    const content = Buffer.from(inode.content);
    const durable = Buffer.from(inode.content);
    this.#inodes.set(to, {
      content,
      size,
      durable,
      durableSize: size,
      dirty: [],
      isForgotten: false,
    });
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
            inode = emptyInode();
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
          return inode && Buffer.from(inode.content.subarray(0, inode.size));
        }),
      writeFile: (path, bytes) => {
        const content = Buffer.from(bytes);
        return turn(this.#syncUs(), () => {
          this.#room(content.length);
          const { length } = content;
          this.#inodes.set(path, {
            content,
            size: length,
            durable: Buffer.from(content),
            durableSize: length,
            dirty: [],
            isForgotten: false,
          });
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
      if (offset >= inode.size) return 0;
      return inode.content.copy(target, 0, offset, Math.min(inode.size, offset + target.length));
    };
    const turn = <T>(us: number, work: () => T): Promise<T> => this.#turn(process, us, work);
    const short = (): number => this.#world.chance.between(5, 60);
    return {
      size: () => turn(short(), () => inode.size),
      readSync,
      read: (target, offset) => turn(short(), () => readSync(target, offset)),
      write: (parts, offset) => {
        const bytes = Buffer.concat(parts);
        const write = (part: Buffer): void => {
          const end = offset + part.length;
          inode.content = grown(inode.content, end);
          part.copy(inode.content, offset);
          inode.size = Math.max(inode.size, end);
          inode.dirty.push({ offset, bytes: part });
        };
        try {
          check();
          this.#room(Math.max(0, offset + bytes.length - inode.size));
          write(bytes);
        } catch (error) {
          write(bytes.subarray(0, bytes.length >> 1));
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
          inode.durable = grown(inode.durable, size);
          for (const { offset, bytes } of saved) bytes.copy(inode.durable, offset);
          inode.durableSize = Math.max(inode.durableSize, size);
        });
      },
      truncate: (size) =>
        turn(short(), () => {
          check();
          if (size > inode.size) this.#room(size - inode.size);
          inode.content = grown(inode.content, size);
          if (size < inode.size) {
            inode.content.fill(0, size);
            inode.durable.fill(0, Math.min(size, inode.durable.length));
            inode.durableSize = Math.min(inode.durableSize, size);
            inode.dirty = [];
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

function emptyInode(): Inode {
  const empty = Buffer.alloc(0);
  return {
    content: empty,
    size: 0,
    durable: empty,
    durableSize: 0,
    dirty: [],
    isForgotten: false,
  };
}

/** The same bytes with room for `size`; new ones are zero. */
function grown(buffer: Buffer, size: number): Buffer {
  if (buffer.length >= size) return buffer;
  const larger = Buffer.alloc(Math.max(size, buffer.length * 2));
  buffer.copy(larger);
  return larger;
}
