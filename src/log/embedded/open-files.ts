import { join } from 'node:path';
import { limits } from '../../base/index.ts';
import type { Disk, DiskFile } from '../../io/index.ts';

interface OpenFile {
  readonly file: Promise<DiskFile>;
  users: number;
  forgotten: boolean;
}

/** Files open for reading: at most `logOpenSegmentsMax` that nobody uses at the moment. */
export class OpenFiles {
  readonly #disk: Disk;
  readonly #directory: string;
  /** Least recently used first. */
  readonly #files = new Map<string, OpenFile>();

  constructor(disk: Disk, directory: string) {
    this.#disk = disk;
    this.#directory = directory;
  }

  /** Lends a file for the time of `work`. */
  async use<T>(name: string, work: (file: DiskFile) => Promise<T>): Promise<T> {
    const open = this.#files.get(name) ?? {
      file: this.#disk.open(join(this.#directory, name)),
      users: 0,
      forgotten: false,
    };
    this.#files.delete(name);
    this.#files.set(name, open);
    open.users += 1;
    try {
      return await work(await open.file);
    } catch (error) {
      // A file that could not be opened may be there the next time.
      if (this.#files.get(name) === open) this.#drop(name, open);
      throw error;
    } finally {
      open.users -= 1;
      if (open.forgotten) await closeUnused(open);
      else this.#evict();
    }
  }

  /** The next user opens the file anew. */
  forget(name: string): void {
    const open = this.#files.get(name);
    if (open !== undefined) this.#drop(name, open);
  }

  closeAll(): void {
    for (const name of this.#files.keys()) this.forget(name);
  }

  #evict(): void {
    for (const [name, open] of this.#files) {
      if (this.#files.size <= limits.logOpenSegmentsMax) return;
      if (open.users === 0) this.#drop(name, open);
    }
  }

  #drop(name: string, open: OpenFile): void {
    this.#files.delete(name);
    open.forgotten = true;
    void closeUnused(open);
  }
}

async function closeUnused(open: OpenFile): Promise<void> {
  if (open.users > 0) return;
  try {
    await (await open.file).close();
  } catch {
    // It was only read from; a failed open was reported to its user.
  }
}
