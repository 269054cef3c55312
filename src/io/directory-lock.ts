import { open, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { DaybookError } from '../base/index.ts';

/**
 * Takes a directory for this process. On Linux the lock is a name in the kernel (an abstract unix
 * socket named by the directory's device and inode), which vanishes with the process however it
 * ends; processes in different network namespaces do not see each other's. Elsewhere it is a file with the process id, taken over when that process is gone.
 *
 * @throws {DaybookError} `LOG_LOCKED`
 */
export async function lockDirectory(directory: string): Promise<{ release(): Promise<void> }> {
  return process.platform === 'linux' ? lockByName(directory) : lockByFile(directory);
}

async function lockByName(path: string): Promise<{ release(): Promise<void> }> {
  const { dev, ino } = await stat(path, { bigint: true });
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(error.code === 'EADDRINUSE' ? locked(path, error) : error),
    );
    server.listen({ path: `\0daybook-lock-${dev}-${ino}`, exclusive: true }, resolve);
  });
  server.unref();
  return { release: () => closeServer(server) };
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}

/** Exported for tests: Linux takes the other way. */
export async function lockByFile(path: string): Promise<{ release(): Promise<void> }> {
  const file = join(path, '.lock');
  for (let attempt = 0; ; attempt += 1) {
    try {
      const handle = await open(file, 'wx');
      await handle.writeFile(String(process.pid));
      await handle.close();
      heldHere.add(file);
      return {
        release: async () => {
          heldHere.delete(file);
          await rm(file, { force: true });
        },
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      if (attempt > 0 || isHeld(file, Number(await readFile(file, 'utf8'))))
        throw locked(path, error);
      await rm(file, { force: true });
    }
  }
}

const heldHere = new Set<string>();

function isHeld(file: string, pid: number): boolean {
  // Process ids come again: ours may be that of a holder from before a restart.
  if (pid === process.pid) return heldHere.has(file);
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function locked(path: string, cause: unknown): DaybookError {
  return new DaybookError('LOG_LOCKED', `another process has ${path} open`, {
    details: { path },
    cause,
  });
}
