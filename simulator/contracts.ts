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

/** The namespace of the workload. */
export const contractName = 'money';
const rowsMax = 1000;

/** What the functions need of a state: the checker runs them again on a plain map. */
export type Access = Pick<StateAccess, 'get' | 'put' | 'delete' | 'range' | 'updateRange'>;

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

/** The update of rows that adds to their numbers. */
function raisedBy(by: string): string {
  return `{"$inc":{"n":${Number(by)}}}`;
}

/** How much such an update adds. */
export function unitsRaised(update: string): number {
  return Number(update.slice(13, -2));
}

/** The number in a row's value. */
export function bulkRowUnits(value: string): number {
  return Number(value.slice(5, -1));
}

/** Goes on with what was read: at once where nothing waits, as under load. */
function read<T>(
  found: MaybePromise<T>,
  work: (found: T) => MaybePromise<string>,
): MaybePromise<string> {
  return found instanceof Promise ? found.then(work) : work(found);
}

/** Functions of the workload's contract; see {@link runNow} and {@link simulatedRuntime}. */
const contractFunctions: Readonly<
  Record<string, (access: Access, args: readonly string[], version: string) => MaybePromise<string>>
> = {
  /** Moves units between two accounts; refuses what is not there. */
  move(access, [from = '', to = '', units = '0']) {
    return read(access.get(contractName, from), (payerHas) =>
      read(access.get(contractName, to), (payeeHas) => {
        const payer = Number(payerHas ?? 0);
        const payee = Number(payeeHas ?? 0);
        if (payer < Number(units)) throw new Error(`${from} has only ${payer}`);
        if (from === to) return `${payer}`;
        access.put(contractName, from, String(payer - Number(units)));
        access.put(contractName, to, String(payee + Number(units)));
        return `${payer - Number(units)},${payee + Number(units)}`;
      }),
    );
  },
  /** Reads an interval and notes what it saw; phantoms would show. */
  sum(access, [start = '', end = '', into = '']) {
    return read(access.range(contractName, start, end, rowsMax), (rows) => {
      const text = rows.map(({ key, value }) => `${key}=${value}`).join(';');
      access.put(contractName, into, text);
      return text;
    });
  },
  /** Opens the next free account of an interval, or closes it: writers that range readers must see. */
  toggle(access, [key = '']) {
    return read(access.get(contractName, key), (before) => {
      if (before === undefined) access.put(contractName, key, '0');
      else if (before === '0') access.delete(contractName, key);
      return before ?? '';
    });
  },
  remove(access, [key = '']) {
    return read(access.get(contractName, key), (before) => {
      access.delete(contractName, key);
      return before ?? '';
    });
  },
  /** Counts up: a lost or repeated update shows. */
  count(access, [key = '']) {
    return read(access.get(contractName, key), (before) => {
      const next = String(Number(before ?? 0) + 1);
      access.put(contractName, key, next);
      return next;
    });
  },
  /** Counts up, and tells those who follow the contract's events. */
  announce(access, [key = '']) {
    return read(access.get(contractName, key), (before) => {
      const next = String(Number(before ?? 0) + 1);
      access.put(contractName, key, next);
      return next;
    });
  },
  /** Writes without reading. */
  put(access, [key = '', value = '']) {
    access.put(contractName, key, value);
    return value;
  },
  /** Makes the rows that {@link raise} goes over. */
  openRows(access) {
    for (let at = 0; at < bulkRowCount; at++) access.put(contractName, bulkRowKey(at), bulkRow(1));
    return '';
  },
  /** A bulk update: as data when the interval has many rows, row by row when it has few. */
  raise(access, [start = '', end = '', by = '1']) {
    return read(access.updateRange(contractName, { start, end }, '{}', raisedBy(by)), () => by);
  },
  /** Reads one row that bulk updates go over, and adds to it. */
  raiseOne(access, [key = '']) {
    return read(access.get(contractName, key), (before) => {
      const units = bulkRowUnits(before ?? bulkRow(0)) + 1;
      access.put(contractName, key, bulkRow(units));
      return String(units);
    });
  },
  /** Sums the rows up: a bulk update that is half done, or done twice, shows. */
  sumRows(access, [start = '', end = '']) {
    return read(access.range(contractName, start, end, rowsMax), (rows) => {
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
      return read(own.get(key) ?? access.get(contractName, key), (known) => {
        if (Number(known ?? -1) >= revision) return from(at + 1, applied);
        own.set(key, String(revision));
        access.put(contractName, key, String(revision));
        if (content === null) access.delete(contractName, entityKey(source, entity));
        else access.put(contractName, entityKey(source, entity), content);
        return from(at + 1, applied + 1);
      });
    };
    return from(0, 0);
  },
  /** Says which version ran: an upgrade has one place in the log, for everybody. */
  stamp(access, [key = ''], version) {
    access.put(contractName, key, version);
    return version;
  },
};

/** The event that a call announces; `undefined`: none. Some are not text. */
export function announced(
  functionName: string,
  args: readonly string[],
  result: string,
): { readonly name: string; readonly payload: string } | undefined {
  const [name = ''] = args;
  if (functionName !== 'announce') return undefined;
  return { name, payload: Number(result) % 5 === 0 ? `\xff${result}` : `${name} is ${result}` };
}

/** Runs a function over a state that answers at once. `undefined`: there is no such function. */
export function runNow(
  functionName: string,
  access: Access,
  args: readonly string[],
  version: string,
): string | undefined {
  return contractFunctions[functionName]?.(access, args, version) as string | undefined;
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
        const result = called(state, call.args, version);
        const ended = (text: string): CallOutcome => {
          return { ok: true, result: text, event: announced(call.functionName, call.args, text) };
        };
        return result instanceof Promise ? result.then(ended, failed) : ended(result);
      } catch (error) {
        return failed(error);
      }
    },
  };
}

function failed(error: unknown): CallOutcome {
  const message = error instanceof Error ? error.message : String(error);
  return { ok: false, code: isDaybookError(error) ? error.code : 'CONTRACT_REJECTED', message };
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
