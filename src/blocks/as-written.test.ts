import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { mendAsWrittenInProcess } from './adopt-process.ts';
import { mendAsWritten } from './as-written.ts';
import { segmentFrames } from './block-files.ts';
import { openBlockStore } from './block-store.ts';
import { decodeBlock, decodeSignedMetadata } from './fabric/block.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog } from './testing/test-log.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-as-written-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const file = join('blocks', 'blocks-0000000000.pb');

let member: Awaited<ReturnType<typeof testIdentity>>;
let other: BlockGenerator;
/** The chain that rots; its own signatures are others than those of the other chain. */
const original = join(root, 'original');
let bytes: Buffer;
/** Where its blocks begin, and how long they are. */
let frames: { readonly offset: number; readonly length: number }[];
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  const log = new TestLog(member).config({ recordsMax: 7, bytesMax: 9000, cutBeforeReads: true });
  for (let at = 0; at < 40; at++) {
    log.batch([{ reads: [`k${at % 9}`], writes: { [`k${(at * 2) % 9}`]: `${at}` } }]);
  }
  log.tick();
  const make = async (directory: string): Promise<BlockGenerator> => {
    const made = await openBlockGenerator({ io, directory, signer: member.signer });
    await made.push(log.entries);
    return made;
  };
  other = await make(join(root, 'other'));
  await (await make(original)).close();
  bytes = readFileSync(join(original, file));
  frames = [...segmentFrames(bytes)].map(({ offset, bytes: { length } }) => ({ offset, length }));
});
afterAll(() => other.close());

const fetchBlocks = async (from: number): Promise<Buffer[]> => [await other.store.block(from)];

let directories = 0;
/** A copy in which a bit of each of these blocks turned, at this share of its length. */
async function rotted(heights: readonly number[], where: number): Promise<string> {
  const directory = join(root, `${directories++}`);
  cpSync(original, directory, { recursive: true });
  const changed = Buffer.from(bytes);
  for (const height of heights) {
    const { offset, length } = frames[height] as (typeof frames)[number];
    const at = offset + Math.floor(length * where);
    changed[at] = (changed[at] as number) ^ 8;
  }
  writeFileSync(join(directory, file), changed);
  const store = await openBlockStore({ disk: io.disk, directory: join(directory, 'blocks') });
  expect(store.damagedBlocks).toEqual(heights);
  await store.close();
  return directory;
}

const options = (directory: string) => ({ directory, msps: [member.msp] });

test('what rotted is again what was written, with the signatures that it had', async () => {
  expect(await other.store.block(3)).not.toEqual(
    bytes.subarray(frames[3]?.offset, (frames[3]?.offset ?? 0) + (frames[3]?.length ?? 0)),
  );
  const directory = await rotted([3, 4, 9], 0.4);
  const { signal } = new AbortController();
  const height = await mendAsWrittenInProcess(io, options(directory), fetchBlocks, signal);
  expect(height).toBe(frames.length);
  expect(readFileSync(join(directory, file))).toEqual(bytes);
  const again = await openBlockGenerator({ io, directory, signer: member.signer });
  expect(again.point).toEqual(other.point);
  await again.close();
});

test('what cannot be told from the checksum is left to others', async () => {
  const last = frames.length - 1;
  for (const [heights, fetch] of [
    // Nothing follows it, so nothing tells its header.
    [[last], fetchBlocks],
    [[3, 5], async (from: number) => (from === 3 ? [] : await fetchBlocks(from))],
    [[3], async () => await fetchBlocks(4)],
    [[3], async () => [Buffer.from('no block at all')]],
  ] as const) {
    const directory = await rotted(heights, 0.4);
    await expect(mendAsWritten(io, options(directory), fetch)).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      details: { height: heights[0] },
    });
    const store = await openBlockStore({ disk: io.disk, directory: join(directory, 'blocks') });
    // What could be mended is.
    expect(store.damagedBlocks).toEqual([heights[0]]);
    await store.close();
  }
});

test('any bit of what another node gives is compared', { timeout: 60_000 }, async () => {
  const directory = await rotted([3], 0.4);
  const whole = await other.store.block(3);
  for (let at = 0; at < whole.length; at += 97) {
    const lie = Buffer.from(whole);
    lie[at] = (lie[at] as number) ^ (1 << (at % 8));
    const result = await mendAsWritten(io, options(directory), async () => [lie]).catch(
      (error: unknown) => error,
    );
    // Other signatures than one's own are not looked at.
    if (typeof result !== 'number') expect(result).toMatchObject({ code: 'STATE_DAMAGED' });
    else {
      expect(readFileSync(join(directory, file))).toEqual(bytes);
      cpSync(await rotted([3], 0.4), directory, { recursive: true });
    }
  }
});

test('strangers are not believed, though the checksum is right', async () => {
  const directory = await rotted([3], 0.4);
  const { msp } = await testIdentity('OtherMSP');
  await expect(mendAsWritten(io, { directory, msps: [msp] }, fetchBlocks)).rejects.toMatchObject({
    code: 'STATE_DAMAGED',
  });
});

test('nor is a member that changes what became of a record, and makes the checksum fit', async () => {
  const directory = await rotted([3], 0.4);
  const { offset, length } = frames[3] as (typeof frames)[number];
  const own = bytes.subarray(offset, offset + length);
  const { metadata } = decodeBlock(own);
  const [, , filter, , commit] = metadata as Buffer[];
  const { value } = decodeSignedMetadata(commit as Buffer);
  const lie = Buffer.from(own);
  const code = lie.lastIndexOf(filter as Buffer);
  lie[code] = 11;
  makeFit(lie, lie.lastIndexOf(value), crc32(own));
  expect(crc32(lie)).toBe(crc32(own));
  expect(decodeBlock(lie).metadata[2]?.[0]).toBe(11);
  await expect(mendAsWritten(io, options(directory), async () => [lie])).rejects.toMatchObject({
    code: 'STATE_DAMAGED',
  });
  await mendAsWritten(io, options(directory), async () => [own]);
  expect(readFileSync(join(directory, file))).toEqual(bytes);
});

/** Changes four bytes so that all of them have a checksum, which is linear in every bit. */
function makeFit(target: Buffer, at: number, wanted: number): void {
  target.writeUInt32BE(0, at);
  const base = crc32(target);
  const rows: { sum: number; bits: number }[] = [];
  for (let bit = 0; bit < 32; bit++) {
    target.writeUInt32BE((1 << bit) >>> 0, at);
    let row = { sum: (crc32(target) ^ base) >>> 0, bits: (1 << bit) >>> 0 };
    for (const known of rows) if (leads(row.sum, known.sum)) row = added(row, known);
    rows.push(row);
  }
  let left = { sum: (wanted ^ base) >>> 0, bits: 0 };
  for (const row of rows) if (leads(left.sum, row.sum)) left = added(left, row);
  target.writeUInt32BE(left.bits, at);
}

type Row = { readonly sum: number; readonly bits: number };

/** It has the other one's highest bit. */
function leads(sum: number, known: number): boolean {
  return ((sum >>> (31 - Math.clz32(known))) & 1) === 1;
}

function added(one: Row, other: Row): Row {
  return { sum: (one.sum ^ other.sum) >>> 0, bits: (one.bits ^ other.bits) >>> 0 };
}
