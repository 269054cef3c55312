import { mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import { asAddress, type Position, positionOf } from '../model/index.ts';
import { VersionMap } from './version-map.ts';

const { disk } = realIo();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-versions-'));
});

afterEach(async () => {
  await rm(directory, { recursive: true, force: true });
});

function positionsFrom(first: number, count: number): Position[] {
  return Array.from({ length: count }, (_, at) => positionOf(asAddress(first + at), 0));
}

// A page has 1,024 rows: around its end everything is different.
for (const rows of [1, 1_023, 1_024, 1_025, 2_048]) {
  it(`knows all versions after it was opened again with ${rows} rows, and after more came`, async () => {
    const before = await VersionMap.open(disk, directory, 0);
    await before.append(7, positionsFrom(0, rows));
    await before.close();
    const map = await VersionMap.open(disk, directory, rows);
    expect(map.size).toBe(rows - (rows % 1_024));
    await map.append(7, positionsFrom(0, rows), map.size);
    const check = (): void => {
      for (const [at, position] of positionsFrom(0, rows).entries()) {
        expect(map.versionOf(position)).toEqual({ block: 7, transaction: at });
      }
    };
    check();
    await map.append(8, positionsFrom(rows, 3));
    check();
    const [next] = positionsFrom(rows, 1);
    expect(map.versionOf(next as Position)).toEqual({ block: 8, transaction: 0 });
    await map.close();
  });
}

async function rot(at: number): Promise<void> {
  const path = join(directory, 'versions');
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] as number) ^ 4;
  await writeFile(path, bytes);
}

// A position, a block, a transaction and a checksum; in the second page and in the first.
it.each([
  [20_000, 1_024],
  [16_384 + 4 + 11, 1_024],
  [15, 0],
  [16_385, 0],
])('lacks what rotted at byte %i, when it is opened again', async (at, size) => {
  const before = await VersionMap.open(disk, directory, 0);
  await before.append(7, positionsFrom(0, 3_000));
  await before.close();
  await rot(at);
  const map = await VersionMap.open(disk, directory, 3_000);
  expect(map.size).toBe(size);
  await map.append(7, positionsFrom(0, 3_000), size);
  for (const [transaction, position] of positionsFrom(0, 3_000).entries()) {
    expect(map.versionOf(position)).toEqual({ block: 7, transaction });
  }
  await map.close();
});

it('gives no version out of a page that rotted, or is gone, while it is open', async () => {
  const map = await VersionMap.open(disk, directory, 0, 1);
  const positions = positionsFrom(0, 3_000);
  await map.append(7, positions);
  const [first, second] = [positions[5], positions[1_500]] as [Position, Position];
  expect(map.versionOf(first)).toEqual({ block: 7, transaction: 5 });
  expect(map.versionOf(second)).toEqual({ block: 7, transaction: 1_500 });
  await rot(3_000);
  expect(() => map.versionOf(first)).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }));
  expect(map.versionOf(second)).toEqual({ block: 7, transaction: 1_500 });
  await truncate(join(directory, 'versions'), 100);
  expect(() => map.versionOf(first)).toThrow(expect.objectContaining({ code: 'STATE_DAMAGED' }));
  await map.close();
});

it('makes nothing of a file of an older version', async () => {
  await writeFile(join(directory, 'versions'), Buffer.alloc(16 * 5_000, 1));
  const map = await VersionMap.open(disk, directory, 5_000);
  expect(map.size).toBe(0);
  await map.close();
});
