import { isDaybookError } from '../src/base/index.ts';
import type {
  CallOutcome,
  ContractBundle,
  ContractRuntime,
  MaybePromise,
  StateAccess,
} from '../src/contract/index.ts';

/** What a contract of the workload does, over any state: the checker runs it again on a plain map. */
export interface Access {
  /** The deployed version that runs. */
  readonly version: string;
  get(key: string): MaybePromise<string | undefined>;
  put(key: string, value: string): void;
  delete(key: string): void;
  range(
    start: string,
    end: string,
  ): MaybePromise<readonly { readonly key: string; readonly value: string }[]>;
  /** Adds to the number of every row of an interval. */
  raiseRange(start: string, end: string, by: number): MaybePromise<void>;
}

/** The namespace of the workload. */
export const contractName = 'money';

/** Key of an account. */
export function account(number: number): string {
  return `a${number}`;
}

/** Rows that bulk updates go over: more than an executor would update one by one. */
export const bulkRowCount = 104;

/** Key of one of them. */
export function bulkRowKey(at: number): string {
  return `r${String(at).padStart(3, '0')}`;
}

/** A row's value. */
export function bulkRow(units: number): string {
  return `{"n":${units}}`;
}

/** The number in a row's value. */
export function bulkRowUnits(value: string): number {
  return Number(value.slice(5, -1));
}

/**
 * A call as it goes on: hands out what it waits for, gets what came of it. Async functions would do
 * as well, and cost several turns of the microtask queue per call where nothing waits.
 */
type Steps = Generator<MaybePromise<unknown>, string, unknown>;

type Value = string | undefined;
type Rows = readonly { readonly key: string; readonly value: string }[];

/** Functions of the workload's contract; see {@link runNow} and {@link simulatedRuntime}. */
const contractFunctions: Readonly<
  Record<string, (access: Access, args: readonly string[]) => Steps | string>
> = {
  /** Moves units between two accounts; refuses what is not there. */
  *move(access, [from = '', to = '', units = '0']) {
    const payer = Number(((yield access.get(from)) as Value) ?? 0);
    const payee = Number(((yield access.get(to)) as Value) ?? 0);
    if (payer < Number(units)) throw new Error(`${from} has only ${payer}`);
    if (from === to) return `${payer}`;
    access.put(from, String(payer - Number(units)));
    access.put(to, String(payee + Number(units)));
    return `${payer - Number(units)},${payee + Number(units)}`;
  },
  /** Reads an interval and notes what it saw; phantoms would show. */
  *sum(access, [start = '', end = '', into = '']) {
    const rows = (yield access.range(start, end)) as Rows;
    const text = rows.map(({ key, value }) => `${key}=${value}`).join(';');
    access.put(into, text);
    return text;
  },
  /** Opens the next free account of an interval, or closes it: writers that range readers must see. */
  *toggle(access, [key = '']) {
    const before = (yield access.get(key)) as Value;
    if (before === undefined) access.put(key, '0');
    else if (before === '0') access.delete(key);
    return before ?? '';
  },
  *remove(access, [key = '']) {
    const before = (yield access.get(key)) as Value;
    access.delete(key);
    return before ?? '';
  },
  /** Counts up: a lost or repeated update shows. */
  *count(access, [key = '']) {
    const next = String(Number(((yield access.get(key)) as Value) ?? 0) + 1);
    access.put(key, next);
    return next;
  },
  /** Writes without reading. */
  put(access, [key = '', value = '']) {
    access.put(key, value);
    return value;
  },
  /** Makes the rows that {@link raise} goes over. */
  openRows(access) {
    for (let at = 0; at < bulkRowCount; at++) access.put(bulkRowKey(at), bulkRow(1));
    return '';
  },
  /** A bulk update: as data when the interval has many rows, row by row when it has few. */
  *raise(access, [start = '', end = '', by = '1']) {
    yield access.raiseRange(start, end, Number(by));
    return by;
  },
  /** Reads one row that bulk updates go over, and adds to it. */
  *raiseOne(access, [key = '']) {
    const units = bulkRowUnits(((yield access.get(key)) as Value) ?? bulkRow(0)) + 1;
    access.put(key, bulkRow(units));
    return String(units);
  },
  /** Sums the rows up: a bulk update that is half done, or done twice, shows. */
  *sumRows(access, [start = '', end = '']) {
    let units = 0;
    for (const { value } of (yield access.range(start, end)) as Rows) units += bulkRowUnits(value);
    return String(units);
  },
  /** Says which version ran: an upgrade has one place in the log, for everybody. */
  stamp(access, [key = '']) {
    access.put(key, access.version);
    return access.version;
  },
};

/** Runs a function over a state that answers at once. `undefined`: there is no such function. */
export function runNow(
  functionName: string,
  access: Access,
  args: readonly string[],
): string | undefined {
  const steps = contractFunctions[functionName]?.(access, args);
  if (typeof steps !== 'object') return steps;
  let step = steps.next();
  while (step.done !== true) step = steps.next(step.value);
  return step.value;
}

/** Runs a function; a promise when it had to wait for the state. */
function run(steps: Steps, first: ReturnType<Steps['next']>): MaybePromise<string> {
  let step = first;
  while (step.done !== true) {
    const { value } = step;
    if (value instanceof Promise) {
      return value.then(
        (found) => run(steps, steps.next(found)),
        (error: unknown) => run(steps, steps.throw(error)),
      );
    }
    step = steps.next(value);
  }
  return step.value;
}

/** The functions as the executor's engine calls them; installing a bundle changes the version. */
export function simulatedRuntime(): ContractRuntime {
  let version = '';
  return {
    install: (bundle) => {
      version = bundle.version;
    },
    options: () => undefined,
    call: (call, state) => {
      const called = contractFunctions[call.functionName];
      if (called === undefined) {
        return { ok: false, code: 'CONTRACT_FUNCTION_UNKNOWN', message: call.functionName };
      }
      const args: string[] = [];
      for (const arg of call.args) args.push((arg as Buffer).latin1Slice());
      try {
        const steps = called(new EngineAccess(version, state), args);
        const result = typeof steps === 'object' ? run(steps, steps.next()) : steps;
        return result instanceof Promise ? result.then(ended, failed) : ended(result);
      } catch (error) {
        return failed(error);
      }
    },
  };
}

function ended(result: string): CallOutcome {
  return { ok: true, result, event: undefined };
}

function failed(error: unknown): CallOutcome {
  const message = error instanceof Error ? error.message : String(error);
  return { ok: false, code: isDaybookError(error) ? error.code : 'CONTRACT_REJECTED', message };
}

class EngineAccess implements Access {
  readonly version: string;
  readonly #state: StateAccess;

  constructor(version: string, state: StateAccess) {
    this.version = version;
    this.#state = state;
  }

  get(key: string): MaybePromise<string | undefined> {
    return this.#state.get(contractName, key);
  }

  put(key: string, value: string): void {
    this.#state.put(contractName, key, value);
  }

  delete(key: string): void {
    this.#state.delete(contractName, key);
  }

  range(start: string, end: string): MaybePromise<Rows> {
    return this.#state.range(contractName, start, end, 1000);
  }

  raiseRange(start: string, end: string, by: number): MaybePromise<void> {
    return this.#state.updateRange(contractName, { start, end }, '{}', `{"$inc":{"n":${by}}}`);
  }
}

/** A version of the contract, to be deployed. */
export function contractBundle(version: string): ContractBundle {
  return {
    name: contractName,
    version,
    source: '0',
    options: { readYourWrites: false, indexes: {} },
  };
}
