import {
  close as closeCallback,
  fdatasync as fdatasyncCallback,
  fstat as fstatCallback,
  ftruncate as ftruncateCallback,
  open as openCallback,
  read as readCallback,
  readSync,
  writev as writevCallback,
  writevSync,
} from 'node:fs';
import {
  mkdir,
  open as openHandle,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  statfs,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { DaybookError } from '../base/index.ts';
import { lockDirectory } from './directory-lock.ts';
import type { Disk, DiskFile } from './io.ts';

// Plain descriptors: a FileHandle costs more per call and closes itself when collected.
const openFd = promisify(openCallback);
const closeFd = promisify(closeCallback);
const fdatasync = promisify(fdatasyncCallback);
const fstat = promisify(fstatCallback);
const ftruncate = promisify(ftruncateCallback);

/** Copying this much to the page cache takes less time than a trip to the thread pool and back. */
const blockingWriteBytesMax = 256 * 1024;

/** The machine's file systems. */
export function realDisk(): Disk {
  return {
    open: (path, options) => mapped(path, () => open(path, options?.create ?? false)),
    list: (directory) => mapped(directory, () => list(directory)),
    availableBytes: (directory) =>
      mapped(directory, async () => {
        const { bavail, bsize } = await statfs(directory);
        return bavail * bsize;
      }),
    makeDirectory: (directory) => mapped(directory, () => makeDirectory(directory)),
    readFile: (path) => mapped(path, () => readWhole(path)),
    writeFile: (path, bytes, options) =>
      mapped(path, () => replaceFile(path, bytes, options?.ownerOnly ? 0o600 : 0o666)),
    rename: (from, to) =>
      mapped(from, async () => {
        await rename(from, to);
        await syncDirectory(dirname(to));
      }),
    remove: (path) =>
      mapped(path, async () => {
        await rm(path, { recursive: true, force: true });
        await syncDirectory(dirname(path)).catch(ignoreMissing);
      }),
    lock: (directory) => mapped(directory, () => lockDirectory(directory)),
  };
}

/** Turns an operating system error into a `DaybookError`. */
async function mapped<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw diskError(path, error);
  }
}

function diskError(path: string, cause: unknown): DaybookError {
  if (cause instanceof DaybookError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  // A file is written under another name first, which says nothing to whoever named this one.
  const text = message.includes(`'${path}'`) ? message : `${path}: ${message}`;
  return new DaybookError(full ? 'DISK_FULL' : 'IO_FAILED', text, {
    details: { path, cause: code },
    cause,
  });
}

async function open(path: string, create: boolean): Promise<DiskFile> {
  try {
    return new RealFile(path, await openFd(path, 'r+'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
  if (!create) {
    throw new DaybookError('NOT_FOUND', `no file ${path}`, { details: { path } });
  }
  const fd = await openFd(path, 'wx+');
  await syncDirectory(dirname(path));
  return new RealFile(path, fd);
}

async function list(directory: string): Promise<string[]> {
  try {
    return (await readdir(directory)).sort();
  } catch (error) {
    ignoreMissing(error);
    return [];
  }
}

async function readWhole(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    ignoreMissing(error);
    return undefined;
  }
}

/**
 * Not `recursive`: Node tries for ever where the system says of a directory that its parent, which is
 * there, is missing, as it does in `/proc`.
 */
async function makeDirectory(directory: string): Promise<void> {
  if (await isDirectory(directory)) return;
  const parent = dirname(directory);
  if (parent !== directory) await makeDirectory(parent);
  try {
    await mkdir(directory);
  } catch (error) {
    // Somebody else may have made it meanwhile.
    if (!(await isDirectory(directory))) throw error;
  }
  await syncDirectory(directory);
  await syncDirectory(parent);
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(ignoreMissing))?.isDirectory() ?? false;
}

async function replaceFile(path: string, bytes: Uint8Array, mode: number): Promise<void> {
  const temporary = join(dirname(path), `.${process.pid}.${nextTemporary()}.tmp`);
  const handle = await openHandle(temporary, 'w', mode);
  try {
    await handle.writeFile(bytes);
    await handle.sync();
    await handle.close();
    await rename(temporary, path);
  } catch (error) {
    await handle.close().catch(() => undefined);
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

let temporaries = 0;
function nextTemporary(): number {
  temporaries += 1;
  return temporaries;
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await openHandle(directory, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  return undefined;
}

class RealFile implements DiskFile {
  readonly #path: string;
  readonly #fd: number;
  #closed = false;

  constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  async size(): Promise<number> {
    return (await mapped(this.#path, () => fstat(this.#fd))).size;
  }

  async read(target: Uint8Array, offset: number): Promise<number> {
    let filled = 0;
    while (filled < target.length) {
      const count = await this.#readSome(target, filled, offset + filled);
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  readSync(target: Uint8Array, offset: number): number {
    this.#assertOpen();
    let filled = 0;
    try {
      while (filled < target.length) {
        const rest = target.length - filled;
        const count = readSync(this.#fd, target, filled, rest, offset + filled);
        if (count === 0) break;
        filled += count;
      }
    } catch (error) {
      throw diskError(this.#path, error);
    }
    return filled;
  }

  async write(parts: readonly Uint8Array[], offset: number): Promise<void> {
    let left = parts.filter((part) => part.length > 0);
    let at = offset;
    if (left.reduce((sum, part) => sum + part.length, 0) <= blockingWriteBytesMax) {
      this.#writeSync(left, at);
      return;
    }
    while (left.length > 0) {
      const written = await this.#writeSome(left, at);
      at += written;
      left = withoutFirst(left, written);
    }
  }

  async sync(): Promise<void> {
    this.#assertOpen();
    await mapped(this.#path, () => fdatasync(this.#fd));
  }

  async truncate(size: number): Promise<void> {
    this.#assertOpen();
    await mapped(this.#path, () => ftruncate(this.#fd, size));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await mapped(this.#path, () => closeFd(this.#fd));
  }

  #readSome(target: Uint8Array, start: number, offset: number): Promise<number> {
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      readCallback(this.#fd, target, start, target.length - start, offset, (error, count) => {
        if (error) reject(diskError(this.#path, error));
        else resolve(count);
      });
    });
  }

  #writeSync(parts: readonly Uint8Array[], offset: number): void {
    this.#assertOpen();
    let left = [...parts];
    let at = offset;
    try {
      while (left.length > 0) {
        const written = writevSync(this.#fd, left, at);
        at += written;
        left = withoutFirst(left, written);
      }
    } catch (error) {
      throw diskError(this.#path, error);
    }
  }

  #writeSome(parts: readonly Uint8Array[], offset: number): Promise<number> {
    this.#assertOpen();
    return new Promise((resolve, reject) => {
      writevCallback(this.#fd, parts, offset, (error, count) => {
        if (error) reject(diskError(this.#path, error));
        else resolve(count);
      });
    });
  }

  /** A closed descriptor's number may already belong to another file. */
  #assertOpen(): void {
    if (this.#closed) {
      throw new DaybookError('CLOSED', `file is closed: ${this.#path}`);
    }
  }
}

function withoutFirst(parts: Uint8Array[], count: number): Uint8Array[] {
  let rest = count;
  for (const [index, part] of parts.entries()) {
    if (rest < part.length) return [part.subarray(rest), ...parts.slice(index + 1)];
    rest -= part.length;
  }
  return [];
}
