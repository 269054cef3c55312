import { isDaybookError } from '../src/base/index.ts';
import type {
  CallOutcome,
  ContractBundle,
  ContractRuntime,
  MaybePromise,
  StateAccess,
} from '../src/contract/index.ts';
import { entityKey, revisionKey } from './source-checks.ts';
import type { SourceChange } from './source-model.ts';

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

type Rows = readonly { readonly key: string; readonly value: string }[];

/** Goes on with what was read: at once where nothing waits, as under load. */
function read<T>(
  found: MaybePromise<T>,
  work: (found: T) => MaybePromise<string>,
): MaybePromise<string> {
  return found instanceof Promise ? found.then(work) : work(found);
}

/** Functions of the workload's contract; see {@link runNow} and {@link simulatedRuntime}. */
const contractFunctions: Readonly<
  Record<string, (access: Access, args: readonly string[]) => MaybePromise<string>>
> = {
  /** Moves units between two accounts; refuses what is not there. */
  move(access, [from = '', to = '', units = '0']) {
    return read(access.get(from), (payerHas) =>
      read(access.get(to), (payeeHas) => {
        const payer = Number(payerHas ?? 0);
        const payee = Number(payeeHas ?? 0);
        if (payer < Number(units)) throw new Error(`${from} has only ${payer}`);
        if (from === to) return `${payer}`;
        access.put(from, String(payer - Number(units)));
        access.put(to, String(payee + Number(units)));
        return `${payer - Number(units)},${payee + Number(units)}`;
      }),
    );
  },
  /** Reads an interval and notes what it saw; phantoms would show. */
  sum(access, [start = '', end = '', into = '']) {
    return read(access.range(start, end), (rows) => {
      const text = rows.map(({ key, value }) => `${key}=${value}`).join(';');
      access.put(into, text);
      return text;
    });
  },
  /** Opens the next free account of an interval, or closes it: writers that range readers must see. */
  toggle(access, [key = '']) {
    return read(access.get(key), (before) => {
      if (before === undefined) access.put(key, '0');
      else if (before === '0') access.delete(key);
      return before ?? '';
    });
  },
  remove(access, [key = '']) {
    return read(access.get(key), (before) => {
      access.delete(key);
      return before ?? '';
    });
  },
  /** Counts up: a lost or repeated update shows. */
  count(access, [key = '']) {
    return read(access.get(key), (before) => {
      const next = String(Number(before ?? 0) + 1);
      access.put(key, next);
      return next;
    });
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
  raise(access, [start = '', end = '', by = '1']) {
    return read(access.raiseRange(start, end, Number(by)), () => by);
  },
  /** Reads one row that bulk updates go over, and adds to it. */
  raiseOne(access, [key = '']) {
    return read(access.get(key), (before) => {
      const units = bulkRowUnits(before ?? bulkRow(0)) + 1;
      access.put(key, bulkRow(units));
      return String(units);
    });
  },
  /** Sums the rows up: a bulk update that is half done, or done twice, shows. */
  sumRows(access, [start = '', end = '']) {
    return read(access.range(start, end), (rows) => {
      let units = 0;
      for (const { value } of rows) units += bulkRowUnits(value);
      return String(units);
    });
  },
  /** Takes what an outside database changed: each change once, and never after a newer one. */
  apply(access, [source = '', text = '[]']) {
    const changes = JSON.parse(text) as SourceChange[];
    // Own writes do not show before the call has ended.
    const own = new Map<string, string>();
    const from = (at: number, applied: number): MaybePromise<string> => {
      const change = changes[at];
      if (change === undefined) return String(applied);
      const { entity, revision, content } = change;
      const key = revisionKey(source, entity);
      return read(own.get(key) ?? access.get(key), (known) => {
        if (Number(known ?? -1) >= revision) return from(at + 1, applied);
        own.set(key, String(revision));
        access.put(key, String(revision));
        if (content === null) access.delete(entityKey(source, entity));
        else access.put(entityKey(source, entity), content);
        return from(at + 1, applied + 1);
      });
    };
    return from(0, 0);
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
  return contractFunctions[functionName]?.(access, args) as string | undefined;
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
      try {
        const result = called(new EngineAccess(version, state), call.args);
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
