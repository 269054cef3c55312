import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { addressOf, asAddress, type MspConfig, type Signer } from '../model/index.ts';
import type { Row } from '../state/index.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { blockDigest, type SeedOptions, seedChain } from './seed-chain.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-seed-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let member: { msp: MspConfig; signer: Signer };
let log: TestLog;
let first: BlockGenerator;
let rows: Row[];
let offer: Pick<SeedOptions, 'height' | 'address' | 'stateRoot'>;

beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  log = new TestLog(member).config({ recordsMax: 7, bytesMax: 9000, cutBeforeReads: true });
  const more = (count: number): void => {
    for (let at = 0; at < count; at++) {
      log.batch([{ reads: [`k${at % 9}`], writes: { [`k${(at * 2) % 9}`]: `${at}` } }]);
    }
    log.tick();
  };
  more(40);
  first = await openBlockGenerator({ io, directory: join(root, 'first'), signer: member.signer });
  await first.push(log.entries);
  rows = [...log.rows.values()];
  offer = {
    height: first.point.height,
    address: asAddress(log.entries.length),
    stateRoot: first.stateRoot,
  };
  more(20);
  await first.push(log.entries.slice(offer.address));
});
afterAll(() => first.close());

function options(directory: string): SeedOptions & { fetched: number[] } {
  const fetched: number[] = [];
  return {
    disk: io.disk,
    directory,
    ...offer,
    rows,
    fetched,
    digests: async (from, count) => {
      const digests: Buffer[] = [];
      for (let at = from; at < Math.min(from + count, first.store.height); at++) {
        digests.push(blockDigest(await first.store.block(at)));
      }
      return digests;
    },
    block: (height) => {
      fetched.push(height);
      return first.store.block(height);
    },
  };
}

async function goesOn(directory: string): Promise<void> {
  const second = await openBlockGenerator({ io, directory, signer: member.signer });
  expect(second.nextAddress).toBe(offer.address);
  expect(addressOf(second.point.position)).toBeLessThan(offer.address);
  await second.push(log.entries.slice(second.nextAddress));
  expect(second.point).toEqual(first.point);
  expect(second.stateRoot).toEqual(first.stateRoot);
  for (let at = 0; at < first.store.height; at++) {
    const [own, theirs] = [await second.store.block(at), await first.store.block(at)];
    expect(blockDigest(own)).toEqual(blockDigest(theirs));
  }
  await second.close();
}

test('a chain goes on from a snapshot with blocks of another node', async () => {
  const directory = join(root, 'second');
  const given = options(directory);
  expect((await seedChain(given)).height).toBe(offer.height);
  expect(given.fetched).toHaveLength(offer.height);
  await goesOn(directory);
});

test('own blocks are kept up to the first that is wrong', async () => {
  const directory = join(root, 'third');
  const before = await openBlockGenerator({ io, directory, signer: member.signer });
  const wrong = log.entries.slice(0, 30).map((entry, at) => {
    if (at !== 20) return entry;
    const records = entry.records.map((one) => ({ ...one, verdict: 11 as const }));
    return { ...entry, records };
  });
  await before.push(wrong);
  const wrongHeight = before.store.height;
  await before.close();
  const given = options(directory);
  await seedChain(given);
  expect(given.fetched.length).toBeGreaterThan(offer.height - wrongHeight);
  expect(given.fetched.length).toBeLessThan(offer.height);
  await goesOn(directory);
});

test('rows that are not those of the root are refused', async () => {
  const spoilt = rows.map((row, at) => (at === 3 ? { ...row, value: 'x' } : row));
  const given = { ...options(join(root, 'fourth')), rows: spoilt };
  await expect(seedChain(given)).rejects.toMatchObject({ code: 'SNAPSHOT_INVALID' });
  const missing = { ...options(join(root, 'fourth')), rows: rows.slice(1) };
  await expect(seedChain(missing)).rejects.toMatchObject({ code: 'SNAPSHOT_INVALID' });
});

test('a generator that has lost its node and lives on is waited for', async () => {
  const directory = join(root, 'sixth');
  await io.disk.makeDirectory(directory);
  const lock = await io.disk.lock(directory);
  await expect(seedChain(options(directory))).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  await lock.release();
  await seedChain(options(directory));
  await goesOn(directory);
});

test('blocks that do not belong together are refused', async () => {
  const given = options(join(root, 'fifth'));
  const block = (height: number): Promise<Buffer> => first.store.block(height === 4 ? 5 : height);
  await expect(seedChain({ ...given, block })).rejects.toMatchObject({ code: 'BLOCK_MISMATCH' });
});
