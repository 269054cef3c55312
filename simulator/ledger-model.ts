import {
  decodeBundle,
  decodeTransaction,
  type KeyWrite,
  type Transaction,
  verdicts,
} from '../src/model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../src/replica/index.ts';
import { type Access, bulkRow, bulkRowUnits, contractFunctions } from './contracts.ts';
import type { SinkCheckpoint } from './sink-model.ts';
import { SimulationFailure } from './world.ts';

/** Where a valid record stands, and what it returned. */
export interface ModelRecord {
  readonly position: number;
  readonly result: string;
}

/** What the system of a follower held at its cursor. */
export interface NamedCheckpoint extends SinkCheckpoint {
  readonly name: string;
}

/**
 * I5, I6: the ledger as one plain map on which the valid records are executed one after the other,
 * in log order. What they returned and wrote must be what the log says; bulk updates take all their
 * rows at once.
 */
export class LedgerModel {
  readonly rows = new Map<string, string>();
  /** Valid records by transaction id. */
  readonly valid = new Map<string, ModelRecord>();
  invalid = 0;
  /** What others held at a position, ascending: compared when the model gets there. */
  readonly #checkpoints: NamedCheckpoint[];
  #version = '';
  /** Keys of {@link LedgerModel.rows}, ascending. */
  readonly #keys: string[] = [];

  constructor(checkpoints: readonly NamedCheckpoint[] = []) {
    this.#checkpoints = checkpoints.toSorted((left, right) => left.position - right.position);
  }

  /** Compares what followers held before this position. @throws {SimulationFailure} */
  reach(position: number): void {
    for (let first = this.#checkpoints[0]; first !== undefined; first = this.#checkpoints[0]) {
      if (first.position > position) return;
      this.#checkpoints.shift();
      const { name, rows } = first;
      for (const [key, value] of this.rows) {
        if (rows.get(key) === value) continue;
        wrong(
          'sink',
          `${name} held ${rows.get(key)} under ${key} at ${first.position}, not ${value}`,
        );
      }
      if (rows.size !== this.rows.size) wrong('sink', `${name} held rows that are not there`);
    }
  }

  /** Executes the next entry. @throws {SimulationFailure} */
  async take({ records }: AppliedEntry): Promise<void> {
    for (const applied of records) {
      if (applied.verdict === verdicts.valid) await this.#execute(applied);
      else this.invalid++;
    }
  }

  async #execute({ record, position }: AppliedRecord): Promise<void> {
    this.reach(position);
    const txId = (record.txId as Buffer).toString('hex');
    if (this.valid.has(txId)) wrong('I6', `${txId} took effect twice, again at ${position}`);
    this.valid.set(txId, { position, result: record.result });
    const transaction = decodeTransaction(record.transactionBytes);
    if (record.type === 'deploy') {
      this.#version = deployedVersion(transaction);
      return;
    }
    const what = `${transaction.functionName} at ${position}`;
    if (record.contractVersion !== this.#version) {
      wrong('I5', `${what} ran ${record.contractVersion}; in log order ${this.#version}`);
    }
    const isBulk = record.sets.some(({ bulkUpdates }) => bulkUpdates.length > 0);
    const writes = new Map<string, string | undefined>();
    let raised = (): void => undefined;
    const access: Access = {
      version: this.#version,
      get: (key) => this.rows.get(key),
      put: (key, value) => writes.set(key, value),
      delete: (key) => writes.set(key, undefined),
      range: (start, end) => this.#range(start, end),
      raiseRange: (start, end, by) => {
        const rows = this.#range(start, end);
        const raise = (value: string): string => bulkRow(bulkRowUnits(value) + by);
        if (!isBulk) for (const { key, value } of rows) writes.set(key, raise(value));
        raised = () => {
          if (isBulk) for (const { key, value } of rows) this.#set(key, raise(value));
        };
      },
    };
    const args = transaction.args.map((arg) => (arg as Buffer).toString('latin1'));
    const result = await contractFunctions[transaction.functionName]?.(access, args);
    if (result !== record.result) {
      wrong('I5', `${what} returned ${record.result}; executed in log order ${result}`);
    }
    let count = 0;
    for (const set of record.sets)
      for (const write of set.writes) count += this.#same(write, writes, what);
    if (count !== writes.size) wrong('I5', `${what} has other writes`);
    raised();
    for (const [key, value] of writes) this.#set(key, value);
  }

  #same(
    { key, value }: KeyWrite,
    writes: ReadonlyMap<string, string | undefined>,
    what: string,
  ): number {
    if (!writes.has(key) || writes.get(key) !== value) {
      wrong('I5', `${what} wrote something else to ${key}`);
    }
    return 1;
  }

  #range(start: string, end: string): { key: string; value: string }[] {
    const rows: { key: string; value: string }[] = [];
    for (let at = this.#place(start); at < this.#keys.length; at++) {
      const key = this.#keys[at] as string;
      if (end !== '' && key >= end) break;
      rows.push({ key, value: this.rows.get(key) as string });
    }
    return rows;
  }

  #set(key: string, value: string | undefined): void {
    if (value === undefined) {
      if (this.rows.delete(key)) this.#keys.splice(this.#place(key), 1);
      return;
    }
    if (!this.rows.has(key)) this.#keys.splice(this.#place(key), 0, key);
    this.rows.set(key, value);
  }

  /** Where the first key that is not lower stands. */
  #place(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#keys[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function deployedVersion({ args }: Transaction): string {
  return decodeBundle((args[0] as Buffer).toString('latin1')).version;
}

function wrong(invariant: string, what: string): never {
  throw new SimulationFailure('correctness', `${invariant}: ${what}`);
}
