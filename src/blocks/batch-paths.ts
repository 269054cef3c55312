import {
  type BatchProof,
  merkleNodeHash,
  merkleRootFromSubset,
  transactionLeafHash,
} from '../model/index.ts';
import type { BlockRecord } from './cutter.ts';

/** How one record was signed, taken out of its entry's shared proof. */
export interface RecordSigning {
  readonly signature: Uint8Array;
  /** Hashes beside the record's path to the signed root, left to right. */
  readonly path: readonly Uint8Array[];
}

const unsigned: RecordSigning = { signature: new Uint8Array(), path: [] };

/**
 * The signature of every record of an entry, by place; a record whose batch proves nothing gets an
 * empty one.
 */
export function recordSignings(applied: BlockRecord['applied']): RecordSigning[] {
  const signings: RecordSigning[] = new Array(applied.records.length).fill(unsigned);
  const members: number[][] = applied.entry.batches.map(() => []);
  for (const [place, { record }] of applied.records.entries()) members[record.batch]?.push(place);
  for (const [number, places] of members.entries()) {
    const proof = applied.entry.batches[number] as BatchProof;
    if (places.length === 0) continue;
    const [signature] = proof.signatures;
    if (signature === undefined) continue;
    if (proof.mode === 'single') {
      for (const place of places) signings[place] = { signature, path: [] };
      continue;
    }
    const held = places
      .map((place) => {
        const { record } = applied.records[place] as (typeof applied.records)[number];
        const hash = transactionLeafHash(record.txId, record.transactionBytes);
        return { place, index: record.leaf, hash };
      })
      .sort((left, right) => left.index - right.index);
    const paths = subsetPaths(proof.size, held, proof.proof);
    for (const [at, { place }] of held.entries()) {
      signings[place] = { signature, path: paths?.[at] ?? [] };
    }
  }
  return signings;
}

interface Node {
  readonly hash: Uint8Array;
  readonly middle: number;
  readonly left: Node | undefined;
  readonly right: Node | undefined;
}

/**
 * Splits a subset proof (see `merkleSubsetProof`) into one path per held leaf, each of which is a
 * subset proof for that leaf alone; `undefined` when it does not fit the tree.
 */
export function subsetPaths(
  size: number,
  held: readonly { readonly index: number; readonly hash: Uint8Array }[],
  proof: readonly Uint8Array[],
): Uint8Array[][] | undefined {
  if (!fits(size, held, proof)) return undefined;
  let used = 0;
  const leafOf = (hash: Uint8Array): Node => ({
    hash,
    middle: 0,
    left: undefined,
    right: undefined,
  });
  const build = (start: number, end: number, from: number, to: number): Node => {
    if (from === to) return leafOf(proof[used++] as Uint8Array);
    if (end - start === 1) return leafOf((held[from] as { hash: Uint8Array }).hash);
    const middle = start + 2 ** (31 - Math.clz32(end - start - 1));
    let split = from;
    while (split < to && (held[split] as { index: number }).index < middle) split++;
    const left = build(start, middle, from, split);
    const right = build(middle, end, split, to);
    return { hash: merkleNodeHash(left.hash, right.hash), middle, left, right };
  };
  const root = build(0, size, 0, held.length);
  return held.map(({ index }) => {
    const before: Uint8Array[] = [];
    const after: Uint8Array[] = [];
    let node = root;
    while (node.left !== undefined && node.right !== undefined) {
      if (index < node.middle) {
        after.push(node.right.hash);
        node = node.left;
      } else {
        before.push(node.left.hash);
        node = node.right;
      }
    }
    return [...before, ...after.reverse()];
  });
}

function fits(
  size: number,
  held: readonly { readonly index: number; readonly hash: Uint8Array }[],
  proof: readonly Uint8Array[],
): boolean {
  // Whole batches are the rule and need no check beyond their indices.
  if (held.length === size && proof.length === 0) {
    return held.every(({ index }, at) => index === at);
  }
  try {
    merkleRootFromSubset(size, held, proof);
    return true;
  } catch {
    return false;
  }
}
