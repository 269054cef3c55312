import {
  type Bytestring,
  ByteWriter,
  DaybookError,
  type ErrorCode,
  toDaybookError,
} from '../base/index.ts';
import type { CallOutcome, ContractRuntime, HistoryPage, MaybePromise } from '../contract/index.ts';
import {
  bundleKey,
  type ContractDefinition,
  contractOfDefinitionKey,
  decodeBundle,
  decodeDefinition,
  definitionKey,
  type ExclusiveControl,
  lifecycleNamespace,
  type Position,
  sequenceKey,
  stateKey,
} from '../model/index.ts';
import { type Overlay, PendingUpdate, PendingUpdates } from '../state/index.ts';
import { CallContext, type ReadSource } from './call-context.ts';
import { deploy } from './deploy.ts';
import type { CallEnd, EncodedCall } from './encode-call.ts';
import { none } from './few.ts';
import type { AppliedOperation, ResultWriter } from './frames.ts';
import { type InFlightWrite, InFlightWrites } from './in-flight.ts';
import { CallTask, Owners, type Task, type WakeTask, waitsOver, wake } from './owners.ts';
import { createQueryFunctions } from './query-functions.ts';
import { committedSource, inFlightSource } from './read-source.ts';
import type { ReceivedCall } from './received-call.ts';

/** Takes the results: on their way to the executor, a `ResultWriter`. Bytes are used again. */
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
  /** `undefined` in mode `interleaved`. */
  readonly #owners: Owners | undefined;
  readonly #ready: Task[] = [];
  readonly #installed = new Map<string, ContractDefinition>();
  readonly #made = new ByteWriter(8192);
  readonly #definitions = new Map<string, ContractDefinition>();
  readonly #committedSource: ReadSource;
  readonly #source: ReadSource;
  #snapshot: Position;
  #nextExecution: number;
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
    if (options.exclusiveControl !== 'interleaved') {
      this.#owners = new Owners({
        together: options.exclusiveControl === 'batch',
        ready: (task) => this.#ready.push(task),
        undo: (execution) => this.#inFlight.remove(execution),
      });
    }
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
  execute(calls: readonly ReceivedCall[]): void {
    const owners = this.#owners;
    if (owners === undefined) {
      for (const call of calls) this.#ready.push(new CallTask(call, undefined));
    } else if (this.#options.exclusiveControl === 'batch') {
      for (const batch of batchesOf(calls)) owners.enter(batch);
    } else {
      for (const call of calls) owners.enter([call]);
    }
    if (!this.#running) void this.#loop();
  }

  /** Takes in what happened in the log up to (not including) `snapshot`. */
  apply(operations: readonly AppliedOperation[], snapshot: Position): void {
    for (const operation of operations) {
      switch (operation.kind) {
        case 'own':
          for (let at = 0; at < operation.count; at++) {
            this.#settle(operation.execution + at, (operation.position + at) as Position);
          }
          break;
        case 'failed':
          this.#settle(operation.execution, undefined);
          break;
        case 'write':
          this.#options.committed.set(operation);
          this.#forgetContract(operation.key);
          break;
        case 'bulk':
          this.#pending.add(new PendingUpdate(operation.update));
          break;
        case 'bulkDone':
          this.#pending.remove(operation.position);
          break;
      }
    }
    this.#snapshot = snapshot;
    if (!this.#running && this.#ready.length > 0) void this.#loop();
  }

  /** An execution's writes are in the state as of `position`; `undefined`: they never will be. */
  #settle(execution: number, position: Position | undefined): void {
    if (execution === this.#barrier) this.#barrier = undefined;
    const writes = this.#inFlight.remove(execution);
    if (writes === undefined) return;
    if (position !== undefined) {
      for (const write of writes) {
        write.version = position;
        this.#options.committed.set(write);
        this.#forgetContract(write.key);
      }
    }
    this.#owners?.settled(execution);
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
      // Where nothing waits nothing is awaited: a turn of the microtask queue is dear here.
      const waiting = task.kind === 'wake' ? this.#wake(task) : this.#start(task);
      if (waiting !== undefined) await waiting;
      const now = this.#options.monotonicMs();
      if (now - started < turnMsMax && this.#options.results.length < turnResultBytesMax) continue;
      this.#options.flush();
      await new Promise<void>((resolve) => this.#options.soon(resolve));
      started = this.#options.monotonicMs();
    }
    this.#running = false;
    this.#options.flush();
  }

  /** Resolves when the call has ended or waits; `undefined`: it does already. */
  #start(task: CallTask): Promise<void> | undefined {
    this.#owners?.started(task);
    const running = this.#run(task);
    if (running === undefined || this.#owners === undefined) return running;
    void running.then(() => task.pause?.());
    if (task.waits.length > 0) return undefined;
    return new Promise((resolve) => {
      task.pause = resolve;
    });
  }

  /** Goes on with a call that waited; resolves when it has ended or waits again. */
  #wake(task: WakeTask): Promise<void> {
    return new Promise((resolve) => {
      task.task.pause = resolve;
      wake(task);
      // Whoever waits for several locks need not notice that one of them is there.
      if (task.task.waits.length > 0) this.#options.soon(resolve);
    });
  }

  /** Resolves when the call has ended; `undefined`: it has already. */
  #run(task: CallTask): Promise<void> | undefined {
    const submitted = task.call.kind === 'submit';
    const source = submitted ? this.#source : this.#committedSource;
    const locks = submitted && this.#owners !== undefined ? task : undefined;
    const context = new CallContext(source, this.#snapshot, locks);
    task.context = context;
    let outcome: MaybePromise<CallOutcome>;
    try {
      outcome = this.#attempt(task, context);
    } catch (error) {
      outcome = refusalOf(error);
    }
    if (!(outcome instanceof Promise)) {
      this.#end(task, context, outcome);
      return undefined;
    }
    return outcome.catch(refusalOf).then((late) => this.#end(task, context, late));
  }

  /** Runs the call and, when it ends well, makes its record. Throws as the contract or a limit does. */
  #attempt(task: CallTask, context: CallContext): MaybePromise<CallOutcome> {
    context.version = this.#definition(task.call.contract)?.version;
    let invoked: MaybePromise<CallOutcome>;
    try {
      invoked = this.#invoke(task.call, context);
    } catch (error) {
      if (task.waits.length === 0) throw error;
      invoked = Promise.reject(error);
    }
    return invoked instanceof Promise || task.waits.length > 0
      ? this.#awaited(task, context, invoked)
      : this.#recorded(task, context, invoked);
  }

  async #awaited(
    task: CallTask,
    context: CallContext,
    invoked: MaybePromise<CallOutcome>,
  ): Promise<CallOutcome> {
    let outcome: CallOutcome;
    try {
      outcome = await invoked;
    } finally {
      // Reads that the contract did not wait for belong to it all the same.
      if (task.waits.length > 0) await waitsOver(task);
    }
    return this.#recorded(task, context, outcome);
  }

  #recorded(task: CallTask, context: CallContext, outcome: CallOutcome): MaybePromise<CallOutcome> {
    const { kind } = task.call;
    if (!outcome.ok || kind === 'evaluate') return outcome;
    const finished =
      kind === 'submit'
        ? this.#finish(task, context, outcome)
        : this.#prepared(task, context, outcome);
    return finished === undefined ? outcome : finished.then(() => outcome);
  }

  /** What comes of a call besides its record. */
  #end(task: CallTask, context: CallContext, outcome: CallOutcome): void {
    const { call } = task;
    if (context.aborted !== undefined) {
      this.#again(task);
    } else if (outcome.ok) {
      if (call.kind !== 'evaluate') return;
      this.#options.results.evaluated(call.call, outcome.result);
      this.#owners?.ended(task);
    } else if (context.waited && !context.isCurrent()) {
      // What it refused was a mixture of two states: ask again on one.
      this.#again(task);
    } else {
      this.#refuse(task, outcome.code, outcome.message, context.references());
      this.#owners?.ended(task);
    }
  }

  #invoke(call: ReceivedCall, context: CallContext): MaybePromise<CallOutcome> {
    const { contract, contractVersion } = call.transaction;
    const { version } = context;
    if (contract === lifecycleNamespace) return deploy(call.transaction, context);
    if (version === undefined) return refusal('CONTRACT_UNKNOWN', `no contract ${contract}`);
    if (contractVersion !== '' && contractVersion !== version) {
      return refusal(
        'CONTRACT_VERSION_MISMATCH',
        `${contract} is deployed in version ${version}, not ${contractVersion}`,
      );
    }
    this.prepare(contract);
    return this.#options.runtime.call(call, context);
  }

  /** Ends a call well: index entries, exclusive locks, the record. */
  #finish(task: CallTask, context: CallContext, outcome: GoodOutcome): Promise<void> | undefined {
    const indexed = addIndexEntries(context);
    return indexed === undefined
      ? this.#lockAndComplete(task, context, outcome)
      : indexed.then(() => this.#lockAndComplete(task, context, outcome));
  }

  #lockAndComplete(
    task: CallTask,
    context: CallContext,
    outcome: GoodOutcome,
  ): Promise<void> | undefined {
    const written = context.writes();
    if (this.#owners !== undefined && context.aborted === undefined) {
      if (context.isBulk && this.#options.exclusiveControl === 'batch') {
        // The records of a batch leave together; the barrier would wait for what waits for it.
        if (!this.#owners.isAlone(task)) {
          throw new DaybookError('UPDATE_INVALID', 'a bulk update needs a batch of its own');
        }
      }
      const keys = keysInOrder(written);
      let at = 0;
      for (const key of keys) {
        at++;
        const wait = this.#owners.lockKey(task, key, 'exclusive');
        if (wait === undefined) continue;
        return this.#lockRest(wait, keys.slice(at), task, context, outcome);
      }
    }
    this.#complete(task, context, outcome, written);
    return undefined;
  }

  async #lockRest(
    first: Promise<void>,
    keys: readonly Bytestring[],
    task: CallTask,
    context: CallContext,
    outcome: GoodOutcome,
  ): Promise<void> {
    await first;
    for (const key of keys) {
      const wait = this.#owners?.lockKey(task, key, 'exclusive');
      if (wait !== undefined) await wait;
    }
    this.#complete(task, context, outcome, context.writes());
  }

  /** Makes the record, unless the call has to run again. */
  #complete(
    task: CallTask,
    context: CallContext,
    outcome: GoodOutcome,
    written: readonly InFlightWrite[],
  ): void {
    if (context.aborted !== undefined) return;
    // After a wait the state is another one; the record speaks for the state of now, or not at all.
    if (context.waited && !context.isCurrent()) {
      this.#again(task);
      return;
    }
    const snapshot = context.waited ? this.#snapshot : context.snapshot;
    this.#made.reset();
    const end = endOf(task.call, context, outcome);
    const encoded = context.encode(end, snapshot, written, this.#made);
    const execution = this.#nextExecution++;
    if (context.isBulk) this.#barrier = execution;
    this.#inFlight.push(execution, written);
    this.#emit(task, execution, encoded);
    this.#owners?.ended(task);
  }

  /** Ends a call well whose record is to be signed first: nothing of it is in flight. */
  async #prepared(task: CallTask, context: CallContext, outcome: GoodOutcome): Promise<void> {
    const indexed = addIndexEntries(context);
    if (indexed !== undefined) await indexed;
    for (const contract of context.namespaces()) {
      // As Fabric's peers do: the record stands or falls with the definition that was in force.
      if (contract === lifecycleNamespace) continue;
      await context.get(lifecycleNamespace, sequenceKey(contract));
    }
    this.#made.reset();
    const end = endOf(task.call, context, outcome);
    const { snapshot } = context;
    const { bodyBytes } = context.encode(end, snapshot, context.writes(), this.#made, true);
    this.#options.results.prepared(task.call.call, this.#made.view(), bodyBytes);
    this.#owners?.ended(task);
  }

  /** Hands a record out; in mode `batch` only together with the others of its batch. */
  #emit(task: CallTask, execution: number, { bodyBytes, references }: EncodedCall): void {
    const { results, exclusiveControl } = this.#options;
    const { call } = task.call;
    this.#owners?.emitted(task, execution);
    if (exclusiveControl !== 'batch') {
      results.record(call, execution, this.#made.view(), bodyBytes, references);
      return;
    }
    const made = this.#made.finish();
    this.#give(task, () => results.record(call, execution, made, bodyBytes, references));
  }

  /** Inside a batch a refusal may rest on a value that is not handed out yet. */
  #refuse(task: CallTask, code: ErrorCode, message: string, references: readonly number[]): void {
    const { results } = this.#options;
    this.#give(task, () => results.refused(task.call.call, code, message, references));
  }

  #give(task: CallTask, result: () => void): void {
    if (this.#owners === undefined) result();
    else this.#owners.give(task, result);
  }

  /** Runs a call again from the beginning. */
  #again(task: CallTask): void {
    if (this.#owners === undefined) this.#ready.push(task);
    else this.#owners.again(task);
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

const lifecyclePrefix = stateKey(lifecycleNamespace, '');

type GoodOutcome = CallOutcome & { readonly ok: true };

function endOf(
  { contract, transactionBytes }: ReceivedCall,
  { version }: CallContext,
  { result, event }: GoodOutcome,
): CallEnd {
  const contractVersion = contract === lifecycleNamespace ? '' : (version ?? '');
  return { contractVersion, result, event, transactionBytes };
}

/** Calls of one batch stand together. */
function* batchesOf(calls: readonly ReceivedCall[]): Generator<readonly ReceivedCall[]> {
  for (let from = 0; from < calls.length; ) {
    const unit = calls[from]?.unit;
    let to = from + 1;
    while (to < calls.length && calls[to]?.unit === unit) to++;
    yield calls.slice(from, to);
    from = to;
  }
}

/** All calls take their locks in one order: fewer of them stand in one another's way. */
function keysInOrder(writes: readonly InFlightWrite[]): readonly Bytestring[] {
  const [first, second] = writes;
  if (first === undefined) return none;
  if (second === undefined) return [first.key];
  if (writes.length > 2) return writes.map(({ key }) => key).sort();
  return first.key < second.key ? [first.key, second.key] : [second.key, first.key];
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

function refusalOf(error: unknown): CallOutcome {
  const { code, message } = toDaybookError(error);
  return refusal(code, message);
}
