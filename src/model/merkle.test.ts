import fc from 'fast-check';
import { expect, test } from 'vitest';
import { merkleLeafHash, merkleRoot, merkleRootFromSubset, merkleSubsetProof } from './merkle.ts';
import { MerkleTree } from './merkle-tree.ts';

const leavesOf = (size: number): Buffer[] =>
  Array.from({ length: size }, (_, at) => merkleLeafHash(Buffer.of(at >> 8, at)));

test('roots are those of RFC 6962 (test vectors of the certificate transparency project)', () => {
  const hex = ['', '00', '10', '2021', '3031', '40414243'];
  const leaves = hex.map((data) => merkleLeafHash(Buffer.from(data, 'hex')));
  const root = (size: number): string => merkleRoot(leaves.slice(0, size)).toString('hex');
  expect(root(0)).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  expect(root(1)).toBe('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d');
  expect(root(2)).toBe('fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125');
  expect(root(3)).toBe('aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77');
});

test('any held subset of leaves proves the root, and nothing else does', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 70 }).chain((size) =>
        fc.record({
          size: fc.constant(size),
          held: fc.uniqueArray(fc.nat(size - 1), { minLength: 1, maxLength: size }),
          flip: fc.nat(255),
        }),
      ),
      ({ size, held, flip }) => {
        const leaves = leavesOf(size);
        const indices = held.sort((a, b) => a - b);
        const proof = merkleSubsetProof(leaves, indices);
        const known = indices.map((index) => ({ index, hash: leaves[index] as Buffer }));
        const root = merkleRoot(leaves);
        expect(merkleRootFromSubset(size, known, proof)).toEqual(root);
        if (indices.length === size) expect(proof).toEqual([]);

        const tree = new MerkleTree(size);
        for (const [index, leaf] of leaves.entries()) tree.setLeaf(index, leaf);
        expect(tree.isSubsetProof(indices, proof)).toBe(true);
        expect(tree.isSubsetProof(indices, [...proof, root])).toBe(false);
        for (const at of proof.keys()) {
          expect(tree.isSubsetProof(indices, proof.with(at, root))).toBe(false);
          expect(tree.isSubsetProof(indices, proof.slice(0, at))).toBe(false);
        }

        const forged = Buffer.from(known[0]?.hash as Buffer);
        forged[flip % 32] = (forged[flip % 32] as number) ^ (1 + flip);
        const lie = [{ index: indices[0] as number, hash: forged }, ...known.slice(1)];
        if (flip < 255) expect(merkleRootFromSubset(size, lie, proof)).not.toEqual(root);
        expect(() => merkleRootFromSubset(size, known, [...proof, forged])).toThrow(/too many/);
        if (proof.length > 0) {
          expect(() => merkleRootFromSubset(size, known, proof.slice(1))).toThrow(/too few/);
        }
      },
    ),
  );
});

test('indices out of order, repeated or outside the tree are refused', () => {
  const hash = merkleLeafHash(Buffer.of(1));
  for (const indices of [[2, 1], [1, 1], [4], [-1], [0.5], []]) {
    const held = indices.map((index) => ({ index, hash }));
    expect(() => merkleRootFromSubset(4, held, [hash, hash])).toThrow(/malformed/);
  }
});
