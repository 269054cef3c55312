import type { ContractBundle } from '../src/contract/index.ts';
import type { TestContracts } from '../src/executor/testing/inline-processes.ts';

/** What a contract of the workload does, over any state: the checker runs it again on a plain map. */
export interface Access {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): void;
  delete(key: string): void;
  range(start: string, end: string): Promise<readonly { key: string; value: string }[]>;
}

/** The namespace of the workload. */
export const contractName = 'money';

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
};

/** The functions as the executor's engine calls them. */
export const simulatedContracts: TestContracts = Object.fromEntries(
  Object.entries(contractFunctions).map(([name, run]) => [
    `${contractName}:${name}`,
    (state, args) =>
      run(
        {
          get: async (key) => state.get(contractName, key),
          put: (key, value) => state.put(contractName, key, value),
          delete: (key) => state.delete(contractName, key),
          range: async (start, end) => state.range(contractName, start, end, 1000),
        },
        args,
      ),
  ]),
);

/** A version of the contract, to be deployed. */
export function contractBundle(version: string): ContractBundle {
  return {
    name: contractName,
    version,
    source: '0',
    options: { readYourWrites: false, indexes: {} },
  };
}
