import { assert, DaybookError } from '../base/index.ts';
import type { CallContext } from './call-context.ts';
import {
  type LockMode,
  type LockRequest,
  LockTable,
  type LockTarget,
  type Owner,
} from './lock-table.ts';
import type { ReceivedCall } from './received-call.ts';

/** A call that is to run from its beginning. */
export interface CallTask {
  readonly kind: 'call';
  readonly call: ReceivedCall;
  readonly owner: Owner;
  /** Of the present attempt. */
  context?: CallContext;
  /** Tells the loop that the call has ended or waits; it may be told more than once. */
  pause?: () => void;
  /** The locks that it has not been told of, granted or not. */
  readonly waits: Map<LockRequest, Wait>;
}

/** A call goes on: the requests were granted, or it is ended by an error. */
export interface WakeTask {
  readonly kind: 'wake';
  readonly task: CallTask;
  readonly requests: readonly LockRequest[];
  readonly error: DaybookError | undefined;
}

/** What the engine does next. */
export type Task = CallTask | WakeTask;

/** One lock that a call waits for. */
interface Wait {
  readonly granted: () => void;
  readonly denied: (error: DaybookError) => void;
  /** Resolves after either. */
  readonly over: Promise<void>;
}

/** A call, or a batch of calls, that holds locks. */
interface OwnerState {
  /** Calls that have not ended. */
  unfinished: number;
  /** Records whose fate is open. */
  inFlight: number;
  /** Its calls, in order, and the next to run. */
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

/** What owners stand on. */
export interface OwnersOptions {
  /** Mode `batch`: results of one owner leave together. */
  readonly together: boolean;
  /** Puts a task behind those that are ready. */
  readonly ready: (task: Task) => void;
  /** An execution that nobody has seen yet is undone. */
  readonly undo: (execution: number) => void;
}

/**
 * Who holds locks, in modes `transaction` (each call) and `batch` (each batch, whose calls run one
 * after another). An owner keeps its locks until the last of its records is settled. The victim of a
 * deadlock runs again from its beginning when the oldest of the circle has let go of its locks.
 */
export class Owners {
  readonly #options: OwnersOptions;
  readonly #locks = new LockTable();
  readonly #owners = new Map<Owner, OwnerState>();
  readonly #ownerOfExecution = new Map<number, Owner>();
  #next = 1;

  constructor(options: OwnersOptions) {
    this.#options = options;
  }

  /** Makes one owner of the calls; the first is ready. */
  enter(calls: readonly ReceivedCall[]): void {
    const owner = this.#next++;
    const state: OwnerState = {
      unfinished: calls.length,
      inFlight: 0,
      tasks: calls.map((call) => ({ kind: 'call', call, owner, waits: new Map() })),
      next: 0,
      restart: false,
      held: [],
      executions: [],
      current: undefined,
      losers: [],
      yieldsTo: undefined,
      parked: undefined,
    };
    this.#owners.set(owner, state);
    this.#nextOf(state);
  }

  /** The call begins an attempt. */
  started(task: CallTask): void {
    this.#state(task.owner).current = task;
  }

  /** Whether the call's owner has no other calls. */
  isAlone(task: CallTask): boolean {
    return this.#state(task.owner).tasks.length === 1;
  }

  /**
   * Asks for a lock. @returns a promise when the call has to wait: resolved with the lock, rejected
   *   when the call was chosen to resolve a deadlock.
   */
  lock(task: CallTask, target: LockTarget, mode: LockMode): Promise<void> | undefined {
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

  /** An execution of the call is in flight: locks stay until it is settled. */
  emitted(task: CallTask, execution: number): void {
    const state = this.#state(task.owner);
    state.inFlight++;
    state.executions.push(execution);
    this.#ownerOfExecution.set(execution, task.owner);
  }

  /** Gives a result out; with `together` only when the last call of the owner has ended. */
  give(task: CallTask, result: () => void): void {
    if (this.#options.together) this.#state(task.owner).held.push(result);
    else result();
  }

  /** The call has ended: its owner's next one is ready. */
  ended(task: CallTask): void {
    const state = this.#state(task.owner);
    state.unfinished--;
    if (state.unfinished === 0) {
      for (const result of state.held) result();
      state.held.length = 0;
      state.executions.length = 0;
    } else {
      this.#nextOf(state);
    }
    this.#releaseIfDone(task.owner);
  }

  /** The call runs again from its beginning; with `together` after an abort, all of its owner's. */
  again(task: CallTask): void {
    const state = this.#state(task.owner);
    let next = task;
    if (state.restart) {
      state.restart = false;
      state.next = 1;
      state.unfinished = state.tasks.length;
      next = state.tasks[0] as CallTask;
    }
    if (state.yieldsTo === undefined) this.#options.ready(next);
    else state.parked = next;
  }

  /** The fate of an execution is known. */
  settled(execution: number): void {
    const owner = this.#ownerOfExecution.get(execution);
    if (owner === undefined) return;
    this.#ownerOfExecution.delete(execution);
    this.#state(owner).inFlight--;
    this.#releaseIfDone(owner);
  }

  #state(owner: Owner): OwnerState {
    const state = this.#owners.get(owner);
    assert(state !== undefined, 'an owner lives until its last record is settled');
    return state;
  }

  #nextOf(state: OwnerState): void {
    const task = state.tasks[state.next];
    if (task === undefined) return;
    state.next++;
    this.#options.ready(task);
  }

  #releaseIfDone(owner: Owner): void {
    const state = this.#state(owner);
    if (state.unfinished > 0 || state.inFlight > 0) return;
    this.#release(owner);
    this.#owners.delete(owner);
  }

  #release(owner: Owner): void {
    for (const request of this.#locks.release(owner)) {
      const task = this.#state(request.owner).current;
      assert(task?.waits.has(request) === true, 'a request waits for its call');
      this.#options.ready({ kind: 'wake', task, requests: [request], error: undefined });
    }
    for (const loser of this.#state(owner).losers.splice(0)) {
      const state = this.#state(loser);
      state.yieldsTo = undefined;
      if (state.parked !== undefined) this.#options.ready(state.parked);
      state.parked = undefined;
    }
  }

  /**
   * Ends the waiting call of a deadlock's victim. It runs again once it has unwound and `winner`
   * has let go of its locks.
   */
  #abort(victim: Owner, winner: Owner): void {
    const error = new DaybookError('TRANSACTION_CONFLICT', 'chosen to resolve a deadlock');
    const state = this.#state(victim);
    const task = state.current;
    assert(task?.context !== undefined, 'who waits was started');
    task.context.aborted = error;
    const requests = [...task.waits.keys()].filter(({ granted }) => !granted);
    this.#options.ready({ kind: 'wake', task, requests, error });
    state.yieldsTo = winner;
    this.#state(winner).losers.push(victim);
    if (this.#options.together) {
      state.restart = true;
      state.held.length = 0;
      for (const execution of state.executions.splice(0)) {
        this.#options.undo(execution);
        this.#ownerOfExecution.delete(execution);
        state.inFlight--;
      }
    }
    this.#release(victim);
  }
}

/** Goes on with a call that waited. */
export function wake({ task, requests, error }: WakeTask): void {
  for (const request of requests) {
    const wait = task.waits.get(request);
    task.waits.delete(request);
    if (error === undefined) wait?.granted();
    else wait?.denied(error);
  }
}

/** Resolves when the call waits for no lock. */
export async function waitsOver(task: CallTask): Promise<void> {
  for (const { over } of task.waits.values()) await over;
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
