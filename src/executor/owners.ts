import { assert, type Bytestring, DaybookError } from '../base/index.ts';
import type { CallContext, CallLocks } from './call-context.ts';
import { added, none } from './few.ts';
import { type LockMode, LockOwner, type LockRequest, LockTable } from './lock-table.ts';
import { Numbered } from './numbered.ts';
import type { ReceivedCall } from './received-call.ts';

/** A call that is to run from its beginning. */
export class CallTask implements CallLocks {
  readonly kind = 'call';
  readonly call: ReceivedCall;
  /** Who takes its locks; `undefined`: nobody, it takes none. */
  readonly owner: Owner | undefined;
  /** Of the present attempt. */
  context: CallContext | undefined;
  /** Tells the loop that the call has ended or waits; it may be told more than once. */
  pause: (() => void) | undefined;
  /** The locks that it has not been told of, granted or not. */
  waits: readonly Wait[] = none;

  constructor(call: ReceivedCall, owner: Owner | undefined) {
    this.call = call;
    this.owner = owner;
  }

  lockKey(key: Bytestring): Promise<void> | undefined {
    return this.owner?.owners.lockKey(this, key, 'shared');
  }

  lockRange(start: Bytestring, end: Bytestring): Promise<void> | undefined {
    return this.owner?.owners.lockRange(this, start, end);
  }
}

/** A call goes on: what it waited for was granted, or it is ended by an error. */
export interface WakeTask {
  readonly kind: 'wake';
  readonly task: CallTask;
  readonly waits: readonly Wait[];
  readonly error: DaybookError | undefined;
}

/** What the engine does next. */
export type Task = CallTask | WakeTask;

/** One lock that a call waits for. */
interface Wait {
  readonly request: LockRequest<Owner>;
  readonly promise: Promise<void>;
  readonly granted: () => void;
  readonly denied: (error: DaybookError) => void;
}

/** A call, or a batch of calls, that holds locks. */
class Owner {
  readonly owners: Owners;
  readonly locks: LockOwner<Owner>;
  /** Its calls, in order, and the next to run. */
  readonly tasks: readonly CallTask[];
  next = 0;
  /** Calls that have not ended. */
  unfinished: number;
  /** Records whose fate is open. */
  inFlight = 0;
  /** The call that runs or ran last. */
  current: CallTask | undefined;
  /** Mode `batch`: a deadlock ended it; all calls run again. */
  restart = false;
  /** Mode `batch`: results that leave when the last call has ended, and the executions among them. */
  held: readonly (() => void)[] = none;
  executions: readonly number[] = none;
  /** Victims of deadlocks that wait until this one lets go of its locks. */
  losers: readonly Owner[] = none;
  /** As a victim: whom it waits for, and the call to run then, once the last attempt is unwound. */
  yieldsTo: Owner | undefined;
  parked: CallTask | undefined;

  constructor(owners: Owners, number: number, calls: readonly ReceivedCall[]) {
    this.owners = owners;
    this.locks = new LockOwner(number, this);
    this.tasks = calls.map((call) => new CallTask(call, this));
    this.unfinished = calls.length;
  }
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
  readonly #table = new LockTable<Owner>();
  readonly #ownerOfExecution = new Numbered<Owner>();
  #next = 1;

  constructor(options: OwnersOptions) {
    this.#options = options;
  }

  /** Makes one owner of the calls; the first is ready. */
  enter(calls: readonly ReceivedCall[]): void {
    this.#nextOf(new Owner(this, this.#next++, calls));
  }

  /** The call begins an attempt. */
  started(task: CallTask): void {
    ownerOf(task).current = task;
  }

  /** Whether the call's owner has no other calls. */
  isAlone(task: CallTask): boolean {
    return ownerOf(task).tasks.length === 1;
  }

  /**
   * Asks for the lock of a key. @returns a promise when the call has to wait: resolved with the
   *   lock, rejected when the call was chosen to resolve a deadlock.
   */
  lockKey(task: CallTask, key: Bytestring, mode: LockMode): Promise<void> | undefined {
    const request = this.#table.requestKey(ownerOf(task).locks, key, mode);
    return request === undefined ? undefined : this.#wait(task, request);
  }

  /** Asks for a shared lock of a range; like {@link Owners.lockKey}. */
  lockRange(task: CallTask, start: Bytestring, end: Bytestring): Promise<void> | undefined {
    const request = this.#table.requestRange(ownerOf(task).locks, start, end);
    return request === undefined ? undefined : this.#wait(task, request);
  }

  /** An execution of the call is in flight: locks stay until it is settled. */
  emitted(task: CallTask, execution: number): void {
    const owner = ownerOf(task);
    owner.inFlight++;
    if (this.#options.together) owner.executions = added(owner.executions, execution);
    this.#ownerOfExecution.add(execution, owner);
  }

  /** Gives a result out; with `together` only when the last call of the owner has ended. */
  give(task: CallTask, result: () => void): void {
    const owner = ownerOf(task);
    if (this.#options.together) owner.held = added(owner.held, result);
    else result();
  }

  /** The call has ended: its owner's next one is ready. */
  ended(task: CallTask): void {
    const owner = ownerOf(task);
    owner.unfinished--;
    if (owner.unfinished === 0) {
      for (const result of owner.held) result();
      owner.held = none;
      owner.executions = none;
    } else {
      this.#nextOf(owner);
    }
    this.#releaseIfDone(owner);
  }

  /** The call runs again from its beginning; with `together` after an abort, all of its owner's. */
  again(task: CallTask): void {
    const owner = ownerOf(task);
    let next = task;
    if (owner.restart) {
      owner.restart = false;
      owner.next = 1;
      owner.unfinished = owner.tasks.length;
      next = owner.tasks[0] as CallTask;
    }
    if (owner.yieldsTo === undefined) this.#options.ready(next);
    else owner.parked = next;
  }

  /** The fate of an execution is known. */
  settled(execution: number): void {
    const owner = this.#ownerOfExecution.take(execution);
    if (owner === undefined) return;
    owner.inFlight--;
    this.#releaseIfDone(owner);
  }

  #nextOf(owner: Owner): void {
    const task = owner.tasks[owner.next];
    if (task === undefined) return;
    owner.next++;
    this.#options.ready(task);
  }

  #releaseIfDone(owner: Owner): void {
    if (owner.unfinished === 0 && owner.inFlight === 0) this.#release(owner);
  }

  #release(owner: Owner): void {
    for (const request of this.#table.release(owner.locks)) {
      const task = request.owner.of.current;
      const waits = task?.waits.filter((wait) => wait.request === request) ?? none;
      assert(task !== undefined && waits.length > 0, 'a request waits for its call');
      this.#options.ready({ kind: 'wake', task, waits, error: undefined });
    }
    const { losers } = owner;
    owner.losers = none;
    for (const loser of losers) {
      loser.yieldsTo = undefined;
      if (loser.parked !== undefined) this.#options.ready(loser.parked);
      loser.parked = undefined;
    }
  }

  #wait(task: CallTask, request: LockRequest<Owner>): Promise<void> {
    const wait = newWait(request);
    task.waits = added(task.waits, wait);
    for (;;) {
      const circle = this.#table.deadlock(request.owner);
      if (circle === undefined) break;
      this.#abort(circle.youngest.of, circle.oldest.of);
    }
    if (task.context !== undefined) task.context.waited = true;
    task.pause?.();
    return wait.promise;
  }

  /**
   * Ends the waiting call of a deadlock's victim. It runs again once it has unwound and `winner`
   * has let go of its locks.
   */
  #abort(victim: Owner, winner: Owner): void {
    const task = victim.current;
    assert(task?.context !== undefined, 'who waits was started');
    task.context.aborted = chosen;
    const waits = task.waits.filter(({ request }) => victim.locks.waiting.includes(request));
    this.#options.ready({ kind: 'wake', task, waits, error: chosen });
    victim.yieldsTo = winner;
    winner.losers = added(winner.losers, victim);
    if (this.#options.together) {
      victim.restart = true;
      victim.held = none;
      for (const execution of victim.executions) {
        this.#options.undo(execution);
        this.#ownerOfExecution.take(execution);
        victim.inFlight--;
      }
      victim.executions = none;
    }
    this.#release(victim);
  }
}

/** One for all, which nobody can change: to make one, with its stack, costs more than a call. */
const chosen = Object.freeze(
  new DaybookError('TRANSACTION_CONFLICT', 'chosen to resolve a deadlock'),
);

function ownerOf({ owner }: CallTask): Owner {
  assert(owner !== undefined, 'every call that takes locks has an owner');
  return owner;
}

/** Goes on with a call that waited. */
export function wake({ task, waits, error }: WakeTask): void {
  task.waits =
    task.waits.length === waits.length ? none : task.waits.filter((wait) => !waits.includes(wait));
  for (const wait of waits) {
    if (error === undefined) wait.granted();
    else wait.denied(error);
  }
}

/** Resolves when the call waits for no lock. */
export async function waitsOver(task: CallTask): Promise<void> {
  for (let [wait] = task.waits; wait !== undefined; [wait] = task.waits) {
    await wait.promise.catch(() => undefined);
  }
}

function newWait(request: LockRequest<Owner>): Wait {
  let granted: Wait['granted'] = () => undefined;
  let denied: Wait['denied'] = granted;
  const promise = new Promise<void>((resolve, reject) => {
    granted = resolve;
    denied = reject;
  });
  return { request, promise, granted, denied };
}
