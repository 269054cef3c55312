import {
  assert,
  type ByteReader,
  type Bytestring,
  ByteWriter,
  bytestringOf,
  DaybookError,
  type ErrorCode,
  type ErrorJson,
  limits,
  toDaybookError,
} from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  addressOf,
  type Batch,
  decodeEntry,
  decodeRecord,
  type ExclusiveControl,
  encodeTransaction,
  identityBytes,
  indexOf,
  isLowS,
  type Outcome,
  type Position,
  type RecordsEntry,
  type TxId,
  verdictName,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord, Replica } from '../replica/index.ts';
import type { Sequencer } from '../sequencer/index.ts';
import { buildEntry, type EntryRecord } from './entry-builder.ts';
import type { EvaluateRequest, Executor } from './executor.ts';
import {
  AppliedWriter,
  decodeHistoryRequest,
  decodeResults,
  encodeHistoryAnswer,
  type RunnerCall,
  type RunnerResult,
  toRunner,
} from './frames.ts';
import { type Group, Groups, type RetryCause } from './groups.ts';
import type { AdmittedBatch, Job } from './job.ts';
import { OrderQueues } from './order-queues.ts';
import { type Endorser, endorse, PreparedTransactions, signedBatch } from './prepared.ts';
import { Runner, type RunnerLimits, runnerLimits } from './runner.ts';
import { tailSequencer } from './tail-sequencer.ts';

/** What an executor stands on. */
export interface ExecutorOptions {
  readonly io: Pick<Io, 'clock' | 'timers' | 'processes' | 'random'>;
  /** Name of the node, as it will stand in its entries; no two running nodes share one. */
  readonly name: string;
  readonly log: SharedLog;
  /** Without one, groups are appended at the tail and more of them turn out invalid (I3). */
  readonly sequencer?: Sequencer | undefined;
  readonly replica: Replica;
  /** Directory of the replica's state; the contract process reads it. */
  readonly stateDirectory: string;
  readonly limits?: Partial<RunnerLimits>;
  readonly transactionsMax?: number;
  readonly groupsInFlightMax?: number;
  readonly groupBytesMax?: number;
  /** Endorses transactions that are signed singly; without one there are none. */
  readonly endorser?: Endorser | undefined;
  /** The contract process's program; for tests and the simulator. */
  readonly runnerModule?: URL;
}

/** Counters since the start, and gauges. */
export interface ExecutorMetrics {
  /** Calls that ran to an end in the contract process. */
  executed: number;
  committed: number;
  /** Refused by contracts and limits. */
  refused: number;
  conflictsAtSequencer: number;
  conflictsAtReplay: number;
  /** Executions that followed from those conflicts, or from lost addresses. */
  retries: number;
  groups: number;
  contractRestarts: number;
  /** Transactions under way. */
  transactions: number;
  /** Bulk updates that go through the rows now; rows they looked at, and updated, so far. */
  bulkUpdates: number;
  bulkRowsSeen: number;
  bulkRowsUpdated: number;
}

type Counters = Pick<
  ExecutorMetrics,
  'executed' | 'committed' | 'refused' | 'conflictsAtSequencer' | 'conflictsAtReplay' | 'retries'
>;

/** An executor with its counters. */
export interface RunningExecutor extends Executor {
  metrics(): ExecutorMetrics;
  /**
   * Answers every call that is not on its way to the log with `reason`: it has no effect, and another
   * node can do it.
   */
  refuseWaiting(reason: DaybookError): void;
}

/**
 * Starts an executor and its contract process. The replica must have applied the founding
 * configuration.
 *
 * @throws {DaybookError} `CHANNEL_UNKNOWN` when it has not.
 */
export async function createExecutor(options: ExecutorOptions): Promise<RunningExecutor> {
  if (options.replica.config === undefined) {
    throw new DaybookError('CHANNEL_UNKNOWN', 'the channel is not founded yet');
  }
  const executor = new NodeExecutor(options);
  await executor.begun;
  return executor;
}

/** A conflicting call runs again when the replica has moved on, at the latest after so long. */
const refreshMsMax = 5;
const sequencerBackoffMsMin = 5;
const sequencerBackoffMsMax = 200;
const sweepIntervalMs = 50;
const drainPollMs = 1;

/** A call whose result goes to whoever asked, not to the log. */
interface Question {
  readonly resolve: (result: RunnerResult & { kind: 'evaluated' | 'prepared' }) => void;
  readonly reject: (error: DaybookError) => void;
}

class NodeExecutor implements RunningExecutor {
  /** Resolves when the contract process takes calls for the first time. */
  readonly begun: Promise<void>;
  readonly #options: ExecutorOptions;
  /** As the channel had it at the start; another one takes effect at the next start. */
  readonly #exclusiveControl: ExclusiveControl;
  readonly #sequencer: Sequencer;
  readonly #runner: Runner;
  readonly #groups: Groups;
  readonly #jobs = new Map<TxId, Job>();
  readonly #order = new OrderQueues();
  readonly #creators = new Map<Bytestring, number>();
  /** Calls that wait for room in the contract process. */
  #ready: (Job | RunnerCall)[] = [];
  /** Conflicted jobs that wait for the replica to move on. */
  #refresh: Job[] = [];
  #refreshDue = false;
  readonly #calls = new Map<number, Job | Question>();
  readonly #prepared = new PreparedTransactions();
  readonly #applied = new AppliedWriter();
  #appliedFrame = 0;
  #appliedPosition: Position;
  #sealDue: Position | undefined;
  /** `down`: no process, or it has not begun; `recording`: about to begin; `up`. */
  #runnerState: 'down' | 'recording' | 'up' = 'down';
  #nextCall = 1;
  #nextUnit = 1;
  #nextExecution = 1;
  #sequencerBackoffMs = sequencerBackoffMsMin;
  #dispatchDue = false;
  #closed = false;
  /** Closed, and nothing is to be done any more. */
  #stopped = false;
  #lastEntryMs = 0;
  /** The log has no room at present. */
  #logFull: DaybookError | undefined;
  readonly #unsubscribe: (() => void)[];
  readonly #metrics: Counters = {
    executed: 0,
    committed: 0,
    refused: 0,
    conflictsAtSequencer: 0,
    conflictsAtReplay: 0,
    retries: 0,
  };
  #onBegun: () => void = () => undefined;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    const { replica, io, log } = options;
    this.#appliedPosition = replica.position;
    this.#exclusiveControl = replica.config?.exclusiveControl ?? 'interleaved';
    this.#sequencer = options.sequencer ?? tailSequencer(log);
    this.#groups = new Groups(this.#groupEffects(), {
      writer: options.name,
      byUnit: this.#exclusiveControl === 'batch',
      ...(options.groupBytesMax === undefined ? {} : { groupBytesMax: options.groupBytesMax }),
      // Without a sequencer another node may take an address that is not written yet. A value that
      // was read from it must not be referred to then: one group after the other.
      groupsInFlightMax:
        options.sequencer === undefined
          ? 1
          : (options.groupsInFlightMax ?? limits.groupsInFlightMax),
    });
    this.#runner = new Runner({
      io,
      module: options.runnerModule ?? runnerModule(),
      limits: { ...runnerLimits, ...options.limits },
      events: {
        onReady: () => void this.#begin(),
        onResults: (reader) => this.#onResults(reader),
        onHistoryRequest: (reader) => this.#onHistoryRequest(reader),
        onDown: () => {
          this.#runnerState = 'down';
        },
        onBlamed: (call, code, message) => this.#onBlamed(call, code, message),
        onRoom: () => this.#dispatch(),
      },
    });
    this.#unsubscribe = [
      replica.onApplied((entries) => this.#onApplied(entries)),
      replica.state.onFlushing((position) => {
        this.#sealDue = position;
      }),
      replica.state.onFlushed((position) => this.#tellFlushed(position)),
      replica.state.onBulkDone((position) => this.#tellBulkDone(position)),
    ];
    this.begun = new Promise((resolve) => {
      this.#onBegun = resolve;
    });
    this.#runner.start();
    this.#sweep();
  }

  submit(
    batch: Batch,
    deadlineMs: number,
    onOutcome: (index: number, outcome: Outcome) => void,
  ): void {
    if (this.#closed) throw new DaybookError('CLOSED', 'the executor is closing');
    if (this.#logFull !== undefined) throw this.#logFull;
    const { replica } = this.#options;
    this.#admit(batch.items.length);
    // Whoever submits has verified it; the replica need not do so again.
    replica.trustBatch(batch);
    const admitted: AdmittedBatch = { batch, creator: this.#creatorOf(batch.creatorBytes) };
    const unit = this.#nextUnit++;
    for (let leaf = 0; leaf < batch.items.length; leaf++) {
      const item = batch.items[leaf] as Batch['items'][number];
      const txId = (item.txId as Buffer).toString('hex');
      const known = this.#jobs.get(txId);
      if (known !== undefined) {
        known.listeners.push({ index: leaf, onOutcome });
        known.deadlineMs = Math.max(known.deadlineMs, deadlineMs);
        known.answered = false;
        continue;
      }
      const status = replica.status(txId);
      if (status?.verdict === verdicts.valid) {
        this.#original(txId, status.position, (outcome) => onOutcome(leaf, outcome));
        continue;
      }
      const expired = this.#expired(item);
      if (expired !== undefined) {
        onOutcome(leaf, { status: 'rejected', txId, error: expired.toJSON() });
        continue;
      }
      const { orderingKey } = item;
      const job: Job = {
        txId,
        item,
        leaf,
        batch: admitted,
        orderKey: orderingKey === '' ? undefined : `${admitted.creator}\0${orderingKey}`,
        listeners: [{ index: leaf, onOutcome }],
        deadlineMs,
        unit,
        attempts: 0,
        onItsWay: false,
        answered: false,
      };
      this.#jobs.set(txId, job);
      if (this.#order.enter(job)) this.#ready.push(job);
    }
    this.#dispatch();
  }

  async evaluate(query: EvaluateRequest): Promise<Bytestring> {
    const { io } = this.#options;
    const nonce = io.random.bytes(limits.nonceBytes);
    const transactionBytes = encodeTransaction({
      channel: query.channel,
      contract: query.contract,
      contractVersion: '',
      functionName: query.functionName,
      args: query.args,
      nonce,
      timestampMs: io.clock.nowMs(),
    });
    const result = await this.#ask({
      kind: 'evaluate',
      txId: Buffer.alloc(32),
      creator: identityBytes(query.creator),
      transactionBytes,
    });
    return result.kind === 'evaluated' ? result.result : '';
  }

  async prepare(batch: Batch, waitMs: number): Promise<Buffer> {
    const { endorser, replica, io } = this.#options;
    const [item] = batch.items;
    if (item === undefined || batch.items.length !== 1) {
      throw new DaybookError('INVALID_ARGUMENT', 'transactions are prepared one by one');
    }
    const { config } = replica;
    if (endorser === undefined || config === undefined) {
      const reason = 'the node makes no blocks';
      const message = `it cannot be signed singly: ${reason}`;
      throw new DaybookError('NOT_ENDORSABLE', message, { details: { reason } });
    }
    const expired = this.#expired(item);
    if (expired !== undefined) throw expired;
    const made = await this.#ask({
      kind: 'prepare',
      txId: item.txId,
      creator: batch.creatorBytes,
      transactionBytes: item.bytes,
    });
    assert(made.kind === 'prepared', 'what is to be prepared is prepared');
    const prepared = await endorse(endorser, config, batch, made, waitMs);
    this.#prepared.add(prepared, io.clock.monotonicMs());
    return prepared.payload;
  }

  submitPrepared(
    txId: TxId,
    signature: Uint8Array,
    deadlineMs: number,
    onOutcome: (outcome: Outcome) => void,
  ): void {
    if (this.#closed) throw new DaybookError('CLOSED', 'the executor is closing');
    if (this.#logFull !== undefined) throw this.#logFull;
    const { io, replica } = this.#options;
    const listener = { index: 0, onOutcome: (_: number, outcome: Outcome) => onOutcome(outcome) };
    const known = this.#jobs.get(txId);
    if (known !== undefined) {
      known.listeners.push(listener);
      known.deadlineMs = Math.max(known.deadlineMs, deadlineMs);
      known.answered = false;
      return;
    }
    const status = replica.status(txId);
    if (status?.verdict === verdicts.valid) {
      this.#original(txId, status.position, onOutcome);
      return;
    }
    const id = Buffer.from(txId, 'hex');
    const prepared = this.#prepared.get(id, io.clock.monotonicMs());
    if (prepared === undefined) {
      // What is in the log and invalid stays so.
      if (status !== undefined) throw staleError(txId);
      throw new DaybookError('ENDORSEMENT_UNKNOWN', 'no such transaction waits for a signature', {
        details: { txId },
      });
    }
    if (!isLowS(signature)) {
      throw new DaybookError('SIGNATURE_INVALID', 'the signature is not in low-S form');
    }
    replica.verifier?.checkSignature(prepared.batch.creator, prepared.payload, signature);
    this.#admit(1);
    this.#prepared.delete(id);
    const batch = signedBatch(prepared, signature);
    const job: Job = {
      txId,
      item: batch.items[0] as Batch['items'][number],
      leaf: 0,
      batch: { batch, creator: this.#creatorOf(batch.creatorBytes) },
      orderKey: undefined,
      listeners: [listener],
      deadlineMs,
      unit: this.#nextUnit++,
      attempts: 1,
      onItsWay: false,
      prepared: { record: prepared.record, summary: prepared.summary },
      answered: false,
    };
    this.#jobs.set(txId, job);
    this.#groups.addPrepared(job, prepared.record, prepared.summary);
    this.#groups.pump();
    this.#flushApplied();
  }

  /** Has the contract process execute a call whose record does not go to the log by itself. */
  #ask(
    call: Pick<RunnerCall, 'kind' | 'txId' | 'creator' | 'transactionBytes'>,
  ): Promise<RunnerResult & { kind: 'evaluated' | 'prepared' }> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw new DaybookError('CLOSED', 'the executor is closing');
      if (this.#calls.size >= limits.executorTransactionsMax + limits.evaluationsInFlightMax) {
        const details = { limit: 'evaluationsInFlightMax' };
        const message = `evaluationsInFlightMax is ${limits.evaluationsInFlightMax}`;
        throw new DaybookError('OVERLOADED', message, { details });
      }
      const number = this.#nextCall++;
      this.#calls.set(number, { resolve, reject });
      this.#ready.push({ ...call, call: number, batch: this.#nextUnit++, leaf: 0 });
      this.#dispatch();
    });
  }

  refuseWaiting(reason: DaybookError): void {
    for (const job of this.#jobs.values()) {
      if (job.answered || job.onItsWay) continue;
      this.#answerError(job, reason.toJSON());
      if (job.attempts === 0) this.#finish(job);
    }
  }

  /** @throws {DaybookError} `OVERLOADED` */
  #admit(count: number): void {
    const max = this.#options.transactionsMax ?? limits.executorTransactionsMax;
    if (this.#jobs.size + count <= max) return;
    throw new DaybookError('OVERLOADED', `executorTransactionsMax is ${max}`, {
      details: { limit: 'executorTransactionsMax', max },
    });
  }

  #expired({ transaction }: Batch['items'][number]): DaybookError | undefined {
    const { io, replica } = this.#options;
    const nowMs = io.clock.nowMs();
    const lifetimeMs = replica.config?.transactionLifetimeMs ?? 0;
    if (Math.abs(nowMs - transaction.timestampMs) <= lifetimeMs) return undefined;
    return new DaybookError(
      'TRANSACTION_EXPIRED',
      `the timestamp is more than ${lifetimeMs} ms away from the node's clock`,
      { details: { timestampMs: transaction.timestampMs, nowMs } },
    );
  }

  metrics(): ExecutorMetrics {
    const bulk = this.#options.replica.state.bulkProgress;
    return {
      ...this.#metrics,
      groups: this.#groups.count,
      contractRestarts: this.#runner.restarts,
      transactions: this.#jobs.size,
      bulkUpdates: bulk.length,
      bulkRowsSeen: bulk.reduce((sum, { rowsSeen }) => sum + rowsSeen, 0),
      bulkRowsUpdated: bulk.reduce((sum, { rowsUpdated }) => sum + rowsUpdated, 0),
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    // What is answered "unknown" may never be known here; nobody waits for it.
    while (this.#isOwed() && this.#options.replica.alarm === undefined) {
      await new Promise<void>((resolve) => this.#options.io.timers.after(drainPollMs, resolve));
    }
    this.#stopped = true;
    for (const end of this.#unsubscribe) end();
    this.#runner.close();
    const closed = new DaybookError('CLOSED', 'the executor was closed');
    for (const waiting of this.#calls.values()) if ('reject' in waiting) waiting.reject(closed);
    for (const job of this.#jobs.values()) this.#answerError(job, closed.toJSON());
    this.#calls.clear();
  }

  /** Whether somebody waits for an answer. */
  #isOwed(): boolean {
    for (const job of this.#jobs.values()) if (!job.answered) return true;
    return false;
  }

  /* The contract process */

  /** A process is there: once nothing is in flight it gets the state of now and begins. */
  async #begin(): Promise<void> {
    const { io, replica, stateDirectory } = this.#options;
    // A process that comes up is the only one; another one means that this one is gone.
    const restarts = this.#runner.restarts;
    const current = (): boolean => !this.#closed && this.#runner.restarts === restarts;
    while (this.#groups.live > 0) {
      this.#groups.pump();
      await new Promise<void>((resolve) => io.timers.after(drainPollMs, resolve));
      if (!current()) return;
    }
    this.#groups.forgetAll();
    // What is applied from here on is recorded; the flush brings all before it into the store.
    this.#applied.take(0, this.#appliedPosition);
    for (const { recorded } of replica.state.pendingUpdates) this.#applied.bulk(recorded);
    this.#runnerState = 'recording';
    for (;;) {
      try {
        await replica.state.flush();
        break;
      } catch {
        await new Promise<void>((resolve) => io.timers.after(sequencerBackoffMsMax, resolve));
      }
      if (!current()) return;
    }
    if (!current()) return;
    this.#runnerState = 'up';
    this.#runner.begin(
      {
        stateDirectory,
        exclusiveControl: this.#exclusiveControl,
        firstExecution: this.#nextExecution,
        bufferBytesMax: limits.contractBufferBytesMax,
      },
      this.#takeApplied(),
    );
    this.#onBegun();
  }

  /** Hands calls over as long as there is room. */
  #dispatch(): void {
    const room = this.#runner.room;
    if (room === 0 || this.#ready.length === 0) return;
    let taken = 0;
    const calls: RunnerCall[] = [];
    for (const next of this.#ready) {
      const unit = 'txId' in next && 'item' in next ? next.unit : undefined;
      const together =
        this.#exclusiveControl === 'batch' && unit !== undefined && calls.at(-1)?.batch === unit;
      if (calls.length >= room && !together) break;
      taken++;
      if ('call' in next) {
        if (this.#calls.has(next.call)) calls.push(next);
        continue;
      }
      if (next.answered) {
        this.#finish(next);
        continue;
      }
      next.attempts++;
      const call = this.#nextCall++;
      this.#calls.set(call, next);
      calls.push({
        call,
        kind: 'submit',
        batch: next.unit,
        leaf: next.leaf,
        txId: next.item.txId,
        creator: next.batch.batch.creatorBytes,
        transactionBytes: next.item.bytes,
      });
    }
    this.#ready = taken === this.#ready.length ? [] : this.#ready.slice(taken);
    if (calls.length > 0) this.#runner.send(calls);
  }

  #onResults(reader: ByteReader): void {
    const { appliedFrame } = decodeResults(reader, (result) => this.#onResult(result));
    this.#groups.acknowledged(appliedFrame);
    this.#groups.pump();
    this.#flushApplied();
  }

  #onResult(result: RunnerResult): void {
    const waiting = this.#calls.get(result.call);
    this.#calls.delete(result.call);
    if (!this.#runner.answered(result.call) || waiting === undefined) return;
    this.#metrics.executed++;
    if ('resolve' in waiting) {
      if (result.kind === 'refused') waiting.reject(new DaybookError(result.code, result.message));
      else if (result.kind !== 'record') waiting.resolve(result);
      return;
    }
    if (result.kind === 'record') {
      this.#nextExecution = result.execution + 1;
      this.#groups.add(waiting, result);
    } else if (result.kind === 'refused') {
      this.#groups.addRefusal(waiting, result.code, result.message, result.references);
    }
  }

  #onBlamed(call: number, code: ErrorCode, message: string): void {
    const waiting = this.#calls.get(call);
    this.#calls.delete(call);
    if (waiting === undefined) return;
    const error = new DaybookError(code, message);
    if ('reject' in waiting) waiting.reject(error);
    else this.#refused(waiting, code, message);
  }

  #onHistoryRequest(reader: ByteReader): void {
    const { request, key, limit, bookmark } = decodeHistoryRequest(reader);
    const writer = new ByteWriter(1024);
    try {
      encodeHistoryAnswer(
        writer,
        request,
        this.#options.replica.state.history(key, limit, bookmark),
      );
    } catch {
      writer.reset();
      encodeHistoryAnswer(writer, request, undefined);
    }
    this.#runner.tell([writer.view()]);
  }

  /* The log */

  #groupEffects(): ConstructorParameters<typeof Groups>[0] {
    return {
      request: (group) => void this.#request(group),
      write: (group, records) => void this.#write(group, records),
      fill: (address) => {
        // If it fails, whoever waits for the address fills it.
        this.#options.log.fill(address).catch(() => undefined);
      },
      own: (execution, position) => {
        if (this.#runnerState !== 'down') this.#applied.own(execution, position);
      },
      failed: (execution) => {
        if (this.#runnerState !== 'down') this.#applied.failed(execution);
      },
      foreign: (key, value, version) => {
        if (this.#runnerState !== 'down') this.#applied.write(key, value, version);
      },
      bulk: (update) => {
        if (this.#runnerState !== 'down') this.#applied.bulk(update);
      },
      committed: (job, position, result) => {
        this.#metrics.committed++;
        this.#answer(job, { status: 'committed', txId: job.txId, position, result });
        this.#finish(job);
      },
      invalid: (job, applied) => this.#invalid(job, applied),
      refused: (job, code, message) => this.#refused(job, code, message),
      again: (job, cause) => this.#again(job, cause),
    };
  }

  async #request(group: Group): Promise<void> {
    const records = group.executions.map((execution) => execution.summary);
    try {
      const grant = await this.#sequencer.request({
        requester: this.#options.name,
        records,
      });
      this.#sequencerBackoffMs = sequencerBackoffMsMin;
      if (grant.next !== undefined) this.#options.replica.expect(grant.next);
      this.#groups.granted(group, grant);
    } catch (error) {
      const { retry } = toDaybookError(error);
      if (retry === 'refresh') {
        this.#groups.notGranted(group);
      } else {
        const delayMs = this.#sequencerBackoffMs;
        this.#sequencerBackoffMs = Math.min(delayMs * 2, sequencerBackoffMsMax);
        await new Promise<void>((resolve) => this.#options.io.timers.after(delayMs, resolve));
        if (this.#stopped) return;
        this.#groups.postpone(group);
      }
    }
    this.#groups.pump();
    this.#flushApplied();
  }

  async #write(group: Group, records: readonly EntryRecord[]): Promise<void> {
    const { log, io, name } = this.#options;
    const { token } = group;
    assert(token !== undefined, 'a group is written at its token');
    // Log time must not go back within a node, whatever the clock does.
    this.#lastEntryMs = Math.max(this.#lastEntryMs, io.clock.nowMs());
    const bytes = buildEntry(name, this.#lastEntryMs, records);
    let delayMs = sequencerBackoffMsMin;
    for (let attempt = 1; !group.done && !this.#stopped; attempt++) {
      try {
        await log.write(token, bytes);
        this.#groups.durable(group);
      } catch (error) {
        const { code, details } = toDaybookError(error);
        // This one is tried again until it gets in; what comes after it had better wait elsewhere.
        if (details.limit === 'logSpaceBytes') this.#logFull = toDaybookError(error);
        if (code === 'LOG_ADDRESS_TAKEN' || code === 'LOG_TRIMMED') {
          this.#groups.lost(group);
        } else if (code === 'LOG_EPOCH_SEALED') {
          // An earlier attempt may have succeeded before the seal; closing the address tells.
          if (attempt === 1) this.#groups.lost(group);
          else await log.fill(token.address).catch(() => undefined);
        }
        // Anything else leaves the fate open: the same bytes at the same address, until it is known.
        if (group.done) break;
        await new Promise<void>((resolve) => io.timers.after(delayMs, resolve));
        delayMs = Math.min(delayMs * 2, sequencerBackoffMsMax);
      }
    }
    this.#logFull = undefined;
    this.#groups.pump();
    this.#flushApplied();
  }

  #onApplied(entries: readonly AppliedEntry[]): void {
    for (const entry of entries) this.#groups.applied(entry);
    this.#appliedPosition = this.#options.replica.position;
    this.#flushApplied(true);
    this.#retryRefreshed();
    this.#groups.pump();
  }

  /** Sends what happened in the log to the contract process. */
  #flushApplied(moved = false): void {
    if (this.#runnerState !== 'up') return;
    if (this.#applied.count === 0 && !moved) return;
    this.#runner.tell(this.#takeApplied());
    if (this.#sealDue !== undefined && this.#appliedPosition >= this.#sealDue) {
      this.#sealDue = undefined;
      this.#runner.tell([Buffer.of(toRunner.sealed)]);
    }
  }

  #takeApplied(): Buffer[] {
    const frame = ++this.#appliedFrame;
    this.#groups.sent(frame);
    return this.#applied.take(frame, this.#appliedPosition);
  }

  #tellBulkDone(position: Position): void {
    if (this.#runnerState === 'down') return;
    this.#applied.bulkDone(position);
    this.#flushApplied();
  }

  #tellFlushed(position: Position): void {
    if (this.#runnerState !== 'up') return;
    this.#runner.tell([new ByteWriter(16).u8(toRunner.flushed).u64(position).view()]);
  }

  /* Ends */

  #again(job: Job, cause: RetryCause): void {
    if (cause === 'sequencer') this.#metrics.conflictsAtSequencer++;
    if (cause === 'replay') this.#metrics.conflictsAtReplay++;
    if (job.answered) {
      this.#finish(job);
      return;
    }
    if (job.prepared !== undefined && cause !== 'lost') {
      this.#answerError(job, staleError(job.txId).toJSON());
      this.#finish(job);
      return;
    }
    if (job.attempts >= limits.executionAttemptsMax) {
      this.#answerError(job, conflictError(job).toJSON());
      this.#finish(job);
      return;
    }
    this.#metrics.retries++;
    job.unit = this.#nextUnit++;
    if (job.prepared !== undefined) {
      job.attempts++;
      this.#groups.addPrepared(job, job.prepared.record, job.prepared.summary);
      return;
    }
    this.#refresh.push(job);
    if (this.#refreshDue) return;
    this.#refreshDue = true;
    this.#options.io.timers.after(refreshMsMax, () => this.#retryRefreshed());
  }

  #retryRefreshed(): void {
    this.#refreshDue = false;
    if (this.#refresh.length === 0) return;
    const jobs = this.#refresh;
    this.#refresh = [];
    // What has waited longest goes first.
    this.#ready = [...jobs, ...this.#ready];
    this.#dispatch();
  }

  #refused(job: Job, code: ErrorCode, message: string): void {
    // Another executor may have committed it since it was admitted here; then the contract refused
    // to do it a second time.
    const status = this.#options.replica.status(job.txId);
    if (status?.verdict === verdicts.valid) {
      this.#committedBefore(job, status.position);
      return;
    }
    this.#metrics.refused++;
    this.#answerError(job, new DaybookError(code, message).toJSON());
    this.#finish(job);
  }

  /** Ends a job whose transaction took effect through another execution. */
  #committedBefore(job: Job, position: Position): void {
    this.#original(job.txId, position, (outcome) => {
      this.#answer(job, outcome);
      this.#finish(job);
    });
  }

  #invalid(job: Job, { verdict, position }: AppliedRecord): void {
    if (verdict === verdicts.duplicateTransactionId) {
      const status = this.#options.replica.status(job.txId);
      if (status?.verdict === verdicts.valid) {
        this.#committedBefore(job, status.position);
        return;
      }
    }
    const reason = verdictName(verdict);
    const expired = verdict === verdicts.expired;
    this.#answerError(
      job,
      new DaybookError(
        expired ? 'TRANSACTION_EXPIRED' : 'TRANSACTION_INVALID',
        `replay found the record invalid: ${reason}`,
        { details: { reason, position } },
      ).toJSON(),
    );
    this.#finish(job);
  }

  /** Gives the outcome of a transaction that was committed before, out of the log. */
  #original(txId: TxId, position: Position, onOutcome: (outcome: Outcome) => void): void {
    const { log } = this.#options;
    log.read(addressOf(position)).then(
      ({ bytes }) => {
        const entry = decodeEntry(bytes) as RecordsEntry;
        const stored = entry.records.find(({ index }) => index === indexOf(position));
        const result = stored === undefined ? '' : decodeRecord(stored.bytes).result;
        onOutcome({ status: 'committed', txId, position, result });
      },
      (error: unknown) => {
        const { code } = toDaybookError(error);
        // It did take effect; only its result is gone with the log's old part.
        if (code === 'LOG_TRIMMED') onOutcome({ status: 'committed', txId, position, result: '' });
        else onOutcome({ status: 'rejected', txId, error: unknownOutcome(txId).toJSON() });
      },
    );
  }

  #answer(job: Job, outcome: Outcome): void {
    const { listeners } = job;
    job.listeners = [];
    job.answered = true;
    for (const { index, onOutcome } of listeners) onOutcome(index, outcome);
  }

  #answerError(job: Job, error: ErrorJson): void {
    this.#answer(job, { status: 'rejected', txId: job.txId, error });
  }

  /** Nothing of the job is under way any more: its successor may run. */
  #finish(job: Job): void {
    if (this.#jobs.get(job.txId) !== job) return;
    this.#jobs.delete(job.txId);
    const successor = this.#order.leave(job);
    if (successor === undefined) return;
    successor.unit = this.#nextUnit++;
    this.#ready.push(successor);
    this.#dispatchSoon();
  }

  #dispatchSoon(): void {
    if (this.#dispatchDue) return;
    this.#dispatchDue = true;
    queueMicrotask(() => {
      this.#dispatchDue = false;
      this.#dispatch();
    });
  }

  /** Answers jobs whose deadline has passed. */
  #sweep(): void {
    const { io } = this.#options;
    io.timers.after(sweepIntervalMs, () => {
      if (this.#closed && this.#jobs.size === 0) return;
      const nowMs = io.clock.monotonicMs();
      for (const job of this.#jobs.values()) {
        if (job.answered || job.deadlineMs > nowMs) continue;
        const error = job.onItsWay
          ? unknownOutcome(job.txId)
          : (this.#logFull ?? conflictError(job));
        this.#answerError(job, error.toJSON());
        // What has never left is over; the rest ends when its fate is known.
        if (job.attempts === 0) this.#finish(job);
      }
      this.#sweep();
    });
  }

  #creatorOf(creatorBytes: Uint8Array): number {
    const key = bytestringOf(creatorBytes);
    let creator = this.#creators.get(key);
    if (creator === undefined) {
      if (this.#creators.size >= creatorsMax && this.#jobs.size === 0) this.#creators.clear();
      creator = this.#nextCreator++;
      this.#creators.set(key, creator);
    }
    return creator;
  }

  #nextCreator = 1;
}

const creatorsMax = 10_000;

function runnerModule(): URL {
  const name = import.meta.url.endsWith('.ts') ? './runner-main.ts' : './runner-main.js';
  return new URL(name, import.meta.url);
}

function unknownOutcome(txId: TxId): DaybookError {
  return new DaybookError(
    'OUTCOME_UNKNOWN',
    'no answer came before the deadline; look the transaction up by its id',
    { details: { txId } },
  );
}

function staleError(txId: TxId): DaybookError {
  return new DaybookError(
    'ENDORSEMENT_STALE',
    'what the transaction read has changed since it was endorsed',
    { details: { txId } },
  );
}

function conflictError(job: Job): DaybookError {
  return new DaybookError(
    'TRANSACTION_CONFLICT',
    'the transaction was not committed before its deadline',
    { details: { attempts: job.attempts } },
  );
}
