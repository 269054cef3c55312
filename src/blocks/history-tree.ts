import { hash } from 'node:crypto';
import { assert, DaybookError } from '../base/index.ts';
import { merkleLeafHash, merkleNodeHash, merkleRoot, type Position } from '../model/index.ts';

/*
 * The history tree: a Merkle tree (RFC 6962 hashing) over all records of a channel, in log order,
 * valid or not. Only its right edge is needed to append; the hashes of levels 0, 8, 16, … are kept
 * so that proofs read a few hundred hashes whatever the length.
 */

/** Levels whose hashes are kept are multiples of this. */
export const historyLevelStep = 8;

/** What a leaf of the history tree stands for. */
export interface HistoryLeaf {
  readonly position: Position;
  /** Fabric's validation code, as in the block's TRANSACTIONS_FILTER. */
  readonly verdict: number;
  /** 32 bytes; zeros for a configuration. */
  readonly txId: Uint8Array;
  /** SHA-256 of the envelope. */
  readonly envelopeHash: Uint8Array;
}

/** Hash of a record's leaf: position (u64), verdict (u8), transaction id, envelope hash. */
export function historyLeafHash(leaf: HistoryLeaf): Buffer {
  const head = Buffer.alloc(9);
  head.writeBigUInt64BE(BigInt(leaf.position));
  head[8] = leaf.verdict;
  return merkleLeafHash(head, leaf.txId, leaf.envelopeHash);
}

/** The right edge of a history tree; synchronous and small. */
export class HistoryFrontier {
  #size = 0;
  /** Roots of the complete subtrees, largest first; the sizes are the bits of `#size`. */
  readonly #edge: Buffer[] = [];
  readonly #node = Buffer.alloc(65, 1);

  /** @param edge - as {@link HistoryFrontier.edge} gave it. */
  constructor(size = 0, edge: readonly Uint8Array[] = []) {
    assert(edge.length === bitCount(size), 'the edge does not fit the size');
    this.#size = size;
    this.#edge = edge.map((one) => Buffer.from(one));
  }

  get size(): number {
    return this.#size;
  }

  /** Roots of the complete subtrees, largest first. */
  get edge(): readonly Buffer[] {
    return this.#edge;
  }

  /** Appends a leaf; `completed` hears of every complete subtree it closes on a kept level. */
  append(leafHash: Buffer, completed: (level: number, hash: Buffer) => void): void {
    completed(0, leafHash);
    let node = leafHash;
    let level = 0;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      const left = this.#edge.pop();
      assert(left !== undefined, 'the edge is too short');
      left.copy(this.#node, 1);
      node.copy(this.#node, 33);
      node = Buffer.from(hash('sha256', this.#node, 'binary'), 'latin1');
      level++;
      if (level % historyLevelStep === 0) completed(level, node);
    }
    this.#edge.push(node);
    this.#size++;
  }

  root(): Buffer {
    return foldEdge(this.#edge);
  }
}

/** The root over complete subtrees of falling size. */
function foldEdge(edge: readonly Uint8Array[]): Buffer {
  const last = edge.at(-1);
  if (last === undefined) return merkleRoot([]);
  return Buffer.from(
    edge.slice(0, -1).reduceRight<Uint8Array>((node, left) => merkleNodeHash(left, node), last),
  );
}

/** Reads `count` hashes of a kept level, from `index` on. */
export type HashReader = (level: number, index: number, count: number) => Promise<Buffer[]>;

/**
 * The hashes that lead from leaf `index` to the root over the first `size` leaves, left to right:
 * check with `merkleRootFromSubset(size, [{ index, hash }], proof)`.
 */
export async function historyInclusionProof(
  read: HashReader,
  index: number,
  size: number,
): Promise<Buffer[]> {
  assert(index >= 0 && index < size, 'no such leaf');
  const before: Buffer[] = [];
  const after: Buffer[] = [];
  let start = 0;
  let end = size;
  while (end - start > 1) {
    const middle = start + largestPowerOfTwoBelow(end - start);
    if (index < middle) {
      after.unshift(await subtree(read, middle, end));
      end = middle;
    } else {
      before.push(await subtree(read, start, middle));
      start = middle;
    }
  }
  return [...before, ...after];
}

/** Shows that the first `oldSize` leaves of a tree are the whole of an older one. */
export interface ConsistencyProof {
  /** Roots of the complete subtrees that make up the old tree, largest first. */
  readonly edge: readonly Uint8Array[];
  /** Roots of the largest subtrees over all later leaves, left to right. */
  readonly rest: readonly Uint8Array[];
}

/** @param oldSize - 1..newSize. */
export async function historyConsistencyProof(
  read: HashReader,
  oldSize: number,
  newSize: number,
): Promise<ConsistencyProof> {
  assert(oldSize > 0 && oldSize <= newSize, 'sizes out of order');
  const edge: Buffer[] = [];
  for (let start = 0; start < oldSize; ) {
    const end = start + largestPowerOfTwoUpTo(oldSize - start);
    edge.push(await subtree(read, start, end));
    start = end;
  }
  const rest: Buffer[] = [];
  const walk = async (start: number, end: number): Promise<void> => {
    if (start >= oldSize) rest.push(await subtree(read, start, end));
    else if (end > oldSize) {
      const middle = start + largestPowerOfTwoBelow(end - start);
      await walk(start, middle);
      await walk(middle, end);
    }
  };
  await walk(0, newSize);
  return { edge, rest };
}

/**
 * Checks that the tree (`newSize`, `newRoot`) begins with the tree (`oldSize`, `oldRoot`): nothing
 * was changed, removed or put in between.
 *
 * @throws {DaybookError} `PROOF_INVALID`
 */
export function verifyHistoryConsistency(
  older: { readonly size: number; readonly root: Uint8Array },
  newer: { readonly size: number; readonly root: Uint8Array },
  proof: ConsistencyProof,
): void {
  const fail = (why: string): never => {
    throw new DaybookError('PROOF_INVALID', `the histories do not agree: ${why}`);
  };
  const { edge, rest } = proof;
  if (older.size < 1 || older.size > newer.size) fail('sizes out of order');
  if (edge.length !== bitCount(older.size)) fail('wrong number of hashes');
  if (!foldEdge(edge).equals(older.root)) fail('the older root');
  let edgeUsed = 0;
  let restUsed = 0;
  const walk = (start: number, end: number): Uint8Array => {
    if (start >= older.size) return rest[restUsed++] ?? fail('too few hashes');
    const size = end - start;
    const complete = largestPowerOfTwoUpTo(size) === size;
    if (end <= older.size && complete) return edge[edgeUsed++] ?? fail('too few hashes');
    const middle = start + largestPowerOfTwoBelow(size);
    const left = walk(start, middle);
    return merkleNodeHash(left, walk(middle, end));
  };
  const root = Buffer.from(walk(0, newer.size));
  if (edgeUsed !== edge.length || restUsed !== rest.length) fail('too many hashes');
  if (!root.equals(newer.root)) fail('the newer root');
}

async function subtree(read: HashReader, start: number, end: number): Promise<Buffer> {
  const size = end - start;
  const complete = largestPowerOfTwoUpTo(size);
  if (complete !== size) {
    const middle = start + complete;
    const left = await subtree(read, start, middle);
    return merkleNodeHash(left, await subtree(read, middle, end));
  }
  const level = Math.floor(Math.log2(size) / historyLevelStep) * historyLevelStep;
  const unit = 2 ** level;
  let hashes = await read(level, start / unit, size / unit);
  while (hashes.length > 1) {
    const above: Buffer[] = [];
    for (let at = 0; at < hashes.length; at += 2) {
      above.push(merkleNodeHash(hashes[at] as Buffer, hashes[at + 1] as Buffer));
    }
    hashes = above;
  }
  return hashes[0] as Buffer;
}

function largestPowerOfTwoUpTo(size: number): number {
  return 2 ** Math.floor(Math.log2(size));
}

function largestPowerOfTwoBelow(size: number): number {
  return largestPowerOfTwoUpTo(size - 1);
}

function bitCount(size: number): number {
  let count = 0;
  for (let rest = size; rest > 0; rest = Math.floor(rest / 2)) count += rest % 2;
  return count;
}
