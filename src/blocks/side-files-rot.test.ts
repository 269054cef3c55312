import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import type { MspConfig } from '../model/index.ts';
import { type BucketStore, MemoryBucketStore } from '../state/index.ts';
import { decodeNote } from './chain-note.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { makeReceipt, verifyReceipt } from './receipt.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-side-files-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;

let member: Awaited<ReturnType<typeof testIdentity>>;
let msps: MspConfig[];
let log: TestLog;
/** Entries behind the first so many only read what was written there. */
let writing: number;
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  msps = [member.msp];
  log = new TestLog(member).config({ recordsMax: 50, bytesMax: 1 << 20, cutBeforeReads: true });
  for (let at = 0; at < 24; at++) {
    log.batch(Array.from({ length: 50 }, (_, n) => ({ writes: { [`k${at * 50 + n}`]: `${at}` } })));
  }
  writing = log.entries.length;
  const reads = Array.from({ length: 24 }, (_, at) => `k${at * 50 + 7}`);
  log.batch([{ reads, writes: { last: 'one' } }]).tick();
});

interface Chain {
  readonly directory: string;
  readonly buckets: MemoryBucketStore;
}

function open({ directory, buckets }: Chain): Promise<BlockGenerator> {
  const { signer } = member;
  return openBlockGenerator({ io, directory, buckets, bucketBits: 5, signer });
}

/** A chain of so many entries, saved and closed. */
async function made(entries: number): Promise<Chain> {
  const chain = { directory: join(root, `${directories++}`), buckets: new MemoryBucketStore() };
  const generator = await open(chain);
  await generator.push(log.entries.slice(0, entries));
  await generator.close();
  return chain;
}

/** Turns a bit. */
function rot(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

test('a version that rotted gets into no block', async () => {
  const whole = await open(await made(log.entries.length));
  // The block in which a record of the first page stands, and its number in it.
  for (const at of [16 * 707 + 13, 16 * 657 + 15, 16 * 7 + 6]) {
    const chain = await made(writing);
    rot(join(chain.directory, 'versions'), at);
    const generator = await open(chain);
    expect(generator.nextAddress).toBe(writing);
    await generator.push(log.entries.slice(writing));
    expect(generator.point).toEqual(whole.point);
    await generator.close();
  }
  await whole.close();
});

test('no receipt leads through a history that rotted; opened again, all of it is there', {
  timeout: 60_000,
}, async () => {
  const ids = log.entries.flatMap(({ records }) =>
    records.map(({ record }) => Buffer.from(record.txId).toString('hex')),
  );
  for (const [file, at] of [
    ['history-00', 0],
    ['history-00', 1_190 * 32 + 31],
    ['history-08', 3 * 32],
  ] as const) {
    const chain = await made(log.entries.length);
    const generator = await open(chain);
    rot(join(chain.directory, file), at);
    const refused: unknown[] = [];
    for (const txId of ids) {
      const receipt = await makeReceipt(generator, txId).catch((error: unknown) => {
        refused.push(error);
        return undefined;
      });
      if (receipt !== undefined) verifyReceipt(receipt, { msps });
    }
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]).toMatchObject({ code: 'STATE_DAMAGED', details: { what: 'history tree' } });
    const { point, nextAddress } = generator;
    await generator.close();
    const again = await open(chain);
    expect(again.nextAddress).toBe(nextAddress);
    expect(again.point).toEqual(point);
    for (const txId of ids.filter((_, number) => number % 20 === 0)) {
      verifyReceipt(await makeReceipt(again, txId), { msps });
    }
    await again.close();
  }
});

test('history files that are gone are made again from the blocks', async () => {
  const chain = await made(log.entries.length);
  const history = readFileSync(join(chain.directory, 'history-00'));
  rmSync(join(chain.directory, 'history-00'));
  const again = await open(chain);
  expect(again.nextAddress).toBe(log.entries.length);
  expect(readFileSync(join(chain.directory, 'history-00'))).toEqual(history);
  await again.close();
});

test('a checkpoint that rotted is none', { timeout: 60_000 }, async () => {
  // In the middle of a block.
  const chain = await made(5);
  const saved = await chain.buckets.load();
  const note = saved?.note as Buffer;
  expect((await open(chain)).nextAddress).toBe(5);
  for (let at = 0; at < note.length; at += 1 + (at >> 4)) {
    const spoilt = Buffer.from(note);
    spoilt[at] = (spoilt[at] as number) ^ (1 << (at % 8));
    expect(() => decodeNote(spoilt), `byte ${at}`).toThrow(
      expect.objectContaining({ code: 'MALFORMED' }),
    );
  }
  const spoilt = Buffer.from(note);
  spoilt[70] = (spoilt[70] as number) ^ 1;
  const buckets: BucketStore = {
    load: async () => saved && { tree: saved.tree, note: spoilt },
    clear: () => chain.buckets.clear(),
    save: (...all) => chain.buckets.save(...all),
    close: async () => undefined,
  };
  const generator = await openBlockGenerator({ io, directory: chain.directory, buckets });
  expect(generator.nextAddress).toBe(0);
  await generator.store.close();
});
