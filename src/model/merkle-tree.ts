import { hash } from 'node:crypto';
import { assert } from '../base/index.ts';

/*
 * A whole tree (see `merkle.ts`) in one buffer, level by level: pairing neighbours and handing an
 * odd last one up splits at the same places as the recursive definition.
 */

const hashBytes = 32;
/** 0x01 ‖ left ‖ right, for one pair after the other. */
const pair = Buffer.alloc(1 + 2 * hashBytes, 1);

/** A tree of at least one leaf, hashed once: then root and proofs are only looked up. */
export class MerkleTree {
  readonly size: number;
  /** The leaves; once anything was asked for, the levels above them too, up to the root. */
  #nodes: Buffer;
  /** Where each level begins, in nodes. */
  readonly #levels = [0];

  /** All leaves are to be set before anything is asked for. */
  constructor(size: number) {
    assert(size > 0, 'a tree has a leaf');
    this.size = size;
    this.#nodes = Buffer.allocUnsafe(hashBytes * size);
  }

  setLeaf(index: number, leafHash: Uint8Array): void {
    this.#nodes.set(leafHash, hashBytes * index);
  }

  root(): Buffer {
    this.#hash();
    return this.#node(this.#nodes.length / hashBytes - 1);
  }

  /** The proof for the held leaves `indices`: ascending, at least one. */
  subsetProof(indices: readonly number[]): Buffer[] {
    const proof: Buffer[] = [];
    this.#withoutHeld(indices, (node) => {
      proof.push(this.#node(node));
      return true;
    });
    return proof;
  }

  /** Whether `proof` is the one for the held leaves `indices`: ascending, at least one. */
  isSubsetProof(indices: readonly number[], proof: readonly Uint8Array[]): boolean {
    let used = 0;
    const same = this.#withoutHeld(indices, (node) => {
      const given = proof[used++];
      return given !== undefined && this.#node(node).equals(given);
    });
    return same && used === proof.length;
  }

  /** Visits the largest subtrees without a held leaf from left to right, as long as told to. */
  #withoutHeld(indices: readonly number[], visit: (node: number) => boolean): boolean {
    assert(indices.length > 0, 'a subset proof needs a held leaf');
    // Who holds all needs no hashes.
    if (indices.length === this.size) return true;
    this.#hash();
    const walk = (start: number, end: number, from: number, to: number): boolean => {
      if (from === to) return visit(this.#nodeOver(start, end));
      if (end - start === 1) return true;
      const middle = start + largestPowerOfTwoBelow(end - start);
      const split = firstAtOrAfter(indices, middle, from, to);
      return walk(start, middle, from, split) && walk(middle, end, split, to);
    };
    return walk(0, this.size, 0, indices.length);
  }

  /** The node over a subtree: `start` is a multiple of the power of two that the size needs. */
  #nodeOver(start: number, end: number): number {
    const level = end - start === 1 ? 0 : 32 - Math.clz32(end - start - 1);
    return (this.#levels[level] as number) + (start >>> level);
  }

  #node(node: number): Buffer {
    return this.#nodes.subarray(hashBytes * node, hashBytes * (node + 1));
  }

  /** Makes all levels above the leaves, unless that was done. */
  #hash(): void {
    const levels = this.#levels;
    if (this.size === 1 || levels.length > 1) return;
    let count = this.size;
    for (let end = count; count > 1; end += count) {
      levels.push(end);
      count = (count + 1) >>> 1;
    }
    const nodes = Buffer.allocUnsafe(hashBytes * ((levels.at(-1) as number) + 1));
    this.#nodes.copy(nodes);
    this.#nodes = nodes;
    let from = 0;
    for (const level of levels.slice(1)) {
      const end = hashBytes * level;
      let to = end;
      for (; from + hashBytes < end; from += 2 * hashBytes) {
        nodes.copy(pair, 1, from, from + 2 * hashBytes);
        nodes.latin1Write(hash('sha256', pair, 'binary'), to, hashBytes);
        to += hashBytes;
      }
      if (from < end) nodes.copy(nodes, to, from, end);
      from = end;
    }
  }
}

/** Where a tree of so many leaves is split. */
export function largestPowerOfTwoBelow(size: number): number {
  return 2 ** (31 - Math.clz32(size - 1));
}

/** The first place from `from` on, before `to`, whose index is not below `bound`; else `to`. */
export function firstAtOrAfter(
  indices: readonly number[],
  bound: number,
  from: number,
  to: number,
): number {
  let at = from;
  while (at < to && (indices[at] as number) < bound) at++;
  return at;
}
