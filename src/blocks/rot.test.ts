import {
  cpSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DaybookError, isDaybookError } from '../base/index.ts';
import { type Disk, type DiskFile, realIo } from '../io/index.ts';
import { sha256 } from '../model/index.ts';
import { MemoryBucketStore } from '../state/index.ts';
import { openBlockStore } from './block-store.ts';
import { unlessDamaged } from './damaged-blocks.ts';
import { decodeBlock } from './fabric/block.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { indexedFields } from './segment-files.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-rot-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let directories = 0;

let log: TestLog;
let whole: string[];
let blockBytes: Buffer[];
beforeAll(async () => {
  log = new TestLog(await testIdentity('Org1MSP'));
  log.config({ recordsMax: 7, bytesMax: 9000, cutBeforeReads: true });
  for (let at = 0; at < 60; at++) {
    log.batch(
      Array.from({ length: 1 + (at % 4) }, (_, n) => ({
        writes: { [`k${(at * 2 + n) % 9}`]: `${at}` },
      })),
    );
    if (at % 13 === 0) log.tick();
  }
  log.tick();
  const chain = await made();
  whole = await blocksOf(chain.generator);
  const { store } = chain.generator;
  blockBytes = await Promise.all(whole.map((_, height) => store.block(height)));
  expect(whole.length).toBeGreaterThan(20);
  await chain.generator.close();
});

interface Chain {
  readonly directory: string;
  readonly buckets: MemoryBucketStore;
  readonly blocks: string;
}

function open(
  { directory, buckets }: Pick<Chain, 'directory' | 'buckets'>,
  remakes = false,
): Promise<BlockGenerator> {
  const segmentBytesMax = 20_000;
  return openBlockGenerator({ io, directory, buckets, bucketBits: 5, segmentBytesMax, remakes });
}

/** A chain over the whole log, saved. */
async function made(): Promise<Chain & { readonly generator: BlockGenerator }> {
  const directory = join(root, `${directories++}`);
  const chain = { directory, buckets: new MemoryBucketStore(), blocks: join(directory, 'blocks') };
  const generator = await open(chain);
  await generator.push(log.entries);
  await generator.checkpoint();
  return { ...chain, generator };
}

/** Every block's hash; `damaged` where it is refused. */
async function blocksOf({ store }: Pick<BlockGenerator, 'store'>): Promise<string[]> {
  const blocks: string[] = [];
  for (let height = 0; height < store.height; height++) {
    const bytes = await unlessDamaged(store.block(height));
    blocks.push(bytes === undefined ? 'damaged' : sha256(bytes).toString('hex'));
  }
  return blocks;
}

function files(blocks: string, end: string): string[] {
  return readdirSync(blocks)
    .filter((name) => name.endsWith(end))
    .sort()
    .map((name) => join(blocks, name));
}

/** Turns one bit of a file; where: a share of its length. */
function rot(path: string, where: number): void {
  const bytes = readFileSync(path);
  const at = Math.floor(bytes.length * where);
  if (bytes.length === 0) return;
  bytes[at] = (bytes[at] as number) ^ 4;
  writeFileSync(path, bytes);
}

const share = fc.double({ min: 0, max: 0.999_999, noNaN: true });

test('a block that rotted is refused, by file and number, and mended from the log', async () => {
  const { generator, ...chain } = await made();
  const [first] = files(chain.blocks, '.pb') as [string];
  rot(first, 0.5);
  const damaged = (await blocksOf(generator)).indexOf('damaged');
  expect(damaged).toBeGreaterThan(0);
  await expect(generator.store.block(damaged)).rejects.toMatchObject({
    code: 'STATE_DAMAGED',
    details: { what: 'blocks-0000000000.pb', height: damaged },
  });
  // What is said to be saved is whole.
  await expect(generator.save(generator.nextAddress)).rejects.toMatchObject({
    code: 'STATE_DAMAGED',
  });
  await generator.close();
  // It is known at once when the chain is opened again.
  await expect(open(chain)).rejects.toMatchObject({ code: 'STATE_DAMAGED' });
  const again = await open(chain, true);
  expect(again.nextAddress).toBe(0);
  await again.push(log.entries);
  expect(await blocksOf(again)).toEqual(whole);
  // In the files, too, long before the next checkpoint.
  expect(readdirSync(chain.blocks)).not.toContain('damaged');
  await again.checkpoint();
  expect(again.store.damaged).toBeUndefined();
  await again.close();
  const mended = await open(chain);
  expect(mended.nextAddress).toBeGreaterThan(0);
  expect(await blocksOf(mended)).toEqual(whole);
  await mended.close();
});

test('a file that is gone is as damaged as what stood in it, and is not made by reading', async () => {
  const { generator, ...chain } = await made();
  const [first] = files(chain.blocks, '.pb') as [string];
  rmSync(first);
  expect((await blocksOf(generator)).indexOf('damaged')).toBe(0);
  expect(files(chain.blocks, '.pb')).not.toContain(first);
  await generator.close();
  const again = await open(chain, true);
  await again.push(log.entries);
  expect(await blocksOf(again)).toEqual(whole);
  await again.close();
});

test('blocks that rotted anywhere are never handed out, and made again', {
  timeout: 60_000,
}, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(share, share), { minLength: 1, maxLength: 6 }),
      async (rots) => {
        const { generator, ...chain } = await made();
        await generator.close();
        const segments = files(chain.blocks, '.pb');
        for (const [which, where] of rots) {
          rot(segments[Math.floor(which * segments.length)] as string, where);
        }
        await mends(chain);
      },
    ),
    { numRuns: 10 },
  );
});

test('index files that are damaged, lost or old are made again', { timeout: 60_000 }, async () => {
  const damage = fc.constantFrom('rots', 'is lost', 'is old', 'is torn');
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(share, share, damage), { minLength: 1, maxLength: 5 }),
      fc.boolean(),
      async (damages, rotsToo) => {
        const { generator, ...chain } = await made();
        await generator.close();
        const indexes = files(chain.blocks, '.index');
        expect(indexes).toHaveLength(files(chain.blocks, '.pb').length);
        for (const [which, where, how] of damages) {
          const path = indexes[Math.floor(which * indexes.length)] as string;
          const isThere = files(chain.blocks, '.index').includes(path);
          if (how === 'is lost') rmSync(path, { force: true });
          else if (!isThere) continue;
          else if (how === 'rots') rot(path, where);
          else if (how === 'is torn')
            truncateSync(path, Math.floor(readFileSync(path).length * where));
          else writeFileSync(path, Buffer.concat([Buffer.of(1), readFileSync(path).subarray(1)]));
        }
        if (!rotsToo) {
          const again = await open(chain);
          expect(again.nextAddress).toBeGreaterThan(0);
          expect(await blocksOf(again)).toEqual(whole);
          await again.close();
          return;
        }
        // Nothing but the block's own hashes tells then.
        const segments = files(chain.blocks, '.pb');
        const [which, where] = damages[0] as [number, number, string];
        rot(segments[Math.floor(which * segments.length)] as string, where);
        await mends({ ...chain, buckets: new MemoryBucketStore() }, true);
      },
    ),
    { numRuns: 10 },
  );
});

test('a file of blocks that is gone is made again', async () => {
  const { generator, ...chain } = await made();
  await generator.close();
  const segments = files(chain.blocks, '.pb');
  expect(segments.length).toBeGreaterThan(3);
  rmSync(segments[0] as string);
  rmSync(segments[2] as string);
  await mends(chain);
});

/** @param mayBeTaken - what rotted may be taken for what was written, until it is compared. */
async function mends(chain: Chain, mayBeTaken = false): Promise<void> {
  const store = await openBlockStore({ disk: io.disk, directory: chain.blocks });
  for (const [height, block] of (await blocksOf({ store })).entries()) {
    if (!mayBeTaken && block !== 'damaged') expect(block).toBe(whole[height]);
  }
  await store.close();
  const again = await open(chain, true);
  try {
    await again.push(log.entries.slice(again.nextAddress));
    expect(await blocksOf(again)).toEqual(whole);
    await again.checkpoint();
    expect(again.store.damaged).toBeUndefined();
  } catch (error) {
    if (!mayBeTaken || !isDaybookError(error, 'BLOCK_MISMATCH')) throw error;
    return;
  }
  await again.close();
  const mended = await open(chain);
  expect(mended.nextAddress).toBeGreaterThan(0);
  expect(await blocksOf(mended)).toEqual(whole);
  await mended.close();
}

test('blocks may be read while others are mended', async () => {
  const { generator, ...chain } = await made();
  await generator.close();
  for (const path of files(chain.blocks, '.pb')) rot(path, 0.3);
  const store = await openBlockStore({ disk: io.disk, directory: chain.blocks });
  await blocksOf({ store });
  await store.close();
  const again = await open(chain, true);
  let stops = false;
  const reading = (async () => {
    while (!stops) await blocksOf(again);
  })();
  for (const entry of log.entries) {
    await again.push([entry]);
    if (entry.address % 5 === 0) await again.checkpoint();
  }
  stops = true;
  await reading;
  await again.checkpoint();
  expect(again.store.damaged).toBeUndefined();
  expect(await blocksOf(again)).toEqual(whole);
  await again.close();
});

/** A disk whose process is killed before its `count`th change; reading goes on. */
function killedAfter(count: number): { readonly disk: Disk; readonly changes: () => number } {
  let changes = 0;
  const change = (): void => {
    if (++changes > count) throw new DaybookError('IO_FAILED', 'killed');
  };
  const { disk } = io;
  const killed: Disk = {
    ...disk,
    open: async (path, options) => {
      const file = await disk.open(path, options);
      return {
        size: () => file.size(),
        read: (target, offset) => file.read(target, offset),
        readSync: (target, offset) => file.readSync(target, offset),
        write: async (parts, offset) => {
          change();
          await file.write(parts, offset);
        },
        sync: () => file.sync(),
        truncate: async (size) => {
          change();
          await file.truncate(size);
        },
        close: () => file.close(),
      };
    },
    writeFile: async (path, bytes, options) => {
      change();
      await disk.writeFile(path, bytes, options);
    },
    rename: async (from, to) => {
      change();
      await disk.rename(from, to);
    },
    remove: async (path) => {
      change();
      await disk.remove(path);
    },
  };
  return { disk: killed, changes: () => changes };
}

test('who is killed while mending loses nothing that was whole, and takes nothing for it', {
  timeout: 60_000,
}, async () => {
  const { generator, ...original } = await made();
  await generator.close();
  // In the first file and in the last one, in its length, and one that nobody has read yet.
  const segments = files(original.blocks, '.pb');
  const [first, last] = [segments[0], segments.at(-1)] as [string, string];
  rot(first, 0.01);
  rot(first, 0.99);
  rot(last, 0);
  rot(last, 0.3);
  const known = await openBlockStore({ disk: io.disk, directory: original.blocks });
  const damaged = (await blocksOf({ store: known })).flatMap((block, height) =>
    block === 'damaged' ? [height] : [],
  );
  expect(damaged.length).toBeGreaterThan(2);
  await known.close();
  for (let count = 0; ; count++) {
    const blocks = join(root, `${directories++}`);
    cpSync(original.blocks, blocks, { recursive: true });
    const { disk, changes } = killedAfter(count);
    const mending = await openBlockStore({ disk, directory: blocks }).catch(() => undefined);
    try {
      for (const height of damaged) {
        const bytes = blockBytes[height] as Buffer;
        await mending?.mend(height, { bytes, ...indexedFields(decodeBlock(bytes)) });
      }
      await mending?.sync();
    } catch (error) {
      expect(error).toMatchObject({ message: 'killed' });
    }
    const store = await openBlockStore({ disk: io.disk, directory: blocks });
    for (const [height, block] of (await blocksOf({ store })).entries()) {
      if (block !== 'damaged' || !damaged.includes(height)) expect(block).toBe(whole[height]);
    }
    expect(store.height).toBe(whole.length);
    expect(readdirSync(blocks).filter((name) => name.endsWith('.next'))).toEqual([]);
    await store.close();
    if (changes() <= count) break;
  }
});

/** A file of which bytes are read in another way. */
function withRead(file: DiskFile, read: DiskFile['read']): DiskFile {
  return {
    size: () => file.size(),
    read,
    readSync: (target, offset) => file.readSync(target, offset),
    write: (parts, offset) => file.write(parts, offset),
    sync: () => file.sync(),
    truncate: (size) => file.truncate(size),
    close: () => file.close(),
  };
}

/** A disk that cannot give a part of a file, until another file takes its place. */
function unreadable(path: string, from: number, to: number): Disk {
  const { disk } = io;
  let isThere = true;
  return {
    ...disk,
    open: async (opened, options) => {
      const file = await disk.open(opened, options);
      const spoils = isThere && opened === path;
      return withRead(file, async (target, offset) => {
        if (spoils && offset < to && offset + target.length > from) {
          throw new DaybookError('IO_FAILED', 'EIO', { details: { path, cause: 'EIO' } });
        }
        return await file.read(target, offset);
      });
    },
    rename: async (before, after) => {
      await disk.rename(before, after);
      if (after === path) isThere = false;
    },
  };
}

// In the first file, and in the one that grows.
test.each([0, -1])(
  'what the disk cannot read is damaged, and mended with the rest of its file (%i)',
  async (which) => {
    const { generator, blocks } = await made();
    await generator.close();
    const path = files(blocks, '.pb').at(which) as string;
    const disk = unreadable(path, 1_500, 1_501);
    const store = await openBlockStore({ disk, directory: blocks });
    const found = await blocksOf({ store });
    const damaged = found.flatMap((block, height) => (block === 'damaged' ? [height] : []));
    expect(damaged).toHaveLength(1);
    expect(found.length).toBe(whole.length);
    const [height] = damaged as [number];
    const bytes = blockBytes[height] as Buffer;
    await store.mend(height, { bytes, ...indexedFields(decodeBlock(bytes)) });
    await store.sync();
    expect(await blocksOf({ store })).toEqual(whole);
    await store.close();
  },
);

test('a block may be read while its file is closed and another one begun', async () => {
  const { generator, ...chain } = await made();
  await generator.close();
  const wait: { for?: Promise<void> } = {};
  const disk: Disk = {
    ...io.disk,
    open: async (path, options) => {
      const file = await io.disk.open(path, options);
      return withRead(file, async (target, offset) => {
        await wait.for;
        return await file.read(target, offset);
      });
    },
  };
  const store = await openBlockStore({ disk, directory: chain.blocks, segmentBytesMax: 1 });
  const height = store.height - 1;
  let goOn = (): void => undefined;
  wait.for = new Promise((resolve) => {
    goOn = resolve;
  });
  const reading = store.block(height);
  const bytes = Buffer.from(blockBytes[height] as Buffer);
  const block = decodeBlock(bytes);
  // Any block will do.
  const header = { ...block.header, number: store.height };
  await store.append({ header, bytes, ...indexedFields(block) });
  goOn();
  expect(sha256(await reading).toString('hex')).toBe(whole[height]);
  await store.close();
});
