import { dirname } from 'node:path';
import { DaybookError } from '../../src/base/index.ts';
import type { Disk, DiskFile } from '../../src/io/index.ts';

const sectorBytes = 512;

interface Inode {
  /** What the process sees. */
  content: Buffer;
  /** What a power failure leaves for sure. */
  durable: Buffer;
  unsynced: { offset: number; bytes: Buffer }[];
}

/**
 * A disk in memory that can lose power: what was written but not synced is then there in part,
 * sector by sector. Names and sizes are durable at once. It can also be full and fail to sync.
 */
export class CrashDisk implements Disk {
  readonly #inodes: Map<string, Inode>;
  readonly #locks = new Set<string>();
  #crashed = false;
  /** Writes fail after this many more bytes; half of the failing write is done. */
  freeBytes: number = Number.POSITIVE_INFINITY;
  syncFails = false;
  /** Syncs wait for this. */
  syncGate: Promise<void> = Promise.resolve();
  bytesRead = 0;
  syncs = 0;

  constructor(inodes: Map<string, Inode> = new Map()) {
    this.#inodes = inodes;
  }

  /**
   * Stops this disk and returns what is found when the power is back.
   *
   * @param survives - asked for every sector written since the last sync.
   */
  crash(survives: () => boolean): CrashDisk {
    this.#crashed = true;
    const inodes = new Map<string, Inode>();
    for (const [path, { content, durable, unsynced }] of this.#inodes) {
      const left = Buffer.alloc(content.length);
      durable.copy(left);
      for (const { offset, bytes } of unsynced) {
        for (let at = 0; at < bytes.length; ) {
          const end = Math.min(bytes.length, at + sectorBytes - ((offset + at) % sectorBytes));
          if (survives()) bytes.copy(left, offset + at, at, end);
          at = end;
        }
      }
      inodes.set(path, { content: left, durable: Buffer.from(left), unsynced: [] });
    }
    return new CrashDisk(inodes);
  }

  /** Changes bytes of a file behind everyone's back. */
  damage(path: string, change: (content: Buffer) => void): void {
    const inode = this.#inodes.get(path);
    if (inode === undefined) throw new Error(`no ${path}`);
    change(inode.content);
    inode.durable = Buffer.from(inode.content);
  }

  async open(path: string, options?: { create?: boolean }): Promise<DiskFile> {
    await this.#turn();
    let inode = this.#inodes.get(path);
    if (inode === undefined) {
      if (options?.create !== true) throw new DaybookError('NOT_FOUND', path);
      inode = { content: Buffer.alloc(0), durable: Buffer.alloc(0), unsynced: [] };
      this.#inodes.set(path, inode);
    }
    return this.#file(inode);
  }

  async availableBytes(): Promise<number> {
    return this.freeBytes;
  }

  async list(directory: string): Promise<string[]> {
    await this.#turn();
    return [...this.#inodes.keys()]
      .filter((path) => dirname(path) === directory)
      .map((path) => path.slice(directory.length + 1))
      .sort();
  }

  async makeDirectory(): Promise<void> {}

  async readFile(path: string): Promise<Buffer | undefined> {
    await this.#turn();
    const content = this.#inodes.get(path)?.content;
    this.bytesRead += content?.length ?? 0;
    return content && Buffer.from(content);
  }

  async writeFile(path: string, bytes: Uint8Array): Promise<void> {
    await this.#turn();
    this.#take(bytes.length);
    const content = Buffer.from(bytes);
    this.#inodes.set(path, { content, durable: Buffer.from(content), unsynced: [] });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#turn();
    const inode = this.#inodes.get(from);
    if (inode === undefined) throw new DaybookError('IO_FAILED', `no ${from}`);
    this.#inodes.delete(from);
    this.#inodes.set(to, inode);
  }

  async remove(path: string): Promise<void> {
    await this.#turn();
    this.#inodes.delete(path);
  }

  async lock(directory: string): Promise<{ release(): Promise<void> }> {
    if (this.#locks.has(directory)) throw new DaybookError('LOG_LOCKED', directory);
    this.#locks.add(directory);
    return {
      release: async () => {
        this.#locks.delete(directory);
      },
    };
  }

  #file(inode: Inode): DiskFile {
    const readSync = (target: Uint8Array, offset: number): number => {
      const count = inode.content.copy(target, 0, offset);
      this.bytesRead += count;
      return count;
    };
    return {
      size: async () => inode.content.length,
      readSync,
      read: async (target, offset) => {
        await this.#turn();
        return readSync(target, offset);
      },
      write: async (parts, offset) => {
        await this.#turn();
        const bytes = Buffer.concat(parts);
        try {
          this.#take(bytes.length);
        } catch (error) {
          write(inode, bytes.subarray(0, bytes.length >> 1), offset);
          throw error;
        }
        write(inode, bytes, offset);
      },
      sync: async () => {
        this.syncs += 1;
        const covered = inode.unsynced.length;
        await this.syncGate;
        await this.#turn();
        if (this.syncFails) throw new DaybookError('IO_FAILED', 'sync failed');
        const grown = Buffer.alloc(inode.content.length);
        inode.durable.copy(grown);
        inode.durable = grown;
        for (const { offset, bytes } of inode.unsynced.splice(0, covered)) {
          bytes.copy(inode.durable, offset);
        }
      },
      truncate: async (size) => {
        await this.#turn();
        const content = Buffer.alloc(size);
        inode.content.copy(content);
        inode.content = content;
      },
      close: async () => undefined,
    };
  }

  #take(bytes: number): void {
    if (bytes > this.freeBytes) throw new DaybookError('DISK_FULL', 'disk is full');
    this.freeBytes -= bytes;
  }

  async #turn(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if (this.#crashed) throw new DaybookError('IO_FAILED', 'power failure');
  }
}

function write(inode: Inode, bytes: Buffer, offset: number): void {
  const end = offset + bytes.length;
  if (end > inode.content.length) {
    const grown = Buffer.alloc(end);
    inode.content.copy(grown);
    inode.content = grown;
  }
  bytes.copy(inode.content, offset);
  inode.unsynced.push({ offset, bytes: Buffer.from(bytes) });
}
