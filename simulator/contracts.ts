import { isDaybookError } from '../src/base/index.ts';
import type { ContractBundle, ContractRuntime, MaybePromise } from '../src/contract/index.ts';

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

/** Functions of the workload's contract. */
export const contractFunctions: Readonly<
  Record<string, (access: Access, args: readonly string[]) => Promise<string>>
> = {
  /** Moves units between two accounts; refuses what is not there. */
  move: async (access, [from = '', to = '', units = '0']) => {
    const payer = Number((await access.get(from)) ?? 0);
    const payee = Number((await access.get(to)) ?? 0);
    if (payer < Number(units)) throw new Error(`${from} has only ${payer}`);
    if (from === to) return `${payer}`;
    access.put(from, String(payer - Number(units)));
    access.put(to, String(payee + Number(units)));
    return `${payer - Number(units)},${payee + Number(units)}`;
  },
  /** Reads an interval and notes what it saw; phantoms would show. */
  sum: async (access, [start = '', end = '', into = '']) => {
    const rows = await access.range(start, end);
    const text = rows.map(({ key, value }) => `${key}=${value}`).join(';');
    access.put(into, text);
    return text;
  },
  /** Opens the next free account of an interval, or closes it: writers that range readers must see. */
  toggle: async (access, [key = '']) => {
    const before = await access.get(key);
    if (before === undefined) access.put(key, '0');
    else if (before === '0') access.delete(key);
    return before ?? '';
  },
  remove: async (access, [key = '']) => {
    const before = await access.get(key);
    access.delete(key);
    return before ?? '';
  },
  /** Counts up: a lost or repeated update shows. */
  count: async (access, [key = '']) => {
    const next = String(Number((await access.get(key)) ?? 0) + 1);
    access.put(key, next);
    return next;
  },
  /** Writes without reading. */
  put: async (access, [key = '', value = '']) => {
    access.put(key, value);
    return value;
  },
  /** Makes the rows that {@link raise} goes over. */
  openRows: async (access) => {
    for (let at = 0; at < bulkRowCount; at++) access.put(bulkRowKey(at), bulkRow(1));
    return '';
  },
  /** A bulk update: as data when the interval has many rows, row by row when it has few. */
  raise: async (access, [start = '', end = '', by = '1']) => {
    await access.raiseRange(start, end, Number(by));
    return by;
  },
  /** Reads one row that bulk updates go over, and adds to it. */
  raiseOne: async (access, [key = '']) => {
    const units = bulkRowUnits((await access.get(key)) ?? bulkRow(0)) + 1;
    access.put(key, bulkRow(units));
    return String(units);
  },
  /** Sums the rows up: a bulk update that is half done, or done twice, shows. */
  sumRows: async (access, [start = '', end = '']) => {
    let units = 0;
    for (const { value } of await access.range(start, end)) units += bulkRowUnits(value);
    return String(units);
  },
  /** Says which version ran: an upgrade has one place in the log, for everybody. */
  stamp: async (access, [key = '']) => {
    access.put(key, access.version);
    return access.version;
  },
};

/** The functions as the executor's engine calls them; installing a bundle changes the version. */
export function simulatedRuntime(): ContractRuntime {
  let version = '';
  return {
    install: (bundle) => {
      version = bundle.version;
    },
    options: () => undefined,
    call: async (call, state) => {
      const run = contractFunctions[call.functionName];
      if (run === undefined) {
        return { ok: false, code: 'CONTRACT_FUNCTION_UNKNOWN', message: call.functionName };
      }
      const access: Access = {
        version,
        get: (key) => state.get(contractName, key),
        put: (key, value) => state.put(contractName, key, value),
        delete: (key) => state.delete(contractName, key),
        range: (start, end) => state.range(contractName, start, end, 1000),
        raiseRange: (start, end, by) =>
          state.updateRange(contractName, { start, end }, '{}', `{"$inc":{"n":${by}}}`),
      };
      const args: string[] = [];
      for (const arg of call.args) args.push((arg as Buffer).latin1Slice());
      try {
        return { ok: true, result: await run(access, args), event: undefined };
      } catch (error) {
        const message = error instanceof Error ? error.message : String(error);
        const code = isDaybookError(error) ? error.code : 'CONTRACT_REJECTED';
        return { ok: false, code, message };
      }
    },
  };
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
