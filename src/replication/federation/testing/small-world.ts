import { isDaybookError } from '../../../base/index.ts';
import {
  admit,
  allMarks,
  askingMarks,
  assertionKeyOf,
  beginCopy,
  type Compacted,
  compact,
  copyPage,
  type EntityKind,
  endCopy,
  expel,
  found,
  hideEntity,
  highWaterMarks,
  join,
  MemoryStore,
  outcomeOf,
  type Published,
  pull,
  receive,
  removeEntity,
  requestAcknowledgement,
  type StoredEntity,
  save,
  transfer,
  type Vector,
  writeCopy,
} from '../core/index.ts';

/** Numbers in [0, 1) from a seed. */
export function numbersFrom(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const mixed = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d);
    return ((mixed ^ (mixed >>> 13)) >>> 0) / 2 ** 32;
  };
}

/** A node id whose home prefix is `uddi:<name>.example:`. */
export function nodeId(name: string): string {
  return `uddi:${name}.example:node`;
}

const publisher = 'tester';

/** One registry in memory, with short forms of the operations. */
export class TestNode {
  readonly id: string;
  /** Its rows; a test may give it older ones. */
  store = new MemoryStore();
  readonly changes: { readonly key: string; readonly published: Published }[] = [];
  nowMs = 1_000;

  constructor(name: string) {
    this.id = nodeId(name);
  }

  key(rest: string): string {
    return this.id.replace(/node$/, rest);
  }

  found(): this {
    this.store.run(found(this.id));
    return this;
  }

  save(
    key: string,
    references: readonly string[] = [],
    options: {
      readonly kind?: EntityKind;
      readonly innerKeys?: readonly string[];
      readonly content?: unknown;
      readonly publisher?: string;
    } = {},
  ): Published {
    const { kind = 'business', innerKeys = [], content = this.nowMs } = options;
    const draft = {
      key,
      kind,
      publisher: options.publisher ?? publisher,
      innerKeys,
      references,
      content,
    };
    const published = this.store.run(save(draft, this.nowMs++));
    this.changes.push({ key, published });
    return published;
  }

  remove(key: string): Published {
    const published = this.store.run(removeEntity(key, publisher, this.nowMs++));
    this.changes.push({ key, published });
    return published;
  }

  hide(key: string): Published {
    return this.store.run(hideEntity(key, publisher, this.nowMs++));
  }

  transfer(key: string, to: string): Published {
    const published = this.store.run(
      transfer(key, publisher, { node: to, publisher }, this.nowMs++),
    );
    this.changes.push({ key, published });
    return published;
  }

  /** Asserts at one side that two businesses are related. */
  assert(side: 'from' | 'to', from: string, to: string, digit = '0'): Published {
    const business = side === 'from' ? from : to;
    const key = assertionKeyOf({ side, business, digest: digit.repeat(32) });
    const draft = { key, kind: 'assertion' as const, publisher, references: [from, to].sort() };
    return this.store.run(save({ ...draft, content: [from, to] }, this.nowMs++));
  }

  retract(side: 'from' | 'to', business: string, digit = '0'): Published {
    const key = assertionKeyOf({ side, business, digest: digit.repeat(32) });
    return this.store.run(removeEntity(key, publisher, this.nowMs++));
  }

  expel(node: TestNode, heir: TestNode, vouched = false): void {
    this.store.run(expel(node.id, heir.id, vouched, this.nowMs++));
  }

  /** Whether another node is a member in this one's eyes. */
  counts(other: TestNode): boolean {
    const row = this.rowsOf(`member|${other.id}`)[`member|${other.id}`] as { heir?: string };
    return row !== undefined && row.heir === undefined;
  }

  marks(): Vector {
    return this.store.run(highWaterMarks());
  }

  admit(node: TestNode): void {
    this.store.run(admit(node.id));
  }

  entity(key: string): StoredEntity | undefined {
    for (const [row, text] of this.store.entries()) {
      if (row === `entity|${key}`) return JSON.parse(text) as StoredEntity;
    }
    return undefined;
  }

  lives(key: string): boolean {
    const stored = this.entity(key);
    return stored !== undefined && stored.deletedMs === undefined;
  }

  outcome(published: Published): string | undefined {
    return this.store.run(outcomeOf(published.change.usn))?.state;
  }

  /** Pulls everything that another node has; copies it when journals do not reach back. */
  pullFrom(other: TestNode, limit = 1_000): number {
    let taken = 0;
    for (let copies = 0; ; ) {
      const answer = other.store.run(pull(this.store.run(askingMarks()), limit));
      if (answer.type === 'copy-needed') {
        // It lacks something of this node's own knowledge: its turn to pull comes first.
        if (codeOf(() => this.copyFrom(other)) !== 'accepted') return taken;
        if (++copies > 2) throw new Error(`${this.id} copies ${other.id} again and again`);
        taken++;
        continue;
      }
      const received = this.store.run(receive(answer.records, this.nowMs, other.id));
      taken += received.taken;
      if (!answer.more || received.taken === 0) return taken;
    }
  }

  /** Replaces this node's content by a full copy. */
  copyFrom(other: TestNode, limit = 7): void {
    const marks = other.store.run(allMarks());
    while (!this.store.run(beginCopy(marks, limit)));
    let after: string | undefined;
    do {
      const page = other.store.run(copyPage(limit, after));
      this.store.run(writeCopy(page.rows));
      after = page.next;
    } while (after !== undefined);
    this.store.run(endCopy(this.nowMs));
  }

  compact(graceMs = 0): { dropped: number; emptied: number; tombstonesPurged: number } {
    const sum = { dropped: 0, emptied: 0, tombstonesPurged: 0 };
    for (let from: number | undefined = 0; from !== undefined; ) {
      const part: Compacted = this.store.run(compact(this.nowMs + 1, graceMs, 100, from));
      sum.dropped += part.dropped;
      sum.emptied += part.emptied;
      sum.tombstonesPurged += part.tombstonesPurged;
      from = part.next;
    }
    return sum;
  }

  requestAcknowledgement(): void {
    this.store.run(requestAcknowledgement());
  }

  /** All rows of some kinds, to compare nodes. */
  rowsOf(...prefixes: readonly string[]): Record<string, unknown> {
    const found: Record<string, unknown> = {};
    for (const [key, text] of this.store.entries()) {
      if (prefixes.some((prefix) => key.startsWith(prefix))) found[key] = JSON.parse(text);
    }
    return found;
  }

  /** References of living entities to what is not there. */
  dangling(): string[] {
    const stored = Object.values(this.rowsOf('entity|')) as StoredEntity[];
    const living = stored.filter(({ deletedMs }) => deletedMs === undefined);
    const keys = new Set(living.flatMap(({ entity }) => [entity.key, ...entity.innerKeys]));
    return living.flatMap(({ entity }) =>
      entity.references
        .filter((target) => !keys.has(target))
        .map((target) => `${entity.key}→${target}`),
    );
  }
}

/** A federation of nodes that all know each other. */
export function federation(...names: readonly string[]): TestNode[] {
  const nodes = names.map((name) => new TestNode(name));
  const [first, ...others] = nodes;
  if (first === undefined) return [];
  first.found();
  for (const other of others) {
    first.admit(other);
    other.store.run(join(other.id, [first.id]));
  }
  settle(nodes);
  return nodes;
}

/** Everybody pulls from everybody until nobody learns anything. */
export function settle(nodes: readonly TestNode[]): void {
  for (let round = 0; round < 50; round++) {
    let taken = 0;
    for (const node of nodes) {
      for (const other of nodes) if (other !== node) taken += node.pullFrom(other);
    }
    if (taken === 0) return;
  }
  throw new Error('they do not come to rest');
}

/** The UDDI code with which something is refused, or `accepted`. */
export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (isDaybookError(error, 'REGISTRY_REFUSED')) return String(error.details.uddi);
    throw error;
  }
  return 'accepted';
}
