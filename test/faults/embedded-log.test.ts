import fc from 'fast-check';
import { expect, it } from 'vitest';
import { limits } from '../../src/base/index.ts';
import { realIo } from '../../src/io/index.ts';
import { type EmbeddedLogOptions, openEmbeddedLog, type SharedLog } from '../../src/log/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { followed, outcomeOf } from '../conformance/model-log.ts';
import { CrashDisk } from './crash-disk.ts';

const directory = '/log';
const { timers, random } = realIo();
const segmentBytes = 4096;

function open(disk: CrashDisk, options: Partial<EmbeddedLogOptions> = {}): Promise<SharedLog> {
  return openEmbeddedLog({
    io: { disk, timers, random },
    directory,
    segmentBytesMin: segmentBytes,
    segmentBytesMax: segmentBytes,
    recentBytesMax: 0,
    ...options,
  });
}

function contentOf(address: number, size: number): Buffer {
  return Buffer.alloc(size, `<${address}:${size}>`);
}

async function put(log: SharedLog, address: number, size: number): Promise<void> {
  await log.write({ epoch: 0, address: asAddress(address) }, contentOf(address, size));
}

/** Appends one entry after the other. */
async function putMany(log: SharedLog, from: number, before: number, size: number): Promise<void> {
  for (let address = from; address < before; address += 1) await put(log, address, size);
}

async function expectEntry(log: SharedLog, address: number, size: number): Promise<void> {
  const entry = await log.read(asAddress(address));
  expect(Buffer.compare(entry.bytes, contentOf(address, size)), `entry ${address}`).toBe(0);
}

async function names(disk: CrashDisk, ending: string): Promise<string[]> {
  const all = await disk.list(directory);
  return all.filter((name) => name.endsWith(ending)).map((name) => `${directory}/${name}`);
}

it('keeps every acknowledged entry through power failures, again and again', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.record({
          sizes: fc.array(fc.integer({ min: 1, max: 1500 }), { minLength: 1, maxLength: 30 }),
          turns: fc.integer({ min: 0, max: 60 }),
          trim: fc.boolean(),
          survival: fc.constantFrom(0, 0.3, 0.9, 1),
        }),
        { minLength: 1, maxLength: 6 },
      ),
      fc.infiniteStream(fc.nat(999).map((thousandths) => thousandths / 1000)),
      async (lives, dice) => {
        let disk = new CrashDisk();
        const acknowledged = new Map<number, number>();
        for (const { sizes, turns, trim, survival } of lives) {
          const log = await open(disk);
          const start = await log.start();
          const tail = await log.tail();
          for (const [address, size] of acknowledged) {
            if (address >= start) await expectEntry(log, address, size);
          }
          if (trim) void log.trim(asAddress(Math.floor(tail / 2))).catch(() => undefined);
          for (const [index, size] of sizes.entries()) {
            put(log, tail + index, size).then(
              () => acknowledged.set(tail + index, size),
              () => undefined,
            );
          }
          for (let turn = 0; turn < turns; turn += 1) {
            await new Promise((resolve) => setImmediate(resolve));
          }
          disk = disk.crash(() => (dice.next().value as number) < survival);
          await log.close().catch(() => undefined);
        }
        const log = await open(disk);
        const [start, tail] = [await log.start(), await log.tail()];
        for (let address: number = start; address < tail; address += 1) {
          await log.fill(asAddress(address));
        }
        const entries = await followed(log, start, tail);
        expect(entries).toHaveLength(tail - start);
        for (const { address, kind, bytes } of entries) {
          const size = acknowledged.get(address);
          if (size !== undefined) expect(bytes).toHaveLength(size);
          if (kind === 'data') {
            expect(Buffer.compare(bytes, contentOf(address, bytes.length))).toBe(0);
          }
        }
        await log.close();
      },
    ),
    { numRuns: 60 },
  );
});

it('drops a torn last group, whatever is left of it', async () => {
  for (let cut = 0; cut < 40; cut += 1) {
    const disk = new CrashDisk();
    const log = await open(disk);
    await putMany(log, 0, 6, 100);
    // One group of three entries.
    await Promise.all([6, 7, 8].map((address) => put(log, address, 200)));
    const image = disk.crash(() => true);
    const offset = cut * 17;
    image.damage(`${directory}/0000000001.log`, (content) => {
      const groupBegins = 32 + 6 * 136;
      for (let at = offset; at < offset + 9; at += 1) {
        content[groupBegins + at] = (content[groupBegins + at] ?? 0) ^ (cut % 2 === 0 ? 0xff : 1);
      }
    });
    const again = await open(image);
    for (let address = 0; address < 6; address += 1) await expectEntry(again, address, 100);
    const tail = await again.tail();
    expect(tail).toBe(6 + Math.floor(offset / 232));
    for (let address = 6; address < tail; address += 1) await expectEntry(again, address, 200);
    await put(again, tail, 50);
    await again.close();
    const third = await open(image);
    await expectEntry(third, tail, 50);
    expect(await third.tail()).toBe(tail + 1);
    await third.close();
  }
});

it('keeps what lies before the place where the file was cut', async () => {
  for (let cut = 1; cut < 696; cut += 31) {
    const disk = new CrashDisk();
    const log = await open(disk);
    await putMany(log, 0, 6, 100);
    await Promise.all([6, 7, 8].map((address) => put(log, address, 200)));
    const image = disk.crash(() => true);
    const file = await image.open(`${directory}/0000000001.log`);
    await file.truncate(32 + 6 * 136 + cut);
    const again = await open(image);
    expect(await again.tail()).toBe(6 + Math.floor(cut / 232));
    for (let address = 0; address < 6; address += 1) await expectEntry(again, address, 100);
    await again.close();
  }
});

it('refuses to open when an entry that was durable is broken before the last group', async () => {
  for (let offset = 32; offset < 32 + 5 * 136; offset += 7) {
    const disk = new CrashDisk();
    const log = await open(disk);
    await putMany(log, 0, 6, 100);
    const image = disk.crash(() => true);
    image.damage(`${directory}/0000000001.log`, (content) => {
      content[offset] = (content[offset] ?? 0) ^ 0x40;
    });
    // Padding behind a payload carries nothing.
    const inPadding = (offset - 32) % 136 >= 132;
    expect([offset, await outcomeOf(open(image).then((opened) => opened.close()))]).toEqual([
      offset,
      inPadding ? 'ok' : 'LOG_DAMAGED',
    ]);
  }
});

it('notices a broken last group after a clean close', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await putMany(log, 0, 3, 100);
  await log.close();
  disk.damage(`${directory}/0000000001.log`, (content) =>
    content.fill(7, 32 + 2 * 136 + 50, 32 + 2 * 136 + 60),
  );
  const again = await open(disk);
  await expectEntry(again, 1, 100);
  await expect(again.read(asAddress(2))).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
  await again.close();
  // Also when the index is lost.
  for (const index of await names(disk, '.index')) await disk.remove(index);
  await expect(open(disk)).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
});

it('reports an entry damaged in a full segment, and gives out all others', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await putMany(log, 0, 100, 200);
  disk.damage(`${directory}/0000000002.log`, (content) => content.fill(0, 500, 510));
  const outcomes = await Promise.all(
    Array.from({ length: 100 }, (_, address) => outcomeOf(log.read(asAddress(address)))),
  );
  const bad = outcomes.flatMap((outcome, address) => (outcome === 'LOG_DAMAGED' ? [address] : []));
  expect(bad).toHaveLength(1);
  const [broken] = bad as [number];
  expect(await followed(log, asAddress(0), asAddress(broken))).toHaveLength(broken);
  await expect(followed(log, asAddress(0), asAddress(broken + 1))).rejects.toMatchObject({
    code: 'LOG_DAMAGED',
    details: { address: broken },
  });
  expect(await followed(log, asAddress(broken + 1), asAddress(100))).toHaveLength(99 - broken);
  await log.close();
});

it('makes an index again, and notices a missing segment and a broken meta file', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await putMany(log, 0, 100, 200);
  await log.seal(3);
  await log.close();
  const indexes = await names(disk, '.index');
  expect(indexes.length).toBeGreaterThan(3);
  for (const [number, index] of indexes.entries()) {
    if (number % 2 === 0) await disk.remove(index);
    else disk.damage(index, (content) => content.fill(0xff, 10, 20));
  }
  const again = await open(disk);
  expect(await followed(again, asAddress(0), asAddress(100))).toHaveLength(100);
  expect(await again.tail()).toBe(100);
  await again.close();
  const image = disk.crash(() => true);
  await image.remove(`${directory}/0000000002.log`);
  await expect(open(image)).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
  const other = image.crash(() => true);
  other.damage(`${directory}/meta`, (content) => content.fill(1, 3, 4));
  await expect(open(other)).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
});

it('notices that the end of a segment is gone when a later one is in use', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await putMany(log, 0, 100, 200);
  const image = disk.crash(() => true);
  const index = (await names(image, '.index')).at(-1) as string;
  await image.remove(index);
  const segment = `${directory}/${index.slice(directory.length + 1).split('.')[0]}.log`;
  image.damage(segment, (content) => content.fill(0, 1000));
  await expect(open(image)).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
});

it('reads as little of a long log as of a short one when it opens', async () => {
  const read: number[] = [];
  for (const entries of [100, 2000]) {
    const disk = new CrashDisk();
    const log = await open(disk);
    await putMany(log, 0, entries, 200);
    const image = disk.crash(() => true);
    const again = await open(image);
    read.push(image.bytesRead);
    expect(await again.tail()).toBe(entries);
    await again.close();
  }
  expect(read[1]).toBeLessThan((read[0] as number) + 2 * segmentBytes);
});

it('recycles trimmed segments, and never takes their old entries for new ones', async () => {
  let disk = new CrashDisk();
  for (let round = 0; round < 30; round += 1) {
    const log = await open(disk);
    const tail = await log.tail();
    await putMany(log, tail, tail + 40, 200);
    await log.trim(asAddress(tail + 20));
    expect((await names(disk, '.log')).length).toBeLessThan(10);
    await expectEntry(log, tail + 39, 200);
    disk = disk.crash(() => false);
    await log.close().catch(() => undefined);
    const again = await open(disk);
    expect(await again.tail()).toBe(tail + 40);
    expect(await again.start()).toBe(tail + 20);
    expect(await followed(again, asAddress(tail + 20), asAddress(tail + 40))).toHaveLength(20);
    await again.close();
  }
});

it('fails writes with DISK_FULL, loses nothing, and goes on when there is space', async () => {
  for (let free = 0; free < 3 * segmentBytes; free += 333) {
    const disk = new CrashDisk();
    const log = await open(disk);
    await putMany(log, 0, 10, 150);
    disk.freeBytes = free;
    const acknowledged = new Set<number>();
    const outcomes = new Set<unknown>();
    for (let address = 10; address < 70; address += 3) {
      await Promise.all(
        [0, 1, 2].map(async (more) => {
          const outcome = await outcomeOf(put(log, address + more, 150));
          outcomes.add(outcome);
          if (outcome === 'ok') acknowledged.add(address + more);
        }),
      );
    }
    expect(outcomes.has('DISK_FULL')).toBe(true);
    for (const address of acknowledged) await expectEntry(log, address, 150);
    disk.freeBytes = Number.POSITIVE_INFINITY;
    for (let address = 10; address < 70; address += 1) {
      // Other bytes than those that failed: nothing of a failed write may stand.
      if (acknowledged.has(address)) await put(log, address, 150);
      else await put(log, address, 90);
    }
    const image = disk.crash(() => true);
    const again = await open(image);
    expect(await again.tail()).toBe(70);
    for (let address = 10; address < 70; address += 1) {
      await expectEntry(again, address, acknowledged.has(address) ? 150 : 90);
    }
    await again.close();
  }
});

it('refuses all writes after a failed sync until it is opened again', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await putMany(log, 0, 3, 100);
  disk.syncFails = true;
  const failed = await Promise.all([3, 4].map((address) => outcomeOf(put(log, address, 100))));
  expect(failed).toEqual(['IO_FAILED', 'IO_FAILED']);
  disk.syncFails = false;
  await expect(put(log, 5, 100)).rejects.toMatchObject({ code: 'IO_FAILED' });
  await expectEntry(log, 2, 100);
  await expect(log.read(asAddress(3))).rejects.toMatchObject({ code: 'LOG_NOT_WRITTEN' });
  await log.close();
  const again = await open(disk);
  await expectEntry(again, 2, 100);
  await put(again, 5, 100);
  await again.close();
});

it('seals only when the writes accepted before have settled', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  let release: () => void = () => undefined;
  disk.syncGate = new Promise((resolve) => {
    release = resolve;
  });
  const write = outcomeOf(put(log, 0, 10));
  let sealed: number | undefined;
  const seal = log.seal(1).then((tail) => {
    sealed = tail;
  });
  for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
  expect(sealed).toBeUndefined();
  release();
  await seal;
  expect([await write, sealed]).toEqual(['ok', 1]);
  await log.close();
});

it('is open once only', async () => {
  const disk = new CrashDisk();
  const log = await open(disk);
  await expect(open(disk)).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  await log.close();
  await (await open(disk)).close();
});

it('syncs what arrives during a sync as one group', async () => {
  const disk = new CrashDisk();
  const log = await open(disk, { segmentBytesMin: 1024 * 1024, segmentBytesMax: 1024 * 1024 });
  const before = disk.syncs;
  await Promise.all(Array.from({ length: 500 }, (_, address) => put(log, address, 100)));
  expect(disk.syncs - before).toBe(1);
  await log.close();
});

it('bounds how far writes run ahead, and how many are under way', async () => {
  const disk = new CrashDisk();
  const log = await open(disk, { windowAddressesMax: 10 });
  await put(log, 9, 10);
  await expect(put(log, 10, 10)).rejects.toMatchObject({
    code: 'OVERLOADED',
    retry: 'same',
    details: { limit: 'logWindowAddressesMax' },
  });
  await put(log, 0, 10);
  await put(log, 10, 10);
  await log.close();
  const wide = await open(disk);
  const outcomes = await Promise.all(
    Array.from({ length: limits.logWritesInFlightMax + 5 }, (_, index) =>
      outcomeOf(put(wide, 100 + index, 10)),
    ),
  );
  expect(outcomes.filter((outcome) => outcome === 'OVERLOADED')).toHaveLength(5);
  await wide.close();
});

it('lets a follower be as slow as it likes', async () => {
  const disk = new CrashDisk();
  const log = await open(disk, { recentBytesMax: 2000 });
  await putMany(log, 0, 5, 100);
  const seen: number[] = [];
  for await (const run of log.follow(asAddress(0))) {
    seen.push(...run.map(({ address }) => address));
    const tail = await log.tail();
    if (tail < 300) await putMany(log, tail, tail + 50, 100);
    else if (seen.length === tail) break;
  }
  expect(seen).toEqual(Array.from({ length: 305 }, (_, address) => address));
  await log.close();
});
