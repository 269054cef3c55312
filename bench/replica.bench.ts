import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildEntry } from '../src/executor/entry-builder.ts';
import { realIo } from '../src/io/index.ts';
import {
  type Address,
  asAddress,
  type Batch,
  type Position,
  positionOf,
} from '../src/model/index.ts';
import { Replay } from '../src/replica/index.ts';
import { openState, type StateChange } from '../src/state/index.ts';
import { BenchLedger } from './bench-ledger.ts';

/** Settings of {@link replicaBench}. */
export interface ReplicaBenchOptions {
  readonly keys: number;
  readonly transactions: number;
  /** Records per entry and per batch. */
  readonly group: number;
  /** Length of a row's value, about. */
  readonly valueBytes: number;
}

/** Replayed in one go: Linux counts CPU time in steps of milliseconds. */
const roundTransactions = 2_000;

/** Full size. */
export const replicaBenchDefaults: ReplicaBenchOptions = {
  keys: 1_000_000,
  transactions: 100_000,
  group: 100,
  valueBytes: 54,
};

/** The small mode, for the tests. */
export const replicaBenchSmall: ReplicaBenchOptions = {
  keys: 2_000,
  transactions: 2_000,
  group: 100,
  valueBytes: 54,
};

/** Everything in microseconds per transaction on the main thread, unless said. */
export interface ReplicaBenchResult extends ReplicaBenchOptions {
  /** Replay of batches that were verified by this node before. */
  readonly replayTrustedUs: number;
  /** Replay of batches that others verified. */
  readonly replayForeignUs: number;
  readonly applyUs: number;
  /** CPU of all threads of the process, flushes too. */
  readonly cpuUs: number;
  readonly reopenMs: number;
}

/** Replays and applies records of 2 reads and 2 writes over random keys of a large state. */
export async function replicaBench(options: ReplicaBenchOptions): Promise<ReplicaBenchResult> {
  const io = realIo();
  const directory = await mkdtemp(join(tmpdir(), 'daybook-bench-'));
  try {
    const ledger = await BenchLedger.create(options.valueBytes);
    const versions = new Float64Array(options.keys);
    let state = await openState({ io, directory });
    let replay = new Replay(state);
    const put = (bytes: Uint8Array): StateChange =>
      replay.next({ address: state.nextAddress, kind: 'data', epoch: 0, bytes }).change;
    state.apply(put(ledger.founding));
    // The rows are there from the beginning, and the contract too.
    const rows = [...ledger.rows(options.keys, positionOf(state.nextAddress, 0))];
    versions.fill(positionOf(state.nextAddress, 0));
    for (let at = 0; at < rows.length; at += 50_000) {
      state.apply({
        address: state.nextAddress,
        writes: rows.slice(at, at + 50_000),
        records: [],
        timestampsMs: [],
        logTimeMs: state.logTimeMs,
        horizonMs: 0,
      });
      if (state.overloaded) await state.relieved();
    }
    await state.flush();
    replay = new Replay(state);

    // As many with batches of one's own as with those of others.
    const rounds = 2 * Math.max(1, Math.ceil(options.transactions / roundTransactions / 2));
    const groups = Math.ceil(Math.min(options.transactions, roundTransactions) / options.group);
    const times = { trusted: new Times(), foreign: new Times() };
    let valid = 0;
    let cpuMs = 0;
    for (let round = 0; round < rounds; round++) {
      const trusted = round % 2 === 0;
      const entries = Array.from({ length: groups }, (_, at) =>
        group(ledger, versions, options.group, asAddress(state.nextAddress + at)),
      );
      if (trusted) for (const { batch } of entries) replay.trustBatch(batch);
      const time = times[trusted ? 'trusted' : 'foreign'];
      const cpu = process.cpuUsage();
      time.begin();
      for (const { bytes } of entries) {
        const started = performance.now();
        const change = put(bytes);
        const replayed = performance.now();
        state.apply(change);
        time.add(replayed - started, performance.now() - replayed);
        for (const { verdict } of change.records) if (verdict === 0) valid++;
      }
      time.end();
      // Lets the flush run; its CPU counts.
      await new Promise((resolve) => setTimeout(resolve, 1));
      while (state.overloaded) await state.relieved();
      const { user, system } = process.cpuUsage(cpu);
      cpuMs += (user + system) / 1000;
    }
    const count = rounds * groups * options.group;
    if (valid !== count) throw new Error(`${count - valid} records of ${count} are not valid`);
    await state.close();
    const reopening = performance.now();
    state = await openState({ io, directory });
    replay = new Replay(state);
    const reopenMs = performance.now() - reopening;
    await state.close();
    const perHalf = (ms: number): number => round((ms * 1000) / (count / 2));
    return {
      ...options,
      replayTrustedUs: perHalf(times.trusted.replayMs),
      replayForeignUs: perHalf(times.foreign.replayMs),
      applyUs: round(((times.trusted.applyMs + times.foreign.applyMs) * 1000) / count),
      cpuUs: round((cpuMs * 1000) / count),
      reopenMs: round(reopenMs),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** CPU time of this thread in all rounds of one kind, split as the wall-clock times of its parts. */
class Times {
  #replayMs = 0;
  #applyMs = 0;
  #cpuMs = 0;
  #began = 0;

  get replayMs(): number {
    return this.#cpuMs * (this.#replayMs / (this.#replayMs + this.#applyMs));
  }

  get applyMs(): number {
    return this.#cpuMs - this.replayMs;
  }

  begin(): void {
    this.#began = threadMs();
  }

  add(replayMs: number, applyMs: number): void {
    this.#replayMs += replayMs;
    this.#applyMs += applyMs;
  }

  end(): void {
    this.#cpuMs += threadMs() - this.#began;
  }
}

/** The entry of one batch of calls, on rows that nobody else touches meanwhile. */
function group(
  ledger: BenchLedger,
  versions: Float64Array,
  count: number,
  address: Address,
): { batch: Batch; bytes: Buffer } {
  const timestampMs = Date.now();
  const batch = ledger.batch(count, timestampMs);
  const admitted = { batch, creator: 0 };
  const records = batch.items.map((item, index) => {
    const picked = new Set<number>();
    while (picked.size < 2) picked.add(Math.floor(Math.random() * versions.length));
    const rows = [...picked].sort((left, right) => left - right);
    const reads = rows.map((row) => ({ row, version: versions[row] as Position }));
    const body = ledger.recordBody(index, reads);
    for (const row of rows) versions[row] = positionOf(address, index);
    return { index, body, job: { batch: admitted, item, leaf: index } };
  });
  return { batch, bytes: buildEntry('bench', timestampMs, records) };
}

/** CPU time of this thread where the platform tells; other work on the machine does not count. */
function threadMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
