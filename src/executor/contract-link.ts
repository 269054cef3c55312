import {
  type ByteReader,
  type Bytestring,
  ByteWriter,
  DaybookError,
  type ErrorCode,
  limits,
} from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { ExclusiveControl, Position } from '../model/index.ts';
import type { Replica } from '../replica/index.ts';
import {
  AppliedWriter,
  decodeHistoryRequest,
  decodeResults,
  encodeHistoryAnswer,
  type ResultHandler,
  type RunnerCall,
  toRunner,
  type VersionReference,
} from './frames.ts';
import type { Groups } from './groups.ts';
import { Job } from './job.ts';
import { Runner, type RunnerLimits } from './runner.ts';

/** What a {@link ContractLink} works with. */
export interface ContractLinkOptions {
  readonly io: Pick<Io, 'processes' | 'timers'>;
  readonly replica: Replica;
  readonly stateDirectory: string;
  readonly exclusiveControl: ExclusiveControl;
  readonly module: URL;
  readonly limits: RunnerLimits;
  readonly groups: Groups;
  /** This call ended the process: the job is not executed again. */
  readonly onBlamed: (job: Job, code: ErrorCode, message: string) => void;
  /** The job was answered while it waited: it is not executed. */
  readonly onSkipped: (job: Job) => void;
}

/** What came of a call whose result does not go to the log. */
export type Answer =
  | { readonly kind: 'evaluated'; readonly result: Bytestring }
  /** Of the record, its body: the head is the caller's. */
  | { readonly kind: 'prepared'; readonly body: Buffer; readonly summary: Buffer };

/** A call whose result goes to whoever asked, not to the log. */
interface Question extends RunnerCall {
  readonly resolve: (answer: Answer) => void;
  readonly reject: (error: DaybookError) => void;
}

const drainPollMs = 1;
const flushRetryMs = 200;

/**
 * The contract process as the executor sees it: hands it calls while there is room, gives what comes
 * back to the groups, and tells it what happened in the log.
 */
export class ContractLink implements ResultHandler {
  /** Resolves when the contract process takes calls for the first time. */
  readonly begun: Promise<void>;
  /** Calls that ran to an end. */
  executed = 0;
  readonly #options: ContractLinkOptions;
  readonly #runner: Runner<Job | Question>;
  readonly #unsubscribe: (() => void)[];
  /** Calls that wait for room in the contract process. */
  #ready: (Job | Question)[] = [];
  readonly #questions = new Set<Question>();
  readonly #applied = new AppliedWriter();
  #appliedFrame = 0;
  #appliedPosition: Position;
  #sealDue: Position | undefined;
  /** `down`: no process, or it has not begun; `recording`: about to begin; `up`. */
  #state: 'down' | 'recording' | 'up' = 'down';
  #nextCall = 1;
  #nextExecution = 1;
  #dispatchDue = false;
  #closing = false;
  #onBegun: () => void = () => undefined;

  constructor(options: ContractLinkOptions) {
    this.#options = options;
    const { io, replica, module, limits: runnerLimits } = options;
    this.#appliedPosition = replica.position;
    this.#runner = new Runner({
      io,
      module,
      limits: runnerLimits,
      events: {
        onReady: () => void this.#begin(),
        onResults: (reader) => this.#onResults(reader),
        onHistoryRequest: (reader) => this.#onHistoryRequest(reader),
        onDown: () => {
          this.#state = 'down';
        },
        onBlamed: (call, code, message) => this.#onBlamed(call, code, message),
        onRoom: () => this.dispatch(),
      },
    });
    this.#unsubscribe = [
      replica.state.onFlushing((position) => {
        this.#sealDue = position;
      }),
      replica.state.onFlushed((position) => this.#tellFlushed(position)),
      replica.state.onBulkDone((position) => this.#tellBulkDone(position)),
    ];
    this.begun = new Promise((resolve) => {
      this.#onBegun = resolve;
    });
  }

  /** Starts the first process. */
  start(): void {
    this.#runner.start();
  }

  /** How many times a process was started after the first. */
  get restarts(): number {
    return this.#runner.restarts;
  }

  /** Where to write down what the process is to learn; `undefined`: there is none to learn it. */
  get recorder(): AppliedWriter | undefined {
    return this.#state === 'down' ? undefined : this.#applied;
  }

  /** No process begins any more, and nothing is asked. What waits in it may come to its end. */
  beginClosing(): void {
    this.#closing = true;
  }

  /** Stops the process; whoever asked gets `reason`. */
  close(reason: DaybookError): void {
    for (const end of this.#unsubscribe) end();
    this.#runner.close();
    for (const question of this.#questions) question.reject(reason);
    this.#questions.clear();
    this.#ready = [];
  }

  /**
   * Has a call executed whose record does not go to the log by itself.
   *
   * @throws {DaybookError} `CONTRACT_…` as the contract or a limit refused it; `OVERLOADED`, `CLOSED`.
   */
  ask(
    call: Pick<RunnerCall, 'kind' | 'txId' | 'creator' | 'transactionBytes'>,
    unit: number,
  ): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (this.#closing) throw new DaybookError('CLOSED', 'the executor is closing');
      const waiting = this.#ready.length + this.#runner.unanswered;
      if (waiting >= limits.executorTransactionsMax + limits.evaluationsInFlightMax) {
        const details = { limit: 'evaluationsInFlightMax' };
        const message = `evaluationsInFlightMax is ${limits.evaluationsInFlightMax}`;
        throw new DaybookError('OVERLOADED', message, { details });
      }
      const question = { ...call, call: this.#nextCall++, unit, resolve, reject };
      this.#questions.add(question);
      this.#ready.push(question);
      this.dispatch();
    });
  }

  /** Puts a job behind all that wait; {@link ContractLink.dispatch} hands it over. */
  enqueue(job: Job): void {
    this.#ready.push(job);
  }

  /** Puts jobs before all that wait: they have waited before. */
  enqueueFirst(jobs: readonly Job[]): void {
    this.#ready = [...jobs, ...this.#ready];
  }

  /** Hands calls over as long as there is room. */
  dispatch(): void {
    const room = this.#runner.room;
    if (room === 0 || this.#ready.length === 0) return;
    let taken = 0;
    const calls: (Job | Question)[] = [];
    const byUnit = this.#options.exclusiveControl === 'batch';
    for (const next of this.#ready) {
      const isJob = next instanceof Job;
      const together = byUnit && isJob && calls.at(-1)?.unit === next.unit;
      if (calls.length >= room && !together) break;
      taken++;
      if (isJob) {
        if (next.answered) {
          this.#options.onSkipped(next);
          continue;
        }
        next.attempts++;
        next.call = this.#nextCall++;
      }
      calls.push(next);
    }
    this.#ready = taken === this.#ready.length ? [] : this.#ready.slice(taken);
    if (calls.length > 0) this.#runner.send(calls);
  }

  /** {@link ContractLink.dispatch}, once for all that is enqueued in this turn. */
  dispatchSoon(): void {
    if (this.#dispatchDue) return;
    this.#dispatchDue = true;
    queueMicrotask(() => {
      this.#dispatchDue = false;
      this.dispatch();
    });
  }

  /** Sends what happened in the log. */
  flush(): void {
    this.#flush(false);
  }

  /** The replica has applied all before `position`. */
  moved(position: Position): void {
    this.#appliedPosition = position;
    this.#flush(true);
  }

  #flush(moved: boolean): void {
    if (this.#state !== 'up') return;
    if (this.#applied.count === 0 && !moved) return;
    this.#runner.tell(this.#takeApplied());
    if (this.#sealDue !== undefined && this.#appliedPosition >= this.#sealDue) {
      this.#sealDue = undefined;
      this.#runner.tell([Buffer.of(toRunner.sealed)]);
    }
  }

  #takeApplied(): Buffer[] {
    const frame = ++this.#appliedFrame;
    this.#options.groups.sent(frame);
    return this.#applied.take(frame, this.#appliedPosition);
  }

  #tellBulkDone(position: Position): void {
    if (this.#state === 'down') return;
    this.#applied.bulkDone(position);
    this.#flush(false);
  }

  #tellFlushed(position: Position): void {
    if (this.#state !== 'up') return;
    this.#runner.tell([new ByteWriter(16).u8(toRunner.flushed).u64(position).view()]);
  }

  /** A process is there: once nothing is in flight it gets the state of now and begins. */
  async #begin(): Promise<void> {
    const { io, replica, stateDirectory, exclusiveControl, groups } = this.#options;
    // A process that comes up is the only one; another one means that this one is gone.
    const restarts = this.#runner.restarts;
    const current = (): boolean => !this.#closing && this.#runner.restarts === restarts;
    while (groups.live > 0) {
      groups.pump();
      await pause(io, drainPollMs);
      if (!current()) return;
    }
    groups.forgetAll();
    // What is applied from here on is recorded; the flush brings all before it into the store.
    this.#applied.take(0, this.#appliedPosition);
    for (const { recorded } of replica.state.pendingUpdates) this.#applied.bulk(recorded);
    this.#state = 'recording';
    for (;;) {
      try {
        await replica.state.flush();
        break;
      } catch {
        await pause(io, flushRetryMs);
      }
      if (!current()) return;
    }
    if (!current()) return;
    this.#state = 'up';
    this.#runner.begin(
      {
        stateDirectory,
        exclusiveControl,
        firstExecution: this.#nextExecution,
        bufferBytesMax: limits.contractBufferBytesMax,
      },
      this.#takeApplied(),
    );
    this.#onBegun();
  }

  #onResults(reader: ByteReader): void {
    const { groups } = this.#options;
    groups.acknowledged(decodeResults(reader, this));
    groups.pump();
    this.#flush(false);
  }

  record(
    number: number,
    execution: number,
    body: Buffer,
    summary: Buffer,
    references: readonly VersionReference[],
  ): void {
    const waiting = this.#answered(number);
    if (!(waiting instanceof Job)) return;
    this.#nextExecution = execution + 1;
    this.#options.groups.add(waiting, execution, body, summary, references);
  }

  refused(number: number, code: ErrorCode, message: string, references: readonly number[]): void {
    const waiting = this.#answered(number);
    if (waiting instanceof Job) {
      this.#options.groups.addRefusal(waiting, code, message, references);
    } else {
      waiting?.reject(new DaybookError(code, message));
    }
  }

  evaluated(number: number, result: Bytestring): void {
    const waiting = this.#answered(number);
    if (!(waiting instanceof Job)) waiting?.resolve({ kind: 'evaluated', result });
  }

  prepared(number: number, body: Buffer, summary: Buffer): void {
    const waiting = this.#answered(number);
    if (waiting instanceof Job) return;
    // They are kept for as long as the client takes; the frame need not be.
    const kept = { body: Buffer.from(body), summary: Buffer.from(summary) };
    waiting?.resolve({ kind: 'prepared', ...kept });
  }

  /** Who waited for that call. */
  #answered(number: number): Job | Question | undefined {
    const waiting = this.#runner.answered(number);
    if (waiting === undefined) return undefined;
    this.executed++;
    if (!(waiting instanceof Job)) this.#questions.delete(waiting);
    return waiting;
  }

  #onBlamed(call: Job | Question, code: ErrorCode, message: string): void {
    if (call instanceof Job) {
      this.#options.onBlamed(call, code, message);
    } else {
      this.#questions.delete(call);
      call.reject(new DaybookError(code, message));
    }
  }

  #onHistoryRequest(reader: ByteReader): void {
    const { state } = this.#options.replica;
    const { request, key, limit, bookmark } = decodeHistoryRequest(reader);
    const writer = new ByteWriter(1024);
    try {
      encodeHistoryAnswer(writer, request, state.history(key, limit, bookmark));
    } catch {
      writer.reset();
      encodeHistoryAnswer(writer, request, undefined);
    }
    this.#runner.tell([writer.view()]);
  }
}
