import fc from 'fast-check';
import { expect, test } from 'vitest';
import { asAddress, type Position, positionOf, stateKey } from '../model/index.ts';
import { type Row, type StateReader, StateTree } from '../state/index.ts';
import { Scrub, type ScrubReference } from './scrub.ts';

/** A state and a tree that follow the same writes, each at its own pace. */
class Pair {
  readonly log: { key: string; value: string | undefined; version: Position }[] = [];
  readonly tree = new StateTree({ bucketBits: 4 });
  readonly stored = new Map<string, Row>();
  stateAt = 0;
  treeAt = 0;
  updating: Position[] = [];
  /** What `refresh` showed last. */
  #shown: { rows: Row[]; at: number } = { rows: [], at: 0 };

  write(key: string, value: string | undefined): void {
    const version = positionOf(asAddress(this.log.length), 0);
    this.log.push({ key: stateKey('ns', key), value, version });
  }

  moveState(): void {
    const write = this.log[this.stateAt];
    if (write === undefined) return;
    const { key, value, version } = write;
    if (value === undefined) this.stored.delete(key);
    else this.stored.set(key, { key, value, version });
    this.stateAt++;
  }

  moveTree(): void {
    const write = this.log[this.treeAt];
    if (write === undefined) return;
    this.tree.update([write]);
    this.tree.root();
    this.treeAt++;
  }

  level(): void {
    while (this.stateAt < this.log.length) this.moveState();
    while (this.treeAt < this.log.length) this.moveTree();
  }

  reader(): StateReader {
    return {
      get: (key) => this.#shown.rows.find((row) => row.key === key),
      version: (key) => this.#shown.rows.find((row) => row.key === key)?.version,
      range: (start, end, limit = Number.POSITIVE_INFINITY) =>
        this.#shown.rows
          .filter(({ key }) => key >= start && (end === '' || key < end))
          .slice(0, limit),
      nextAddress: () => asAddress(this.#shown.at),
      updating: () => this.updating,
      refresh: () => {
        const rows = [...this.stored.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
        this.#shown = { rows, at: this.stateAt };
      },
      close: () => undefined,
    };
  }

  reference(): ScrubReference {
    const covered = positionOf(asAddress(this.treeAt), 0);
    return { tree: this.tree, covered, pending: [] };
  }
}

function filled(): Pair {
  const pair = new Pair();
  for (let at = 0; at < 200; at++) pair.write(`k${at % 150}`, `value ${at}`);
  pair.level();
  return pair;
}

function run(pair: Pair, scrub: Scrub, passes: number): void {
  for (let steps = 0; scrub.progress.passes < passes && steps < 10_000; steps++) {
    scrub.step(16);
    if (scrub.progress.damage !== undefined) return;
  }
  pair.level();
}

test('a healthy state is gone through again and again', () => {
  const pair = filled();
  const scrub = new Scrub(pair.reader(), () => pair.reference());
  run(pair, scrub, 5);
  expect(scrub.progress).toEqual({ passes: 5, rows: 5 * 150 });
});

test.each([
  ['changed', (pair: Pair, key: string, row: Row) => pair.stored.set(key, { ...row, value: 'x' })],
  [
    'changed',
    (pair: Pair, key: string, row: Row) =>
      pair.stored.set(key, { ...row, version: (row.version - 1) as Position }),
  ],
  ['missing', (pair: Pair, key: string) => pair.stored.delete(key)],
  [
    'added',
    (pair: Pair, _key: string, row: Row) => {
      const key = stateKey('ns', 'k77x');
      pair.stored.set(key, { ...row, key });
    },
  ],
] as const)('a row that is %s is found', (kind, spoil) => {
  const pair = filled();
  const scrub = new Scrub(pair.reader(), () => pair.reference());
  run(pair, scrub, 1);
  const key = stateKey('ns', 'k77');
  spoil(pair, key, pair.stored.get(key) as Row);
  // A missing row may hide behind another one's bit for a round or two.
  run(pair, scrub, 12);
  expect(scrub.progress.damage).toMatchObject({ kind });
});

test('rows that have not taken a bulk update yet, whose rows the tree has, are no damage', () => {
  const pair = filled();
  const key = stateKey('ns', 'k77');
  const update = positionOf(asAddress(pair.log.length), 0);
  pair.write('k77', 'updated');
  pair.moveTree();
  // The state has applied the record, and gone through no row.
  pair.stateAt++;
  pair.updating = [update];
  const scrub = new Scrub(pair.reader(), () => pair.reference());
  run(pair, scrub, 3);
  expect(scrub.progress.damage).toBeUndefined();
  pair.stored.set(key, { key, value: 'updated', version: update });
  pair.updating = [];
  run(pair, scrub, scrub.progress.passes + 1);
  expect(scrub.progress.damage).toBeUndefined();
  pair.stored.set(key, { key, value: 'value 77', version: 0 as Position });
  run(pair, scrub, scrub.progress.passes + 2);
  expect(scrub.progress.damage).toMatchObject({ kind: 'changed' });
});

test('whatever is written meanwhile, and whoever is ahead: no false alarm', () => {
  const step = fc.oneof(
    fc.record({
      kind: fc.constant('write' as const),
      key: fc.nat(12),
      value: fc.option(fc.string({ maxLength: 3 }), { nil: undefined }),
    }),
    fc.record({ kind: fc.constantFrom('state' as const, 'tree' as const), count: fc.nat(5) }),
    fc.record({ kind: fc.constant('scrub' as const), rows: fc.integer({ min: 1, max: 6 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300, minLength: 50 }), (steps) => {
      const pair = new Pair();
      const scrub = new Scrub(pair.reader(), () => pair.reference());
      for (const one of steps) {
        if (one.kind === 'write') pair.write(`k${one.key}`, one.value);
        else if (one.kind === 'scrub') scrub.step(one.rows);
        else {
          for (let count = one.count; count > 0; count--) {
            if (one.kind === 'state') pair.moveState();
            else pair.moveTree();
          }
        }
        expect(scrub.progress.damage).toBeUndefined();
      }
      pair.level();
      run(pair, scrub, scrub.progress.passes + 3);
      expect(scrub.progress.damage).toBeUndefined();
    }),
    { numRuns: 300 },
  );
});
