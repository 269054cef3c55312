import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import {
  addressOf,
  asAddress,
  asPosition,
  type MspConfig,
  type Position,
  type Signer,
  stateKey,
} from '../model/index.ts';
import type { AppliedEntry, Replica } from '../replica/index.ts';
import { decodeApplied, encodeApplied } from './applied-frames.ts';
import { type BlockBackend, openLocalBlocks } from './block-backend.ts';
import { type BlockProcess, startBlockProcess } from './block-process.ts';
import { startBlockService } from './block-service.ts';
import { verifyKeyProof, verifyReceipt } from './receipt.ts';
import { testIdentity } from './testing/test-identity.ts';
import { TestLog, testContract } from './testing/test-log.ts';
import { verifyChain } from './verify.ts';

const io = realIo();
const root = mkdtempSync(join(tmpdir(), 'daybook-service-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let member: { msp: MspConfig; signer: Signer; privateKeyPem: string };
beforeAll(async () => {
  member = await testIdentity('Org1MSP');
});

/** Hands out a log that grows while it is read. */
class FakeReplica implements Pick<Replica, 'readApplied'> {
  readonly #entries: AppliedEntry[] = [];
  #wake: () => void = () => {};

  add(entries: readonly AppliedEntry[]): void {
    this.#entries.push(...entries);
    this.#wake();
  }

  async *readApplied(
    from: Position,
    signal?: AbortSignal,
  ): AsyncGenerator<readonly AppliedEntry[]> {
    let next: number = addressOf(from);
    signal?.addEventListener('abort', () => this.#wake());
    while (signal?.aborted !== true) {
      const found = this.#entries.filter(({ address }) => address >= next).slice(0, 3);
      if (found.length > 0) {
        next = (found.at(-1) as AppliedEntry).address + 1;
        yield found;
      } else {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      }
    }
  }
}

function someLog(): TestLog {
  const log = new TestLog(member).config({ recordsMax: 5, bytesMax: 9000, cutBeforeReads: true });
  for (let at = 0; at < 12; at++) {
    log.batch([{ writes: { [`k${at}`]: 'v' } }, { reads: ['k0'], writes: { other: `${at}` } }]);
    log.tick().fill();
  }
  return log;
}

describe('the block service', () => {
  test('applied entries survive the way to another process', () => {
    const { entries } = someLog().config();
    expect(decodeApplied(encodeApplied(entries))).toEqual(entries);
    expect(() => decodeApplied(encodeApplied(entries).subarray(0, 900))).toThrow();
  });

  test('a service that closes while it catches up leaves nothing out', async () => {
    const log = someLog();
    // More than is handed over at once.
    for (let at = 0; at < 600; at++) log.tick();
    const { entries } = log;
    const directory = join(root, 'closed');
    const pushed: number[] = [];
    let closing: Promise<void> | undefined;
    const service = await startBlockService({
      io,
      replica: {
        // As from a log's page that was read already.
        readApplied: async function* () {
          yield entries.slice(0, 400);
          yield entries.slice(400);
        },
      },
      open: async () => {
        const backend = await openLocalBlocks(io, { directory });
        return {
          ...backend,
          push: async (some) => {
            pushed.push(...some.map(({ address }) => address));
            if (some.length > 0) closing ??= service.close();
            return await backend.push(some);
          },
        };
      },
      rowBefore: () => undefined,
    });
    while (closing === undefined) await new Promise((resolve) => setImmediate(resolve));
    await closing;
    expect(pushed).toEqual(pushed.map((_, at) => at));
    const again = await openLocalBlocks(io, { directory });
    expect(again.nextAddress).toBe(pushed.length);
    await expect(again.push(entries.slice(pushed.length + 1))).rejects.toThrow('in order');
    await again.close();
  });

  test('delivers blocks from any height, old and new, and answers for them', async () => {
    const log = someLog();
    const replica = new FakeReplica();
    const directory = join(root, 'local');
    const service = await startBlockService({
      io,
      replica,
      open: () =>
        openLocalBlocks(io, {
          directory,
          signer: { identity: member.signer.identity, privateKeyPem: member.privateKeyPem },
        }),
      rowBefore: (key) => log.rows.get(key),
    });
    await expect(service.keyProof('bank\0k0')).rejects.toMatchObject({ code: 'PROOF_NOT_READY' });
    replica.add(log.entries.slice(0, 10));
    const heights: number[] = [];
    const total = 13;
    for await (const { height } of service.follow(2)) {
      heights.push(height);
      if (heights.length === 1) replica.add(log.entries.slice(10));
      if (height === total - 1) break;
    }
    expect(heights).toEqual(Array.from({ length: total - 2 }, (_, at) => at + 2));
    const stop = new AbortController();
    const waiting = service.follow(1_000_000, stop.signal).next();
    stop.abort();
    expect((await waiting).done).toBe(true);
    const record = log.entries[1]?.records[0]?.record;
    const txId = Buffer.from(record?.txId as Uint8Array).toString('hex');
    expect(verifyReceipt(await service.receipt(txId), { msps: [member.msp] })).toMatchObject({
      verdict: 'valid',
    });
    const proof = await service.keyProof(stateKey(testContract, 'other'));
    expect(verifyKeyProof(proof, { msps: [member.msp] }).row?.value).toBe('11');
    await service.close();
    expect(service.alarm).toBeUndefined();
  });

  test('goes on in a new process when the old one is killed', { timeout: 60_000 }, async () => {
    const log = someLog();
    const replica = new FakeReplica();
    const directory = join(root, 'process');
    const started: BlockProcess[] = [];
    const service = await startBlockService({
      io,
      replica,
      open: async () => {
        const backend = await startBlockProcess(io, {
          directory,
          signer: { identity: member.signer.identity, privateKeyPem: member.privateKeyPem },
        });
        started.push(backend);
        return backend;
      },
      rowBefore: (key) => log.rows.get(key),
    });
    replica.add(log.entries.slice(0, 12));
    for await (const { height } of service.follow(0)) if (height === 3) break;
    started[0]?.kill();
    replica.add(log.entries.slice(12));
    for await (const { height } of service.follow(4)) if (height === 13) break;
    expect(started).toHaveLength(2);
    const proof = await service.keyProof(stateKey(testContract, 'k3'));
    expect(verifyKeyProof(proof, { msps: [member.msp] }).row?.value).toBe('v');
    await service.close();
    expect(service.alarm).toBeUndefined();
    const report = await verifyChain(io.disk, join(directory, 'blocks'), { msps: [member.msp] });
    expect(report).toMatchObject({ problem: undefined, height: 14 });
  });

  test('makes what waited when it was closed, though the log is quiet', async () => {
    const status = { position: asPosition(9), records: 1, blockHash: '', stateRoot: '' };
    let made = 0;
    const backend: BlockBackend = {
      nextAddress: asAddress(5),
      rowsFrom: asAddress(5),
      status: async () => ({ ...status, height: made }),
      push: async () => {
        made = 1;
        return { ...status, height: made };
      },
      block: async () => Buffer.from('block'),
      close: async () => {},
      save: () => expect.unreachable(),
      statement: () => expect.unreachable(),
      digests: () => expect.unreachable(),
      receipt: () => expect.unreachable(),
      keyPath: () => expect.unreachable(),
      placesOf: () => expect.unreachable(),
    };
    const service = await startBlockService({
      io,
      replica: new FakeReplica(),
      open: () => Promise.resolve(backend),
      rowBefore: () => undefined,
    });
    for await (const { bytes } of service.follow(0)) {
      expect(bytes.toString()).toBe('block');
      break;
    }
    await service.close();
  });

  test('many that wait for their place in the chain are no leak to Node', async () => {
    const warnings: string[] = [];
    const listener = (warning: Error): void => void warnings.push(warning.message);
    process.on('warning', listener);
    const directory = join(root, 'places');
    const service = await startBlockService({
      io,
      replica: new FakeReplica(),
      open: () => openLocalBlocks(io, { directory }),
      rowBefore: () => undefined,
    });
    const waiting = Array.from({ length: 20 }, () => service.placesOf([asPosition(9)], 30));
    for (const one of await Promise.allSettled(waiting)) expect(one.status).toBe('rejected');
    await service.close();
    process.off('warning', listener);
    expect(warnings).toEqual([]);
  });

  test('finds what rotted though nobody reads it', async () => {
    const directory = join(root, 'sweep');
    const replica = new FakeReplica();
    replica.add(
      new TestLog(member)
        .config()
        .batch([{ writes: { a: '1' } }])
        .tick().entries,
    );
    const service = await startBlockService({
      io,
      replica,
      open: () => openLocalBlocks(io, { directory, sweepBytesPerS: 1 << 20 }),
      rowBefore: () => undefined,
    });
    for await (const { height } of service.follow(0)) if (height === 1) break;
    const passed = async (): Promise<number> => (await service.now()).sweeps ?? 0;
    const passes = await passed();
    while ((await passed()) < passes + 2) await sleep(20);
    expect(service.alarm).toBeUndefined();
    const path = join(directory, 'blocks', 'blocks-0000000000.pb');
    const bytes = readFileSync(path);
    bytes[100] = (bytes[100] as number) ^ 1;
    writeFileSync(path, bytes);
    while (service.alarm === undefined && (await passed()) < passes + 9) await sleep(20);
    expect(service.alarm).toMatchObject({
      code: 'STATE_DAMAGED',
      message: expect.stringContaining('block 0 in blocks-0000000000.pb'),
    });
    await service.close();
  });

  test('stops with an alarm when the log gives other blocks than are stored', async () => {
    const directory = join(root, 'mismatch');
    const rowBefore = (): undefined => undefined;
    for (const [round, rule] of [3, 4].entries()) {
      const replica = new FakeReplica();
      const open = () => openLocalBlocks(io, { directory });
      const service = await startBlockService({ io, replica, open, rowBefore });
      const config = { recordsMax: rule, bytesMax: 9000, cutBeforeReads: true };
      replica.add(
        new TestLog(member)
          .config(config)
          .batch([{ writes: { a: '1' } }])
          .tick().entries,
      );
      if (round === 0) for await (const { height } of service.follow(0)) if (height === 1) break;
      if (round === 1) {
        // Remove the checkpoint so that the chain is made again from the start.
        await expect(service.follow(2).next()).rejects.toMatchObject({ code: 'BLOCK_MISMATCH' });
        expect(service.alarm?.code).toBe('BLOCK_MISMATCH');
      }
      await service.close();
      await io.disk.remove(join(directory, 'tree'));
    }
  });
});
