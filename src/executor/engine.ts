import {
  assert,
  type Bytestring,
  ByteWriter,
  DaybookError,
  type ErrorCode,
  isDaybookError,
} from '../base/index.ts';
import type {
  CallOutcome,
  ContractCall,
  ContractRuntime,
  HistoryPage,
  MaybePromise,
} from '../contract/index.ts';
import {
  bundleKey,
  type ContractDefinition,
  contractOfDefinitionKey,
  decodeBundle,
  decodeDefinition,
  decodeTransaction,
  definitionKey,
  type ExclusiveControl,
  lifecycleNamespace,
  type Position,
  sequenceKey,
  stateKey,
  type Transaction,
} from '../model/index.ts';
import { type Overlay, PendingUpdate, PendingUpdates } from '../state/index.ts';
import { CallContext, type ReadSource } from './call-context.ts';
import { deploy } from './deploy.ts';
import type { RecordHead } from './encode-call.ts';
import type { AppliedOperation, ResultWriter, RunnerCall, VersionReference } from './frames.ts';
import { InFlightWrites } from './in-flight.ts';
import {
  type LockMode,
  type LockRequest,
  LockTable,
  type LockTarget,
  type Owner,
} from './lock-table.ts';
import { createQueryFunctions } from './query-functions.ts';
import { committedSource, inFlightSource } from './read-source.ts';

/** Takes the results: on their way to the executor, a `ResultWriter`. */
export type EngineResults = Pick<
  ResultWriter,
  'length' | 'record' | 'refused' | 'evaluated' | 'prepared'
>;

/** What the engine stands on. */
export interface EngineOptions {
  readonly runtime: ContractRuntime;
  /** Committed state: rows that were flushed, and applied writes above them. */
  readonly committed: Overlay;
  /** All positions below were applied to `committed`. */
  readonly snapshot: Position;
  readonly exclusiveControl: ExclusiveControl;
  /** Number of the next execution. */
  readonly firstExecution: number;
  readonly results: EngineResults;
  /** Called when a turn's results are complete, and while a long turn goes on. */
  readonly flush: () => void;
  readonly monotonicMs: () => number;
  /** Lets waiting events in, then calls back. */
  readonly soon: (callback: () => void) => void;
  readonly history: (key: Bytestring, limit: number, bookmark: string) => Promise<HistoryPage>;
}

/** How long calls run before frames that wait are let in and results leave. */
const turnMsMax = 2;
const turnResultBytesMax = 512 * 1024;

/**
 * Executes calls, one after another on the one thread: a call runs until it has ended or waits for
 * a lock. Reads see committed state and, on top, the writes of executions in flight; these go away
 * with the fate of their execution (`apply`).
 *
 * Locks by mode (strict two-phase, `lock-table.ts`): `transaction` holds a call's locks until its
 * record's fate is known; `batch` does so for all calls of a batch together, whose records leave in
 * one piece; in `interleaved` a call's locks would be released when it has ended, and since calls
 * never overlap then, they are never taken.
 */
export class Engine {
  readonly #options: EngineOptions;
  readonly #inFlight = new InFlightWrites();
  /** Bulk updates that not all rows of the committed state have taken. */
  readonly #pending = new PendingUpdates();
  readonly #locks = new LockTable();
  /** Owner of each execution in flight, when locks are in use. */
  readonly #ownerOfExecution = new Map<number, Owner>();
  readonly #owners = new Map<Owner, OwnerState>();
  readonly #ready: Task[] = [];
  readonly #installed = new Map<string, ContractDefinition>();
  readonly #record = new ByteWriter(4096);
  readonly #summary = new ByteWriter(4096);
  readonly #locking: boolean;
  readonly #definitions = new Map<string, ContractDefinition>();
  readonly #committedSource: ReadSource;
  readonly #source: ReadSource;
  #snapshot: Position;
  #nextExecution: number;
  #nextOwner = 1;
  #running = false;
  /**
   * A bulk update whose fate is open. No call runs meanwhile: the rows below it may still change,
   * and then its position would stand for other values than a reader saw.
   */
  #barrier: number | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#snapshot = options.snapshot;
    this.#nextExecution = options.firstExecution;
    this.#locking = options.exclusiveControl !== 'interleaved';
    const base = {
      committed: this.#pending.view(options.committed),
      pendingUpdates: () => this.#pending.size,
      query: createQueryFunctions((contract) => this.#definition(contract)?.options),
      history: (key: Bytestring, limit: number, bookmark: string): Promise<HistoryPage> => {
        // The call holds up the others; what is done need not wait for it.
        options.flush();
        return options.history(key, limit, bookmark);
      },
    };
    this.#committedSource = committedSource(base);
    this.#source = inFlightSource(base, this.#inFlight);
  }

  /** Executions whose fate is open. */
  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Calls of one frame; those of one batch stand together. */
  execute(calls: readonly RunnerCall[]): void {
    if (this.#options.exclusiveControl === 'batch') this.#enqueueBatches(calls);
    else for (const call of calls) this.#ready.push(this.#taskOf(call, this.#newOwner(1)));
    if (!this.#running) void this.#loop();
  }

  /** Takes in what happened in the log up to (not including) `snapshot`. */
  apply(operations: readonly AppliedOperation[], snapshot: Position): void {
    const { committed } = this.#options;
    for (const operation of operations) {
      if (operation.kind === 'write') {
        committed.set(operation);
        this.#forgetContract(operation.key);
        continue;
      }
      if (operation.kind === 'bulk') {
        this.#pending.add(new PendingUpdate(operation.update));
        continue;
      }
      if (operation.kind === 'bulkDone') {
        this.#pending.remove(operation.position);
        continue;
      }
      if (operation.execution === this.#barrier) this.#barrier = undefined;
      const writes = this.#inFlight.remove(operation.execution);
      if (writes === undefined) continue;
      if (operation.kind === 'own') {
        for (const write of writes) {
          write.version = operation.position;
          committed.set(write);
          this.#forgetContract(write.key);
        }
      }
      if (this.#locking) this.#settleOwner(operation.execution);
    }
    this.#snapshot = snapshot;
    if (!this.#running && this.#ready.length > 0) void this.#loop();
  }

  /**
   * Installs the deployed version of a contract, if it is not yet. Done when it is first called:
   * whoever calls a bad one bears the blame.
   *
   * @throws {DaybookError} `CONTRACT_BUNDLE_INVALID`
   */
  prepare(contract: string): void {
    const definition = this.#definition(contract);
    if (definition === undefined || this.#installed.get(contract) === definition) return;
    const row = this.#options.committed.get(stateKey(lifecycleNamespace, bundleKey(contract)));
    if (row === undefined) {
      throw new DaybookError('CONTRACT_BUNDLE_INVALID', `no bundle of ${contract}`);
    }
    this.#options.runtime.install(decodeBundle(row.value));
    this.#installed.set(contract, definition);
  }

  async #loop(): Promise<void> {
    this.#running = true;
    let started = this.#options.monotonicMs();
    while (this.#barrier === undefined) {
      const task = this.#ready.shift();
      if (task === undefined) break;
      if (task.kind === 'wake') await this.#wake(task);
      else await this.#start(task);
      const now = this.#options.monotonicMs();
      if (now - started < turnMsMax && this.#options.results.length < turnResultBytesMax) continue;
      this.#options.flush();
      await new Promise<void>((resolve) => this.#options.soon(resolve));
      started = this.#options.monotonicMs();
    }
    this.#running = false;
    this.#options.flush();
  }

  /** Resolves when the call has ended or waits. */
  #start(task: CallTask): Promise<void> {
    if (!this.#locking) return this.#run(task);
    this.#ownerState(task.owner).current = task;
    return new Promise((resolve) => {
      task.pause = resolve;
      void this.#run(task).then(() => task.pause?.());
    });
  }

  /** Goes on with a call that waited; resolves when it has ended or waits again. */
  #wake({ task, requests, error }: WakeTask): Promise<void> {
    return new Promise((resolve) => {
      task.pause = resolve;
      for (const request of requests) {
        const wait = task.waits.get(request);
        task.waits.delete(request);
        if (error === undefined) wait?.granted();
        else wait?.denied(error);
      }
      // Whoever waits for several locks need not notice that one of them is there.
      if (task.waits.size > 0) this.#options.soon(resolve);
    });
  }

  async #run(task: CallTask): Promise<void> {
    const { call } = task;
    const source = call.kind === 'submit' ? this.#sourceOf(task) : this.#committedSource;
    const context = new CallContext(source);
    task.context = context;
    const snapshot = this.#snapshot;
    let outcome: CallOutcome | undefined;
    try {
      const transaction = decodeTransaction(call.transactionBytes);
      try {
        // Where nothing waits nothing is awaited: a turn of the microtask queue is dear here.
        const invoked = this.#invoke(call, transaction, context);
        outcome = invoked instanceof Promise ? await invoked : invoked;
      } finally {
        // Reads that the contract did not wait for belong to it all the same.
        while (task.waits.size > 0) await firstOf(task.waits);
      }
      if (outcome.ok && call.kind === 'submit') {
        const finished = this.#finish(task, transaction, context, outcome, snapshot);
        if (finished !== undefined) await finished;
      } else if (outcome.ok && call.kind === 'prepare') {
        await this.#prepared(task, transaction, context, outcome, snapshot);
      }
    } catch (error) {
      if (context.aborted === undefined) {
        const { code, message } = isDaybookError(error)
          ? error
          : new DaybookError('INTERNAL', error instanceof Error ? error.message : String(error));
        outcome = { ok: false, code, message };
      }
    }
    if (context.aborted !== undefined || outcome === undefined) {
      this.#again(task);
    } else if (outcome.ok) {
      if (call.kind !== 'evaluate') return;
      this.#options.results.evaluated(call.call, outcome.result);
      this.#ended(task);
    } else if (context.waited && !context.isCurrent()) {
      // What it refused was a mixture of two states: ask again on one.
      this.#again(task);
    } else {
      this.#refuse(task, outcome.code, outcome.message, context.references());
      this.#ended(task);
    }
  }

  #sourceOf(task: CallTask): ReadSource {
    if (!this.#locking) return this.#source;
    return {
      ...this.#source,
      lockKey: (key) => this.#lock(task, { key }, 'shared'),
      lockRange: (start, end) => this.#lock(task, { start, end }, 'shared'),
    };
  }

  #invoke(
    call: RunnerCall,
    transaction: Transaction,
    context: CallContext,
  ): MaybePromise<CallOutcome> {
    const { contract, contractVersion } = transaction;
    if (contract === lifecycleNamespace) return deploy(transaction, context);
    const definition = this.#definition(contract);
    if (definition === undefined) return refusal('CONTRACT_UNKNOWN', `no contract ${contract}`);
    if (contractVersion !== '' && contractVersion !== definition.version) {
      return refusal(
        'CONTRACT_VERSION_MISMATCH',
        `${contract} is deployed in version ${definition.version}, not ${contractVersion}`,
      );
    }
    this.prepare(contract);
    const contractCall: ContractCall = {
      channel: transaction.channel,
      contract,
      functionName: transaction.functionName,
      args: transaction.args,
      txId: (call.txId as Buffer).toString('hex'),
      creator: call.creator,
      nonce: transaction.nonce,
      timestampMs: transaction.timestampMs,
    };
    return this.#options.runtime.call(contractCall, context);
  }

  /** Ends a call well: index entries, exclusive locks, the record. */
  #finish(
    task: CallTask,
    transaction: Transaction,
    context: CallContext,
    outcome: CallOutcome & { ok: true },
    startSnapshot: Position,
  ): Promise<void> | undefined {
    const indexed = addIndexEntries(context);
    if (indexed === undefined && !this.#locking) {
      this.#complete(task, transaction, context, outcome, startSnapshot);
      return undefined;
    }
    return this.#lockAndComplete(indexed, task, transaction, context, outcome, startSnapshot);
  }

  async #lockAndComplete(
    indexed: Promise<void> | undefined,
    task: CallTask,
    transaction: Transaction,
    context: CallContext,
    outcome: CallOutcome & { ok: true },
    startSnapshot: Position,
  ): Promise<void> {
    if (indexed !== undefined) await indexed;
    if (context.isBulk && this.#options.exclusiveControl === 'batch') {
      // The records of a batch leave together; the barrier would wait for what waits for it.
      if (this.#ownerState(task.owner).tasks.length > 1) {
        throw new DaybookError('UPDATE_INVALID', 'a bulk update needs a batch of its own');
      }
    }
    if (this.#locking && context.aborted === undefined) {
      const keys = context.writes().map(({ key }) => key);
      for (const key of keys.sort()) {
        const wait = this.#lock(task, { key }, 'exclusive');
        if (wait !== undefined) await wait;
      }
    }
    this.#complete(task, transaction, context, outcome, startSnapshot);
  }

  /** Makes the record, unless the call has to run again. */
  #complete(
    task: CallTask,
    transaction: Transaction,
    context: CallContext,
    outcome: CallOutcome & { ok: true },
    startSnapshot: Position,
  ): void {
    const { call } = task;
    const written = context.writes();
    if (context.aborted !== undefined) return;
    // After a wait the state is another one; the record speaks for the state of now, or not at all.
    if (context.waited && !context.isCurrent()) {
      this.#again(task);
      return;
    }
    const snapshot = context.waited ? this.#snapshot : startSnapshot;
    this.#record.reset();
    this.#summary.reset();
    const references = context.encode(
      this.#headOf(call, transaction, outcome),
      snapshot,
      written,
      this.#record,
      this.#summary,
    );
    const execution = this.#nextExecution++;
    if (context.isBulk) this.#barrier = execution;
    this.#inFlight.push(execution, written);
    this.#emit(task, execution, references);
    this.#ended(task);
  }

  /** Ends a call well whose record is to be signed first: nothing of it is in flight. */
  async #prepared(
    task: CallTask,
    transaction: Transaction,
    context: CallContext,
    outcome: CallOutcome & { ok: true },
    snapshot: Position,
  ): Promise<void> {
    const { call } = task;
    const indexed = addIndexEntries(context);
    if (indexed !== undefined) await indexed;
    for (const contract of context.namespaces()) {
      // As Fabric's peers do: the record stands or falls with the definition that was in force.
      if (contract === lifecycleNamespace) continue;
      await context.get(lifecycleNamespace, sequenceKey(contract));
    }
    this.#record.reset();
    this.#summary.reset();
    const head = this.#headOf(call, transaction, outcome);
    context.encode(head, snapshot, context.writes(), this.#record, this.#summary, true);
    this.#options.results.prepared(call.call, this.#record.view(), this.#summary.view());
    this.#ended(task);
  }

  #headOf(
    call: RunnerCall,
    { contract }: Transaction,
    { result, event }: CallOutcome & { ok: true },
  ): RecordHead {
    const { txId, leaf, transactionBytes } = call;
    const isDeploy = contract === lifecycleNamespace;
    const type = isDeploy ? 'deploy' : 'call';
    const contractVersion = isDeploy ? '' : (this.#definition(contract)?.version ?? '');
    return { type, txId, leaf, transactionBytes, contractVersion, result, event };
  }

  /** Hands a record out; in mode `batch` only together with the others of its batch. */
  #emit(task: CallTask, execution: number, references: readonly VersionReference[]): void {
    const { results } = this.#options;
    const { call } = task;
    if (this.#locking) {
      const owner = this.#ownerState(task.owner);
      owner.inFlight++;
      this.#ownerOfExecution.set(execution, task.owner);
      if (this.#options.exclusiveControl === 'batch') {
        const record = this.#record.finish();
        const summary = this.#summary.finish();
        owner.held.push(() => results.record(call.call, execution, record, summary, references));
        owner.executions.push(execution);
        return;
      }
    }
    results.record(call.call, execution, this.#record.view(), this.#summary.view(), references);
  }

  #refuse(task: CallTask, code: ErrorCode, message: string, references: readonly number[]): void {
    const { results } = this.#options;
    const { call } = task;
    const give = (): void => results.refused(call.call, code, message, references);
    // Inside a batch a refusal may rest on a value that is not handed out yet.
    if (this.#options.exclusiveControl === 'batch') this.#ownerState(task.owner).held.push(give);
    else give();
  }

  #ended(task: CallTask): void {
    if (!this.#locking) return;
    const owner = this.#ownerState(task.owner);
    owner.unfinished--;
    if (owner.unfinished === 0) {
      for (const give of owner.held) give();
      owner.held.length = 0;
      owner.executions.length = 0;
    } else {
      this.#nextOfBatch(owner);
    }
    this.#releaseIfDone(task.owner);
  }

  /** Runs a call again from the beginning; in mode `batch` after an abort, its whole batch. */
  #again(task: CallTask): void {
    if (!this.#locking) {
      this.#ready.push(task);
      return;
    }
    const owner = this.#ownerState(task.owner);
    let next = task;
    if (owner.restart) {
      owner.restart = false;
      owner.next = 1;
      owner.unfinished = owner.tasks.length;
      next = owner.tasks[0] as CallTask;
    }
    if (owner.yieldsTo === undefined) this.#ready.push(next);
    else owner.parked = next;
  }

  /* Owners and locks */

  #taskOf(call: RunnerCall, owner: Owner): CallTask {
    return { kind: 'call', call, owner, waits: this.#locking ? new Map() : noWaits };
  }

  #newOwner(calls: number): Owner {
    const owner = this.#nextOwner++;
    if (this.#locking) {
      this.#owners.set(owner, {
        unfinished: calls,
        inFlight: 0,
        tasks: [],
        next: 0,
        restart: false,
        held: [],
        executions: [],
        current: undefined,
        losers: [],
        yieldsTo: undefined,
        parked: undefined,
      });
    }
    return owner;
  }

  #enqueueBatches(calls: readonly RunnerCall[]): void {
    for (let from = 0; from < calls.length; ) {
      const batch = (calls[from] as RunnerCall).batch;
      let to = from + 1;
      while (to < calls.length && calls[to]?.batch === batch) to++;
      const owner = this.#newOwner(to - from);
      const state = this.#ownerState(owner);
      for (const call of calls.slice(from, to)) state.tasks.push(this.#taskOf(call, owner));
      this.#nextOfBatch(state);
      from = to;
    }
  }

  #nextOfBatch(owner: OwnerState): void {
    const task = owner.tasks[owner.next];
    if (task === undefined) return;
    owner.next++;
    this.#ready.push(task);
  }

  #ownerState(owner: Owner): OwnerState {
    const state = this.#owners.get(owner);
    assert(state !== undefined, 'an owner lives until its last record is settled');
    return state;
  }

  #settleOwner(execution: number): void {
    const owner = this.#ownerOfExecution.get(execution);
    if (owner === undefined) return;
    this.#ownerOfExecution.delete(execution);
    this.#ownerState(owner).inFlight--;
    this.#releaseIfDone(owner);
  }

  #releaseIfDone(owner: Owner): void {
    const state = this.#ownerState(owner);
    if (state.unfinished > 0 || state.inFlight > 0) return;
    this.#release(owner);
    this.#owners.delete(owner);
  }

  #release(owner: Owner): void {
    for (const request of this.#locks.release(owner)) {
      const task = this.#ownerState(request.owner).current;
      assert(task?.waits.has(request) === true, 'a request waits for its call');
      this.#ready.push({ kind: 'wake', task, requests: [request], error: undefined });
    }
    for (const loser of this.#ownerState(owner).losers.splice(0)) {
      const state = this.#ownerState(loser);
      state.yieldsTo = undefined;
      if (state.parked !== undefined) this.#ready.push(state.parked);
      state.parked = undefined;
    }
  }

  #lock(task: CallTask, target: LockTarget, mode: LockMode): Promise<void> | undefined {
    const request = this.#locks.request(task.owner, target, mode);
    if (request.granted) return undefined;
    const { wait, promise } = newWait();
    task.waits.set(request, wait);
    for (;;) {
      const circle = this.#locks.deadlock(task.owner);
      if (circle === undefined) break;
      this.#abort(circle.youngest, circle.oldest);
    }
    if (task.context !== undefined) task.context.waited = true;
    task.pause?.();
    return promise;
  }

  /**
   * Ends the waiting call of a deadlock's victim. It runs again once it has unwound and `winner`
   * has let go of its locks.
   */
  #abort(victim: Owner, winner: Owner): void {
    const error = new DaybookError('TRANSACTION_CONFLICT', 'chosen to resolve a deadlock');
    const state = this.#ownerState(victim);
    const task = state.current;
    assert(task?.context !== undefined, 'who waits was started');
    task.context.aborted = error;
    const requests = [...task.waits.keys()].filter(({ granted }) => !granted);
    this.#ready.push({ kind: 'wake', task, requests, error });
    state.yieldsTo = winner;
    this.#ownerState(winner).losers.push(victim);
    if (this.#options.exclusiveControl === 'batch') {
      state.restart = true;
      state.held.length = 0;
      for (const execution of state.executions.splice(0)) {
        this.#inFlight.remove(execution);
        this.#ownerOfExecution.delete(execution);
        state.inFlight--;
      }
    }
    this.#release(victim);
  }

  /* Contracts */

  #definition(contract: string): ContractDefinition | undefined {
    const known = this.#definitions.get(contract);
    if (known !== undefined) return known;
    const row = this.#options.committed.get(stateKey(lifecycleNamespace, definitionKey(contract)));
    if (row === undefined) return undefined;
    const definition = decodeDefinition(row.value);
    this.#definitions.set(contract, definition);
    return definition;
  }

  #forgetContract(key: Bytestring): void {
    if (!key.startsWith(lifecyclePrefix)) return;
    const contract = contractOfDefinitionKey(key.slice(lifecyclePrefix.length));
    if (contract !== undefined) this.#definitions.delete(contract);
  }
}

const noWaits: CallTask['waits'] = new Map();
const lifecyclePrefix = stateKey(lifecycleNamespace, '');

interface CallTask {
  readonly kind: 'call';
  readonly call: RunnerCall;
  readonly owner: Owner;
  /** Of the present attempt. */
  context?: CallContext;
  /** Tells the loop that the call has ended or waits; it may be told more than once. */
  pause?: () => void;
  /** The locks that it has not been told of, granted or not. */
  readonly waits: Map<LockRequest, Wait>;
}

/** A call goes on: the requests were granted, or it is ended by an error. */
interface WakeTask {
  readonly kind: 'wake';
  readonly task: CallTask;
  readonly requests: readonly LockRequest[];
  readonly error: DaybookError | undefined;
}

type Task = CallTask | WakeTask;

interface Wait {
  readonly granted: () => void;
  readonly denied: (error: DaybookError) => void;
  /** Resolves after either. */
  readonly over: Promise<void>;
}

function newWait(): { readonly wait: Wait; readonly promise: Promise<void> } {
  let granted: Wait['granted'] = () => undefined;
  let denied: Wait['denied'] = granted;
  const promise = new Promise<void>((resolve, reject) => {
    granted = resolve;
    denied = reject;
  });
  const over = promise.catch(() => undefined);
  return { wait: { granted, denied, over }, promise };
}

function firstOf(waits: CallTask['waits']): Promise<void> | undefined {
  for (const { over } of waits.values()) return over;
  return undefined;
}

/** A call, or a batch of calls, that holds locks. */
interface OwnerState {
  /** Calls that have not ended. */
  unfinished: number;
  /** Records whose fate is open. */
  inFlight: number;
  /** Mode `batch`: the calls, in order, and the next to run. */
  readonly tasks: CallTask[];
  next: number;
  /** Mode `batch`: a deadlock ended it; all calls run again. */
  restart: boolean;
  /** Mode `batch`: results that leave when the last call has ended. */
  readonly held: (() => void)[];
  readonly executions: number[];
  /** The call that runs or ran last. */
  current: CallTask | undefined;
  /** Victims of deadlocks that wait until this one lets go of its locks. */
  readonly losers: Owner[];
  /** As a victim: whom it waits for, and the call to run then, once the last attempt is unwound. */
  yieldsTo: Owner | undefined;
  parked: CallTask | undefined;
}

/** Adds the index entries of what was written; `undefined`: no contract declares indexes. */
function addIndexEntries(context: CallContext): Promise<void> | undefined {
  const written = context.indexedWrites();
  return written.length === 0 ? undefined : indexEntriesOf(context, written);
}

async function indexEntriesOf(
  context: CallContext,
  written: ReturnType<CallContext['indexedWrites']>,
): Promise<void> {
  for (const { namespace, key } of written) {
    const before = context.before(namespace, key);
    context.addIndexWrites(namespace, key, before instanceof Promise ? await before : before);
  }
}

function refusal(code: ErrorCode, message: string): CallOutcome {
  return { ok: false, code, message };
}
