import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { realIo } from '../io/index.ts';
import { encodeEntry, positionOf, stateKey } from '../model/index.ts';
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
import { adoptChain } from './adoption.ts';
import { localBlocks } from './block-backend.ts';
import { type BlockService, startBlockService } from './block-service.ts';
import { type BlockGenerator, openBlockGenerator } from './generator.ts';
import { verifyKeyProof } from './receipt.ts';
import { rowsBefore } from './row-before.ts';
import { verifyChain } from './verify.ts';

/*
 * Bulk updates behind a real replica. `verifyChain` applies every update to all rows at once and
 * compares the state root of every block, so a chain that it accepts is the eager one.
 */

const directory = mkdtempSync(join(tmpdir(), 'daybook-bulk-blocks-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const keys = Array.from({ length: 8 }, (_, at) => `k${at}`);
const place = fc.nat(keys.length - 1);

const move = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      key: place,
      n: fc.option(fc.nat(9), { nil: undefined }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      from: place,
      query: fc.constantFrom('{}', '{"n":{"$gte":5}}'),
      update: fc.constantFrom('{"$inc":{"n":3}}', '{"$mul":{"n":2}}', '{"$set":{"s":"x"}}'),
      rows: fc.constantFrom(1, 50),
    }),
  },
);

let runs = 0;

async function blocksOf({ store }: BlockGenerator): Promise<Buffer[]> {
  const blocks: Buffer[] = [];
  while (blocks.length < store.height) blocks.push(await store.block(blocks.length));
  return blocks;
}

test('blocks commit to what eager updates would give, before and after the switch', async () => {
  const io = realIo();
  const org = await testMember('Org1');
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(move, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 8 }),
      fc.nat(3),
      fc.boolean(),
      async (groups, switchAfterBlocks, restart) => {
        const own = join(directory, String(runs++));
        const log = new MemoryLog();
        const timestampMs = 1000;
        const blocks = { recordsMax: 3, bytesMax: 100_000, cutBeforeReads: true };
        const bulk = { heavyRowsMin: 10, switchAfterBlocks };
        log.append(configEntry(testConfig([org.msp], { blocks, bulk }), timestampMs));
        log.append(
          entryOfRecords(org.signer, [deployRecord('money', '1', 1, timestampMs)], timestampMs),
        );
        const state = await openState({
          io,
          directory: `${own}/state`,
          store: new MemoryStore(),
          flushIntervalMs: 2,
        });
        const replica = openReplica({ io, log, state, holeTimeoutMs: 30 });
        const buckets = new MemoryBucketStore();
        const openChain = async (): Promise<{
          generator: BlockGenerator;
          service: BlockService;
        }> => {
          const generator = await openBlockGenerator({
            io,
            directory: `${own}/chain`,
            buckets,
            signer: org.signer,
            bucketBits: 4,
          });
          const service = await startBlockService({
            io,
            replica,
            open: () => Promise.resolve(localBlocks(generator)),
            rowBefore: rowsBefore(state),
          });
          return { generator, service };
        };
        let { generator, service } = await openChain();
        let records = 2;
        const append = (moves: readonly TestRecord[]): void => {
          records += moves.length;
          log.append(entryOfRecords(org.signer, moves, timestampMs));
        };
        for (const moves of groups) {
          append(
            moves.map((one): TestRecord => {
              if (!('update' in one)) {
                const value = one.n === undefined ? undefined : `{"n":${one.n}}`;
                const key = keys[one.key] as string;
                return { timestampMs, sets: [{ namespace: 'money', writes: [{ key, value }] }] };
              }
              const { query, update, rows } = one;
              const bulkUpdate = { start: keys[one.from] as string, end: '', query, update, rows };
              return { timestampMs, sets: [{ namespace: 'money', bulkUpdates: [bulkUpdate] }] };
            }),
          );
        }
        const blocksMade = async (): Promise<void> => {
          log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs }));
          for await (const _ of service.follow(0)) if (service.status.records >= records) break;
        };
        await blocksMade();
        const trust = { msps: [org.msp] };
        // While updates are pending, proofs show the rows that the root covers.
        for (const key of keys) {
          const proof = verifyKeyProof(await service.keyProof(stateKey('money', key)), trust);
          expect(proof.height).toBe(service.status.height - 1);
        }
        // Another node takes the blocks over; its state begins behind the updates that are pending.
        const adopted = { directory: `${own}/adopted`, buckets: new MemoryBucketStore() };
        const target = generator.point.position;
        await adoptChain(
          io,
          { directory: adopted.directory, target, first: await log.tail(), msps: [org.msp] },
          async (from) => (from === 0 ? await blocksOf(generator) : []),
          { openBuckets: () => adopted.buckets, bucketBits: 4 },
        );
        if (restart) {
          const { point, pending } = generator;
          // All that a node needs of the log is there, although updates wait for their switch.
          while (state.pendingUpdates.length > 0) await new Promise((done) => setTimeout(done, 2));
          expect(await service.save(await log.tail())).toBe(await log.tail());
          await service.close();
          ({ generator, service } = await openChain());
          expect({ point: generator.point, pending: generator.pending }).toEqual({
            point,
            pending,
          });
        }
        for (let more = 0; more <= switchAfterBlocks; more++) {
          const writes = [{ key: 'other', value: `${more}` }];
          append([{ timestampMs, sets: [{ namespace: 'money', writes }] }]);
          await blocksMade();
        }
        const end = positionOf(await log.tail(), 0);
        await replica.waitFor(end, io.clock.monotonicMs() + 5000);
        expect(generator.pending.updates).toEqual([]);
        const rows = new StateTree({ bucketBits: 3 });
        rows.update(state.range('', ''));
        expect(service.status.stateRoot).toBe(rows.stateRoot().toString('hex'));
        const other = await openBlockGenerator({ io, ...adopted, bucketBits: 4 });
        expect(other.rowsFrom).toBe(other.nextAddress);
        for await (const page of replica.readApplied(positionOf(other.nextAddress, 0))) {
          await other.push(page);
          if (positionOf(other.nextAddress, 0) === end) break;
        }
        expect(other.point).toEqual(generator.point);
        expect(other.stateRoot).toEqual(generator.stateRoot);
        await other.checkpoint();
        expect(await io.disk.list(`${adopted.directory}/rows`)).toEqual([]);
        await other.close();
        const report = await verifyChain(io.disk, `${own}/chain/blocks`, trust);
        expect(report.problem).toBeUndefined();
        expect(report.stateRoot).toBe(service.status.stateRoot);
        await service.close();
        if (groups.flat().some((one) => 'update' in one)) {
          // Its checkpoint is past all switches. Whoever begins anew is told, and does not wait.
          expect(await io.disk.list(state.bulkDirectory)).toEqual([]);
          expect(await io.disk.list(`${own}/chain/rows`)).toEqual([]);
          const again = await openBlockGenerator({
            io,
            directory: `${own}/again`,
            buckets: new MemoryBucketStore(),
            bucketBits: 4,
          });
          const anew = await startBlockService({
            io,
            replica,
            open: () => Promise.resolve(localBlocks(again)),
            rowBefore: rowsBefore(state),
          });
          while (anew.alarm === undefined) await new Promise((done) => setTimeout(done, 20));
          expect(anew.alarm.code).toBe('BULK_ROWS_GONE');
          await anew.close();
        }
        await replica.close();
        await state.close();
      },
    ),
    { numRuns: 10 },
  );
});

test('rows of a bulk update that rotted get into no block, nor into what is saved', async () => {
  const io = realIo();
  const org = await testMember('Org1');
  const own = join(directory, 'rotted');
  const log = new MemoryLog();
  const timestampMs = 1000;
  const blocks = { recordsMax: 3, bytesMax: 100_000, cutBeforeReads: true };
  const bulk = { heavyRowsMin: 10, switchAfterBlocks: 2 };
  log.append(configEntry(testConfig([org.msp], { blocks, bulk }), timestampMs));
  const append = (...records: TestRecord[]): void => {
    log.append(entryOfRecords(org.signer, records, timestampMs));
  };
  append(deployRecord('money', '1', 1, timestampMs));
  for (const key of keys) {
    append({ timestampMs, sets: [{ namespace: 'money', writes: [{ key, value: '{"n":1}' }] }] });
  }
  const update = { start: 'k', end: '', query: '{}', update: '{"$inc":{"n":3}}', rows: 50 };
  append({ timestampMs, sets: [{ namespace: 'money', bulkUpdates: [update] }] });
  const state = await openState({
    io,
    directory: `${own}/state`,
    store: new MemoryStore(),
    flushIntervalMs: 2,
  });
  const replica = openReplica({ io, log, state, holeTimeoutMs: 30 });
  const chain = {
    io,
    directory: `${own}/chain`,
    buckets: new MemoryBucketStore(),
    signer: org.signer,
    bucketBits: 4,
  };
  const pushTo = async (generator: BlockGenerator): Promise<void> => {
    generator.useBulkDirectory(state.bulkDirectory);
    const end = positionOf(await log.tail(), 0);
    await replica.waitFor(end, io.clock.monotonicMs() + 5000);
    if (positionOf(generator.nextAddress, 0) === end) return;
    for await (const page of replica.readApplied(positionOf(generator.nextAddress, 0))) {
      await generator.push(page);
      if (positionOf(generator.nextAddress, 0) === end) break;
    }
  };
  let generator = await openBlockGenerator(chain);
  log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs }));
  await pushTo(generator);
  await generator.checkpoint();
  expect(generator.pending.updates).toHaveLength(1);
  const { point, stateRoot } = generator;
  while (state.pendingUpdates.length > 0) await new Promise((done) => setTimeout(done, 2));
  const [file = ''] = await io.disk.list(state.bulkDirectory);
  const path = join(state.bulkDirectory, file);
  const rows = readFileSync(path);
  const spoilt = Buffer.from(rows);
  // A digit of the last value.
  const at = spoilt.lastIndexOf('4');
  spoilt[at] = (spoilt[at] as number) ^ 1;
  writeFileSync(path, spoilt);
  for (let more = 0; more < 3; more++) {
    const writes = [{ key: 'other', value: `${more}` }];
    append({ timestampMs, sets: [{ namespace: 'money', writes }] });
    log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs }));
  }
  await expect(pushTo(generator)).rejects.toMatchObject({ code: 'BULK_ROWS_GONE' });
  await expect(generator.checkpoint()).rejects.toMatchObject({ code: 'BULK_ROWS_GONE' });
  await generator.close();
  generator = await openBlockGenerator(chain);
  expect({ point: generator.point, stateRoot: generator.stateRoot }).toEqual({ point, stateRoot });
  // Somebody has them.
  writeFileSync(path, rows);
  await pushTo(generator);
  expect(generator.pending.updates).toEqual([]);
  const tree = new StateTree({ bucketBits: 3 });
  tree.update(state.range('', ''));
  expect(generator.stateRoot).toEqual(tree.stateRoot());
  await generator.close();
  await replica.close();
  await state.close();
});
