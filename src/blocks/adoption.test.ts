import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import { addressOf, asAddress, type MspConfig, type Signer } from '../model/index.ts';
import { adoptChainInProcess } from './adopt-process.ts';
import { type AdoptionOptions, adoptChain } from './adoption.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-adoption-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let member: { msp: MspConfig; signer: Signer };
let log: TestLog;
let first: BlockGenerator;
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  log = new TestLog(member).config({ recordsMax: 7, bytesMax: 9000, cutBeforeReads: true });
  for (let at = 0; at < 60; at++) {
    log.batch(
      Array.from({ length: 1 + (at % 4) }, (_, n) => ({
        reads: [`k${(at + n) % 9}`],
        writes: { [`k${(at * 2 + n) % 9}`]: `${at}` },
      })),
    );
    if (at % 13 === 0) log.fill().tick();
    if (at === 30) log.config({ recordsMax: 5, bytesMax: 9000, cutBeforeReads: true });
  }
  log.tick();
  first = await openBlockGenerator({ io, directory: join(root, 'first'), signer: member.signer });
  await first.push(log.entries);
});
afterAll(() => first.close());

/** Blocks of the first generator, three at a time. */
const fetchBlocks = async (from: number): Promise<Buffer[]> => {
  const blocks: Buffer[] = [];
  for (let at = from; at < Math.min(from + 3, first.store.height); at++) {
    blocks.push(await first.store.block(at));
  }
  return blocks;
};

const end = (): Pick<AdoptionOptions, 'target' | 'first'> => ({
  target: first.point.position,
  first: addressOf(first.point.position),
});

/** Bytes of a block without its signatures, which differ between generators. */
async function sameChain(other: BlockGenerator): Promise<void> {
  expect(other.point).toEqual(first.point);
  expect(other.stateRoot).toEqual(first.stateRoot);
  for (let at = 0; at < first.store.height; at++) {
    expect((await other.describe(at)).header).toEqual((await first.describe(at)).header);
    expect((await other.describe(at)).proof).toEqual((await first.describe(at)).proof);
  }
}

test.each([0, 40])(
  'a generator goes on behind blocks of another one, %i entries its own',
  async (own) => {
    const directory = join(root, `second-${own}`);
    const before = await openBlockGenerator({ io, directory, signer: member.signer });
    await before.push(log.entries.slice(0, own));
    await before.close();
    const middle = first.describe(Math.floor(first.store.height * 0.8));
    const target = (await middle).proof.end;
    const options = { directory, target, first: addressOf(target), msps: [member.msp] };
    const height = await adoptChainInProcess(
      io,
      options,
      fetchBlocks,
      new AbortController().signal,
    );
    expect(height).toBeLessThanOrEqual(first.store.height);
    const second = await openBlockGenerator({ io, directory, signer: member.signer });
    expect(second.point.height).toBe(height);
    expect(second.nextAddress).toBeGreaterThanOrEqual(addressOf(target));
    await second.push(log.entries.slice(second.nextAddress));
    await sameChain(second);
    await second.close();
  },
);

test('a block that does not hold is refused, by its number; what held stays', async () => {
  const directory = join(root, 'third');
  const options = { directory, ...end(), msps: [member.msp] };
  const spoilt = async (from: number): Promise<Buffer[]> => {
    const blocks = await fetchBlocks(from);
    const bytes = blocks[5 - from];
    if (bytes !== undefined) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
    return blocks;
  };
  await expect(adoptChain(io, options, spoilt)).rejects.toMatchObject({ details: { height: 5 } });
  const asked: number[] = [];
  await adoptChain(io, options, (from) => {
    asked.push(from);
    return fetchBlocks(from);
  });
  expect(asked[0]).toBe(5);
  const third = await openBlockGenerator({ io, directory, signer: member.signer });
  await sameChain(third);
  await third.close();
});

test('strangers are not believed', async () => {
  const { msp } = await testIdentity('OtherMSP');
  const options = { directory: join(root, 'fourth'), ...end(), msps: [msp] };
  await expect(adoptChain(io, options, fetchBlocks)).rejects.toMatchObject({
    details: { height: 0 },
  });
});

test('a generator goes on behind ticks that come after the last block, which nobody waits for', async () => {
  const directory = join(root, 'fifth');
  const { position } = first.point;
  // The log ended with two ticks more when a snapshot was taken behind them.
  const next = asAddress(addressOf(position) + 3);
  const options = { directory, target: position, first: next, msps: [member.msp] };
  await adoptChain(io, options, fetchBlocks);
  const fifth = await openBlockGenerator({ io, directory, signer: member.signer });
  expect(fifth.nextAddress).toBe(next);
  await sameChain(fifth);
  await fifth.close();
});

/** One that others have blocks for, saved and copied. */
async function saved(name: string): Promise<string> {
  const directory = join(root, name);
  const other = await openBlockGenerator({ io, directory, signer: member.signer });
  await other.push(log.entries);
  await other.close();
  return directory;
}

function rot(directory: string, where: number): void {
  const blocks = join(directory, 'blocks');
  const path = join(blocks, readdirSync(blocks).find((file) => file.endsWith('.pb')) as string);
  const bytes = readFileSync(path);
  const at = Math.floor(bytes.length * where);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
}

test.each([
  ['mended where they lie, and the chain goes on as it stood', true],
  ['replaced, where the chain goes on behind others’ blocks', false],
])('own blocks that rotted are %s', async (_, mends) => {
  const directory = await saved(`rotted-${mends}`);
  for (const where of [0.2, 0.5, 0.51, 0.99]) rot(directory, where);
  const open = (): Promise<BlockGenerator> =>
    openBlockGenerator({ io, directory, signer: member.signer });
  await expect(open()).rejects.toMatchObject({ code: 'STATE_DAMAGED' });
  const asked: number[] = [];
  const fetch = (from: number): Promise<Buffer[]> => {
    asked.push(from);
    return fetchBlocks(from);
  };
  const options = { directory, msps: [member.msp], mends, ...end() };
  expect(await adoptChain(io, options, fetch)).toBe(first.store.height);
  const again = await open();
  expect(again.store.damaged).toBeUndefined();
  await sameChain(again);
  // No more than what rotted.
  expect(asked.length).toBeLessThan(8);
  await again.close();
});

test('an own block that does not hold, though it is what was written, is replaced', async () => {
  const directory = await saved('old');
  const blocks = join(directory, 'blocks');
  // As where nothing told how it was written: its state root was changed.
  const path = join(blocks, readdirSync(blocks).find((file) => file.endsWith('.pb')) as string);
  const bytes = readFileSync(path);
  const { proof } = await first.describe(7);
  const at = bytes.indexOf(proof.stateRoot as Buffer);
  bytes[at] = (bytes[at] as number) ^ 1;
  writeFileSync(path, bytes);
  for (const file of readdirSync(blocks)) if (file.endsWith('.index')) rmSync(join(blocks, file));
  const copy = join(root, 'old-copy');
  cpSync(directory, copy, { recursive: true });
  const options = { directory, msps: [member.msp], mends: true, ...end() };
  await adoptChain(io, options, fetchBlocks);
  const again = await openBlockGenerator({ io, directory, signer: member.signer });
  await sameChain(again);
  await again.close();
  // Nobody has it: it is known from then on, and what is whole stays.
  const nobody = { ...options, directory: copy };
  const none = async (from: number): Promise<Buffer[]> => {
    throw new DaybookError('TIMEOUT', `nobody has block ${from}`);
  };
  await expect(adoptChain(io, nobody, none)).rejects.toMatchObject({ code: 'TIMEOUT' });
  await expect(
    openBlockGenerator({ io, directory: copy, signer: member.signer }),
  ).rejects.toMatchObject({ code: 'STATE_DAMAGED', details: { height: 7 } });
  await adoptChain(io, nobody, fetchBlocks);
  const late = await openBlockGenerator({ io, directory: copy, signer: member.signer });
  await sameChain(late);
  await late.close();
});
