import {
  type Bytestring,
  bytesOf,
  bytestringOf,
  DaybookError,
  type ErrorCode,
  isDaybookError,
  textOf,
  toDaybookError,
} from '../base/index.ts';
import type { Timers } from '../io/index.ts';
import type { ContractBundle } from '../model/index.ts';
import { type Answers, isContractsOwn, noRows, type OpenCall } from './calls.ts';
import { CreatorCache, type CreatorFacts } from './creator.ts';
import type { HostFunctions, HostReply } from './guest/host-functions.ts';
import type { Guest } from './guest/main.ts';
import { type HostPort, hostFunctions } from './host.ts';
import { openRealm } from './realm.ts';
import type { CallOutcome, ContractCall, ContractRuntime, StateAccess } from './runtime.ts';

/** What {@link createContractRuntime} may be told. */
export interface ContractRuntimeOptions {
  /** Called before a contract is called by another one: the moment to install it. */
  readonly prepare?: (contract: string) => void;
  readonly timers: Pick<Timers, 'soon'>;
  /** What contracts print. */
  readonly onLog?: (contract: string, txId: string, level: string, text: string) => void;
  /**
   * Called when an exception (the end of the stack) may have left the state's own structures half
   * changed. Must not return to business: the process is to end. Default: throws it later.
   */
  readonly onPoisoned?: (error: unknown) => void;
}

/** Longest text of one `console` call that is reported. */
const logTextMax = 4_096;
const nestedCallsMax = 16;
const noCreator: CreatorFacts = { identity: { mspId: '', certificate: '' }, json: '' };

interface Installed {
  readonly bundle: ContractBundle;
  readonly guest: Guest;
}

/**
 * Makes the runtime of a contract process. Sets the time zone of the process to UTC: `Date` must
 * not depend on the machine.
 */
export function createContractRuntime(options: ContractRuntimeOptions): ContractRuntime {
  process.env.TZ = 'UTC';
  return new Runtime(options);
}

/*
 * At most one call is *running*: from its start or resumption until it has finished, or until
 * nothing is left for it to do but wait. So the guest knows at every moment whose code runs. Other
 * starts and resumptions queue (as many as the executor admits). A finished call hands over at once; one that waits is noticed by a
 * `soon` callback, before which all promise reactions have run.
 */
class Runtime implements ContractRuntime, HostPort {
  readonly answers: Answers = { rows: noRows, errorCode: 'INTERNAL', errorMessage: '' };
  readonly #options: ContractRuntimeOptions;
  readonly #installed = new Map<string, Installed>();
  readonly #open = new Map<number, OpenCall>();
  readonly #creators = new CreatorCache();
  readonly #queue: (() => void)[] = [];
  readonly #host: HostFunctions;
  #running: OpenCall | undefined;
  #last: OpenCall | undefined;
  #checkIsDue = false;
  #nextId = 1;
  #nextTicket = 1;

  constructor(options: ContractRuntimeOptions) {
    this.#options = options;
    this.#host = hostFunctions(this);
  }

  install(bundle: ContractBundle): void {
    const guest = openRealm(bundle, this.#host);
    this.#installed.set(bundle.name, { bundle, guest });
  }

  options(contract: string): ContractBundle['options'] | undefined {
    return this.#installed.get(contract)?.bundle.options;
  }

  call(call: ContractCall, access: StateAccess): Promise<CallOutcome> {
    return new Promise((settle, abort) => {
      this.#begin(call, access, undefined, settle, abort);
    });
  }

  #begin(
    call: ContractCall,
    access: StateAccess,
    parent: OpenCall | undefined,
    settle: OpenCall['settle'],
    abort: OpenCall['abort'],
  ): void {
    if (parent !== undefined) {
      try {
        this.#options.prepare?.(call.contract);
      } catch (error) {
        const { code, message } = toDaybookError(error);
        settle({ ok: false, code, message });
        return;
      }
    }
    const installed = this.#installed.get(call.contract);
    if (installed === undefined) {
      const message = `no contract ${call.contract} is installed`;
      settle({ ok: false, code: 'CONTRACT_UNKNOWN', message });
      return;
    }
    const open: OpenCall = {
      id: this.#nextId++,
      call,
      contract: call.contract,
      access,
      guest: installed.guest,
      parent,
      settle,
      abort,
      waiting: 0,
      event: undefined,
      creator: parent?.creator,
      nestedFailure: undefined,
    };
    this.#open.set(open.id, open);
    if (this.#running === undefined) this.#start(open);
    else this.#queue.push(() => this.#start(open));
  }

  #start(open: OpenCall): void {
    if (!this.#open.has(open.id)) {
      this.#handOver();
      return;
    }
    this.#last = open;
    this.#run(open);
    const { functionName, args, timestampMs } = open.call;
    const texts = args.map(textOf);
    open.guest.start(open.id, timestampMs, functionName, ...texts);
  }

  #run(open: OpenCall): void {
    this.#running = open;
    if (this.#checkIsDue) return;
    this.#checkIsDue = true;
    this.#options.timers.soon(this.#check);
  }

  /** All promise reactions have run: what still runs can only be waiting. */
  readonly #check = (): void => {
    this.#checkIsDue = false;
    const open = this.#running;
    if (open === undefined) return;
    if (open.waiting > 0) {
      this.#handOver();
    } else {
      this.end(open, {
        ok: false,
        code: 'CONTRACT_REJECTED',
        message: 'the contract never finishes: it awaits something that will not happen',
      });
    }
  };

  /** Lets the next start or resumption run. */
  #handOver(): void {
    this.#running = undefined;
    // Not a loop: whatever it starts hands over again.
    this.#queue.shift()?.();
  }

  end(open: OpenCall, outcome: CallOutcome): void {
    if (!this.#open.delete(open.id)) return;
    if (this.#last === open) this.#last = undefined;
    if (open.waiting > 0) this.#forgetChildren(open);
    const nested = open.nestedFailure;
    const isNested = nested !== undefined && (outcome.ok || outcome.message === nested.message);
    open.settle(isNested ? nested : outcome);
    this.#handOverFrom(open);
  }

  /** Ends a call and all that wait for it: the state refused to go on. */
  #abort(open: OpenCall, error: unknown): void {
    let outermost = open;
    for (let at: OpenCall | undefined = open; at !== undefined; at = at.parent) {
      this.#open.delete(at.id);
      outermost = at;
    }
    this.#last = undefined;
    this.#forgetChildren(outermost);
    outermost.abort(error);
    this.#handOverFrom(open);
  }

  /** Nested calls end with the call that made them. */
  #forgetChildren(ended: OpenCall): void {
    for (const open of this.#open.values()) {
      for (let at = open.parent; at !== undefined; at = at.parent) {
        if (at === ended) this.#open.delete(open.id);
      }
    }
  }

  #handOverFrom(open: OpenCall): void {
    if (this.#running !== open) return;
    this.#running = undefined;
    if (this.#queue.length === 0) return;
    // In a turn of its own: this one still has frames of the call's code on its stack.
    void Promise.resolve().then(() => {
      if (this.#running === undefined) this.#queue.shift()?.();
    });
  }

  find(id: number): OpenCall | undefined {
    return this.#last?.id === id ? this.#last : this.#open.get(id);
  }

  #fail(code: ErrorCode, message: string): false {
    this.answers.errorCode = code;
    this.answers.errorMessage = message;
    return false;
  }

  ended(): false {
    return this.#fail('CONTRACT_REJECTED', 'the transaction has already ended');
  }

  /** What the state threw: the contract's own mistake, or the end of the call. */
  refused(open: OpenCall, error: unknown): false {
    if (isContractsOwn(error)) return this.#fail(error.code, error.message);
    if (!isDaybookError(error)) {
      const poisoned =
        this.#options.onPoisoned ??
        ((cause: unknown): void => {
          this.#options.timers.soon(() => {
            throw cause;
          });
        });
      poisoned(error);
    }
    this.#abort(open, error);
    return this.#fail('CONTRACT_REJECTED', 'the transaction was aborted');
  }

  /** Answers when a promise of the state does. `keep` puts the answer where the guest fetches it. */
  later<T>(
    open: OpenCall,
    promise: Promise<T>,
    keep: (answer: T) => Bytestring | undefined,
  ): number {
    const ticket = this.#nextTicket++;
    open.waiting++;
    const resume = (ok: boolean, value: () => Bytestring | undefined): void => {
      const act = (): void => {
        // Not before: a call is not stuck while its resumption is in the queue.
        open.waiting--;
        if (!this.#open.has(open.id)) {
          open.guest.drop(ticket);
          if (this.#running === undefined) this.#handOver();
          return;
        }
        this.#last = open;
        this.#run(open);
        open.guest.resume(ticket, ok, value());
      };
      if (this.#running === undefined || this.#running === open) act();
      else this.#queue.push(act);
    };
    promise.then(
      (answer) => resume(true, () => keep(answer)),
      (error: unknown) => {
        if (!isContractsOwn(error) && this.#open.has(open.id)) this.refused(open, error);
        resume(false, () => {
          if (isDaybookError(error)) this.#fail(error.code, error.message);
          return undefined;
        });
      },
    );
    return ticket;
  }

  /** One operation of the state whose answer are rows or nothing. */
  operate<T>(
    id: number,
    operation: (open: OpenCall) => T | Promise<T>,
    keep: (answer: T) => void,
  ): HostReply {
    const open = this.find(id);
    if (open === undefined) return this.ended();
    let answer: T | Promise<T>;
    try {
      answer = operation(open);
    } catch (error) {
      return this.refused(open, error);
    }
    if (answer instanceof Promise) {
      return this.later(open, answer, (late) => {
        keep(late);
        return undefined;
      });
    }
    keep(answer);
    return true;
  }

  creator(id: number): CreatorFacts {
    const open = this.find(id);
    if (open === undefined) return noCreator;
    open.creator ??= this.#creators.facts(bytestringOf(open.call.creator));
    return open.creator;
  }

  invoke(id: number, contract: unknown, functionName: unknown, args: unknown[]): HostReply {
    const open = this.find(id);
    if (open === undefined) return this.ended();
    // These came through code of the contract's realm: trust no type.
    if (
      typeof contract !== 'string' ||
      typeof functionName !== 'string' ||
      !args.every((arg): arg is string => typeof arg === 'string')
    ) {
      return this.#fail('CONTRACT_REJECTED', 'invokeChaincode takes texts');
    }
    let depth = 0;
    for (let at: OpenCall | undefined = open; at !== undefined; at = at.parent) depth++;
    if (depth > nestedCallsMax) {
      return this.#fail('CONTRACT_REJECTED', `more than ${nestedCallsMax} nested calls`);
    }
    const outcome = new Promise<CallOutcome>((settle) => {
      const call = {
        ...open.call,
        contract,
        functionName,
        // A character stands for a byte, whatever the guest gave.
        args: args.map((arg) => bytestringOf(bytesOf(arg))),
      };
      this.#begin(call, open.access, open, settle, (error) => this.#abort(open, error));
    });
    const answer = outcome.then((ended) => {
      if (ended.ok) return ended.result;
      open.nestedFailure = ended;
      throw new DaybookError('INVALID_ARGUMENT', ended.message);
    });
    return this.later(open, answer, (result) => result);
  }

  log(id: number, level: string, text: string): void {
    const open = this.find(id);
    this.#options.onLog?.(
      open?.contract ?? '',
      open?.call.txId ?? '',
      level,
      text.slice(0, logTextMax),
    );
  }
}
