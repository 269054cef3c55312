import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { type MspConfig, merkleRootFromSubset, type Signer } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { MemoryBucketStore } from '../state/index.ts';
import { decodeBlock } from './fabric/block.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import {
  historyConsistencyProof,
  historyInclusionProof,
  verifyHistoryConsistency,
} from './history-tree.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

let member: { msp: MspConfig; signer: Signer };
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
});
const root = mkdtempSync(join(tmpdir(), 'daybook-blocks-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;
const newDirectory = (): string => join(root, `${directories++}`);

function busyLog(batches: number): TestLog {
  const log = new TestLog(member).config({ recordsMax: 9, bytesMax: 8000, cutBeforeReads: true });
  for (let at = 0; at < batches; at++) {
    const calls = Array.from({ length: 1 + (at % 7) }, (_, n) => ({
      reads: [`key-${(at * 3 + n) % 25}`],
      writes: { [`key-${(at + n * 5) % 25}`]: `value ${at} ${n}`, [`own-${at}-${n}`]: undefined },
      stale: (at + n) % 11 === 0,
    }));
    log.batch(calls, at % 3 === 0 ? 'single' : 'batch', at % 4);
    if (at % 9 === 0) log.fill();
    if (at % 10 === 0) log.tick();
    if (at % 20 === 19) log.config({ recordsMax: 5 + at, bytesMax: 8000, cutBeforeReads: true });
  }
  return log.tick();
}

const io = realIo();
const open = (directory: string, buckets = new MemoryBucketStore()): Promise<BlockGenerator> =>
  openBlockGenerator({
    io,
    directory,
    buckets,
    checkpointBlocks: 5,
    segmentBytesMax: 20_000,
    bucketBits: 5,
  });

async function blocksOf(generator: BlockGenerator): Promise<string[]> {
  const blocks: string[] = [];
  for (let height = 0; height < generator.store.height; height++) {
    blocks.push((await generator.store.block(height)).toString('base64'));
  }
  return blocks;
}

const rest = (entries: readonly AppliedEntry[], from: number): readonly AppliedEntry[] =>
  entries.filter((entry) => entry.address >= from);

describe('the block generator', () => {
  test('goes on after a stop at any place with the same blocks', { timeout: 60_000 }, async () => {
    const { entries } = busyLog(40);
    const whole = await open(newDirectory());
    await whole.push(entries);
    const expected = await blocksOf(whole);
    const expectedPoint = whole.point;
    await whole.close();
    expect(expected.length).toBeGreaterThan(20);
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.tuple(
            fc.integer({ min: 1, max: 20 }),
            fc.constantFrom('kill', 'close', 'tear', 'lose'),
          ),
          {
            maxLength: 4,
          },
        ),
        fc.nat({ max: 3000 }),
        async (stops, torn) => {
          const directory = newDirectory();
          const buckets = new MemoryBucketStore();
          let generator = await open(directory, buckets);
          for (const [count, how] of stops) {
            await generator.push(rest(entries, generator.nextAddress).slice(0, count));
            const { nextAddress } = generator;
            if (how === 'close') await generator.close();
            else {
              await generator.store.close();
              await generator.history.close();
            }
            // As after a power failure: the file has grown, what was written there is lost.
            if (how === 'lose') truncateSync(join(directory, 'versions'), 16 * 10_000);
            if (how === 'tear') tearLastSegment(join(directory, 'blocks'), torn);
            generator = await open(directory, buckets);
            // An open block, too, is there.
            if (how === 'close') expect(generator.nextAddress).toBe(nextAddress);
          }
          await generator.push(rest(entries, generator.nextAddress));
          expect(await blocksOf(generator)).toEqual(expected);
          expect(generator.point).toEqual(expectedPoint);
          await generator.close();
        },
      ),
      { numRuns: 8 },
    );
  });

  test('finds transactions, versions and history proofs', async () => {
    const { entries } = busyLog(30);
    const directory = newDirectory();
    let generator = await open(directory);
    const places = new Map<number, unknown>();
    for (const entry of entries) {
      await generator.push([entry]);
      // Certain from here on, whatever comes after.
      for (const { position } of entry.records) places.set(position, generator.placeOf(position));
    }
    await generator.close();
    generator = await open(directory);
    await generator.push(entries);
    const { store, history, point } = generator;
    const positions: number[] = [];
    const roots: { size: number; root: Buffer }[] = [];
    for (let height = 0; height < store.height; height++) {
      const { positions: own, txIds, proof } = await generator.describe(height);
      roots.push({ size: proof.historySize, root: Buffer.from(proof.historyRoot) });
      for (const [transaction, position] of own.entries()) {
        expect(generator.placeOf(position)).toEqual({ block: height, transaction });
        if (txIds[transaction]?.some((byte) => byte !== 0)) {
          expect(places.get(position)).toEqual({ block: height, transaction });
        }
        const txId = txIds[transaction] as Buffer;
        if (!txId.equals(Buffer.alloc(32))) {
          const found = await store.findTransaction(txId);
          expect(found).toEqual({ height, transaction, position, historyIndex: positions.length });
        }
        positions.push(position);
      }
    }
    expect(await store.findTransaction(Buffer.alloc(32, 7))).toBeUndefined();
    expect(positions).toHaveLength(point.historySize);
    const last = roots.at(-1) as (typeof roots)[number];
    for (const older of roots) {
      const [hash] = await history.read(0, older.size - 1, 1);
      const proof = await historyInclusionProof(history.read, older.size - 1, last.size);
      const held = [{ index: older.size - 1, hash: hash as Buffer }];
      expect(merkleRootFromSubset(last.size, held, proof)).toEqual(last.root);
      const consistency = await historyConsistencyProof(history.read, older.size, last.size);
      verifyHistoryConsistency(older, last, consistency);
      if (older === last) continue;
      const forged = { size: older.size, root: Buffer.alloc(32, 1) };
      expect(() => verifyHistoryConsistency(forged, last, consistency)).toThrow();
      const moved = { size: older.size + 1, root: older.root };
      expect(() => verifyHistoryConsistency(moved, last, consistency)).toThrow();
    }
    await generator.close();
  });

  test('rebuilds lost indexes and refuses a block that the log does not give', async () => {
    const { entries } = busyLog(30);
    const directory = newDirectory();
    const generator = await open(directory);
    await generator.push(entries);
    const expected = await blocksOf(generator);
    await generator.close();
    const blocks = join(directory, 'blocks');
    for (const name of readdirSync(blocks)) if (name.endsWith('.index')) rmSync(join(blocks, name));
    rmSync(join(directory, 'versions'));
    const again = await open(directory);
    expect(await blocksOf(again)).toEqual(expected);
    await again.close();
    // Another log than the one that the blocks are from, with no checkpoint to begin behind it.
    const others = busyLog(30).entries;
    const tampered = await open(directory);
    await expect(tampered.push(others)).rejects.toMatchObject({ code: 'BLOCK_MISMATCH' });
  });

  test('keeps everything in its directory with the real tree store', async () => {
    const { entries } = busyLog(10);
    const directory = newDirectory();
    const first = await openBlockGenerator({ io, directory, bucketBits: 5, signer: member.signer });
    await first.push(entries.slice(0, 6));
    await first.close();
    const second = await openBlockGenerator({
      io,
      directory,
      bucketBits: 5,
      signer: member.signer,
    });
    expect(second.nextAddress).toBeGreaterThan(0);
    await second.push(rest(entries, second.nextAddress));
    const signed = await second.store.block(second.store.height - 1);
    expect(decodeBlock(signed).header.number).toBe(second.store.height - 1);
    await second.close();
  });
});

function tearLastSegment(directory: string, bytes: number): void {
  const last = readdirSync(directory)
    .filter((name) => name.endsWith('.pb'))
    .sort()
    .at(-1) as string;
  const path = join(directory, last);
  truncateSync(path, Math.max(0, readFileSync(path).length - bytes));
}
