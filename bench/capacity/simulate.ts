import { ByteWriter, limits } from '../../src/base/index.ts';
import { buildEntry, type EntryRecord } from '../../src/executor/entry-builder.ts';
import { FollowBuffer } from '../../src/log/etcd/follow-buffer.ts';
import { foundingLayout, unitOf } from '../../src/log/etcd/layout.ts';
import {
  asAddress,
  type Batch,
  type BatchItem,
  type Position,
  positionOf,
  recordHeadBytes,
  stateKey,
} from '../../src/model/index.ts';
import { encodeRecordSummary, groupSummary, SequencerCore } from '../../src/sequencer/index.ts';
import { type BenchLedger, keyOf, type RowRead } from '../bench-ledger.ts';
import { percentile } from '../ceiling.ts';
import { Chain, type WrittenEntry } from './chain.ts';
import { type Costs, frameCalls, type Resource, type Sizing } from './model.ts';
import { Clock, Station } from './stations.ts';

/** What a simulation is run with, besides the network's size. */
export interface SimulationOptions {
  readonly costs: Costs;
  readonly sizing: Omit<Sizing, 'recordBytes' | 'valueBytes'>;
  readonly ledger: BenchLedger;
  /** Rows, of which every call reads and writes two. */
  readonly keys: number;
  /** Bytes of values per record; for their cost. */
  readonly valueBytes: number;
  /** Virtual time that is measured, and the time before. */
  readonly measuredMs: number;
  readonly warmUpMs: number;
}

/** What came out. Rates per second, times in milliseconds, of virtual time. */
export interface SimulationResult {
  readonly tps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Part of the executions that had to be repeated. */
  readonly conflicts: number;
  /** Records per entry, and their bytes in it. */
  readonly group: number;
  readonly recordBytes: number;
  /** Part of the time that each place was busy; of the busiest one of its kind. */
  readonly busy: Readonly<Record<Exclude<Resource, 'clients'>, number>>;
  readonly bottleneck: Resource;
}

/** A place that is busy for less of the time is not what limits the network. */
const saturated = 0.9;
const conflictPauseUs = 2_000;
/** As the log's writer does: see `write-batcher.ts`. */
const unitTransactionsMax = 4;

/**
 * A network in virtual time: every executor's process, its contract process, the sequencer and every
 * log unit is a station at which work waits its turn and costs what was measured. What is granted,
 * in which order entries are applied and what is valid is decided by the real code: sequencer,
 * layout, follow buffer, entry builder and replay.
 */
export function simulate(options: SimulationOptions): SimulationResult {
  const network = new SimulatedNetwork(options);
  return network.run();
}

interface Pending {
  readonly startedUs: number;
}

class SimulatedNetwork {
  readonly clock = new Clock();
  readonly options: SimulationOptions;
  readonly chain: Chain;
  readonly #sequencer: SequencerCore;
  readonly #sequencerCore = new Station(this.clock);
  readonly units: readonly Station[];
  readonly #executors: readonly SimulatedExecutor[];
  readonly #layout: ReturnType<typeof foundingLayout>;
  readonly #entries = new Map<number, WrittenEntry>();
  #seed = 1;
  latencies: number[] = [];
  executions = 0;
  conflicts = 0;
  records = 0;
  entryBytes = 0;
  entryCount = 0;

  constructor(options: SimulationOptions) {
    this.options = options;
    const { executors, units } = options.sizing;
    this.chain = new Chain(options.ledger);
    const start = asAddress(this.chain.next);
    this.#sequencer = new SequencerCore({ epoch: 1, start });
    this.units = Array.from({ length: units }, () => new Station(this.clock));
    this.#layout = foundingLayout(
      'capacity',
      this.units.map((_, index) => ({ id: String(index), endpoints: ['none'] })),
    );
    this.#executors = Array.from(
      { length: executors },
      (_, index) => new SimulatedExecutor(this, index, start),
    );
  }

  run(): SimulationResult {
    const { warmUpMs, measuredMs } = this.options;
    for (const executor of this.#executors) executor.start();
    this.clock.runUntil(warmUpMs * 1000);
    this.latencies = [];
    this.executions = 0;
    this.conflicts = 0;
    this.records = 0;
    this.entryBytes = 0;
    this.entryCount = 0;
    const stations = {
      contract: this.#executors.map(({ contract }) => contract),
      executor: this.#executors.map(({ core }) => core),
      sequencer: [this.#sequencerCore],
      log: this.units,
    };
    const done = (station: Station): number => station.busyUs - station.backlogUs;
    const before = new Map(
      Object.values(stations)
        .flat()
        .map((each) => [each, done(each)]),
    );
    this.clock.runUntil((warmUpMs + measuredMs) * 1000);
    const share = (group: readonly Station[]): number =>
      Math.max(...group.map((each) => done(each) - (before.get(each) ?? 0))) / (measuredMs * 1000);
    const busy = {
      contract: share(stations.contract),
      executor: share(stations.executor),
      sequencer: share(stations.sequencer),
      log: share(stations.log),
    };
    return {
      tps: (this.latencies.length * 1000) / measuredMs,
      p50Ms: percentile(this.latencies, 0.5),
      p99Ms: percentile(this.latencies, 0.99),
      conflicts: this.conflicts / Math.max(1, this.executions),
      group: this.records / Math.max(1, this.entryCount),
      recordBytes: this.entryBytes / Math.max(1, this.records),
      busy,
      bottleneck: bottleneckOf(busy),
    };
  }

  /** The wall clock: virtual time begins with the ledger, within its certificates' validity. */
  get nowMs(): number {
    return this.options.ledger.startMs + Math.floor(this.clock.nowUs / 1000);
  }

  /** A row at random, the same ones in every run. */
  row(): number {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#seed / 0x1_0000_0000) * this.options.keys);
  }

  /** Over the network. */
  send(arrived: () => void): void {
    this.clock.after(this.options.sizing.networkUs, arrived);
  }

  /** Asks the sequencer; answers over the network. */
  request(
    executor: SimulatedExecutor,
    summaries: readonly Buffer[],
    answer: (grant: ReturnType<SequencerCore['request']>) => void,
  ): void {
    const { sequencerGroupUs, sequencerRecordUs } = this.options.costs;
    this.send(() => {
      const costUs = sequencerGroupUs + sequencerRecordUs * summaries.length;
      this.#sequencerCore.work(costUs, () => {
        const grant = this.#sequencer.request(groupSummary(executor.name, summaries));
        this.send(() => answer(grant));
      });
    });
  }

  unitAt(address: number): number {
    return Number(unitOf(this.#layout, asAddress(address)));
  }

  /** Entries are on a unit: every executor gets to see them. */
  published(entries: readonly WrittenEntry[]): void {
    for (const entry of entries) this.#entries.set(entry.address, entry);
    for (const executor of this.#executors) this.send(() => executor.follow(entries));
  }

  entry(address: number): WrittenEntry {
    return this.#entries.get(address) as WrittenEntry;
  }
}

/** One executor process with its contract process. */
class SimulatedExecutor {
  readonly name: string;
  readonly core: Station;
  readonly contract: Station;
  readonly #network: SimulatedNetwork;
  readonly #index: number;
  readonly #follow: FollowBuffer<{ address: ReturnType<typeof asAddress>; size: number }>;
  /** First address that this node has not applied. */
  #next: number;
  /** Transactions that were sent and not yet taken in; taken in; executed. */
  #arrived: Pending[] = [];
  #admitting = false;
  #ready: Pending[] = [];
  #executing = false;
  #executed: Pending[] = [];
  #sequencing = false;
  #writing = 0;
  /** Last write in flight of each row. */
  readonly #inFlight = new Map<number, Position>();
  readonly #own = new Map<number, readonly Pending[]>();
  readonly #waiting: WrittenEntry[][];
  readonly #unitBusy: number[];
  #unread: WrittenEntry[] = [];
  readonly #writer = new ByteWriter();
  #batch: Batch | undefined;
  #leaf = 0;

  constructor(network: SimulatedNetwork, index: number, start: ReturnType<typeof asAddress>) {
    this.#network = network;
    this.#index = index;
    this.name = `executor-${index}`;
    this.core = new Station(network.clock);
    this.contract = new Station(network.clock);
    this.#follow = new FollowBuffer(start, limits.logFollowBytesMax);
    this.#next = start;
    this.#waiting = network.units.map(() => []);
    this.#unitBusy = network.units.map(() => 0);
  }

  start(): void {
    const { inFlight } = this.#network.options.sizing;
    const startedUs = this.#network.clock.nowUs;
    this.#arrived = Array.from({ length: inFlight }, () => ({ startedUs }));
    this.#admit();
  }

  /** Takes batches in. */
  #admit(): void {
    if (this.#admitting || this.#arrived.length === 0) return;
    this.#admitting = true;
    const { costs, sizing } = this.#network.options;
    const taken = this.#arrived.splice(0, Math.max(sizing.batch, frameCalls));
    const batches = taken.length / sizing.batch;
    this.core.work(taken.length * costs.admissionUs + batches * costs.signatureUs, () => {
      this.#admitting = false;
      this.#ready.push(...taken);
      this.#execute();
      this.#admit();
    });
  }

  #execute(): void {
    if (this.#executing || this.#ready.length === 0) return;
    this.#executing = true;
    const taken = this.#ready.splice(0, frameCalls);
    this.#network.executions += taken.length;
    this.contract.work(taken.length * this.#network.options.costs.contractUs, () => {
      this.#executing = false;
      this.#executed.push(...taken);
      this.#group();
      this.#execute();
    });
  }

  /** As `groups.ts`: one group asks at a time, so many are being written. */
  #group(): void {
    if (this.#sequencing || this.#executed.length === 0) return;
    if (this.#writing >= limits.groupsInFlightMax) return;
    this.#sequencing = true;
    const group = this.#close();
    const summaries = group.map(({ summary }) => summary);
    this.#network.request(this, summaries, (grant) => {
      this.#sequencing = false;
      const conflicts = typeof grant === 'string' ? undefined : grant.conflicts;
      const passed = group.filter(
        (_, at) => conflicts !== undefined && conflicts[at] === undefined,
      );
      const failed = group.filter((each) => !passed.includes(each));
      this.#again(failed.map(({ pending }) => pending));
      if (typeof grant !== 'string' && grant.token !== undefined) {
        this.#write(grant.token.address, passed);
      }
      this.#group();
    });
  }

  #close(): Executed[] {
    const { ledger } = this.#network.options;
    const snapshot = positionOf(asAddress(this.#next), 0);
    const local = new Map<number, number>();
    const group: Executed[] = [];
    let bytes = 0;
    const most = Math.min(this.#executed.length, limits.recordsPerEntryMax);
    while (group.length < most && bytes < limits.groupBytesMax) {
      const index = group.length;
      const { batch, item, leaf } = this.#nextCall();
      const pending = this.#executed[index] as Pending;
      const rows = this.#rows(local, snapshot);
      for (const { row } of rows) local.set(row, index);
      const body = ledger.recordBody(leaf, rows);
      bytes += recordHeadBytes(item.bytes.length) + body.length;
      group.push({
        index,
        pending,
        rows,
        body,
        item,
        batch,
        leaf,
        summary: this.#summary(snapshot, rows),
      });
    }
    this.#executed.splice(0, group.length);
    return group;
  }

  /** Calls come in batches, of which one entry may hold a part. */
  #nextCall(): { batch: Batch; item: BatchItem; leaf: number } {
    const { ledger, sizing } = this.#network.options;
    if (this.#batch === undefined || this.#leaf === this.#batch.items.length) {
      const nowMs = this.#network.nowMs;
      this.#batch = ledger.batch(sizing.batch, nowMs);
      this.#leaf = 0;
    }
    const leaf = this.#leaf++;
    return { batch: this.#batch, item: this.#batch.items[leaf] as BatchItem, leaf };
  }

  /** Two rows in key order, in the versions that this node sees, its own writes in flight first. */
  #rows(local: ReadonlyMap<number, number>, snapshot: Position): RowRead[] {
    const first = this.#network.row();
    let second = first;
    while (second === first) second = this.#network.row();
    return [first, second]
      .sort((left, right) => left - right)
      .map((row) => {
        const index = local.get(row);
        if (index !== undefined) return { row, version: { index } };
        const version = this.#inFlight.get(row) ?? this.#network.chain.version(row, snapshot);
        return { row, version };
      });
  }

  #summary(snapshot: Position, rows: readonly RowRead[]): Buffer {
    this.#writer.reset();
    const keys = rows.map(({ row }) => stateKey('bench', keyOf(row)));
    encodeRecordSummary(
      {
        snapshot,
        urgent: false,
        reads: rows.map(({ version }, at) => ({ stateKey: keys[at] ?? '', version })),
        ranges: [],
        writes: keys,
        writtenRanges: [],
      },
      this.#writer,
    );
    return this.#writer.finish();
  }

  #again(pending: readonly Pending[]): void {
    if (pending.length === 0) return;
    this.#network.conflicts += pending.length;
    this.#network.clock.after(conflictPauseUs, () => {
      this.#ready.push(...pending);
      this.#execute();
    });
  }

  #write(address: number, group: readonly Executed[]): void {
    const records: EntryRecord[] = [];
    const batches = new Map<Batch, { batch: Batch; creator: number }>();
    for (const { index, body, batch, item, leaf, rows } of group) {
      const admitted = batches.get(batch) ?? { batch, creator: 0 };
      batches.set(batch, admitted);
      records.push({ index, body, job: { batch: admitted, item, leaf } });
      for (const { row } of rows) this.#inFlight.set(row, positionOf(asAddress(address), index));
    }
    const nowMs = this.#network.nowMs;
    const entry: WrittenEntry = {
      address,
      executor: this.#index,
      bytes: buildEntry(this.name, nowMs, records),
      batches: [...batches.keys()],
      rows: group.map(({ rows }) => rows.map(({ row }) => row)),
      indices: group.map(({ index }) => index),
    };
    this.#own.set(
      address,
      group.map(({ pending }) => pending),
    );
    this.#network.entryCount++;
    this.#network.records += group.length;
    this.#network.entryBytes += entry.bytes.length;
    this.#writing++;
    const unit = this.#network.unitAt(address);
    this.#waiting[unit]?.push(entry);
    this.#pump(unit);
  }

  /** As the log's batcher: entries that wait share a transaction. */
  #pump(unit: number): void {
    const waiting = this.#waiting[unit] as WrittenEntry[];
    if (waiting.length === 0 || (this.#unitBusy[unit] ?? 0) >= unitTransactionsMax) return;
    const { costs } = this.#network.options;
    let bytes = 0;
    let count = 0;
    for (const entry of waiting) {
      bytes += entry.bytes.length;
      if (count > 0 && (count >= limits.logBatchEntriesMax || bytes > limits.logBatchBytesMax))
        break;
      count++;
    }
    const entries = waiting.splice(0, count);
    const kib = entries.reduce((sum, entry) => sum + entry.bytes.length, 0) / 1024;
    this.#unitBusy[unit] = (this.#unitBusy[unit] ?? 0) + 1;
    const costUs = costs.unitTransactionUs + count * costs.unitEntryUs + kib * costs.unitKibUs;
    this.#network.send(() => {
      this.#network.units[unit]?.work(costUs, () => {
        this.#network.clock.after(costs.unitLatencyUs, () => {
          this.#network.published(entries);
          this.#network.send(() => {
            this.#unitBusy[unit] = (this.#unitBusy[unit] ?? 1) - 1;
            this.#writing -= entries.length;
            this.#pump(unit);
            this.#group();
          });
        });
      });
    });
  }

  /** Entries came in from the log, in any order; those that find no room are read once more. */
  follow(entries: readonly WrittenEntry[]): void {
    this.#unread.push(...entries);
    for (let taken = true; taken; ) {
      this.#unread = this.#unread.filter(
        ({ address, bytes }) =>
          !this.#follow.add({ address: asAddress(address), size: bytes.length }),
      );
      const ready = this.#follow.take(Number.MAX_SAFE_INTEGER);
      for (const { address } of ready) this.#replay(address);
      taken = ready.length > 0 && this.#unread.length > 0;
    }
  }

  #replay(address: number): void {
    const { costs, sizing, valueBytes } = this.#network.options;
    const entry = this.#network.entry(address);
    const records = entry.indices.length;
    const own = entry.executor === this.#index;
    const perRecordUs =
      (own ? costs.ownRecordUs : costs.foreignRecordUs) + (costs.recordKibUs * valueBytes) / 1024;
    // A batch that is spread over several entries is verified once.
    const signatures = own ? 0 : records / sizing.batch;
    const costUs = costs.entryUs + records * perRecordUs + signatures * costs.signatureUs;
    this.core.work(costUs, () => {
      this.#network.chain.apply(entry);
      this.#next = address + 1;
      if (own) this.#answer(entry);
    });
  }

  #answer(entry: WrittenEntry): void {
    const network = this.#network;
    const nowUs = network.clock.nowUs;
    const pending = this.#own.get(entry.address) ?? [];
    this.#own.delete(entry.address);
    entry.rows.forEach((rows, at) => {
      const position = positionOf(asAddress(entry.address), entry.indices[at] ?? 0);
      for (const row of rows) {
        if (this.#inFlight.get(row) === position) this.#inFlight.delete(row);
      }
    });
    const invalid = pending.length - network.chain.apply(entry);
    // Which of them it were makes no difference to the rate.
    this.#again(pending.slice(0, invalid));
    const answered = pending.slice(invalid);
    for (const { startedUs } of answered) network.latencies.push((nowUs - startedUs) / 1000);
    // The client hears of it and sends the next ones.
    network.clock.after(2 * network.options.sizing.networkUs, () => {
      const startedUs = network.clock.nowUs;
      for (let count = answered.length; count > 0; count--) this.#arrived.push({ startedUs });
      this.#admit();
    });
  }
}

/** The log comes last: while groups can grow, it is busy without being what limits the rate. */
function bottleneckOf(busy: SimulationResult['busy']): Resource {
  const cores = (['contract', 'executor', 'sequencer'] as const).filter(
    (each) => busy[each] >= saturated,
  );
  const busiest = cores.sort((left, right) => busy[right] - busy[left])[0];
  return busiest ?? (busy.log >= saturated ? 'log' : 'clients');
}

/** A call that was executed, in its group. */
interface Executed {
  readonly index: number;
  readonly pending: Pending;
  readonly rows: readonly RowRead[];
  readonly body: Buffer;
  readonly item: BatchItem;
  readonly summary: Buffer;
  readonly batch: Batch;
  readonly leaf: number;
}
