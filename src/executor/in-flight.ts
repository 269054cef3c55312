import BTreeModule from 'sorted-btree';
import type { Bytestring } from '../base/index.ts';
import { asPosition, type Position } from '../model/index.ts';

/**
 * One write of a call, by state key; `value` undefined deletes. The same object goes from the call
 * to the writes in flight and on to the committed rows: two objects fewer for every write.
 */
export interface InFlightWrite {
  readonly key: Bytestring;
  readonly value: Bytestring | undefined;
  /** Set when the call has become an execution. */
  execution: number;
  /** Set when its record is valid. */
  version: Position;
  /** While it is in flight: the writes of its key, oldest first. */
  stack: InFlightWrite[];
}

const unsettled = asPosition(0);
const settled: InFlightWrite[] = [];

/** A write of a call that runs. */
export function newWrite(key: Bytestring, value: Bytestring | undefined): InFlightWrite {
  return { key, value, execution: -1, version: unsettled, stack: settled };
}

/** Idle keys are cleared away when there are so many, and more of them than of others. */
const idleKeysMin = 4_096;

/**
 * Writes on their way to the log: a stack per state key, in execution order, so that later calls
 * see the newest one. Point reads cost a hash lookup. Sorted keys are kept once ranges are in use;
 * then a key keeps its place for a while when it has no writes: one that is written again and again
 * is sorted in once.
 */
export class InFlightWrites {
  /** Of every key, oldest first; an empty one: the key is idle. */
  readonly #stacks = new Map<Bytestring, InFlightWrite[]>();
  readonly #executions = new Map<number, readonly InFlightWrite[]>();
  #sorted: SortedKeys | undefined;
  #idleKeys = 0;

  /** Executions with an open fate. */
  get size(): number {
    return this.#executions.size;
  }

  /** Puts an execution's writes on top. Executions come in ascending order. */
  push(execution: number, writes: readonly InFlightWrite[]): void {
    this.#executions.set(execution, writes);
    for (const write of writes) {
      write.execution = execution;
      const stack = this.#stacks.get(write.key);
      if (stack === undefined) {
        write.stack = [write];
        this.#stacks.set(write.key, write.stack);
        this.#sorted?.set(write.key, undefined);
      } else {
        if (stack.length === 0) this.#idleKeys--;
        stack.push(write);
        write.stack = stack;
      }
    }
  }

  /** The newest write of a key, if one is in flight. */
  top(key: Bytestring): InFlightWrite | undefined {
    const stack = this.#stacks.get(key);
    // The place before the first one would be looked for like a name.
    return stack === undefined || stack.length === 0 ? undefined : stack[stack.length - 1];
  }

  /** The newest writes of all keys with `start <= key < end` (`end` empty: no bound), in key order. */
  range(start: Bytestring, end: Bytestring): InFlightWrite[] {
    if (this.#sorted === undefined) {
      this.#sorted = new BTree<Bytestring, undefined>(undefined, compare);
      for (const key of [...this.#stacks.keys()].sort(compare)) this.#sorted.set(key, undefined);
    }
    const found: InFlightWrite[] = [];
    let pair = this.#sorted.getPairOrNextHigher(start);
    while (pair !== undefined && (end === '' || pair[0] < end)) {
      const write = this.top(pair[0]);
      if (write !== undefined) found.push(write);
      pair = this.#sorted.nextHigherPair(pair[0]);
    }
    return found;
  }

  /**
   * Takes an execution's writes out: its fate is known.
   *
   * @returns the writes; `undefined` when the execution is not in flight (any more).
   */
  remove(execution: number): readonly InFlightWrite[] | undefined {
    const writes = this.#executions.get(execution);
    if (writes === undefined) return undefined;
    this.#executions.delete(execution);
    for (const write of writes) {
      const { stack } = write;
      if (stack[0] === write) stack.shift();
      else stack.splice(stack.indexOf(write), 1);
      if (stack.length === 0) this.#empty(write.key);
      write.stack = settled;
    }
    if (this.#idleKeys > idleKeysMin && this.#idleKeys * 2 > this.#stacks.size) this.#clearIdle();
    return writes;
  }

  #empty(key: Bytestring): void {
    if (this.#sorted === undefined) this.#stacks.delete(key);
    else this.#idleKeys++;
  }

  #clearIdle(): void {
    for (const [key, stack] of this.#stacks) {
      if (stack.length > 0) continue;
      this.#stacks.delete(key);
      this.#sorted?.delete(key);
    }
    this.#idleKeys = 0;
  }
}

type SortedKeys = BTreeModule.default<Bytestring, undefined>;

// A CommonJS module: Node gives its exports, bundlers and test runners the class itself.
const BTree = BTreeModule.default ?? (BTreeModule as unknown as (typeof BTreeModule)['default']);

function compare(left: Bytestring, right: Bytestring): number {
  return left < right ? -1 : left > right ? 1 : 0;
}
