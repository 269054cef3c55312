import type { Disk } from './io.ts';

/**
 * Does some work on a directory while this process alone has it; the directory is made when it is
 * not there.
 *
 * @throws {DaybookError} `LOG_LOCKED` while another process has it, and what the work throws.
 */
export async function whileLocked<T>(
  disk: Disk,
  directory: string,
  work: () => Promise<T>,
): Promise<T> {
  await disk.makeDirectory(directory);
  const lock = await disk.lock(directory);
  try {
    return await work();
  } finally {
    await lock.release();
  }
}
