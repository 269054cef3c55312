import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import {
  type Address,
  asAddress,
  type BatchProof,
  encodeEntry,
  type MspConfig,
  type NamespaceSet,
  positionOf,
  type RecordsEntry,
  type Signer,
  stateKey,
  verdicts,
} from '../model/index.ts';
import { MemoryStore, openState, type State } from '../state/index.ts';
import { Replay, type Replayed } from './replay.ts';
import {
  configEntry,
  deployRecord,
  entryOfRecords,
  recordsEntry,
  singleEntry,
  type TestRecord,
  testBatch,
  testConfig,
  testMember,
} from './testing/ledger.ts';

const io = realIo();
let org: { msp: MspConfig; signer: Signer };
let stranger: { msp: MspConfig; signer: Signer };
let directory: string;

beforeAll(async () => {
  org = await testMember('Org1');
  stranger = await testMember('Org2');
  directory = await mkdtemp(join(tmpdir(), 'daybook-replay-'));
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** The other signature that verifies: `s` in the upper half. */
function highS(der: Buffer): Buffer {
  const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');
  const sAt = 4 + (der[3] as number) + 2;
  const s = order - BigInt(`0x${der.toString('hex', sAt)}`);
  const digits = Buffer.from(s.toString(16).padStart(64, '0'), 'hex');
  const sBytes = Buffer.concat([Buffer.of(0), digits]);
  const body = Buffer.concat([der.subarray(2, sAt - 2), Buffer.of(2, sBytes.length), sBytes]);
  return Buffer.concat([Buffer.of(0x30, body.length), body]);
}

class Ledger {
  readonly state: State;
  replay: Replay;

  constructor(state: State) {
    this.state = state;
    this.replay = new Replay(state);
  }

  put(bytes: Uint8Array | undefined): Replayed & { address: Address } {
    const address = this.state.nextAddress;
    const replayed = this.replay.next({
      address,
      kind: bytes === undefined ? 'fill' : 'data',
      epoch: 0,
      bytes: bytes ?? new Uint8Array(),
    });
    this.state.apply(replayed.change);
    return { ...replayed, address };
  }

  verdicts(bytes: Uint8Array): number[] {
    return this.put(bytes).applied.records.map(({ verdict }) => verdict);
  }
}

let ledger: Ledger;
let run = 0;

beforeEach(async () => {
  const own = join(directory, String(run++));
  const state = await openState({ io, directory: own, store: new MemoryStore() });
  ledger = new Ledger(state);
  ledger.put(configEntry(testConfig([org.msp], { transactionLifetimeMs: 1000 }), 1000));
  expect(
    ledger.verdicts(entryOfRecords(org.signer, [deployRecord('money', '1', 1, 1000)], 1000)),
  ).toEqual([0]);
});

const write = (key: string, value: string | undefined): TestRecord =>
  set({ writes: [{ key, value }] });
const set = (part: Partial<NamespaceSet>, timestampMs = 1000): TestRecord => ({
  timestampMs,
  sets: [{ namespace: 'money', ...part }],
});
const signed = (...records: TestRecord[]): Buffer => entryOfRecords(org.signer, records, 1000);

describe('replay', () => {
  it('applies valid records; later ones in the entry see earlier ones', () => {
    const found = ledger.verdicts(
      signed(
        set({ reads: [{ key: 'a', version: undefined }], writes: [{ key: 'a', value: '1' }] }),
        set({ reads: [{ key: 'a', version: { index: 0 } }], writes: [{ key: 'a', value: '2' }] }),
        set({ reads: [{ key: 'a', version: { index: 0 } }], writes: [{ key: 'a', value: '3' }] }),
        set({ reads: [{ key: 'a', version: undefined }] }),
      ),
    );
    expect(found).toEqual([0, 0, verdicts.readConflict, verdicts.readConflict]);
    expect(ledger.state.get(stateKey('money', 'a'))).toMatchObject({
      value: '2',
      version: positionOf(asAddress(2), 1),
    });
  });

  it('keeps the gaps that refused records leave', () => {
    const found = ledger.put(
      signed(
        { ...write('a', '1'), index: 3 },
        { ...set({ reads: [{ key: 'a', version: { index: 3 } }] }), index: 9 },
      ),
    );
    expect(found.applied.records.map(({ position, verdict }) => [position, verdict])).toEqual([
      [positionOf(asAddress(2), 3), 0],
      [positionOf(asAddress(2), 9), 0],
    ]);
  });

  it('compares ranges by key and version', () => {
    const { address } = ledger.put(signed(write('b', '1'), write('d', '1'), write('f', '1')));
    const version = (index: number) => positionOf(address, index);
    const range = (
      start: string,
      end: string,
      exhausted: boolean,
      rows: [string, number][],
    ): TestRecord =>
      set({
        ranges: [
          {
            start,
            end,
            exhausted,
            rows: rows.map(([key, index]) => ({ key, version: version(index) })),
          },
        ],
      });
    const phantom = verdicts.phantomReadConflict;
    expect(
      ledger.verdicts(
        signed(
          range('a', 'e', true, [
            ['b', 0],
            ['d', 1],
          ]),
          range('a', '', true, [
            ['b', 0],
            ['d', 1],
            ['f', 2],
          ]),
          range('a', '', false, [['b', 0]]),
          range('a', '', true, [['b', 0]]),
          range('a', 'e', true, [
            ['b', 0],
            ['d', 2],
          ]),
          range('a', 'e', true, [
            ['b', 0],
            ['c', 1],
          ]),
          range('a', 'e', true, []),
          range('a', 'e', false, []),
          range('g', '', true, []),
          write('e', '1'),
          range('a', '', false, [
            ['b', 0],
            ['d', 1],
          ]),
          range('a', '', false, [
            ['b', 0],
            ['d', 1],
            ['f', 2],
          ]),
        ),
      ),
    ).toEqual([0, 0, 0, phantom, phantom, phantom, phantom, 0, 0, 0, 0, phantom]);
  });

  it('lets a transaction take effect once', () => {
    const again = { ...write('a', '1'), nonce: Buffer.alloc(24, 7) };
    const duplicate = verdicts.duplicateTransactionId;
    expect(ledger.verdicts(signed(again, again))).toEqual([0, duplicate]);
    expect(ledger.verdicts(signed(again))).toEqual([duplicate]);
  });

  it('lets a transaction that conflicted come again', () => {
    const nonce = Buffer.alloc(24, 7);
    const version = positionOf(asAddress(0), 0);
    const conflicting = { ...set({ reads: [{ key: 'x', version }] }), nonce };
    expect(ledger.verdicts(signed(conflicting))).toEqual([verdicts.readConflict]);
    expect(ledger.verdicts(signed({ ...write('x', '1'), nonce }))).toEqual([0]);
  });

  it('refuses transactions out of their lifetime, by log time', () => {
    const at = (timestampMs: number): TestRecord => set({}, timestampMs);
    const entry = (logTimeMs: number, ...times: number[]): Buffer =>
      entryOfRecords(org.signer, times.map(at), logTimeMs);
    const { expired } = verdicts;
    expect(ledger.verdicts(entry(5000, 3999, 4000, 6000, 6001))).toEqual([expired, 0, 0, expired]);
    // Log time never goes back.
    expect(ledger.verdicts(entry(1000, 3999, 4000))).toEqual([expired, 0]);
  });

  it('believes no clock alone', () => {
    const dayMs = 86_400_000;
    const at = (timestampMs: number): TestRecord => set({}, timestampMs);
    const tickAt = (timestampMs: number): Buffer =>
      encodeEntry({ kind: 'tick', writer: 'test', timestampMs });
    const timeBehind = (bytes: Buffer): number => ledger.put(bytes).applied.logTimeMs;
    const { expired } = verdicts;
    // A writer's clock is a day ahead: what others sign at the right time goes on being valid.
    expect(timeBehind(entryOfRecords(org.signer, [at(5000)], 5000 + dayMs))).toBe(6000);
    expect(timeBehind(tickAt(5100 + dayMs))).toBe(6000);
    const config = testConfig([org.msp], { sequence: 1, transactionLifetimeMs: 1000 });
    expect(timeBehind(configEntry(config, 5200 + dayMs, org.signer))).toBe(6000);
    // Many ticks of a clock that runs fast move log time, but nothing expires by them.
    for (let tick = 1; tick < 10; tick++) timeBehind(tickAt(6000 + tick * 900));
    expect(ledger.state.logTimeMs).toBe(14_100);
    expect(ledger.verdicts(entryOfRecords(org.signer, [at(5000), at(4000)], 5001))).toEqual([0, 0]);
    // So is a client's: nobody executes it, and if somebody did, the writer's clock counts.
    const ahead = entryOfRecords(org.signer, [at(5002), at(5002 + 10 * dayMs)], 5002);
    expect(ledger.verdicts(ahead)).toEqual([0, expired]);
    expect(ledger.verdicts(entryOfRecords(org.signer, [at(5000)], 5001))).toEqual([0]);
    // What nobody signed bears no clock out.
    const forged = entryOfRecords(stranger.signer, [at(5000 + dayMs)], 5000 + dayMs);
    expect(ledger.verdicts(forged)).toEqual([verdicts.badCreatorSignature]);
    expect(ledger.verdicts(entryOfRecords(org.signer, [at(5003)], 5003))).toEqual([0]);
  });

  it('goes on after a long time without transactions', () => {
    const dayMs = 86_400_000;
    const late = entryOfRecords(org.signer, [set({}, dayMs - 5)], dayMs);
    expect(ledger.verdicts(late)).toEqual([0]);
    expect(ledger.state.logTimeMs).toBe(dayMs);
    const old = entryOfRecords(org.signer, [set({}, dayMs - 1006), set({}, dayMs - 1005)], dayMs);
    expect(ledger.verdicts(old)).toEqual([verdicts.expired, 0]);
  });

  it('does not let expired transactions back in when the lifetime grows', () => {
    ledger.put(entryOfRecords(org.signer, [set({}, 5000)], 5000));
    const config = testConfig([org.msp], { sequence: 1, transactionLifetimeMs: 100_000 });
    expect(ledger.put(configEntry(config, 5000, org.signer)).applied.configVerdict).toBe(0);
    const found = ledger.verdicts(entryOfRecords(org.signer, [set({}, 3999), set({}, 4000)], 5000));
    expect(found).toEqual([verdicts.expired, 0]);
  });

  it('demands the creator’s signature', () => {
    const bad = verdicts.badCreatorSignature;
    expect(ledger.verdicts(entryOfRecords(stranger.signer, [write('a', '1')], 1000))).toEqual([
      bad,
    ]);
    const entry = recordsEntry([testBatch(org.signer, [write('a', '1'), write('b', '1')])], 1000);
    const proof = entry.batches[0] as RecordsEntry['batches'][number];
    const broken = (changes: object): number[] =>
      ledger.verdicts(encodeEntry({ ...entry, batches: [{ ...proof, ...changes }] }));
    expect(broken({ signatures: [Buffer.alloc(70)] })).toEqual([bad, bad]);
    expect(broken({ signatures: [] })).toEqual([bad, bad]);
    expect(broken({ size: 3 })).toEqual([bad, bad]);
    expect(broken({ proof: [Buffer.alloc(32)] })).toEqual([bad, bad]);
    expect(broken({ batchId: Buffer.alloc(16) })).toEqual([bad, bad]);
    expect(broken({})).toEqual([0, 0]);
  });

  it('accepts part of a batch', () => {
    const records = [write('a', '1'), { ...write('b', '1'), absent: true }, write('c', '1')];
    expect(ledger.verdicts(signed(...records))).toEqual([0, 0]);
  });

  it('checks both signatures of transactions that are signed singly', async () => {
    const records = [write('a', '1'), write('b', '1')];
    const entry = singleEntry(org.signer, org.signer, records, 1000);
    expect(ledger.verdicts(encodeEntry(entry))).toEqual([0, 0]);
    const { badCreatorSignature: bad, endorsementPolicy } = verdicts;
    const changed = (changes: object, of: RecordsEntry): number[] => {
      const [first, ...rest] = of.batches;
      const batches = [{ ...first, ...changes } as BatchProof, ...rest];
      return ledger.verdicts(encodeEntry({ ...of, batches }));
    };
    const fresh = (node = org.signer): RecordsEntry =>
      singleEntry(org.signer, node, [write('c', '1'), write('d', '1')], 1000);
    const noise = Buffer.alloc(70, 1);
    // What the client signed holds the endorsement: a changed one is not signed.
    const { endorsement, signatures } = entry.batches[0] as BatchProof;
    expect(changed({ signatures: [noise] }, fresh())).toEqual([bad, 0]);
    expect(changed({ signatures: [] }, fresh())).toEqual([bad, 0]);
    expect(changed({ signatures }, fresh())).toEqual([bad, 0]);
    expect(changed({ endorsement }, fresh())).toEqual([bad, 0]);
    expect(changed({ size: 2 }, fresh())).toEqual([bad, 0]);
    expect(changed({ proof: [Buffer.alloc(32)] }, fresh())).toEqual([bad, 0]);
    expect(changed({ creator: 1 }, fresh(stranger.signer))).toEqual([bad, endorsementPolicy]);
    // Signed by the client, but endorsed by nobody who may.
    const own = fresh(stranger.signer);
    expect(ledger.verdicts(encodeEntry(own))).toEqual([endorsementPolicy, endorsementPolicy]);
    const forged = { ...org.signer, sign: () => noise } as Signer;
    expect(ledger.verdicts(encodeEntry(fresh(forged)))).toEqual([
      endorsementPolicy,
      endorsementPolicy,
    ]);
  });

  it('takes only the lower of the two signatures that verify, as Fabric does', () => {
    const high: Signer = { ...org.signer, sign: (message) => highS(org.signer.sign(message)) };
    const one = (client: Signer, node: Signer): number[] =>
      ledger.verdicts(encodeEntry(singleEntry(client, node, [write('a', '1')], 1000)));
    expect(one(high, org.signer)).toEqual([verdicts.badCreatorSignature]);
    expect(one(org.signer, high)).toEqual([verdicts.endorsementPolicy]);
    expect(one(org.signer, org.signer)).toEqual([0]);
  });

  it('gives the same verdicts for batches that were verified before', () => {
    const make = (changes: object, trust: boolean): number[] => {
      const batch = testBatch(org.signer, [write('a', '1'), write('b', '1'), write('c', '1')]);
      if (trust) ledger.replay.trustBatch(batch.batch);
      const entry = recordsEntry([batch], 1000);
      const batches = entry.batches.map((proof) => ({ ...proof, ...changes }));
      return ledger.verdicts(encodeEntry({ ...entry, batches }));
    };
    for (const changes of [{}, { signatures: [Buffer.alloc(70)] }, { size: 4 }]) {
      expect(make(changes, true)).toEqual(make(changes, false));
    }
  });

  it('gives the same verdicts for parts of batches that were verified before', () => {
    const make = (
      trust: boolean,
      change: (proof: BatchProof) => Partial<BatchProof> = () => ({}),
      patch: (recordBytes: Buffer) => void = () => undefined,
    ): number[] => {
      const batch = testBatch(org.signer, [
        { ...write('a', '1'), absent: true },
        write('b', '1'),
        write('c', '1'),
        { ...write('d', '1'), absent: true },
        write('e', '1'),
      ]);
      if (trust) ledger.replay.trustBatch(batch.batch);
      const entry = recordsEntry([batch], 1000);
      patch(entry.records[0]?.bytes as Buffer);
      const batches = entry.batches.map((proof) => ({ ...proof, ...change(proof) }));
      return ledger.verdicts(encodeEntry({ ...entry, batches }));
    };
    const bad = verdicts.badCreatorSignature;
    for (const trust of [true, false]) {
      expect(make(trust)).toEqual([0, 0, 0]);
      for (const change of [
        ({ proof }: BatchProof) => ({ proof: proof.slice(1) }),
        ({ proof }: BatchProof) => ({ proof: [...proof, Buffer.alloc(32)] }),
        ({ proof }: BatchProof) => ({ proof: proof.map(() => Buffer.alloc(32)) }),
        ({ proof }: BatchProof) => ({ proof: [...proof].reverse() }),
        () => ({ batchId: Buffer.alloc(16) }),
      ]) {
        expect(make(trust, change)).toEqual([bad, bad, bad]);
      }
      // Another leaf than the one that was signed, or the leaf of another record.
      for (const leaf of [0, 2]) {
        const patch = (bytes: Buffer): void => void bytes.writeUInt16BE(leaf, 36);
        expect(make(trust, undefined, patch)).toEqual([bad, bad, bad]);
      }
      // Another id, or another transaction.
      for (const at of [2, 100]) {
        const patch = (bytes: Buffer): void => void bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at);
        expect(make(trust, undefined, patch)).toEqual([bad, bad, bad]);
      }
    }
  });

  it('knows contracts and their versions', () => {
    const { contractVersion, invalidTransaction, readConflict } = verdicts;
    const other = { ...write('a', '1'), contract: 'other' };
    const old = { ...write('a', '1'), contractVersion: '0' };
    const foreign = {
      ...write('a', '1'),
      sets: [{ namespace: '_config', writes: [{ key: 'channel', value: '' }] }],
    };
    expect(ledger.verdicts(signed(other, old, foreign))).toEqual([
      contractVersion,
      contractVersion,
      invalidTransaction,
    ]);
    const found = ledger.verdicts(
      signed(
        deployRecord('money', '2', 1, 1000),
        deployRecord('money', '2', 2, 1000),
        write('a', '1'),
        { ...write('a', '1'), contractVersion: '2' },
        {
          ...deployRecord('evil', '1', 1, 1000),
          args: deployRecord('good', '1', 1, 1000).args ?? [],
        },
      ),
    );
    expect(found).toEqual([readConflict, 0, contractVersion, 0, invalidTransaction]);
    expect(new Replay(ledger.state).contracts).toEqual(ledger.replay.contracts);
  });

  it('does not let an upgrade declare an index that older rows are not in', () => {
    const indexed = (name: string, sequence: number, indexes: object): TestRecord =>
      deployRecord(name, String(sequence), sequence, 1000, indexes as Record<string, string[]>);
    const found = ledger.verdicts(
      signed(
        indexed('shop', 1, { one: ['a'], two: ['b'] }),
        indexed('shop', 2, { one: ['a', 'b'] }),
        indexed('shop', 2, { one: ['a'] }),
        indexed('shop', 3, { one: ['a'], two: ['b'] }),
        indexed('money', 2, { one: ['a'] }),
      ),
    );
    const { invalidTransaction } = verdicts;
    expect(found).toEqual([0, invalidTransaction, 0, invalidTransaction, invalidTransaction]);
  });

  it('keeps to the channel’s access rules', () => {
    const access = { submit: ['Org2'], deploy: [], administer: ['Org1'] };
    const config = testConfig([org.msp, stranger.msp], { sequence: 1, access });
    ledger.put(configEntry(config, 1000, org.signer));
    const bad = verdicts.badCreatorSignature;
    expect(ledger.verdicts(signed(write('a', '1'), deployRecord('money', '2', 2, 1000)))).toEqual([
      bad,
      bad,
    ]);
    expect(ledger.verdicts(entryOfRecords(stranger.signer, [write('a', '1')], 1000))).toEqual([0]);
  });

  it('takes configurations from administrators only, in sequence', () => {
    const next = (sequence: number, signer?: Signer): number | undefined =>
      ledger.put(configEntry(testConfig([org.msp], { sequence }), 1000, signer)).applied
        .configVerdict;
    const bad = verdicts.badCreatorSignature;
    expect(next(1)).toBe(bad);
    expect(next(1, stranger.signer)).toBe(bad);
    expect(next(2, org.signer)).toBe(bad);
    expect(next(1, org.signer)).toBe(0);
    expect(new Replay(ledger.state).config).toEqual(ledger.replay.config);
    expect(ledger.replay.config?.sequence).toBe(1);
    expect(ledger.state.entry(asAddress(2))?.verdicts).toEqual([bad]);
  });

  it('judges damaged bytes without failing', () => {
    expect(ledger.put(undefined).applied.entry).toBeUndefined();
    expect(ledger.put(Buffer.from('no entry')).applied.entry).toBeUndefined();
    const entry = recordsEntry([testBatch(org.signer, [write('a', '1')])], 1000);
    const record = Buffer.from(entry.records[0]?.bytes ?? []);
    const withRecord = (bytes: Uint8Array): Uint8Array =>
      encodeEntry({ ...entry, records: [{ index: 0, bytes }] });
    for (let at = 0; at < record.length; at++) {
      const damaged = Buffer.from(record);
      damaged[at] = (damaged[at] as number) ^ 0x41;
      const before = ledger.state.nextAddress;
      const { applied } = ledger.put(withRecord(damaged));
      expect(ledger.state.nextAddress).toBe(before + 1);
      // Only what the creator did not sign (reads, writes, result) may differ and still hold.
      expect(applied.records.length).toBeLessThanOrEqual(1);
    }
  });
});
