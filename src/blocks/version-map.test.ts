import { mkdtemp, rm } from 'node:fs/promises';
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
    expect(map.size).toBe(rows);
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
