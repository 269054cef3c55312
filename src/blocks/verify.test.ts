import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { type MspConfig, type Signer, stateKey } from '../model/index.ts';
import { MemoryBucketStore } from '../state/index.ts';
import { attestationOf, joinSignatures, verifyAttestation } from './attestation.ts';
import { segmentFrames } from './block-files.ts';
import { decodeBlock, encodeBlock, encodeSignedMetadata, signBlock } from './fabric/block.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import {
  makeKeyProof,
  makeReceipt,
  type Receipt,
  verifyKeyProof,
  verifyReceipt,
} from './receipt.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog, testContract } from './testing/test-log.ts';
import { ChainVerification, verifyChain } from './verify.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-verify-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let member: { msp: MspConfig; signer: Signer };
let log: TestLog;
let generator: BlockGenerator;
const directory = join(root, 'chain');
const blocks = join(directory, 'blocks');

beforeAll(async () => {
  member = await testIdentity('Org1MSP');
  const rule = { recordsMax: 4, bytesMax: 100_000, cutBeforeReads: true };
  log = new TestLog(member).config(rule);
  log.batch([{ writes: { a: '1', b: '2' } }, { writes: { c: '3' } }, { writes: { d: '4' } }]);
  log.batch(
    [
      { reads: ['a'], writes: { a: '5' } },
      { stale: true, writes: { a: '6' } },
    ],
    'single',
  );
  log.tick().config(rule);
  log.batch([{ reads: ['b'], range: ['a', 'z'] }, { writes: { c: undefined } }], 'batch', 3).tick();
  generator = await openBlockGenerator({
    io,
    directory,
    signer: member.signer,
    buckets: new MemoryBucketStore(),
    segmentBytesMax: 9000,
  });
  await generator.push(log.entries);
  await generator.checkpoint();
});

describe('verifyChain', () => {
  test('accepts a chain and reports its roots', async () => {
    const report = await verifyChain(io.disk, blocks, { msps: [member.msp] });
    expect(report).toMatchObject({
      problem: undefined,
      height: generator.store.height,
      records: generator.point.historySize,
      valid: 6,
      blockHash: Buffer.from(generator.point.hash).toString('hex'),
      stateRoot: generator.tree.stateRoot().toString('hex'),
    });
    expect(readdirSync(blocks).filter((name) => name.endsWith('.pb')).length).toBeGreaterThan(1);
    const first = await verifyChain(io.disk, blocks);
    expect(first.problem).toBeUndefined();
  });

  test('refuses a block with any byte changed', { timeout: 120_000 }, async () => {
    const stored = await Promise.all(
      Array.from({ length: generator.store.height }, (_, height) => generator.store.block(height)),
    );
    const upTo = (height: number): ChainVerification => {
      const verification = new ChainVerification({ msps: [member.msp], bucketBits: 4 });
      for (const block of stored.slice(0, height)) verification.next(block);
      return verification;
    };
    let bytes = 0;
    for (const [height, good] of stored.entries()) {
      const bad = Buffer.from(good);
      let verification = upTo(height);
      for (let at = 0; at < good.length; at++) {
        bad[at] = (good[at] as number) ^ (1 << (at % 8));
        let found = '';
        try {
          verification.next(bad);
        } catch (error) {
          found = (error as Error).message;
        }
        if (found === '') expect.fail(`byte ${at} of block ${height} was changed and not found`);
        // Found before anything was taken in: the verification is as it was.
        if (!/malformed|hash does not|canonical|signature/.test(found)) verification = upTo(height);
        bad[at] = good[at] as number;
      }
      bytes += good.length;
    }
    expect(bytes).toBeGreaterThan(20_000);
  });

  test('names file, block and byte of what was changed, in a chain of several files', async () => {
    const copy = join(root, 'copy');
    await io.disk.makeDirectory(copy);
    const names = readdirSync(blocks).filter((name) => name.endsWith('.pb'));
    for (const name of names) writeFileSync(join(copy, name), readFileSync(join(blocks, name)));
    for (const name of names) {
      const good = readFileSync(join(blocks, name));
      const ends = [...segmentFrames(good)].map(({ offset, bytes }) => offset + bytes.length);
      const first = Number(/[0-9]+/.exec(name)?.[0]);
      for (let at = 0; at < good.length; at += 1009) {
        const bad = Buffer.from(good);
        bad[at] = (bad[at] as number) ^ (1 << (at % 8));
        writeFileSync(join(copy, name), bad);
        const { problem } = await verifyChain(io.disk, copy, { msps: [member.msp] });
        const height = first + ends.findIndex((end) => at < end);
        const offset = ends[height - first - 1] ?? 0;
        expect(problem, `byte ${at} of ${name}`).toMatchObject({ file: name, height, offset });
      }
      for (const bytes of [good.subarray(0, -1), Buffer.concat([good, good])]) {
        writeFileSync(join(copy, name), bytes);
        expect((await verifyChain(io.disk, copy)).problem).toBeDefined();
      }
      writeFileSync(join(copy, name), good);
    }
    rmSync(join(copy, names[0] as string));
    const { problem } = await verifyChain(io.disk, copy);
    expect(problem).toBeDefined();
  });

  test('finds what a generator signed but did not compute', async () => {
    const stored = await Promise.all(
      Array.from({ length: generator.store.height }, (_, height) => generator.store.block(height)),
    );
    const lies: [string, (block: ReturnType<typeof decodeBlock>) => Buffer[]][] = [
      ['history', ({ metadata }) => metadata.with(2, Buffer.from([11, 0, 0, 0]))],
      ['commit hash', ({ metadata }) => metadata.with(4, Buffer.alloc(0))],
    ];
    for (const [what, lie] of lies) {
      const verification = new ChainVerification({ msps: [member.msp] });
      verification.next(stored[0] as Buffer);
      const block = decodeBlock(stored[1] as Buffer);
      const { metadataValue } = attestationOf(stored[1] as Buffer);
      const signature = signBlock(member.signer, metadataValue, block.header);
      const metadata = lie(block).with(
        0,
        encodeSignedMetadata({ value: metadataValue, signatures: [signature] }),
      );
      const filter = metadata[2] as Buffer;
      const sized = metadata.with(2, filter.subarray(0, block.envelopes.length));
      expect(() => verification.next(encodeBlock({ ...block, metadata: sized }))).toThrow(what);
    }
  });

  test('two generators’ signatures stand side by side', async () => {
    const second = await testIdentity('Org2MSP');
    const other = await openBlockGenerator({
      io,
      directory: join(root, 'second'),
      signer: second.signer,
      buckets: new MemoryBucketStore(),
    });
    await other.push(log.entries);
    const [ours, theirs] = [await generator.store.block(2), await other.store.block(2)];
    const joined = joinSignatures(ours, theirs);
    expect(attestationOf(joined).signatures).toHaveLength(2);
    expect(joinSignatures(joined, theirs).equals(joined)).toBe(true);
    const trust = { msps: [member.msp, second.msp], signaturesMin: 2 };
    expect(verifyAttestation(attestationOf(joined), trust).historySize).toBeGreaterThan(0);
    expect(() => verifyAttestation(attestationOf(ours), trust)).toThrow();
    expect(() => joinSignatures(ours, Buffer.from(ours).fill(1, 300, 310))).toThrow();
    const next = await other.store.block(3);
    expect(() => joinSignatures(ours, next)).toThrow('different blocks');
    await other.close();
  });

  test('refuses signatures of strangers and too few signatures', async () => {
    const stranger = await testIdentity('Org1MSP');
    const newest = await generator.store.block(generator.store.height - 1);
    const attestation = attestationOf(newest);
    verifyAttestation(attestation, { msps: [member.msp] });
    expect(() => verifyAttestation(attestation, { msps: [stranger.msp] })).toThrow();
    const trust = { msps: [member.msp], signaturesMin: 2 };
    expect(() => verifyAttestation(attestation, trust)).toThrow('1 signatures');
    const twice = [...attestation.signatures, ...attestation.signatures];
    expect(() => verifyAttestation({ ...attestation, signatures: twice }, trust)).toThrow();
    const report = await verifyChain(io.disk, blocks, { signaturesMin: 2 });
    expect(report.problem).toMatchObject({ height: 0 });
  });
});

describe('receipts and key proofs', () => {
  test('hold for every transaction, and for no changed one', async () => {
    const trust = { msps: [member.msp] };
    for (let height = 0; height < generator.store.height; height++) {
      const { txIds, positions } = await generator.describe(height);
      for (const [at, txId] of txIds.entries()) {
        if (txId.equals(Buffer.alloc(32))) continue;
        const made = await makeReceipt(generator, txId.toString('hex'));
        const receipt = JSON.parse(JSON.stringify(made)) as Receipt;
        const proven = verifyReceipt(receipt, trust);
        expect(proven.position).toBe(positions[at]);
        expect(proven.transaction.contract).toBe(testContract);
        expect(proven.transaction.result.toString()).toBe(`result of ${positions[at]}`);
        const forgeries: Partial<Receipt>[] = [
          { verdict: receipt.verdict === 0 ? 11 : 0 },
          { position: receipt.position + 1 },
          { txId: '0'.repeat(64) },
          { historyIndex: receipt.historyIndex + 1 },
          { path: receipt.path.slice(1) },
          { envelope: `${receipt.envelope.slice(0, 400)}AAAA${receipt.envelope.slice(404)}` },
          {
            block: {
              ...receipt.block,
              metadata: receipt.block.metadata.replace(/.{8}$/, 'AAAAAAA='),
            },
          },
          { block: { ...receipt.block, signatures: [] } },
        ];
        for (const forged of forgeries) {
          expect(() => verifyReceipt({ ...receipt, ...forged }, trust)).toThrow();
        }
      }
    }
    await expect(makeReceipt(generator, 'ab'.repeat(32))).rejects.toMatchObject({
      code: 'TRANSACTION_UNKNOWN',
    });
  });

  test('say what a key held, or that there was none', async () => {
    const trust = { msps: [member.msp] };
    for (const name of ['a', 'b', 'c', 'd', 'never']) {
      const key = stateKey(testContract, name);
      const made = await makeKeyProof(generator, key, (wanted) => log.rows.get(wanted));
      const proof = JSON.parse(JSON.stringify(made)) as typeof made;
      const { row, height } = verifyKeyProof(proof, trust);
      const expected = log.rows.get(key);
      expect(row?.value).toBe(expected?.value);
      expect(row?.version).toBe(expected?.version);
      expect(height).toBe(generator.store.height - 1);
      const other = {
        ...proof,
        proof: { ...proof.proof, key: Buffer.from('bank\0x').toString('base64') },
      };
      if (expected !== undefined) expect(() => verifyKeyProof(other, trust)).toThrow();
      await expect(
        makeKeyProof(generator, key, () => ({ key, value: 'newer', version: 1 as never })),
      ).rejects.toMatchObject({ code: 'PROOF_NOT_READY' });
    }
  });
});
