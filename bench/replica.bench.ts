import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ByteWriter } from '../src/base/index.ts';
import { realIo } from '../src/io/index.ts';
import {
  type Address,
  type Batch,
  channelConfigDefaults,
  decodeBatch,
  encodeChannelConfig,
  encodeEntry,
  encodeRecord,
  type Position,
  positionOf,
  type Signer,
  signBatch,
  stateKey,
} from '../src/model/index.ts';
import { DevelopmentCa } from '../src/node/dev-ca.ts';
import { Replay } from '../src/replica/index.ts';
import { openState, type StateChange } from '../src/state/index.ts';

/** Settings of {@link replicaBench}. */
export interface ReplicaBenchOptions {
  readonly keys: number;
  readonly transactions: number;
  /** Records per entry and per batch. */
  readonly group: number;
}

/** The small mode, for the tests. */
export const replicaBenchSmall: ReplicaBenchOptions = {
  keys: 2_000,
  transactions: 2_000,
  group: 100,
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
    const ca = await DevelopmentCa.create('Org1', Date.now());
    const { signer } = await ca.issue('bench');
    const ledger = new BenchLedger(signer, options.keys);
    let state = await openState({ io, directory });
    let replay = new Replay(state);
    const put = (bytes: Uint8Array): StateChange =>
      replay.next({ address: state.nextAddress, kind: 'data', epoch: 0, bytes }).change;
    const msps = [{ mspId: 'Org1', rootCertificates: [ca.root.certificate] }];
    const access = { submit: ['Org1'], deploy: ['Org1'], administer: ['Org1'] };
    const config = { ...channelConfigDefaults, channel: 'bench', msps, access };
    const founding = {
      kind: 'config' as const,
      writer: 'bench',
      timestampMs: Date.now(),
      config: encodeChannelConfig(config),
      creator: new Uint8Array(),
      signature: new Uint8Array(),
    };
    state.apply(put(encodeEntry(founding)));
    // The rows are there from the beginning, and the contract too.
    const rows = [...ledger.initialRows(state.nextAddress)];
    for (let at = 0; at < rows.length; at += 50_000) {
      state.apply({
        address: state.nextAddress,
        writes: rows.slice(at, at + 50_000),
        transactions: [],
        logTimeMs: state.logTimeMs,
        horizonMs: 0,
      });
      if (state.overloaded) await state.relieved();
    }
    await state.flush();
    replay = new Replay(state);

    const groups = Math.ceil(options.transactions / options.group);
    const times = { trusted: 0, foreign: 0, apply: 0 };
    let valid = 0;
    let cpuMs = 0;
    for (let number = 0; number < groups; number++) {
      const trusted = number % 2 === 0;
      const { batch, bytes } = ledger.group(options.group, state.nextAddress);
      if (trusted) replay.trustBatch(batch);
      const cpu = process.cpuUsage();
      const started = threadMs();
      const change = put(bytes);
      const replayed = threadMs();
      state.apply(change);
      const applied = threadMs();
      times[trusted ? 'trusted' : 'foreign'] += replayed - started;
      times.apply += applied - replayed;
      const { user, system } = process.cpuUsage(cpu);
      cpuMs += (user + system) / 1000;
      for (const { verdict } of change.transactions) if (verdict === 0) valid++;
      if (number % 20 === 19) {
        // Lets the flush run; its CPU counts.
        const pause = process.cpuUsage();
        await new Promise((resolve) => setTimeout(resolve, 1));
        while (state.overloaded) await state.relieved();
        const flushed = process.cpuUsage(pause);
        cpuMs += (flushed.user + flushed.system) / 1000;
      }
    }
    const count = groups * options.group;
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
      replayTrustedUs: perHalf(times.trusted),
      replayForeignUs: perHalf(times.foreign),
      applyUs: round((times.apply * 1000) / count),
      cpuUs: round((cpuMs * 1000) / count),
      reopenMs: round(reopenMs),
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Makes entries as an executor would, and keeps the versions. */
class BenchLedger {
  readonly #signer: Signer;
  readonly #versions: Float64Array;
  readonly #writer = new ByteWriter();

  constructor(signer: Signer, keys: number) {
    this.#signer = signer;
    this.#versions = new Float64Array(keys);
  }

  *initialRows(address: Address): Generator<StateChange['writes'][number]> {
    const version = positionOf(address, 0);
    for (let at = 0; at < this.#versions.length; at++) {
      this.#versions[at] = version;
      yield { key: stateKey('bench', keyOf(at)), value: rowValue(0), version };
    }
    const definition = { version: '1', sequence: 1, bundleHash: '', options: {} };
    const key = stateKey('_lifecycle', 'contracts/bench/definition');
    yield { key, value: JSON.stringify(definition), version };
  }

  group(count: number, address: Address): { batch: Batch; bytes: Buffer } {
    const timestampMs = Date.now();
    const calls = Array.from({ length: count }, () => ({
      transaction: {
        channel: 'bench',
        contract: 'bench',
        contractVersion: '',
        functionName: 'move',
        args: [Buffer.from('account-00000001'), Buffer.from('account-00000002')],
        nonce: crypto.getRandomValues(new Uint8Array(24)),
        timestampMs,
      },
    }));
    const batchId = crypto.getRandomValues(new Uint8Array(16));
    const batch = decodeBatch(signBatch(this.#signer, 'bench', batchId, calls).bytes);
    const records = batch.items.map((item, index) => {
      const picked = new Set<number>();
      while (picked.size < 2) picked.add(Math.floor(Math.random() * this.#versions.length));
      const keys = [...picked].sort((left, right) => left - right);
      this.#writer.reset();
      encodeRecord(
        {
          type: 'call',
          txId: item.txId,
          batch: 0,
          leaf: index,
          transactionBytes: item.bytes,
          contractVersion: '1',
          sets: [
            {
              namespace: 'bench',
              reads: keys.map((at) => ({
                key: keyOf(at),
                version: this.#versions[at] as Position,
              })),
              ranges: [],
              writes: keys.map((at) => ({ key: keyOf(at), value: rowValue(index) })),
              bulkUpdates: [],
            },
          ],
          result: 'ok',
          event: undefined,
        },
        this.#writer,
      );
      for (const at of keys) this.#versions[at] = positionOf(address, index);
      return { index, bytes: this.#writer.finish() };
    });
    const bytes = encodeEntry({
      kind: 'records',
      writer: 'bench',
      timestampMs,
      identities: [batch.creatorBytes],
      batches: [
        {
          batchId,
          creator: 0,
          mode: 'batch',
          size: count,
          signatures: [batch.signature],
          proof: [],
        },
      ],
      records,
    });
    return { batch, bytes };
  }
}

/** CPU time of this thread where the platform tells; other work on the machine does not count. */
function threadMs(): number {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return performance.now();
  }
}

function keyOf(at: number): string {
  return `account-${String(at).padStart(8, '0')}`;
}

function rowValue(amount: number): string {
  return JSON.stringify({ owner: 'somebody with a name', balance: String(amount + 1_000_000) });
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
