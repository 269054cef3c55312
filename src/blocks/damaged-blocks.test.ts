import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { type Disk, realIo } from '../io/index.ts';
import { DamagedBlocks } from './damaged-blocks.ts';

test('what several find, and mend, at the same time is written down, whichever file is late', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'daybook-damaged-'));
  const { disk } = realIo();
  const lateMs: number[] = [];
  const slow: Disk = {
    ...disk,
    writeFile: async (path, bytes) => {
      await sleep(lateMs.shift() ?? 0);
      await disk.writeFile(path, bytes);
    },
  };
  const written = async (): Promise<number[]> =>
    (await DamagedBlocks.open(disk, directory)).heights();
  try {
    const damaged = await DamagedBlocks.open(slow, directory);
    lateMs.push(50, 0);
    await Promise.all([damaged.add([7]), damaged.add([3])]);
    expect(await written()).toEqual([3, 7]);
    lateMs.push(50);
    await Promise.all([damaged.add([5]), damaged.remove([3, 5, 7])]);
    expect(await written()).toEqual([]);
  } finally {
    await rm(directory, { recursive: true });
  }
});
