import BTreeModule from 'sorted-btree';
import { assert, type Bytestring, compareBytestrings, isInside } from '../base/index.ts';
import type { Position } from '../model/index.ts';
import type { Row, StateView, StateWrite } from './state.ts';

/**
 * Recent writes on top of any view: the latest write of each key hides what lies below, a delete
 * hides the row. Writes are kept in *generations*: {@link Overlay.seal} starts a new one, and
 * {@link Overlay.dropUpTo} forgets the writes that the base has got meanwhile.
 *
 * Point reads and writes cost a hash lookup. Sorted keys are kept only while ranges are in use.
 */
export class Overlay<W extends StateWrite = StateWrite> implements StateView {
  readonly #base: StateView;
  /** Oldest first; the last one takes the writes. */
  #generations: Generation<W>[];
  #rangesUsed = false;

  constructor(base: StateView) {
    this.#base = base;
    this.#generations = [new Generation(false)];
  }

  /** Keys held, counted once per generation. */
  get size(): number {
    let size = 0;
    for (const generation of this.#generations) size += generation.writes.size;
    return size;
  }

  /** Keys in the generation that takes the writes. */
  get openSize(): number {
    return this.#open().writes.size;
  }

  /** Bytes of keys and values held, about; a key that is written again counts again. */
  get bytes(): number {
    let bytes = 0;
    for (const generation of this.#generations) bytes += generation.bytes;
    return bytes;
  }

  /** Bytes in the generation that takes the writes. */
  get openBytes(): number {
    return this.#open().bytes;
  }

  /** Puts one write on top. The object is kept and must not change. */
  set(write: W): void {
    this.#open().set(write);
  }

  /** The latest write of a key that this overlay holds, a delete too; `undefined`: ask below. */
  peek(key: Bytestring): W | undefined {
    const generations = this.#generations;
    for (let at = generations.length - 1; at >= 0; at--) {
      const write = (generations[at] as Generation<W>).writes.get(key);
      if (write !== undefined) return write;
    }
    return undefined;
  }

  get(key: Bytestring): Row | undefined {
    const write = this.peek(key);
    if (write === undefined) return this.#base.get(key);
    return write.value === undefined ? undefined : (write as W & Row);
  }

  version(key: Bytestring): Position | undefined {
    const write = this.peek(key);
    if (write !== undefined) return write.value === undefined ? undefined : write.version;
    return this.#base.version === undefined
      ? this.#base.get(key)?.version
      : this.#base.version(key);
  }

  range(start: Bytestring, end: Bytestring, limit: number = Number.POSITIVE_INFINITY): Row[] {
    // Sorting a few keys whenever somebody asks is cheaper than keeping all of them sorted.
    if (this.openSize > sortedFrom) this.#rangesUsed = true;
    return this.#rangeBelow(this.#generations.length, start, end, limit);
  }

  /**
   * Ends the open generation. Its writes stay readable until they are dropped.
   *
   * @returns the writes sealed so far and not dropped yet, one per key; read it before the next
   *   `seal`.
   */
  seal(): Iterable<W> {
    const open = this.#open();
    const [sealed] = this.#generations.length > 1 ? this.#generations : [];
    if (sealed === undefined) {
      this.#generations = [open, new Generation(this.#rangesUsed)];
    } else {
      // What was sealed before is still here. Joined to it, so that look-ups have two at most.
      for (const write of open.writes.values()) sealed.set(write);
      this.#generations = [sealed, new Generation(this.#rangesUsed)];
    }
    this.#rangesUsed = false;
    return (this.#generations[0] as Generation<W>).writes.values();
  }

  /** Forgets all sealed generations: the base has their writes now. */
  dropSealed(): void {
    this.#generations = [this.#open()];
  }

  /**
   * Forgets all writes of versions below `position`: the base has them now. Generations that are
   * wholly below cost nothing, so whoever seals at the same positions as the base flushes is best
   * off.
   */
  dropUpTo(position: Position): void {
    const kept: Generation<W>[] = [];
    for (const generation of this.#generations) {
      if (generation.greatest >= position) {
        if (generation.least < position) generation.dropUpTo(position);
        kept.push(generation);
      }
    }
    const open = this.#generations.at(-1) as Generation<W>;
    if (kept.at(-1) !== open) kept.push(new Generation(this.#rangesUsed));
    this.#generations = kept;
  }

  #open(): Generation<W> {
    return this.#generations[this.#generations.length - 1] as Generation<W>;
  }

  /** The range as the generations before `count` and the base make it. */
  #rangeBelow(count: number, start: Bytestring, end: Bytestring, limit: number): Row[] {
    if (count === 0) return this.#base.range(start, end, limit);
    const generation = this.#generations[count - 1] as Generation<W>;
    if (generation.writes.size === 0) return this.#rangeBelow(count - 1, start, end, limit);
    const rows: Row[] = [];
    const above = generation.from(start, end);
    let write = above.next();
    let from = start;
    while (rows.length < limit) {
      // Deletes may hide rows, so the page below can come out too short; then the next one follows.
      const wanted = limit - rows.length;
      const below = this.#rangeBelow(count - 1, from, end, wanted);
      for (const row of below) {
        while (!write.done && write.value.key < row.key && rows.length < limit) {
          if (write.value.value !== undefined) rows.push(write.value as W & Row);
          write = above.next();
        }
        if (rows.length >= limit) return rows;
        if (!write.done && write.value.key === row.key) {
          if (write.value.value !== undefined) rows.push(write.value as W & Row);
          write = above.next();
        } else {
          rows.push(row);
        }
      }
      if (below.length < wanted) {
        for (; !write.done && rows.length < limit; write = above.next()) {
          if (write.value.value !== undefined) rows.push(write.value as W & Row);
        }
        return rows;
      }
      const last = below.at(-1);
      assert(last !== undefined, 'a full page has a last row');
      from = `${last.key}\0`;
    }
    return rows;
  }
}

const sortedFrom = 1_000;
/** Looking through a few keys so often takes as long as keeping them sorted. */
const rangesSorted = 20;

/** One map of writes, with its keys sorted once somebody asks for a range. */
class Generation<W extends StateWrite> {
  readonly writes = new Map<Bytestring, W>();
  least = Number.POSITIVE_INFINITY;
  greatest = -1;
  bytes = 0;
  /** The keys of `writes`; a key that is written again costs nothing here. */
  #sorted: SortedKeys | undefined;
  /** How many ranges were looked for without it. */
  #ranges = 0;

  constructor(sorted: boolean) {
    this.#sorted = sorted ? newTree() : undefined;
  }

  set(write: W): void {
    const { writes } = this;
    const before = writes.size;
    writes.set(write.key, write);
    if (this.#sorted !== undefined && writes.size > before) this.#sorted.set(write.key, undefined);
    this.bytes += write.key.length + (write.value === undefined ? 0 : write.value.length);
    const version = write.version;
    if (version < this.least) this.least = version;
    if (version > this.greatest) this.greatest = version;
  }

  dropUpTo(position: Position): void {
    for (const [key, write] of this.writes) {
      if (write.version < position) {
        this.writes.delete(key);
        this.#sorted?.delete(key);
      }
    }
    this.least = position;
  }

  /** Writes of `start <= key < end` (`end` empty: no bound) in key order. */
  *from(start: Bytestring, end: Bytestring): Generator<W, undefined> {
    if (this.#sorted === undefined) {
      if (this.writes.size <= sortedFrom && ++this.#ranges < rangesSorted) {
        const inside = [...this.writes.values()].filter(({ key }) => isInside(key, start, end));
        yield* inside.sort((left, right) => compareBytestrings(left.key, right.key));
        return undefined;
      }
      this.#sorted = newTree();
      const keys = [...this.writes.keys()].sort(compareBytestrings);
      for (const key of keys) this.#sorted.set(key, undefined);
    }
    let pair = this.#sorted.getPairOrNextHigher(start);
    while (pair !== undefined && (end === '' || pair[0] < end)) {
      yield this.writes.get(pair[0]) as W;
      pair = this.#sorted.nextHigherPair(pair[0]);
    }
    return undefined;
  }
}

type SortedKeys = BTreeModule.default<Bytestring, undefined>;

// A CommonJS module: Node gives its exports, bundlers and test runners the class itself.
const BTree = BTreeModule.default ?? (BTreeModule as unknown as (typeof BTreeModule)['default']);

function newTree(): SortedKeys {
  return new BTree<Bytestring, undefined>(undefined, compareBytestrings);
}
