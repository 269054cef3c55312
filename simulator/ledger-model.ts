import { lowerBound } from '../src/base/index.ts';
import {
  argumentsOf,
  decodeBundle,
  decodeTransaction,
  type Transaction,
  verdicts,
} from '../src/model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../src/replica/index.ts';
import { resultHash } from './committed-calls.ts';
import { type Access, announced, bulkRow, bulkRowUnits, runNow, unitsRaised } from './contracts.ts';
import type { Happening } from './coverage.ts';
import type { SinkCheckpoint } from './sink-model.ts';
import { CapturedChanges, captureFunction } from './source-checks.ts';
import { TxTable } from './tx-table.ts';
import { SimulationFailure } from './world.ts';

const doings: Readonly<Record<string, Happening>> = {
  move: 'workload: a transfer',
  sum: 'workload: a range is read',
  toggle: 'workload: a range is written',
  raise: 'workload: a bulk update row by row',
};

/** What the system of a follower held at its cursor. */
export interface NamedCheckpoint extends SinkCheckpoint {
  readonly name: string;
}

/** What was announced by a transaction that took effect. */
export interface Announced {
  readonly position: number;
  /** Hexadecimal. */
  readonly txId: string;
  readonly name: string;
  /** A byte for each character. */
  readonly payload: string;
  readonly timestampMs: number;
}

/** Marks a last argument that tells a call from all others. */
const callMark = '#';

/** A row before the record at a position changed it. */
interface Change {
  readonly position: number;
  readonly key: string;
  readonly before: string | undefined;
}

/**
 * I5, I6: the ledger as one plain map on which the valid records are executed one after the other,
 * in log order, as soon as the first node has applied them. What they returned and wrote must be
 * what the log says; bulk updates take all their rows at once.
 */
export class LedgerModel {
  readonly rows = new Map<string, string>();
  /** Numbers of valid records, in log order, by transaction id. */
  readonly #valid = new TxTable();
  readonly #positions: number[] = [];
  readonly #results: number[] = [];
  invalid = 0;
  /** In log order. */
  readonly announced: Announced[] = [];
  /** Calls that took effect, of those that carry a mark; each once. */
  readonly #marked = new Set<string>();
  /** In log order; `undefined`: nobody will ask. */
  readonly #changes: Change[] | undefined;
  #version = '';
  /** Keys of {@link LedgerModel.rows}, ascending. */
  readonly #keys: string[] = [];
  readonly #access = new ModelAccess(this);

  readonly #happened: (what: Happening) => void;
  /** What came from sources. */
  readonly captured = new CapturedChanges();

  /**
   * @param happened - told what the valid records did.
   * @param looksBack - whether followers are to be compared with what was.
   */
  constructor(happened: (what: Happening) => void, looksBack: boolean) {
    this.#happened = happened;
    this.#changes = looksBack ? [] : undefined;
  }

  /** Compares what followers held with the rows of then. @throws {SimulationFailure} */
  compare(checkpoints: readonly NamedCheckpoint[]): void {
    const rows = new Map(this.rows);
    const changes = this.#changes ?? [];
    let left = changes.length;
    const latestFirst = checkpoints.toSorted((one, other) => other.position - one.position);
    for (const { name, position, rows: held } of latestFirst) {
      for (; left > 0; left--) {
        const change = changes[left - 1] as Change;
        if (change.position < position) break;
        if (change.before === undefined) rows.delete(change.key);
        else rows.set(change.key, change.before);
      }
      for (const [key, value] of rows) {
        if (held.get(key) === value) continue;
        wrong('sink', `${name} held ${held.get(key)} under ${key} at ${position}, not ${value}`);
      }
      if (held.size !== rows.size) wrong('sink', `${name} held rows that are not there`);
    }
  }

  /** Valid records so far. */
  get size(): number {
    return this.#valid.size;
  }

  /** The greatest position of a valid record; -1: there is none. */
  get lastPosition(): number {
    return this.#positions.at(-1) ?? -1;
  }

  /** Number of a transaction's valid record. @param at - where in `bytes` its id begins. */
  find(bytes: Uint8Array, at = 0): number | undefined {
    return this.#valid.get(bytes, at);
  }

  position(number: number): number {
    return this.#positions[number] as number;
  }

  /** The `resultHash` of what it returned. */
  result(number: number): number {
    return this.#results[number] as number;
  }

  /** Whether a call that carries a mark took effect. */
  hasTaken(mark: string): boolean {
    return this.#marked.has(mark);
  }

  /** Executes the next entry. @throws {SimulationFailure} */
  take({ records }: AppliedEntry): void {
    for (const applied of records) {
      if (applied.verdict === verdicts.valid) this.#execute(applied);
      else {
        this.invalid++;
        if (applied.record.event !== undefined) {
          this.#happened('client: an event of an invalid record is left out');
        }
      }
    }
  }

  #execute({ record, position }: AppliedRecord): void {
    const before = this.#valid.add(record.txId, this.#positions.length);
    if (before !== undefined) {
      const txId = (record.txId as Buffer).toString('hex');
      wrong('I6', `${txId} took effect at ${this.position(before)} and ${position}`);
    }
    this.#positions.push(position);
    this.#results.push(resultHash(record.result));
    const transaction = decodeTransaction(record.transactionBytes);
    if (record.type === 'deploy') {
      if (this.#version !== '') this.#happened('workload: an upgrade');
      this.#version = deployedVersion(transaction);
      return;
    }
    const { functionName } = transaction;
    const wrongHere = (how: string): never => wrong('I5', `${functionName} at ${position} ${how}`);
    if (record.contractVersion !== this.#version) {
      wrongHere(`ran ${record.contractVersion}; in log order ${this.#version}`);
    }
    const access = this.#access;
    const isBulk = record.sets.some(({ bulkUpdates }) => bulkUpdates.length > 0);
    const did = isBulk ? 'workload: a bulk update as data' : doings[functionName];
    if (did !== undefined) this.#happened(did);
    access.begin(isBulk);
    const args = argumentsOf(transaction);
    const result = runNow(functionName, access, args, this.#version);
    if (result !== record.result) {
      wrongHere(`returned ${record.result}; executed in log order ${result}`);
    }
    if (functionName === captureFunction) this.captured.take(args);
    this.#announce(
      position,
      record,
      transaction.timestampMs,
      announced(functionName, args, record.result),
    );
    const mark = args.at(-1);
    if (mark?.startsWith(callMark) === true) {
      if (this.#marked.has(mark)) wrong('I6', `the call ${mark} took effect twice`);
      this.#marked.add(mark);
    }
    const { writes, raised } = access;
    let count = 0;
    for (const set of record.sets) {
      for (const { key, value } of set.writes) {
        const write = writes.find((own) => own.key === key);
        if (write === undefined || write.value !== value)
          wrongHere(`wrote something else to ${key}`);
        count++;
      }
    }
    if (count !== writes.length) wrongHere('has other writes');
    for (const { key, value } of raised) this.#set(position, key, value);
    for (const { key, value } of writes) this.#set(position, key, value);
  }

  #announce(
    position: number,
    { event, txId }: AppliedRecord['record'],
    timestampMs: number,
    expected: ReturnType<typeof announced>,
  ): void {
    if (event?.name !== expected?.name || event?.payload !== expected?.payload) {
      wrong('I5', `the record at ${position} announces ${event?.name} ${event?.payload}`);
    }
    if (expected === undefined) return;
    const id = (txId as Buffer).toString('hex');
    this.announced.push({ ...expected, position, txId: id, timestampMs });
  }

  /** Rows of an interval, in key order; `end` empty: no bound. */
  range(start: string, end: string): { key: string; value: string }[] {
    const rows: { key: string; value: string }[] = [];
    for (let at = lowerBound(this.#keys, start); at < this.#keys.length; at++) {
      const key = this.#keys[at] as string;
      if (end !== '' && key >= end) break;
      rows.push({ key, value: this.rows.get(key) as string });
    }
    return rows;
  }

  #set(position: number, key: string, value: string | undefined): void {
    this.#changes?.push({ position, key, before: this.rows.get(key) });
    if (value === undefined) {
      if (this.rows.delete(key)) this.#keys.splice(lowerBound(this.#keys, key), 1);
      return;
    }
    const before = this.rows.size;
    this.rows.set(key, value);
    if (this.rows.size > before) this.#keys.splice(lowerBound(this.#keys, key), 0, key);
  }
}

/** The model as one call sees it, in the one namespace there is: own writes show when it has ended. */
class ModelAccess implements Access {
  /** Each key once; few. */
  writes: { readonly key: string; value: string | undefined }[] = [];
  /** What the call's bulk update, carried as data, makes of the rows; its writes come after it. */
  raised: { key: string; value: string }[] = [];
  readonly #model: Pick<LedgerModel, 'rows' | 'range'>;
  #isBulk = false;

  constructor(model: Pick<LedgerModel, 'rows' | 'range'>) {
    this.#model = model;
  }

  begin(isBulk: boolean): void {
    this.#isBulk = isBulk;
    this.writes = [];
    if (this.raised.length > 0) this.raised = [];
  }

  get(_: string, key: string): string | undefined {
    return this.#model.rows.get(key);
  }

  put(_: string, key: string, value: string): void {
    this.#write(key, value);
  }

  delete(_: string, key: string): void {
    this.#write(key, undefined);
  }

  range(_: string, start: string, end: string): { key: string; value: string }[] {
    return this.#model.range(start, end);
  }

  updateRange(
    _: string,
    { start, end }: { readonly start: string; readonly end: string },
    __: string,
    update: string,
  ): void {
    const by = unitsRaised(update);
    const rows = this.#model
      .range(start, end)
      .map(({ key, value }) => ({ key, value: bulkRow(bulkRowUnits(value) + by) }));
    if (this.#isBulk) this.raised = rows;
    else for (const { key, value } of rows) this.#write(key, value);
  }

  #write(key: string, value: string | undefined): void {
    const before = this.writes.find((write) => write.key === key);
    if (before === undefined) this.writes.push({ key, value });
    else before.value = value;
  }
}

function deployedVersion({ args }: Transaction): string {
  return decodeBundle((args[0] as Buffer).toString('latin1')).version;
}

function wrong(invariant: string, what: string): never {
  throw new SimulationFailure('correctness', `${invariant}: ${what}`);
}
