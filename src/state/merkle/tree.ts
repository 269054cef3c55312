import { assert, type Bytestring } from '../../base/index.ts';
import type { StateView, StateWrite } from '../state.ts';
import { BucketHasher, nodeKinds } from './bucket-hasher.ts';
import {
  bitAt,
  emptyTree,
  hashPairs,
  noPendingUpdates,
  stateKeyHash,
  stateLeafHash,
  stateNodeHash,
  stateRootOf,
  writeContentHash,
  writeKeyHash,
} from './hash.ts';
import { LeafSlab, leafBytes } from './leaf-slab.ts';
import { completeStateProof, type StateProof, type StateProofPath } from './proof.ts';

/** How a {@link StateTree} is laid out in memory; without influence on roots and proofs. */
export interface StateTreeOptions {
  /** Depth at which subtrees become buckets, 1..24. Best when a bucket holds 1 to 8 rows. */
  readonly bucketBits?: number;
}

const bucketBitsDefault = 18;
const hashWords = 8;
/** Nodes hashed in one call, and buckets in one go: bounds the scratch memory. */
const chunkNodes = 4096;

/**
 * The Merkle tree over all rows of the state (key, value, version): see `hash.ts` for what a root
 * is. Rows deeper than `bucketBits` lie together in *buckets*, sorted; above them every node's hash
 * is kept. An update touches its bucket and the path above it; many updates share those paths.
 *
 * Keeps 64 bytes per row (and up to half as much slack) plus 66 bytes per bucket. Synchronous and
 * without I/O; `BucketStore` keeps buckets on disk.
 */
export class StateTree {
  readonly #bits: number;
  readonly #bucketCount: number;
  /** Nodes in heap order: root at 1, children of n at 2n and 2n + 1, bucket b at 2^bits + b. */
  readonly #hashWords: Uint32Array;
  readonly #hashes: Buffer;
  readonly #kinds: Uint8Array;
  readonly #slab = new LeafSlab();
  readonly #places: Uint32Array;
  readonly #counts: Uint32Array;
  readonly #hasher = new BucketHasher();
  readonly #pending = new Map<Bytestring, StateWrite>();
  readonly #dirty: Uint8Array;
  readonly #inputWords = new Uint32Array(chunkNodes * 2 * hashWords);
  readonly #input = Buffer.from(this.#inputWords.buffer);
  readonly #outputWords = new Uint32Array(chunkNodes * hashWords);
  readonly #output = Buffer.from(this.#outputWords.buffer);
  #rows = 0;

  constructor(options: StateTreeOptions = {}) {
    this.#bits = options.bucketBits ?? bucketBitsDefault;
    assert(this.#bits >= 1 && this.#bits <= 24, 'bucketBits is 1..24');
    this.#bucketCount = 2 ** this.#bits;
    this.#hashWords = new Uint32Array(2 * this.#bucketCount * hashWords);
    this.#hashes = Buffer.from(this.#hashWords.buffer);
    this.#kinds = new Uint8Array(2 * this.#bucketCount);
    this.#places = new Uint32Array(this.#bucketCount);
    this.#counts = new Uint32Array(this.#bucketCount);
    this.#dirty = new Uint8Array(this.#bucketCount);
  }

  /** Depth of the buckets. */
  get bucketBits(): number {
    return this.#bits;
  }

  /** Rows in the tree, after all updates. */
  get rows(): number {
    this.#flush();
    return this.#rows;
  }

  /** Memory taken, bytes. */
  get bytes(): number {
    return this.#slab.bytes + this.#hashes.length + 11 * this.#bucketCount;
  }

  /** Takes writes in; the last one of a key counts. Hashing waits for {@link StateTree.root}. */
  update(writes: readonly StateWrite[]): void {
    for (const write of writes) this.#pending.set(write.key, write);
  }

  /** Root of the base tree over all rows. */
  root(): Buffer {
    this.#flush();
    return this.#nodeHash(1);
  }

  /** The state root: base tree and pending bulk updates, see `stateRootOf`. */
  stateRoot(pendingRoot: Uint8Array = noPendingUpdates): Buffer {
    return stateRootOf(this.root(), pendingRoot);
  }

  /** Where the path of a key leads: all of a proof but the row itself, which the tree lacks. */
  path(key: Bytestring): StateProofPath {
    this.#flush();
    const keyHash = stateKeyHash(key);
    const siblings: Buffer[] = [];
    let node = 1;
    for (let depth = 0; depth < this.#bits; depth++) {
      if (this.#kinds[node] !== nodeKinds.inner) break;
      const bit = bitAt(keyHash, depth);
      siblings.push(this.#nodeHash(2 * node + 1 - bit));
      node = 2 * node + bit;
    }
    // Above the buckets a subtree of one leaf ends the path; that leaf may lie in another bucket.
    const leaf =
      this.#kinds[node] === nodeKinds.inner
        ? descend(this.#leavesOf(keyHash), keyHash, this.#bits, siblings)
        : this.#onlyLeaf(node);
    return {
      siblings,
      leaf:
        leaf === undefined
          ? undefined
          : { keyHash: leaf.subarray(0, 32), contentHash: leaf.subarray(32, 64) },
    };
  }

  /**
   * Proves the value of a key, or that it is absent.
   *
   * @param view - the state that this tree covers.
   * @throws {DaybookError} `PROOF_NOT_READY` when the view has another value than the tree.
   */
  prove(key: Bytestring, view: StateView, pendingRoot: Uint8Array = noPendingUpdates): StateProof {
    return completeStateProof(key, this.path(key), view.get(key), pendingRoot);
  }

  /** Number of buckets. */
  get buckets(): number {
    return this.#bucketCount;
  }

  /** What the tree's leaf of this key hash commits to; `undefined`: it has no such row. */
  contentHash(keyHash: Buffer): Buffer | undefined {
    this.#flush();
    const bucket = keyHash.readUInt32BE(0) >>> (32 - this.#bits);
    const count = this.#counts[bucket] as number;
    if (count === 0) return undefined;
    const place = this.#places[bucket] as number;
    const page = this.#slab.page(place);
    for (let at = 0; at < count; at++) {
      const offset = this.#slab.offset(place) + at * leafBytes;
      if (compareHashes(keyHash, 0, page, offset) !== 0) continue;
      return Buffer.from(page.subarray(offset + 32, offset + leafBytes));
    }
    return undefined;
  }

  /** Numbers of the buckets that changed since the last {@link StateTree.clean}, ascending. */
  dirtyBuckets(): number[] {
    this.#flush();
    const numbers: number[] = [];
    for (let at = this.#dirty.indexOf(1); at !== -1; at = this.#dirty.indexOf(1, at + 1)) {
      numbers.push(at);
    }
    return numbers;
  }

  /** Declares all buckets saved. */
  clean(): void {
    this.#dirty.fill(0);
  }

  /** A copy of a bucket's leaves (key hash ‖ content hash, sorted); empty when it has none. */
  bucket(number: number): Buffer {
    const count = this.#counts[number] as number;
    if (count === 0) return Buffer.alloc(0);
    const place = this.#places[number] as number;
    const offset = this.#slab.offset(place);
    return Buffer.from(this.#slab.page(place).subarray(offset, offset + count * leafBytes));
  }

  /**
   * Fills an empty tree with saved buckets (number and leaves as {@link StateTree.bucket} gave
   * them) and hashes it. The caller compares the root with the one it expects.
   */
  load(buckets: Iterable<readonly [number: number, leaves: Uint8Array]>): void {
    assert(this.#rows === 0 && this.#pending.size === 0, 'load needs an empty tree');
    const numbers: number[] = [];
    for (const [number, leaves] of buckets) {
      const count = leaves.length / leafBytes;
      const place = this.#slab.take(LeafSlab.capacityFor(count));
      this.#slab.page(place).set(leaves, this.#slab.offset(place));
      this.#places[number] = place;
      this.#counts[number] = count;
      this.#rows += count;
      numbers.push(number);
    }
    this.#rehash(Uint32Array.from(numbers).sort());
  }

  #flush(): void {
    const size = this.#pending.size;
    if (size === 0) return;
    const hashes = Buffer.allocUnsafe(size * leafBytes);
    const order = new Float64Array(size);
    const writes: StateWrite[] = [];
    for (const write of this.#pending.values()) {
      const index = writes.length;
      const at = index * leafBytes;
      writeKeyHash(write.key, hashes, at);
      if (write.value !== undefined) {
        writeContentHash(write.version, write.value, hashes, at + 32);
      }
      order[index] = (hashes.readUInt32BE(at) >>> (32 - this.#bits)) * 2 ** 26 + index;
      writes.push(write);
    }
    assert(size <= 2 ** 26, 'too many writes in one go');
    this.#pending.clear();
    order.sort();
    const touched = new Uint32Array(size);
    let count = 0;
    for (let at = 0; at < size; at++) {
      const bucket = Math.floor((order[at] as number) / 2 ** 26);
      const index = (order[at] as number) % 2 ** 26;
      const deletes = (writes[index] as StateWrite).value === undefined;
      if (!this.#apply(bucket, hashes, index * leafBytes, deletes)) continue;
      if (count === 0 || touched[count - 1] !== bucket) touched[count++] = bucket;
    }
    for (let at = 0; at < count; at++) this.#dirty[touched[at] as number] = 1;
    this.#rehash(touched.subarray(0, count));
  }

  /** Puts, replaces or deletes one leaf; false when nothing changed. */
  #apply(bucket: number, source: Buffer, at: number, deletes: boolean): boolean {
    const count = this.#counts[bucket] as number;
    let place = this.#places[bucket] as number;
    let index = 0;
    let found = false;
    if (count > 0) {
      const page = this.#slab.page(place);
      const offset = this.#slab.offset(place);
      let end = count;
      while (index < end) {
        const middle = (index + end) >>> 1;
        const order = compareHashes(source, at, page, offset + middle * leafBytes);
        if (order === 0) found = true;
        if (order <= 0) end = middle;
        else index = middle + 1;
      }
    }
    if (deletes) {
      if (!found) return false;
      this.#resize(bucket, count - 1, index, 1);
      this.#rows--;
      return true;
    }
    if (!found) {
      this.#resize(bucket, count + 1, index, 0);
      this.#rows++;
      place = this.#places[bucket] as number;
    }
    const target = this.#slab.offset(place) + index * leafBytes;
    source.copy(this.#slab.page(place), target, at, at + leafBytes);
    return true;
  }

  /** Opens a gap before leaf `index` (`removed` 0), or closes over it (`removed` 1). */
  #resize(bucket: number, newCount: number, index: number, removed: 0 | 1): void {
    const count = this.#counts[bucket] as number;
    const place = this.#places[bucket] as number;
    const capacity = LeafSlab.capacityFor(count);
    const newCapacity = LeafSlab.capacityFor(newCount);
    const newPlace =
      newCapacity === capacity || newCapacity === 0 ? place : this.#slab.take(newCapacity);
    if (count > 0) {
      const from = this.#slab.page(place);
      const offset = this.#slab.offset(place);
      const to = this.#slab.page(newPlace);
      const newOffset = this.#slab.offset(newPlace);
      const tail = offset + (index + removed) * leafBytes;
      const newTail = newOffset + (index + 1 - removed) * leafBytes;
      from.copy(to, newTail, tail, offset + count * leafBytes);
      if (newPlace !== place) from.copy(to, newOffset, offset, offset + index * leafBytes);
      if (newCapacity !== capacity) this.#slab.give(place, capacity);
    }
    this.#places[bucket] = newPlace;
    this.#counts[bucket] = newCount;
  }

  /** Recomputes the hashes of buckets (ascending) and of all nodes above them. */
  #rehash(buckets: Uint32Array): void {
    let level = new Uint32Array(buckets.length);
    for (let start = 0; start < buckets.length; ) {
      const hasher = this.#hasher;
      hasher.clear();
      let end = start;
      for (; end < buckets.length && hasher.leafCount < chunkNodes; end++) {
        const bucket = buckets[end] as number;
        const count = this.#counts[bucket] as number;
        if (count === 0) hasher.add(noLeaves, 0, 0);
        else {
          const place = this.#places[bucket] as number;
          hasher.add(this.#slab.page(place), this.#slab.offset(place), count);
        }
      }
      hasher.run(this.#bits);
      for (let at = start; at < end; at++) {
        const node = this.#bucketCount + (buckets[at] as number);
        this.#kinds[node] = hasher.rootKind(at - start);
        hasher.writeRoot(at - start, this.#hashWords, node * hashWords);
        level[at] = node;
      }
      start = end;
    }
    for (let depth = this.#bits; depth > 0; depth--) level = this.#hashParents(level);
  }

  /** Recomputes the parents of nodes (ascending, one level); returns the parents. */
  #hashParents(children: Uint32Array): Uint32Array<ArrayBuffer> {
    const parents = new Uint32Array(children.length);
    let count = 0;
    for (let at = 0; at < children.length; at++) {
      const parent = (children[at] as number) >>> 1;
      if (count === 0 || parents[count - 1] !== parent) parents[count++] = parent;
    }
    const kinds = this.#kinds;
    const words = this.#hashWords;
    const waiting = new Uint32Array(Math.min(count, chunkNodes));
    let gathered = 0;
    for (let at = 0; at < count; at++) {
      const node = parents[at] as number;
      const left = kinds[2 * node] as number;
      const right = kinds[2 * node + 1] as number;
      const to = gathered * 2 * hashWords;
      if (left + right < nodeKinds.inner) {
        // At most one leaf below: the node is that child, or empty.
        const child = 2 * node + (right === nodeKinds.leaf ? 1 : 0);
        kinds[node] = left + right;
        for (let word = 0; word < hashWords; word++) {
          words[node * hashWords + word] = words[child * hashWords + word] as number;
        }
        continue;
      }
      kinds[node] = nodeKinds.inner;
      const from = 2 * node * hashWords;
      for (let word = 0; word < 2 * hashWords; word++) {
        this.#inputWords[to + word] = words[from + word] as number;
      }
      waiting[gathered++] = node;
      if (gathered === chunkNodes) {
        this.#hashGathered(waiting, gathered);
        gathered = 0;
      }
    }
    if (gathered > 0) this.#hashGathered(waiting, gathered);
    return parents.subarray(0, count);
  }

  #hashGathered(nodes: Uint32Array, count: number): void {
    hashPairs(this.#input.subarray(0, count * 64), this.#output.subarray(0, count * 32));
    for (let at = 0; at < count; at++) {
      const to = (nodes[at] as number) * hashWords;
      for (let word = 0; word < hashWords; word++) {
        this.#hashWords[to + word] = this.#outputWords[at * hashWords + word] as number;
      }
    }
  }

  #nodeHash(node: number): Buffer {
    return Buffer.from(this.#hashes.subarray(node * 32, node * 32 + 32));
  }

  #leavesOf(keyHash: Buffer): Buffer {
    return this.bucket(keyHash.readUInt32BE(0) >>> (32 - this.#bits));
  }

  /** The only leaf below a node above the buckets, if any. */
  #onlyLeaf(node: number): Buffer | undefined {
    if (this.#kinds[node] !== nodeKinds.leaf) return undefined;
    let at = node;
    while (at < this.#bucketCount) {
      at = 2 * at + (this.#kinds[2 * at + 1] === nodeKinds.leaf ? 1 : 0);
    }
    return this.bucket(at - this.#bucketCount);
  }
}

const noLeaves = Buffer.alloc(0);

/** Walks down inside a bucket, collecting siblings; returns the leaf at the end, if any. */
function descend(
  leaves: Buffer,
  keyHash: Buffer,
  depth: number,
  siblings: Buffer[],
): Buffer | undefined {
  if (leaves.length <= leafBytes) return leaves.length === 0 ? undefined : leaves;
  const middle = splitAt(leaves, depth);
  const left = leaves.subarray(0, middle);
  const right = leaves.subarray(middle);
  const isRight = bitAt(keyHash, depth) === 1;
  siblings.push(subtreeHash(isRight ? left : right, depth + 1));
  return descend(isRight ? right : left, keyHash, depth + 1, siblings);
}

function subtreeHash(leaves: Buffer, depth: number): Buffer {
  if (leaves.length === 0) return emptyTree;
  if (leaves.length === leafBytes) {
    return stateLeafHash(leaves.subarray(0, 32), leaves.subarray(32));
  }
  const middle = splitAt(leaves, depth);
  return stateNodeHash(
    subtreeHash(leaves.subarray(0, middle), depth + 1),
    subtreeHash(leaves.subarray(middle), depth + 1),
  );
}

/** Where the leaves with bit 1 begin, in bytes. */
function splitAt(leaves: Buffer, depth: number): number {
  let at = 0;
  while (at < leaves.length && bitAt(leaves.subarray(at, at + 32), depth) === 0) at += leafBytes;
  return at;
}

function compareHashes(a: Buffer, aAt: number, b: Buffer, bAt: number): number {
  for (let at = 0; at < 32; at++) {
    const difference = (a[aAt + at] as number) - (b[bAt + at] as number);
    if (difference !== 0) return difference;
  }
  return 0;
}
