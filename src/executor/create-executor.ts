import {
  assert,
  type Bytestring,
  DaybookError,
  type ErrorCode,
  errorJson,
  limits,
} from '../base/index.ts';
import { pause } from '../io/index.ts';
import {
  type Batch,
  type BatchItem,
  type ExclusiveControl,
  encodeTransaction,
  identityBytes,
  isLowS,
  type Outcome,
  type Position,
  untimely,
  verdictName,
  verdicts,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';
import { ContractLink } from './contract-link.ts';
import type { EvaluateRequest } from './executor.ts';
import { conflictError, staleError } from './executor-errors.ts';
import {
  type ExecutorMetrics,
  type ExecutorOptions,
  idleMetrics,
  type RunningExecutor,
} from './executor-options.ts';
import { GroupWriter } from './group-writer.ts';
import { type GroupEffects, Groups, type RetryCause } from './groups.ts';
import { Job } from './job.ts';
import { JobTable } from './job-table.ts';
import { OriginalOutcomes } from './original-outcomes.ts';
import { endorse, PreparedTransactions, signedBatch } from './prepared.ts';
import { runnerLimits } from './runner.ts';
import { tailSequencer } from './tail-sequencer.ts';

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
const sweepIntervalMs = 50;
const drainPollMs = 1;

/**
 * Ties the parts together: jobs come in, the contract process executes them, groups of records go to
 * the log, and what replay says of them ends the jobs or sends them round again.
 */
class NodeExecutor implements RunningExecutor {
  readonly #options: ExecutorOptions;
  readonly #jobs: JobTable;
  readonly #groups: Groups;
  readonly #contracts: ContractLink;
  readonly #writer: GroupWriter;
  readonly #originals: OriginalOutcomes;
  readonly #prepared: PreparedTransactions;
  /** Conflicted jobs that wait for the replica to move on. */
  #refresh: Job[] = [];
  #refreshDue = false;
  #closed = false;
  readonly #unsubscribe: () => void;
  readonly #counters = { ...idleMetrics };

  constructor(options: ExecutorOptions) {
    this.#options = options;
    const { io, name, log, replica, stateDirectory } = options;
    // As the channel has it now; another one takes effect at the next start.
    const exclusiveControl: ExclusiveControl = replica.config?.exclusiveControl ?? 'interleaved';
    this.#originals = new OriginalOutcomes(log);
    this.#prepared = new PreparedTransactions(
      options.preparedTransactionsMax,
      options.preparedLifetimeMs,
    );
    this.#jobs = new JobTable(options.transactionsMax ?? limits.executorTransactionsMax);
    this.#groups = new Groups(this.#groupEffects(), {
      writer: name,
      byUnit: exclusiveControl === 'batch',
      ...(options.groupBytesMax === undefined ? {} : { groupBytesMax: options.groupBytesMax }),
      // Without a sequencer another node may take an address that is not written yet. A value that
      // was read from it must not be referred to then: one group after the other.
      groupsInFlightMax:
        options.sequencer === undefined
          ? 1
          : (options.groupsInFlightMax ?? limits.groupsInFlightMax),
    });
    this.#contracts = new ContractLink({
      io,
      replica,
      stateDirectory,
      exclusiveControl,
      module: options.runnerModule ?? runnerModule(),
      limits: { ...runnerLimits, ...options.limits },
      groups: this.#groups,
      onBlamed: (job, code, message) => this.#refused(job, code, message),
      onSkipped: (job) => this.#finish(job),
    });
    this.#writer = new GroupWriter({
      io,
      name,
      log,
      sequencer: options.sequencer ?? tailSequencer(log),
      replica,
      groups: this.#groups,
      onTold: () => this.#pump(),
    });
    this.#unsubscribe = replica.onApplied((entries) => this.#onApplied(entries));
    this.#contracts.start();
    this.#sweep();
  }

  /** Resolves when the contract process takes calls for the first time. */
  get begun(): Promise<void> {
    return this.#contracts.begun;
  }

  submit(
    batch: Batch,
    deadlineMs: number,
    onOutcome: (index: number, outcome: Outcome) => void,
  ): void {
    this.#checkOpen();
    const { replica } = this.#options;
    this.#jobs.admit(batch.items.length + this.#originals.waiting);
    // Whoever submits has verified it; the replica need not do so again.
    replica.trustBatch(batch);
    const admitted = this.#jobs.admitted(batch);
    const unit = this.#jobs.nextUnit();
    const nowMs = this.#options.io.clock.nowMs();
    for (let leaf = 0; leaf < batch.items.length; leaf++) {
      const item = batch.items[leaf] as BatchItem;
      const { txId } = item;
      if (this.#jobs.join(txId, leaf, onOutcome, deadlineMs)) continue;
      const status = replica.status(txId);
      if (status?.verdict === verdicts.valid) {
        this.#originals.ask(txId, status.position, (outcome) => onOutcome(leaf, outcome));
        continue;
      }
      const refusal = this.#untimely(item, nowMs);
      if (refusal !== undefined) {
        onOutcome(leaf, { status: 'rejected', error: refusal.toJSON() });
        continue;
      }
      const { orderingKey } = item;
      const orderKey = orderingKey === '' ? undefined : `${admitted.creator}\0${orderingKey}`;
      const job = new Job({ item, leaf, batch: admitted, orderKey, onOutcome, deadlineMs, unit });
      if (this.#jobs.add(job)) this.#contracts.enqueue(job);
    }
    this.#contracts.dispatch();
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
    const result = await this.#contracts.ask(
      {
        kind: 'evaluate',
        txId: Buffer.alloc(32),
        creator: identityBytes(query.creator),
        transactionBytes,
      },
      this.#jobs.nextUnit(),
    );
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
    const refusal = this.#untimely(item, io.clock.nowMs());
    if (refusal !== undefined) throw refusal;
    const made = await this.#contracts.ask(
      {
        kind: 'prepare',
        txId: item.txId,
        creator: batch.creatorBytes,
        transactionBytes: item.bytes,
      },
      this.#jobs.nextUnit(),
    );
    assert(made.kind === 'prepared', 'what is to be prepared is prepared');
    const prepared = await endorse(endorser, config, batch, made, waitMs);
    this.#prepared.add(prepared, io.clock.monotonicMs());
    return prepared.payload;
  }

  submitPrepared(
    txId: Uint8Array,
    signature: Uint8Array,
    deadlineMs: number,
    onOutcome: (outcome: Outcome) => void,
  ): void {
    this.#checkOpen();
    const { io, replica } = this.#options;
    const tell = (_: number, outcome: Outcome): void => onOutcome(outcome);
    if (this.#jobs.join(txId, 0, tell, deadlineMs)) return;
    const status = replica.status(txId);
    if (status?.verdict === verdicts.valid) {
      this.#originals.ask(txId, status.position, onOutcome);
      return;
    }
    const prepared = this.#prepared.get(txId, io.clock.monotonicMs());
    if (prepared === undefined) {
      // What is in the log and invalid stays so.
      if (status !== undefined) throw staleError(txId);
      throw new DaybookError('ENDORSEMENT_UNKNOWN', 'no such transaction waits for a signature', {
        details: { txId: Buffer.from(txId).toString('hex') },
      });
    }
    if (!isLowS(signature)) {
      throw new DaybookError('SIGNATURE_INVALID', 'the signature is not in low-S form');
    }
    replica.verifier?.checkSignature(prepared.batch.creator, prepared.payload, signature);
    this.#jobs.admit(1 + this.#originals.waiting);
    this.#prepared.delete(txId);
    const batch = signedBatch(prepared, signature);
    const job = new Job({
      item: batch.items[0] as BatchItem,
      leaf: 0,
      batch: this.#jobs.admitted(batch),
      orderKey: undefined,
      onOutcome: tell,
      deadlineMs,
      unit: this.#jobs.nextUnit(),
      prepared: { body: prepared.body, summary: prepared.summary },
    });
    job.attempts = 1;
    this.#jobs.add(job);
    this.#groups.addPrepared(job, prepared.body, prepared.summary);
    this.#pump();
  }

  refuseWaiting(reason: DaybookError): void {
    for (const job of this.#jobs.refuseWaiting(reason)) this.#finish(job);
  }

  metrics(): ExecutorMetrics {
    const bulk = this.#options.replica.state.bulkProgress;
    return {
      ...this.#counters,
      executed: this.#contracts.executed,
      groups: this.#groups.count,
      contractRestarts: this.#contracts.restarts,
      transactions: this.#jobs.size,
      bulkUpdates: bulk.length,
      bulkRowsSeen: bulk.reduce((sum, { rowsSeen }) => sum + rowsSeen, 0),
      bulkRowsUpdated: bulk.reduce((sum, { rowsUpdated }) => sum + rowsUpdated, 0),
    };
  }

  async close(): Promise<void> {
    const { io, replica } = this.#options;
    this.#closed = true;
    this.#contracts.beginClosing();
    // What is answered "unknown" may never be known here; nobody waits for it.
    while (this.#jobs.isOwed && replica.alarm === undefined) await pause(io, drainPollMs);
    this.#writer.stop();
    this.#unsubscribe();
    const closed = new DaybookError('CLOSED', 'the executor was closed');
    this.#contracts.close(closed);
    this.#jobs.answerAll(closed);
  }

  /** @throws {DaybookError} when nothing can be submitted at present. */
  #checkOpen(): void {
    if (this.#closed) throw new DaybookError('CLOSED', 'the executor is closing');
    if (this.#writer.full !== undefined) throw this.#writer.full;
  }

  #untimely({ transaction }: BatchItem, nowMs: number): DaybookError | undefined {
    const { config, logTimeMs } = this.#options.replica;
    const lifetimeMs = config?.transactionLifetimeMs ?? 0;
    return untimely(transaction.timestampMs, nowMs, logTimeMs, lifetimeMs);
  }

  /* What becomes of records */

  #groupEffects(): GroupEffects {
    return {
      request: (group) => void this.#writer.request(group),
      write: (group, records) => void this.#writer.write(group, records),
      fill: (address) => {
        // If it fails, whoever waits for the address fills it.
        this.#options.log.fill(address).catch(() => undefined);
      },
      own: (execution, position) => this.#contracts.recorder?.own(execution, position),
      failed: (execution) => this.#contracts.recorder?.failed(execution),
      foreign: (key, value, version) => this.#contracts.recorder?.write(key, value, version),
      bulk: (update) => this.#contracts.recorder?.bulk(update),
      committed: (job, position, result) => {
        this.#counters.committed++;
        this.#jobs.answer(job, { status: 'committed', position, result });
        this.#finish(job);
      },
      invalid: (job, applied) => this.#invalid(job, applied),
      refused: (job, code, message) => this.#refused(job, code, message),
      again: (job, cause) => this.#again(job, cause),
    };
  }

  #onApplied(entries: readonly AppliedEntry[]): void {
    for (const entry of entries) this.#groups.applied(entry);
    this.#contracts.moved(this.#options.replica.position);
    this.#retryRefreshed();
    this.#groups.pump();
  }

  /** The groups have learned something: more may leave, and the contract process is told of it. */
  #pump(): void {
    this.#groups.pump();
    this.#contracts.flush();
  }

  #again(job: Job, cause: RetryCause): void {
    if (cause === 'sequencer') this.#counters.conflictsAtSequencer++;
    if (cause === 'replay') this.#counters.conflictsAtReplay++;
    if (job.answered) {
      this.#finish(job);
      return;
    }
    if (job.prepared !== undefined && cause !== 'lost') {
      this.#reject(job, staleError(job.item.txId));
      return;
    }
    if (job.attempts >= limits.executionAttemptsMax) {
      this.#reject(job, conflictError(job));
      return;
    }
    this.#counters.retries++;
    job.unit = this.#jobs.nextUnit();
    if (job.prepared !== undefined) {
      job.attempts++;
      this.#groups.addPrepared(job, job.prepared.body, job.prepared.summary);
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
    this.#contracts.enqueueFirst(jobs);
    this.#contracts.dispatch();
  }

  #refused(job: Job, code: ErrorCode, message: string): void {
    // Another executor may have committed it since it was admitted here; then the contract refused
    // to do it a second time.
    const status = this.#options.replica.status(job.item.txId);
    if (status?.verdict === verdicts.valid) {
      this.#committedBefore(job, status.position);
      return;
    }
    this.#counters.refused++;
    this.#jobs.answerError(job, errorJson(code, message));
    this.#finish(job);
  }

  #invalid(job: Job, { verdict, position }: AppliedRecord): void {
    if (verdict === verdicts.duplicateTransactionId) {
      const status = this.#options.replica.status(job.item.txId);
      if (status?.verdict === verdicts.valid) {
        this.#committedBefore(job, status.position);
        return;
      }
    }
    const reason = verdictName(verdict);
    const code = verdict === verdicts.expired ? 'TRANSACTION_EXPIRED' : 'TRANSACTION_INVALID';
    const message = `replay found the record invalid: ${reason}`;
    this.#reject(job, new DaybookError(code, message, { details: { reason, position } }));
  }

  /** Ends a job whose transaction took effect through another execution. */
  #committedBefore(job: Job, position: Position): void {
    this.#originals.ask(job.item.txId, position, (outcome) => {
      this.#jobs.answer(job, outcome);
      this.#finish(job);
    });
  }

  #reject(job: Job, error: DaybookError): void {
    this.#jobs.answerError(job, error.toJSON());
    this.#finish(job);
  }

  /** Nothing of the job is under way any more: its successor may run. */
  #finish(job: Job): void {
    const successor = this.#jobs.finish(job);
    if (successor === undefined) return;
    this.#contracts.enqueue(successor);
    this.#contracts.dispatchSoon();
  }

  /** Answers jobs whose deadline has passed, again and again. */
  #sweep(): void {
    const { io } = this.#options;
    io.timers.after(sweepIntervalMs, () => {
      if (this.#closed && this.#jobs.size === 0) return;
      const overdue = this.#jobs.answerOverdue(io.clock.monotonicMs(), this.#writer.stuck);
      for (const job of overdue) this.#finish(job);
      this.#sweep();
    });
  }
}

function runnerModule(): URL {
  const name = import.meta.url.endsWith('.ts') ? './runner-main.ts' : './runner-main.js';
  return new URL(name, import.meta.url);
}
