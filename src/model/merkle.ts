import { DaybookError } from '../base/index.ts';
import { sha256 } from './hash.ts';
import { firstAtOrAfter, largestPowerOfTwoBelow, MerkleTree } from './merkle-tree.ts';

/*
 * Merkle trees as in RFC 6962 §2.1: leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖
 * right), split at the largest power of two below the size. A *subset proof* lets somebody who
 * holds some of the leaves recompute the root: the hashes of the largest subtrees without any held
 * leaf, from left to right. Holding all leaves needs no hashes, one leaf needs its audit path.
 */

const leafPrefix = Buffer.of(0);
const nodePrefix = Buffer.of(1);

/** Hash of one leaf. */
export function merkleLeafHash(...data: Uint8Array[]): Buffer {
  return sha256(leafPrefix, ...data);
}

/** Hash of an inner node. */
export function merkleNodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return sha256(nodePrefix, left, right);
}

/** Root over leaf hashes; the root over nothing is SHA-256 of the empty string. */
export function merkleRoot(leaves: readonly Uint8Array[]): Buffer {
  return leaves.length === 0 ? sha256(new Uint8Array()) : treeOf(leaves).root();
}

/** The proof for the held leaves `indices` (ascending, at least one) out of all `leaves`. */
export function merkleSubsetProof(
  leaves: readonly Uint8Array[],
  indices: readonly number[],
): Buffer[] {
  return treeOf(leaves).subsetProof(indices);
}

function treeOf(leaves: readonly Uint8Array[]): MerkleTree {
  const tree = new MerkleTree(leaves.length);
  for (const [index, leaf] of leaves.entries()) tree.setLeaf(index, leaf);
  return tree;
}

/**
 * Recomputes the root of a tree of `size` leaves from the held ones and a subset proof.
 *
 * @throws {DaybookError} `MALFORMED` when indices or the number of hashes do not fit the tree.
 */
export function merkleRootFromSubset(
  size: number,
  held: readonly { readonly index: number; readonly hash: Uint8Array }[],
  proof: readonly Uint8Array[],
): Buffer {
  const indices = held.map((leaf) => leaf.index);
  const fits = indices.every(
    (index, at) => Number.isInteger(index) && index > (indices[at - 1] ?? -1) && index < size,
  );
  if (!fits || held.length === 0) throw malformed('leaf indices');
  let used = 0;
  const walk = (start: number, end: number, from: number, to: number): Uint8Array => {
    if (from === to) {
      const hash = proof[used++];
      if (hash === undefined) throw malformed('too few hashes');
      return hash;
    }
    if (end - start === 1) return (held[from] as { hash: Uint8Array }).hash;
    const middle = start + largestPowerOfTwoBelow(end - start);
    const split = firstAtOrAfter(indices, middle, from, to);
    const left = walk(start, middle, from, split);
    return merkleNodeHash(left, walk(middle, end, split, to));
  };
  const root = walk(0, size, 0, held.length);
  if (used !== proof.length) throw malformed('too many hashes');
  return Buffer.from(root);
}

function malformed(why: string): DaybookError {
  return new DaybookError('MALFORMED', `malformed Merkle proof: ${why}`, {
    details: { what: 'merkle proof' },
  });
}
