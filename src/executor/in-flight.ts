import BTreeModule from 'sorted-btree';
import { type Bytestring, compareBytestrings } from '../base/index.ts';
import { asPosition, type Position } from '../model/index.ts';
import { Numbered } from './numbered.ts';

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
  /** While it is in flight: the next newer write of its key. */
  newer: InFlightWrite | undefined;
  /** While it is in flight: all writes of its key. */
  chain: KeyChain | undefined;
}

/** The writes of one key that are in flight; both `undefined`: there are none, the key is idle. */
interface KeyChain {
  oldest: InFlightWrite | undefined;
  newest: InFlightWrite | undefined;
}

const unsettled = asPosition(0);

/** A write of a call that runs. */
export function newWrite(key: Bytestring, value: Bytestring | undefined): InFlightWrite {
  return { key, value, execution: -1, version: unsettled, newer: undefined, chain: undefined };
}

/** Idle keys are cleared away when there are so many, and more of them than of others. */
const idleKeysMin = 4_096;

/**
 * Writes on their way to the log: of every state key a chain in execution order, so that later calls
 * see the newest one. A key keeps its place for a while when it has no writes: one that is written
 * again and again is looked up, and never put in or taken out. Point reads cost a hash lookup.
 * Sorted keys are kept once ranges are in use.
 */
export class InFlightWrites {
  readonly #chains = new Map<Bytestring, KeyChain>();
  readonly #executions = new Numbered<readonly InFlightWrite[]>();
  #sorted: SortedKeys | undefined;
  #idleKeys = 0;

  /** Executions with an open fate. */
  get size(): number {
    return this.#executions.size;
  }

  /** Puts an execution's writes on top. Executions come in ascending order. */
  push(execution: number, writes: readonly InFlightWrite[]): void {
    this.#executions.add(execution, writes);
    for (const write of writes) {
      write.execution = execution;
      let chain = this.#chains.get(write.key);
      if (chain === undefined) {
        chain = { oldest: undefined, newest: undefined };
        this.#chains.set(write.key, chain);
        this.#sorted?.set(write.key, undefined);
        this.#idleKeys++;
      }
      if (chain.newest === undefined) {
        this.#idleKeys--;
        chain.oldest = write;
      } else {
        chain.newest.newer = write;
      }
      chain.newest = write;
      write.chain = chain;
    }
  }

  /** The newest write of a key, if one is in flight. */
  top(key: Bytestring): InFlightWrite | undefined {
    return this.#chains.get(key)?.newest;
  }

  /** The newest writes of all keys with `start <= key < end` (`end` empty: no bound), in key order. */
  range(start: Bytestring, end: Bytestring): InFlightWrite[] {
    if (this.#sorted === undefined) {
      this.#sorted = new BTree<Bytestring, undefined>(undefined, compareBytestrings);
      for (const key of [...this.#chains.keys()].sort(compareBytestrings))
        this.#sorted.set(key, undefined);
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
    const writes = this.#executions.take(execution);
    if (writes === undefined) return undefined;
    for (const write of writes) this.#unlink(write);
    if (this.#idleKeys > idleKeysMin && this.#idleKeys * 2 > this.#chains.size) this.#clearIdle();
    return writes;
  }

  #unlink(write: InFlightWrite): void {
    const { chain, newer } = write;
    write.chain = undefined;
    write.newer = undefined;
    if (chain === undefined) return;
    if (chain.oldest === write) {
      chain.oldest = newer;
      if (newer !== undefined) return;
      chain.newest = undefined;
      this.#idleKeys++;
      return;
    }
    // Only what fails goes before older ones.
    let older = chain.oldest;
    while (older !== undefined && older.newer !== write) older = older.newer;
    if (older === undefined) return;
    older.newer = newer;
    if (newer === undefined) chain.newest = older;
  }

  #clearIdle(): void {
    for (const [key, { newest }] of this.#chains) {
      if (newest !== undefined) continue;
      this.#chains.delete(key);
      this.#sorted?.delete(key);
    }
    this.#idleKeys = 0;
  }
}

type SortedKeys = BTreeModule.default<Bytestring, undefined>;

// A CommonJS module: Node gives its exports, bundlers and test runners the class itself.
const BTree = BTreeModule.default ?? (BTreeModule as unknown as (typeof BTreeModule)['default']);
