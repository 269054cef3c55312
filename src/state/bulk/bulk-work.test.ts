import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { ByteWriter } from '../../base/index.ts';
import { realIo } from '../../io/index.ts';
import { asAddress, positionOf, sha256 } from '../../model/index.ts';
import { type BulkJob, BulkWork } from './bulk-work.ts';
import { moveUpdatedRows, openUpdatedRows } from './updated-rows.ts';

const root = mkdtempSync(join(tmpdir(), 'daybook-bulk-work-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const { disk } = realIo();
const position = positionOf(asAddress(3), 0);

/** An update that all rows have taken; what is saved does not know yet that it is over. */
async function endedJob(directory: string, rows: number): Promise<string[]> {
  const work = await BulkWork.open(disk, directory, [], true);
  const part = { start: 'a', end: '', query: '{}', update: '{"$inc":{"n":1}}' };
  const txId = sha256(Buffer.from('update'));
  const job: BulkJob = work.add({
    position,
    txId,
    timestampMs: 0,
    heavy: true,
    parts: [{ namespace: 'bank', ...part }],
  });
  for (let row = 0; row < rows; row++) job.file.add(`bank\0${row}`, '{"n":1}');
  job.swept = true;
  const saved = await work.save();
  await work.complete([job]);
  await work.close();
  return saved;
}

test('an update whose rows somebody has taken over is over, whatever was saved last', async () => {
  const directory = join(root, 'taken');
  const saved = await endedJob(directory, 5);
  await moveUpdatedRows(disk, position, directory, join(root, 'elsewhere'));
  const work = await BulkWork.open(disk, directory, saved, true);
  expect(work.jobs).toEqual([]);
  expect(await disk.list(directory)).toEqual([]);
  const rows = await openUpdatedRows(disk, join(root, 'elsewhere'), position);
  expect([...(rows?.rows() ?? [])].flat()).toHaveLength(5);
  await rows?.close();
  await work.close();
});

test('an update of no row leaves an empty file, also when its end was lost', async () => {
  const directory = join(root, 'empty');
  const saved = await endedJob(directory, 0);
  await disk.remove(directory);
  const work = await BulkWork.open(disk, directory, saved, true);
  await work.complete(work.jobs);
  expect(await disk.list(directory)).toEqual([`${position}.rows`]);
  await work.close();
});

test('rows are what was written, or gone', async () => {
  const directory = join(root, 'rotten');
  await endedJob(directory, 3);
  const path = join(directory, `${position}.rows`);
  const read = async (): Promise<unknown[]> => {
    const rows = await openUpdatedRows(disk, directory, position);
    try {
      return [...(rows?.rows() ?? [])].flat();
    } finally {
      await rows?.close();
    }
  };
  const whole = await read();
  expect(whole).toHaveLength(3);
  const bytes = readFileSync(path);
  const gone = { code: 'BULK_ROWS_GONE', details: { position } };
  for (let at = 0; at < bytes.length; at++) {
    const spoilt = Buffer.from(bytes);
    spoilt[at] = (spoilt[at] as number) ^ (1 << (at % 8));
    writeFileSync(path, spoilt);
    await expect(read()).rejects.toMatchObject(gone);
  }
  for (let length = 1; length < bytes.length; length++) {
    writeFileSync(path, bytes.subarray(0, length));
    if (length % (bytes.length / 3) !== 0) await expect(read()).rejects.toMatchObject(gone);
  }
  // As older versions wrote them.
  const row = new ByteWriter().bytestring('bank\u00000').bytestring('{"n":1}');
  writeFileSync(path, Buffer.concat([row.finish(), bytes]));
  expect(await read()).toEqual([whole[0], ...whole]);
});
