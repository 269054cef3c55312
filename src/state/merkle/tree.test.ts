import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Bytestring, DaybookError } from '../../base/index.ts';
import { asPosition, sha256 } from '../../model/index.ts';
import type { Row, StateView, StateWrite } from '../state.ts';
import {
  bitAt,
  emptyTree,
  rowContentHash,
  stateKeyHash,
  stateLeafHash,
  stateRootOf,
} from './hash.ts';
import {
  type StateProof,
  stateProofFromJson,
  stateProofToJson,
  verifyStateProof,
} from './proof.ts';
import { restoreStateTree } from './restore.ts';
import { StateTree } from './tree.ts';

/** The definition of the root, word for word. */
function naiveRoot(rows: readonly { keyHash: Buffer; leaf: Buffer }[], depth = 0): Buffer {
  const [first] = rows;
  if (first === undefined) return emptyTree;
  if (rows.length === 1) return first.leaf;
  const side = (bit: 0 | 1): Buffer =>
    naiveRoot(
      rows.filter((row) => bitAt(row.keyHash, depth) === bit),
      depth + 1,
    );
  return sha256(side(0), side(1));
}

function modelRoot(rows: Map<Bytestring, Row>): Buffer {
  return naiveRoot(
    [...rows.values()].map((row) => {
      const keyHash = stateKeyHash(row.key);
      return { keyHash, leaf: stateLeafHash(keyHash, rowContentHash(row.version, row.value)) };
    }),
  );
}

function viewOf(rows: Map<Bytestring, Row>): StateView {
  return { get: (key) => rows.get(key), range: () => [] };
}

function applyToModel(rows: Map<Bytestring, Row>, write: StateWrite): void {
  if (write.value === undefined) rows.delete(write.key);
  else rows.set(write.key, { ...write, value: write.value });
}

const keys = Array.from({ length: 40 }, (_, at) => `bank\0key-${at}`);
const writes = fc
  .array(
    fc.record({
      key: fc.constantFrom(...keys),
      value: fc.option(fc.string({ unit: 'binary-ascii', maxLength: 5 }), { nil: undefined }),
    }),
    { maxLength: 120 },
  )
  .map((list) => list.map((write, at): StateWrite => ({ ...write, version: asPosition(at) })));

describe('StateTree', () => {
  test('has the defined root, whatever the batching, the history and the layout', () => {
    fc.assert(
      fc.property(
        writes,
        fc.array(fc.nat({ max: 20 }), { maxLength: 20 }),
        fc.integer({ min: 1, max: 12 }),
        (list, cuts, bucketBits) => {
          const model = new Map<Bytestring, Row>();
          const tree = new StateTree({ bucketBits });
          let at = 0;
          for (const cut of [...cuts, list.length]) {
            const part = list.slice(at, at + cut);
            at += part.length;
            tree.update(part);
            for (const write of part) applyToModel(model, write);
            expect(tree.root()).toEqual(modelRoot(model));
            expect(tree.rows).toBe(model.size);
          }
          const rebuilt = new StateTree({ bucketBits: 3 });
          rebuilt.update([...model.values()].reverse());
          expect(rebuilt.root()).toEqual(tree.root());
          expect(tree.stateRoot()).toEqual(stateRootOf(tree.root(), sha256(new Uint8Array())));
        },
      ),
      { numRuns: 150 },
    );
  });

  test('proves values and absence; a proof changed in any place is refused', () => {
    fc.assert(
      fc.property(writes, fc.integer({ min: 1, max: 8 }), fc.nat(), (list, bucketBits, seed) => {
        const model = new Map<Bytestring, Row>();
        const tree = new StateTree({ bucketBits });
        tree.update(list);
        for (const write of list) applyToModel(model, write);
        const root = tree.stateRoot();
        for (const key of keys) {
          const proof = tree.prove(key, viewOf(model));
          const row = model.get(key);
          expect(verifyStateProof(root, proof)).toEqual(
            row === undefined ? undefined : { value: row.value, version: row.version },
          );
          expect(stateProofFromJson(stateProofToJson(proof))).toEqual(proof);
          for (const forged of forgeries(proof, seed)) {
            expect(() => verifyStateProof(root, forged)).toThrow(DaybookError);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  test('an inner node cannot be passed off as a leaf', () => {
    const tree = new StateTree({ bucketBits: 4 });
    tree.update(keys.map((key) => ({ key, value: 'v', version: asPosition(1) })));
    const view = viewOf(
      new Map(keys.map((key) => [key, { key, value: 'v', version: asPosition(1) }])),
    );
    const [left, right] = [0, 1].map((bit) => {
      const key = keys.find((candidate) => bitAt(stateKeyHash(candidate), 0) !== bit) as string;
      return tree.prove(key, view).siblings[0] as Buffer;
    }) as [Buffer, Buffer];
    const forged: StateProof = {
      key: 'bank\0key-0',
      siblings: [],
      end: { kind: 'other', keyHash: left, contentHash: right },
      pendingRoot: sha256(new Uint8Array()),
    };
    expect(sha256(left, right)).toEqual(tree.root());
    expect(() => verifyStateProof(tree.stateRoot(), forged)).toThrow(DaybookError);
  });

  test('loads saved buckets', () => {
    const tree = new StateTree({ bucketBits: 5 });
    tree.update(keys.map((key, at) => ({ key, value: `${at}`, version: asPosition(at) })));
    const root = tree.root();
    const dirty = tree.dirtyBuckets();
    const copy = new StateTree({ bucketBits: 5 });
    copy.load(dirty.map((number) => [number, tree.bucket(number)] as const));
    expect(copy.root()).toEqual(root);
    tree.clean();
    expect(tree.dirtyBuckets()).toEqual([]);
    tree.update([{ key: 'bank\0key-3', value: undefined, version: asPosition(99) }]);
    expect(tree.dirtyBuckets()).toHaveLength(1);
    expect(copy.rows).toBe(40);
  });

  test('rows from a snapshot are taken whole or not at all', () => {
    const rows = Array.from({ length: 25_000 }, (_, at) => ({
      key: `bank\0${at}`,
      value: `${at}`,
      version: asPosition(at),
    }));
    const tree = new StateTree({ bucketBits: 10 });
    tree.update(rows);
    const restored = restoreStateTree(rows.toReversed(), tree.stateRoot(), { bucketBits: 8 });
    expect(restored.root()).toEqual(tree.root());
    for (const bad of [
      rows.slice(1),
      [...rows, { key: 'bank\0more', value: '', version: asPosition(1) }],
      rows.with(7, { key: 'bank\x007', value: 'x', version: asPosition(7) }),
    ]) {
      expect(() => restoreStateTree(bad, tree.stateRoot())).toThrow(/not those of the state root/);
    }
  });

  test('grows and shrinks one bucket far beyond its usual size', () => {
    const tree = new StateTree({ bucketBits: 1 });
    const many = Array.from({ length: 3000 }, (_, at) => ({
      key: `bank\0${at}`,
      value: 'v',
      version: asPosition(at),
    }));
    tree.update(many);
    const root = tree.root();
    tree.update(many.map((row) => ({ ...row, value: undefined })));
    expect(tree.root()).toEqual(emptyTree);
    for (const row of many) tree.update([row]);
    expect(tree.root()).toEqual(root);
  });
});

/** The same proof with one thing changed each. */
function forgeries(proof: StateProof, seed: number): StateProof[] {
  const { siblings, end } = proof;
  const flip = (bytes: Uint8Array): Buffer => {
    const copy = Buffer.from(bytes);
    const at = seed % copy.length;
    copy[at] = (copy[at] as number) ^ (1 << (seed % 8));
    return copy;
  };
  const forged: StateProof[] = [{ ...proof, pendingRoot: flip(proof.pendingRoot) }];
  if (siblings.length > 0) {
    const at = seed % siblings.length;
    forged.push({ ...proof, siblings: siblings.with(at, flip(siblings[at] as Uint8Array)) });
    forged.push({ ...proof, siblings: siblings.slice(1) });
  }
  forged.push({ ...proof, siblings: [...siblings, emptyTree] });
  if (end.kind === 'row') {
    forged.push({ ...proof, end: { ...end, value: `${end.value}!` } });
    forged.push({ ...proof, end: { ...end, version: asPosition(end.version + 1) } });
    forged.push({ ...proof, end: { kind: 'empty' } });
    forged.push({
      ...proof,
      end: {
        kind: 'other',
        keyHash: stateKeyHash(proof.key),
        contentHash: rowContentHash(end.version, end.value),
      },
    });
  } else {
    forged.push({ ...proof, end: { kind: 'row', version: asPosition(1), value: 'made up' } });
    if (end.kind === 'other') forged.push({ ...proof, end: { kind: 'empty' } });
    if (end.kind === 'other') {
      forged.push({ ...proof, end: { ...end, contentHash: flip(end.contentHash) } });
    }
  }
  return forged;
}
