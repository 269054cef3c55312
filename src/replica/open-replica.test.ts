import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DaybookError, limits } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import type { LogEntry } from '../log/index.ts';
import {
  type Address,
  asAddress,
  asPosition,
  type MspConfig,
  type Position,
  positionOf,
  type ReadVersion,
  type Signer,
} from '../model/index.ts';
import { MemoryStore, openState } from '../state/index.ts';
import { openReplica } from './open-replica.ts';
import type { AppliedEntry, Replica } from './replica.ts';
import {
  configEntry,
  deployRecord,
  entryOfRecords,
  type TestRecord,
  testConfig,
  testMember,
} from './testing/ledger.ts';
import { MemoryLog } from './testing/memory-log.ts';

const io = realIo();
let org: { msp: MspConfig; signer: Signer };
let directory: string;
let run = 0;

beforeAll(async () => {
  org = await testMember('Org1');
  directory = await mkdtemp(join(tmpdir(), 'daybook-replica-'));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

function found(log: MemoryLog): void {
  log.append(configEntry(testConfig([org.msp]), 1000));
  log.append(entryOfRecords(org.signer, [deployRecord('money', '1', 1, 1000)], 1000));
}

async function open(log: MemoryLog, options: object = {}): Promise<Replica> {
  const own = join(directory, String(run++));
  const state = await openState({ io, directory: own, store: new MemoryStore(), ...options });
  return openReplica({ io, log, state, holeTimeoutMs: 30 });
}

const soon = (): number => io.clock.monotonicMs() + 5_000;
const end = (log: MemoryLog): Promise<Position> => log.tail().then((tail) => positionOf(tail, 0));
const write = (key: string, value: string): TestRecord => ({
  timestampMs: 1000,
  sets: [{ namespace: 'money', writes: [{ key, value }] }],
});
const entryOf = (...records: TestRecord[]): Buffer => entryOfRecords(org.signer, records, 1000);

/** What matters of applied entries, in a form to compare. */
const plain = (entries: readonly AppliedEntry[]): unknown[] =>
  entries.map(({ address, entry, records, configVerdict, logTimeMs }) => ({
    address,
    kind: entry?.kind,
    records: records.map(({ position, verdict, record }) => [
      position,
      verdict,
      Buffer.from(record.txId).toString('hex'),
    ]),
    configVerdict,
    logTimeMs,
  }));

async function collect(replica: Replica, from: Position, to: Address): Promise<AppliedEntry[]> {
  const collected: AppliedEntry[] = [];
  for await (const entries of replica.readApplied(from)) {
    collected.push(...entries);
    if ((entries.at(-1)?.address ?? 0) >= to - 1) break;
  }
  return collected;
}

describe('replica', () => {
  it('applies what is written and tells those who wait', async () => {
    const log = new MemoryLog();
    found(log);
    const replica = await open(log);
    const seen: AppliedEntry[] = [];
    replica.onApplied((entries) => seen.push(...entries));
    await replica.waitFor(await end(log), soon());
    const waiting = replica.waitFor(positionOf(asAddress(3), 0), soon());
    log.append(entryOf(write('a', '1')));
    await waiting;
    expect(replica.state.get('money\0a')?.value).toBe('1');
    expect(seen.map(({ address }) => address)).toEqual([0, 1, 2]);
    await expect(
      replica.waitFor(asPosition(1e9), io.clock.monotonicMs() + 10),
    ).rejects.toMatchObject({ code: 'TIMEOUT' });
    const left = replica.waitFor(asPosition(1e9), soon());
    await Promise.all([expect(left).rejects.toMatchObject({ code: 'CLOSED' }), replica.close()]);
    await expect(replica.waitFor(asPosition(1e9), soon())).rejects.toMatchObject({
      code: 'CLOSED',
    });
    await replica.state.close();
  });

  it('closes holes that nobody fills', async () => {
    const log = new MemoryLog();
    found(log);
    const replica = await open(log);
    await log.write({ epoch: 0, address: asAddress(4) }, entryOf(write('a', '1')));
    await replica.waitFor(positionOf(asAddress(5), 0), soon());
    expect((await log.read(asAddress(2))).kind).toBe('fill');
    expect(replica.state.get('money\0a')?.value).toBe('1');
    await replica.close();
    await replica.state.close();
  });

  it('goes on after errors that pass, and stops at those that do not', async () => {
    const log = new MemoryLog();
    const replica = await open(log);
    log.failure = new DaybookError('PEER_UNREACHABLE', 'away');
    log.wake();
    found(log);
    await replica.waitFor(await end(log), soon());
    const alarm = new Promise<Error>((resolve) => replica.onAlarm(resolve));
    const waiting = replica.waitFor(asPosition(1e9), soon());
    const reading = collect(replica, positionOf(asAddress(9), 0), asAddress(10));
    log.failure = new DaybookError('LOG_DAMAGED', 'damaged');
    log.wake();
    await Promise.all([
      expect(waiting).rejects.toMatchObject({ code: 'LOG_DAMAGED' }),
      expect(reading).rejects.toMatchObject({ code: 'LOG_DAMAGED' }),
    ]);
    expect(await alarm).toBe(replica.alarm);
    await replica.close();
    await replica.state.close();
  });

  it('gives the same entries to those who read along, later, and after a restart', async () => {
    const log = new MemoryLog();
    const store = new MemoryStore();
    const own = join(directory, String(run++));
    found(log);
    for (let at = 0; at < 700; at++) {
      const version = at % 3 === 0 ? positionOf(asAddress(1), 0) : undefined;
      const reads = at % 5 === 0 ? [{ key: 'none', version }] : [];
      log.append(
        at % 7 === 0
          ? configEntry(testConfig([org.msp], { sequence: 5 }), 1000 + at)
          : entryOfRecords(
              org.signer,
              [{ ...write('a', String(at)), sets: [{ namespace: 'money', reads }] }],
              1000 + at,
            ),
      );
    }
    const tail = await log.tail();
    const live: AppliedEntry[] = [];
    const replica = openReplica({ io, log, state: await openState({ io, directory: own, store }) });
    replica.onApplied((entries) => live.push(...entries));
    const along = collect(replica, asPosition(0), tail);
    await replica.waitFor(await end(log), soon());
    expect(plain(await along)).toEqual(plain(live));
    expect(plain(await collect(replica, asPosition(0), tail))).toEqual(plain(live));
    const from = positionOf(asAddress(123), 7);
    expect(plain(await collect(replica, from, tail))).toEqual(plain(live.slice(123)));
    await replica.close();
    await replica.state.close();
    const state = await openState({ io, directory: own, store });
    expect(state.nextAddress).toBe(tail);
    const again = openReplica({ io, log, state });
    expect(plain(await collect(again, asPosition(0), tail))).toEqual(plain(live));
    await again.close();
    await state.close();
  });

  it('passes over nothing when the log is read faster than it is applied', async () => {
    let release = (): void => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    let followers = 0;
    /** Whoever follows first, the replica, gets five entries for now; others see all. */
    class SlowAtFirst extends MemoryLog {
      override async *follow(
        from: Address,
        signal?: AbortSignal,
      ): AsyncGenerator<readonly LogEntry[], void> {
        const isSlow = followers++ === 0;
        for await (const entries of super.follow(from, signal)) {
          if (!isSlow) yield entries;
          else {
            for (const entry of entries) {
              if (entry.address >= 5) await released;
              yield [entry];
            }
          }
        }
      }
    }
    const log = new SlowAtFirst();
    found(log);
    for (let at = 2; at < 10; at++) log.append(entryOf(write('a', String(at))));
    const replica = await open(log);
    await replica.waitFor(positionOf(asAddress(5), 0), soon());
    const addresses: number[] = [];
    for await (const entries of replica.readApplied(positionOf(asAddress(0), 0))) {
      addresses.push(...entries.map(({ address }) => address));
      if (addresses.length === 5) {
        // More is applied than is kept for those who read along.
        const more = limits.replicaRecentEntriesMax + 10;
        for (let at = 0; at < more; at++) log.append(entryOf(write('b', String(at))));
        release();
        await replica.waitFor(await end(log), soon());
      }
      if ((addresses.at(-1) ?? 0) + 1 >= replica.nextAddress) break;
    }
    expect(addresses).toEqual(Array.from({ length: replica.nextAddress }, (_, at) => at));
    await replica.close();
    await replica.state.close();
  });

  it('finds the same state and verdicts whatever the pages, flushes and restarts', async () => {
    const keys = ['a', 'b', 'c', 'd'];
    const recordArbitrary = fc.record({
      reads: fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), fc.nat(3)), {
        selector: ([key]) => key,
        maxLength: 2,
      }),
      writes: fc.uniqueArray(fc.tuple(fc.constantFrom(...keys), fc.nat(9)), {
        selector: ([key]) => key,
        maxLength: 2,
      }),
      nonce: fc.nat(40),
      timestampMs: fc.constantFrom(1000, 1000, 1000, 70_000),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.array(recordArbitrary, { minLength: 1, maxLength: 4 }), { maxLength: 12 }),
        fc.array(fc.nat(20), { maxLength: 4 }),
        fc.integer({ min: 1, max: 9 }),
        async (groups, stops, pageMax) => {
          const log = new MemoryLog();
          found(log);
          // A naive executor: it knows the versions, and is sometimes behind.
          const written = new Map<string, Position[]>();
          groups.forEach((group, number) => {
            const address = asAddress(number + 2);
            const records = group.map(({ reads, writes, nonce, timestampMs }): TestRecord => {
              const versionOf = (key: string, behind: number): ReadVersion => {
                const all = written.get(key) ?? [];
                return all[all.length - 1 - Math.floor(behind / 3)];
              };
              return {
                timestampMs,
                nonce: Buffer.alloc(24, nonce),
                sets: [
                  {
                    namespace: 'money',
                    reads: reads.map(([key, behind]) => ({ key, version: versionOf(key, behind) })),
                    writes: writes
                      .map(([key, value]) => ({
                        key,
                        value: value === 0 ? undefined : String(value),
                      }))
                      .sort((left, right) => (left.key < right.key ? -1 : 1)),
                  },
                ],
              };
            });
            log.append(entryOfRecords(org.signer, records, 1000 + number));
            group.forEach(({ writes }, index) => {
              for (const [key] of writes) {
                written.set(key, [...(written.get(key) ?? []), positionOf(address, index)]);
              }
            });
          });
          const tail = await log.tail();
          const outcome = async (replica: Replica): Promise<unknown> => ({
            entries: plain(await collect(replica, asPosition(0), tail)),
            rows: replica.state
              .range('', '')
              .map(({ key, value, version }) => [key, value, version]),
            histories: keys.map((key) => replica.state.history(`money\0${key}`, 100).rows),
          });
          const straight = await open(log);
          await straight.waitFor(await end(log), soon());
          const expected = await outcome(straight);
          await straight.close();
          await straight.state.close();

          log.pageMax = pageMax;
          const own = join(directory, String(run++));
          const store = new MemoryStore();
          const options = { io, directory: own, store, flushWritesMax: 3 };
          for (const stop of stops) {
            const state = await openState(options);
            const replica = openReplica({ io, log, state });
            await replica.waitFor(positionOf(asAddress(Math.min(stop, tail)), 0), soon());
            await replica.close();
            // Not closed: what is not flushed is lost, as when the process dies.
          }
          const state = await openState(options);
          const replica = openReplica({ io, log, state });
          await replica.waitFor(await end(log), soon());
          expect(await outcome(replica)).toEqual(expected);
          await replica.close();
          await state.close();
        },
      ),
      { numRuns: 25 },
    );
  });
});
