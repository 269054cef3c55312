import { hash } from 'node:crypto';
import { assert, DaybookError } from '../base/index.ts';
import { sha256 } from './hash.ts';

/*
 * Merkle trees as in RFC 6962 §2.1: leaf = SHA-256(0x00 ‖ data), node = SHA-256(0x01 ‖ left ‖
 * right), split at the largest power of two below the size. A *subset proof* lets somebody who
 * holds some of the leaves recompute the root: the hashes of the largest subtrees without any held
 * leaf, from left to right. Holding all leaves needs no hashes, one leaf needs its audit path.
 */

const hashBytes = 32;
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
  return leaves.length === 0 ? sha256(new Uint8Array()) : subtree(leaves, 0, leaves.length);
}

/** The proof for the held leaves `indices` (ascending, at least one) out of all `leaves`. */
export function merkleSubsetProof(
  leaves: readonly Uint8Array[],
  indices: readonly number[],
): Buffer[] {
  const proof: Buffer[] = [];
  const walk = (start: number, end: number, from: number, to: number): void => {
    if (from === to) proof.push(subtree(leaves, start, end));
    else if (end - start > 1) {
      const middle = start + largestPowerOfTwoBelow(end - start);
      const split = firstAtOrAfter(indices, middle, from, to);
      walk(start, middle, from, split);
      walk(middle, end, split, to);
    }
  };
  assert(indices.length > 0, 'a subset proof needs a held leaf');
  walk(0, leaves.length, 0, indices.length);
  return proof;
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

/*
 * Level by level: pairing neighbours and handing an odd last one up splits at the same places as
 * the recursive definition. All happens in one buffer: each pair is hashed together with the byte
 * before it, which belongs to a pair already done and so can hold the prefix.
 */
function subtree(leaves: readonly Uint8Array[], start: number, end: number): Buffer {
  let count = end - start;
  const work = Buffer.allocUnsafe(1 + hashBytes * count);
  for (let at = 0; at < count; at++) {
    work.set(leaves[start + at] as Uint8Array, 1 + hashBytes * at);
  }
  while (count > 1) {
    const pairs = count >>> 1;
    for (let pair = 0; pair < pairs; pair++) {
      const from = 2 * hashBytes * pair;
      work[from] = 1;
      const input = work.subarray(from, from + 1 + 2 * hashBytes);
      work.latin1Write(hash('sha256', input, 'binary'), 1 + hashBytes * pair, hashBytes);
    }
    if (count % 2 === 1) work.copy(work, 1 + hashBytes * pairs, 1 + hashBytes * (count - 1));
    count = pairs + (count % 2);
  }
  return work.subarray(1, 1 + hashBytes);
}

function largestPowerOfTwoBelow(size: number): number {
  return 2 ** (31 - Math.clz32(size - 1));
}

function firstAtOrAfter(
  indices: readonly number[],
  bound: number,
  from: number,
  to: number,
): number {
  let at = from;
  while (at < to && (indices[at] as number) < bound) at++;
  return at;
}

function malformed(why: string): DaybookError {
  return new DaybookError('MALFORMED', `malformed Merkle proof: ${why}`, {
    details: { what: 'merkle proof' },
  });
}
