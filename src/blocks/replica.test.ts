import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { encodeEntry, type MspConfig, positionOf, type Signer, stateKey } from '../model/index.ts';
import { openReplica } from '../replica/index.ts';
import {
  configEntry,
  deployRecord,
  entryOfRecords,
  type TestRecord,
  testConfig,
  testMember,
} from '../replica/testing/ledger.ts';
import { MemoryLog } from '../replica/testing/memory-log.ts';
import { MemoryBucketStore, MemoryStore, openState, StateTree } from '../state/index.ts';
import { localBlocks } from './block-backend.ts';
import { startBlockService } from './block-service.ts';
import { openBlockGenerator } from './generator.ts';
import { verifyKeyProof, verifyReceipt } from './receipt.ts';
import { rowsBefore } from './row-before.ts';
import { verifyChain } from './verify.ts';

/* Blocks behind a real replica: whatever it applies, the chain's roots are those of its state. */

const io = realIo();
let org: { msp: MspConfig; signer: Signer };
let directory: string;
let runs = 0;
beforeAll(async () => {
  org = await testMember('Org1');
  directory = await mkdtemp(join(tmpdir(), 'daybook-blocks-replica-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

const keys = ['a', 'b', 'c', 'd'];
/** Reads name the version that was current when the entry was made, or a stale one. */
interface Move {
  readonly reads: readonly string[];
  readonly writes: readonly { readonly key: string; readonly value: string | undefined }[];
  readonly mode: 'batch' | 'single';
}
const move: fc.Arbitrary<Move> = fc.record({
  reads: fc.uniqueArray(fc.constantFrom(...keys), { maxLength: 2 }),
  writes: fc.uniqueArray(
    fc.record({
      key: fc.constantFrom(...keys),
      value: fc.option(fc.string({ maxLength: 4, unit: 'binary-ascii' }), { nil: undefined }),
    }),
    { maxLength: 2, selector: ({ key }) => key },
  ),
  mode: fc.constantFrom('batch' as const, 'single' as const),
});

test('roots, receipts and proofs agree with the replica', { timeout: 60_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(move, { minLength: 1, maxLength: 5 }), { minLength: 1, maxLength: 6 }),
      async (groups) => {
        const own = join(directory, String(runs++));
        const log = new MemoryLog();
        const timestampMs = 1000;
        const rule = { recordsMax: 4, bytesMax: 100_000, cutBeforeReads: true };
        const config = testConfig([org.msp], { blocks: rule });
        log.append(configEntry(config, timestampMs));
        // Refused by replay: such an entry leaves no block.
        log.append(configEntry({ ...config, sequence: 7 }, timestampMs));
        log.append(
          entryOfRecords(org.signer, [deployRecord('money', '1', 1, timestampMs)], timestampMs),
        );
        const state = await openState({ io, directory: `${own}/state`, store: new MemoryStore() });
        const replica = openReplica({ io, log, state, holeTimeoutMs: 30 });
        const generator = await openBlockGenerator({
          io,
          directory: `${own}/chain`,
          buckets: new MemoryBucketStore(),
          signer: org.signer,
          bucketBits: 4,
        });
        const rowBefore = rowsBefore(state);
        const open = () => Promise.resolve(localBlocks(generator));
        const service = await startBlockService({ io, replica, open, rowBefore });
        const applied = async (): Promise<void> => {
          const end = positionOf(await log.tail(), 0);
          await replica.waitFor(end, io.clock.monotonicMs() + 5000);
        };
        for (const moves of groups) {
          await applied();
          const records = moves.map(({ reads, writes }): TestRecord => {
            const sorted = writes.toSorted((left, right) => (left.key < right.key ? -1 : 1));
            const version = (key: string) => state.get(stateKey('money', key))?.version;
            const read = reads.toSorted().map((key) => ({ key, version: version(key) }));
            return { timestampMs, sets: [{ namespace: 'money', reads: read, writes: sorted }] };
          });
          log.append(entryOfRecords(org.signer, records, timestampMs));
        }
        log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs }));
        await applied();
        // The founding configuration, the deployment, and every move, valid or not.
        const expected = 2 + groups.reduce((sum, moves) => sum + moves.length, 0);
        for await (const _ of service.follow(0)) if (service.status.records === expected) break;
        const rows = new StateTree({ bucketBits: 3 });
        rows.update(state.range('', ''));
        expect(service.status.stateRoot).toBe(rows.stateRoot().toString('hex'));
        const trust = { msps: [org.msp] };
        const report = await verifyChain(io.disk, `${own}/chain/blocks`, trust);
        expect(report.problem).toBeUndefined();
        expect(report.stateRoot).toBe(service.status.stateRoot);
        // The state moves on; proofs are still of the newest block.
        const before = new Map(keys.map((key) => [key, state.get(stateKey('money', key))?.value]));
        const newer = keys.map((key) => ({ key, value: 'newer' }));
        const record: TestRecord = { timestampMs, sets: [{ namespace: 'money', writes: newer }] };
        log.append(entryOfRecords(org.signer, [record], timestampMs));
        await applied();
        for (const key of keys) {
          expect(state.get(stateKey('money', key))?.value).toBe('newer');
          const proof = await service.keyProof(stateKey('money', key));
          expect(verifyKeyProof(proof, trust).row?.value).toBe(before.get(key));
        }
        const { txIds, positions } = await generator.describe(service.status.height - 1);
        const txId = txIds[0]?.toString('hex') as string;
        const proven = verifyReceipt(await service.receipt(txId), trust);
        expect(proven.position).toBe(positions[0]);
        expect(replica.status(txId)?.position).toBe(positions[0]);
        await service.close();
        await replica.close();
        await state.close();
      },
    ),
    { numRuns: 12 },
  );
});
