import { hashPairs, leafTag } from './hash.ts';
import { leafBytes } from './leaf-slab.ts';

/** What a subtree is: nothing, one leaf (which keeps its hash at any depth), or a real node. */
export const nodeKinds = { empty: 0, leaf: 1, inner: 2 } as const;

const empty = -1;
const hashWords = 8;

/**
 * Hashes the subtrees of many buckets together: nodes of equal height, from whatever bucket, go
 * through the hash function in one call, which is several times faster than one by one.
 */
export class BucketHasher {
  #leaves = Buffer.alloc(0);
  #leafCount = 0;
  /** Hashes of leaves, then of inner nodes, 8 words each. */
  #hashes = new Uint32Array(0);
  #hashBytes = Buffer.alloc(0);
  #input = Buffer.alloc(0);
  #inputWords = new Uint32Array(0);
  #output = Buffer.alloc(0);
  #outputWords = new Uint32Array(0);
  #nodeCount = 0;
  /** Per height: left child, right child, node, repeated. */
  #work: number[][] = [];
  /** Per bucket: node, or `empty`. */
  readonly #roots: number[] = [];
  readonly #starts: number[] = [];

  /** Forgets all buckets. */
  clear(): void {
    this.#leafCount = 0;
    this.#roots.length = 0;
    this.#starts.length = 0;
  }

  /** Number of leaves taken in. */
  get leafCount(): number {
    return this.#leafCount;
  }

  /** Takes in the next bucket: `count` leaves, sorted by key hash, in `page` at `offset`. */
  add(page: Buffer, offset: number, count: number): void {
    const at = this.#leafCount * leafBytes;
    const bytes = count * leafBytes;
    if (at + bytes > this.#leaves.length) {
      const grown = Buffer.alloc(Math.max(2 * this.#leaves.length, at + bytes, 1 << 16));
      this.#leaves.copy(grown, 0, 0, at);
      this.#leaves = grown;
    }
    page.copy(this.#leaves, at, offset, offset + bytes);
    this.#starts.push(this.#leafCount);
    this.#leafCount += count;
  }

  /** Hashes all buckets taken in; `depth` is the depth of their roots. */
  run(depth: number): void {
    this.#work = [];
    this.#nodeCount = this.#leafCount;
    for (let bucket = 0; bucket < this.#starts.length; bucket++) {
      const start = this.#starts[bucket] as number;
      const end = this.#starts[bucket + 1] ?? this.#leafCount;
      this.#plan(start, end, depth);
      this.#roots.push(this.#planned);
    }
    this.#reserve();
    this.#hashLeaves();
    for (const work of this.#work) this.#hashHeight(work);
  }

  /** What the root of a bucket is, see {@link nodeKinds}. */
  rootKind(bucket: number): number {
    const node = this.#roots[bucket] as number;
    if (node === empty) return nodeKinds.empty;
    return node < this.#leafCount ? nodeKinds.leaf : nodeKinds.inner;
  }

  /** Copies the root hash of a bucket to `target` at a word index; zeros for an empty one. */
  writeRoot(bucket: number, target: Uint32Array, at: number): void {
    const node = this.#roots[bucket] as number;
    for (let word = 0; word < hashWords; word++) {
      target[at + word] = node === empty ? 0 : (this.#hashes[node * hashWords + word] as number);
    }
  }

  #planned = empty;

  /** Plans the subtree over sorted leaves; leaves its node in `#planned`, returns its height. */
  #plan(start: number, end: number, depth: number): number {
    if (end - start < 2) {
      this.#planned = start === end ? empty : start;
      return 0;
    }
    let middle = start;
    while (middle < end && this.#bit(middle, depth) === 0) middle++;
    const leftHeight = this.#plan(start, middle, depth + 1);
    const left = this.#planned;
    const rightHeight = this.#plan(middle, end, depth + 1);
    const right = this.#planned;
    const height = Math.max(leftHeight, rightHeight);
    const node = this.#nodeCount++;
    let work = this.#work[height];
    if (work === undefined) {
      work = [];
      this.#work[height] = work;
    }
    work.push(left, right, node);
    this.#planned = node;
    return height + 1;
  }

  #bit(leaf: number, depth: number): number {
    const byte = this.#leaves[leaf * leafBytes + (depth >>> 3)] as number;
    return (byte >>> (7 - (depth & 7))) & 1;
  }

  #reserve(): void {
    const nodes = this.#nodeCount;
    if (nodes * hashWords <= this.#hashes.length) return;
    const room = nodes * 2;
    this.#hashes = new Uint32Array(room * hashWords);
    this.#hashBytes = Buffer.from(this.#hashes.buffer);
    this.#inputWords = new Uint32Array(room * 2 * hashWords);
    this.#input = Buffer.from(this.#inputWords.buffer);
    this.#outputWords = new Uint32Array(room * hashWords);
    this.#output = Buffer.from(this.#outputWords.buffer);
  }

  #hashLeaves(): void {
    const count = this.#leafCount;
    if (count === 0) return;
    hashPairs(this.#leaves.subarray(0, count * 64), this.#output.subarray(0, count * 32));
    const input = this.#inputWords;
    const output = this.#outputWords;
    for (let leaf = 0; leaf < count; leaf++) {
      const to = leaf * 2 * hashWords;
      const from = leaf * hashWords;
      for (let word = 0; word < hashWords; word++) {
        input[to + word] = output[from + word] as number;
        input[to + hashWords + word] = tagWords[word] as number;
      }
    }
    hashPairs(this.#input.subarray(0, count * 64), this.#hashBytes.subarray(0, count * 32));
  }

  #hashHeight(work: readonly number[]): void {
    const count = work.length / 3;
    const input = this.#inputWords;
    const hashes = this.#hashes;
    for (let at = 0; at < count; at++) {
      for (let side = 0; side < 2; side++) {
        const child = work[at * 3 + side] as number;
        const to = (at * 2 + side) * hashWords;
        const from = child * hashWords;
        for (let word = 0; word < hashWords; word++) {
          input[to + word] = child === empty ? 0 : (hashes[from + word] as number);
        }
      }
    }
    hashPairs(this.#input.subarray(0, count * 64), this.#output.subarray(0, count * 32));
    for (let at = 0; at < count; at++) {
      const to = (work[at * 3 + 2] as number) * hashWords;
      for (let word = 0; word < hashWords; word++) {
        hashes[to + word] = this.#outputWords[at * hashWords + word] as number;
      }
    }
  }
}

const tagWords = new Uint32Array(leafTag.buffer.slice(leafTag.byteOffset, leafTag.byteOffset + 32));
