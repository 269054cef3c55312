import { readFileSync } from 'node:fs';
import { ByteWriter } from '../../src/base/index.ts';
import { asAddress, positionOf, stateKey } from '../../src/model/index.ts';
import {
  encodeRecordSummary,
  groupSummary,
  localSequencer,
  SequencerCore,
} from '../../src/sequencer/index.ts';
import { startCluster } from '../../test/etcd/cluster.ts';
import { keyOf } from '../bench-ledger.ts';
import { contractProcesses, startBenchNetwork } from '../cluster-under-load.ts';
import { compareEngine } from '../engine-rates.ts';
import { benchQuotaBytes } from '../etcd.bench.ts';
import { replicaBench } from '../replica.bench.ts';
import type { Costs } from './model.ts';

/** How long {@link measureCosts} takes for what. */
export interface MeasureOptions {
  /** A load on a real network. */
  readonly seconds: number;
  /** Transactions replayed, three times, on a state of so many rows. */
  readonly transactions: number;
  readonly rows: number;
  /** Per case of the log, milliseconds; of a cluster with so many members. */
  readonly logMs: number;
  readonly members: number;
}

const largeValueBytes = 4096;
const groupRecords = 100;

/** Measures on this machine what the model needs to know. */
export async function measureCosts(
  options: MeasureOptions,
  progress: (text: string) => void,
): Promise<Costs> {
  progress('costs: sequencer');
  const sequencer = await sequencerCosts(options.transactions);
  progress('costs: replica');
  const replica = await replicaCosts(options);
  progress('costs: executor and contract');
  const executor = await executorCosts(options, replica);
  progress('costs: log');
  const log = await logCosts(options);
  const costs = { ...executor, ...replica, ...sequencer, ...log };
  return Object.fromEntries(
    Object.entries(costs).map(([name, us]) => [name, Math.round(Math.max(0, us) * 100) / 100]),
  ) as unknown as Costs;
}

type SequencerCosts = Pick<Costs, 'sequencerGroupUs' | 'sequencerRecordUs'>;

/** Requests of one record and of many, of two reads and two writes each. */
async function sequencerCosts(transactions: number): Promise<SequencerCosts> {
  const per = async (count: number, rounds: number): Promise<number> => {
    const core = new SequencerCore({ epoch: 1, start: asAddress(0) });
    const sequencer = localSequencer(core);
    const writer = new ByteWriter();
    let row = 0;
    const summary = (): Buffer => {
      const keys = [row++, row++].map((each) => stateKey('bench', keyOf(each % 1_000_000)));
      const snapshot = positionOf(core.next, 0);
      const reads = keys.map((key) => ({ stateKey: key, version: positionOf(asAddress(0), 0) }));
      writer.reset();
      encodeRecordSummary(
        { snapshot, urgent: false, reads, ranges: [], writes: keys, writtenRanges: [] },
        writer,
      );
      return writer.finish();
    };
    let spentMs = 0;
    for (let round = -rounds / 4; round < rounds; round++) {
      const group = groupSummary('bench', Array.from({ length: count }, summary));
      const started = performance.now();
      await sequencer.request(group);
      if (round >= 0) spentMs += performance.now() - started;
    }
    return (spentMs * 1000) / rounds;
  };
  // The best of several: whatever else runs on the machine only adds.
  const least = async (count: number, rounds: number): Promise<number> => {
    const tries: number[] = [];
    for (let attempt = 0; attempt < 5; attempt++) tries.push(await per(count, rounds));
    return Math.min(...tries);
  };
  const one = await least(1, transactions / 10);
  const many = await least(groupRecords, transactions / groupRecords);
  const sequencerRecordUs = (many - one) / (groupRecords - 1);
  return { sequencerRecordUs, sequencerGroupUs: one - sequencerRecordUs };
}

type ReplicaCosts = Pick<
  Costs,
  'entryUs' | 'ownRecordUs' | 'foreignRecordUs' | 'recordKibUs' | 'signatureUs'
>;

/** Entries of one record and of many tell the cost of an entry and of a signature. */
async function replicaCosts({ transactions, rows }: MeasureOptions): Promise<ReplicaCosts> {
  const measure = async (
    group: number,
    valueBytes: number,
    part: number,
  ): Promise<{ own: number; foreign: number }> => {
    const options = { keys: rows, transactions: transactions * part, group, valueBytes };
    const { replayTrustedUs, replayForeignUs, applyUs } = await replicaBench(options);
    return { own: replayTrustedUs + applyUs, foreign: replayForeignUs + applyUs };
  };
  const one = await measure(1, 54, 0.2);
  const many = await measure(groupRecords, 54, 1);
  const large = await measure(groupRecords, largeValueBytes, 0.5);
  const rest = 1 - 1 / groupRecords;
  const entryUs = (one.own - many.own) / rest;
  const signatureUs = (one.foreign - many.foreign) / rest - entryUs;
  return {
    entryUs,
    signatureUs,
    ownRecordUs: many.own - entryUs / groupRecords,
    foreignRecordUs: many.foreign - (entryUs + signatureUs) / groupRecords,
    // Two values a record.
    recordKibUs: ((large.own - many.own) * 1024) / (2 * (largeValueBytes - 54)),
  };
}

type ExecutorCosts = Pick<Costs, 'contractUs' | 'admissionUs'>;

/** The main threads of both processes of an executor while a real network is busy. */
async function executorCosts(
  { seconds, rows }: MeasureOptions,
  replica: ReplicaCosts,
): Promise<ExecutorCosts> {
  const bench = await startBenchNetwork({ executors: 1, blocks: false });
  try {
    const { executors } = await bench.network.status();
    const executor = executors[0]?.pid ?? 0;
    const contract = contractProcesses(process.pid)[0] ?? 0;
    const load = { work: 'move' as const, keys: rows, inFlight: 2_000 };
    await bench.load({ work: 'fill', keys: load.keys, inFlight: 64 });
    // So that both are warm when they are measured.
    await bench.load({ ...load, seconds: Math.max(1, seconds / 2) });
    const before = [mainThreadUs(executor), mainThreadUs(contract)];
    const { committed } = await bench.load({ ...load, seconds });
    const used = [mainThreadUs(executor), mainThreadUs(contract)].map(
      (us, index) => (us - (before[index] ?? 0)) / committed,
    );
    // What the model counts by itself is taken off.
    const { ownRecordUs, signatureUs, entryUs } = replica;
    const counted = ownRecordUs + (signatureUs + entryUs) / groupRecords;
    return { admissionUs: (used[0] ?? 0) - counted, contractUs: used[1] ?? 0 };
  } finally {
    await bench.close();
  }
}

function mainThreadUs(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[0]) / 1000;
}

type LogCosts = Pick<Costs, 'unitTransactionUs' | 'unitEntryUs' | 'unitKibUs' | 'unitLatencyUs'>;

/**
 * A unit of etcd whose members share this machine. Three rates give three unknowns: transactions of
 * one small entry (the bare client's), transactions of many (ours), and large entries.
 */
async function logCosts({ members, logMs: caseMs }: MeasureOptions): Promise<LogCosts> {
  const cluster = await startCluster({ members, quotaBytes: benchQuotaBytes });
  try {
    await cluster.leader();
    const { endpoints } = cluster;
    const cases = [
      { entryBytes: 1024, inFlight: 1 },
      { entryBytes: 1024, inFlight: 256 },
      { entryBytes: 64 * 1024, inFlight: 64 },
    ];
    const settings = { endpoints, quotaBytes: benchQuotaBytes, prefix: 'costs/', cases, caseMs };
    const rows = await compareEngine(settings, () => undefined);
    const [lone, small, large] = rows as [(typeof rows)[0], (typeof rows)[0], (typeof rows)[0]];
    const aloneUs = 1e6 / small.bareEntriesPerSecond;
    const sharedUs = 1e6 / small.entriesPerSecond;
    const largeUs = 1e6 / large.entriesPerSecond;
    // 252 entries wait while four transactions are under way; 1 MiB takes 16 of the large ones.
    const [smallShare, largeShare] = [1 / 63, 1 / 15];
    // alone = t + e + k; shared = t·smallShare + e + k; large = t·largeShare + e + 64 k
    const unitTransactionUs = (aloneUs - sharedUs) / (1 - smallShare);
    const entryAndKib = sharedUs - unitTransactionUs * smallShare;
    const unitKibUs = Math.max(0, (largeUs - unitTransactionUs * largeShare - entryAndKib) / 63);
    return {
      unitTransactionUs,
      unitEntryUs: entryAndKib - unitKibUs,
      unitKibUs,
      unitLatencyUs: lone.p50Ms * 1000 - aloneUs,
    };
  } finally {
    await cluster.stop();
  }
}
