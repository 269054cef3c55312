import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import { asPosition, sha256, type VerdictCode } from '../model/index.ts';
import type { TransactionFiles } from './store.ts';
import { TransactionIndex } from './transaction-index.ts';

const { disk } = realIo();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'daybook-transactions-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const id = (number: number): Buffer => sha256(Buffer.from(String(number)));
const txId = (number: number): string => id(number).toString('hex');
const add = (
  index: TransactionIndex,
  number: number,
  verdict: VerdictCode = 0,
  position = number,
): void => index.add(id(number), number, asPosition(position), verdict);

async function flush(
  index: TransactionIndex,
  logTimeMs: number,
  horizonMs: number,
): Promise<TransactionFiles> {
  const flushed = await index.flush(logTimeMs, horizonMs);
  await flushed.expired();
  return flushed.files;
}

describe('transaction index', () => {
  it('finds everything within the retention, and forgets older segments', async () => {
    const options = { segmentIdsMax: 1000, retentionMs: 3000, salt: 0x9e3779b1 };
    let index = await TransactionIndex.open(disk, directory, undefined, 0, options);
    let files: TransactionFiles | undefined;
    for (let number = 0; number < 20_000; number++) {
      add(index, number, number % 10 === 3 ? 11 : 0);
      if (number % 250 === 249) files = await flush(index, number, number - 1000);
      if (number % 5000 === 4999) {
        await index.close();
        index = await TransactionIndex.open(disk, directory, files, number - 1000, options);
      }
    }
    for (let number = 0; number < 20_000; number++) {
      const found = index.find(txId(number));
      if (number >= 17_000) {
        expect(found).toEqual({ position: number, verdict: number % 10 === 3 ? 11 : 0 });
      } else if (number < 14_000) expect(found).toBeUndefined();
      if (number >= 19_000) expect(index.isCommitted(id(number))).toBe(number % 10 !== 3);
    }
    expect(index.find(txId(20_000))).toBeUndefined();
    const names = await disk.list(directory);
    expect(names.length).toBeLessThan(8);
    await index.close();
  });

  it('prefers the valid occurrence, wherever it lies', async () => {
    const index = await TransactionIndex.open(disk, directory, undefined, 0, { segmentIdsMax: 4 });
    add(index, 1, 11, 100);
    add(index, 2, 0, 101);
    for (let number = 10; number < 14; number++) add(index, number);
    await flush(index, 0, 0);
    add(index, 1, 0, 200);
    add(index, 2, 4, 201);
    expect(index.find(txId(1))).toEqual({ position: 200, verdict: 0 });
    expect(index.find(txId(2))).toEqual({ position: 101, verdict: 0 });
    add(index, 1, 4, 300);
    expect(index.find(txId(1))).toEqual({ position: 200, verdict: 0 });
    await index.close();
  });

  it('does not see what came after the last flush when it is opened again', async () => {
    const options = { segmentIdsMax: 10 };
    const index = await TransactionIndex.open(disk, directory, undefined, 0, options);
    for (let number = 0; number < 12; number++) add(index, number);
    const first = await flush(index, 0, 0);
    const pending = index.flush(0, 0);
    // While a flush runs: not part of it.
    add(index, 12);
    await pending;
    add(index, 13);
    const again = await TransactionIndex.open(disk, directory, first, 0, options);
    for (let number = 0; number < 12; number++) expect(again.isCommitted(id(number))).toBe(true);
    expect(again.find(txId(12))).toBeUndefined();
    expect(again.find(txId(13))).toBeUndefined();
    await again.close();
    await index.close();
  });

  it('keeps position and verdict of every id while its table grows', async () => {
    const index = await TransactionIndex.open(disk, directory, undefined, 0, { salt: 0x9e3779b1 });
    const ids = Array.from({ length: 20_000 }, (_, number) => id(number));
    const positions = ids.map((_, number) => Number.MAX_SAFE_INTEGER - 1 - number * 0x1_8000_0001);
    const verdictOf = (number: number): VerdictCode => (number % 7 === 0 ? 255 : 0) as VerdictCode;
    ids.forEach((txId, number) => {
      index.add(txId, number, asPosition(positions[number] as number), verdictOf(number));
    });
    for (const upper of [false, true]) {
      ids.forEach((txId, number) => {
        const digits = txId.toString('hex');
        const found = index.find(upper ? digits.toUpperCase() : digits);
        expect(found).toEqual({ position: positions[number], verdict: verdictOf(number) });
      });
    }
    expect(index.find(txId(20_000))).toBeUndefined();
    await index.close();
  });
});
