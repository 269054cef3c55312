import { hash } from 'node:crypto';
import { hashInto } from '@chainsafe/hashtree';
import { type Bytestring, bytesOf } from '../../base/index.ts';
import { merkleRoot, type Position, sha256 } from '../../model/index.ts';

/*
 * The state tree is a binary trie over the bits of SHA-256(state key), first bit first:
 *
 *   content(row)    = SHA-256(u64 version ‖ value)
 *   leaf(row)       = node(node(SHA-256(state key), content(row)), leafTag)
 *   tree(no rows)   = 32 zero bytes
 *   tree(one row)   = leaf(row), at whatever depth it stands alone
 *   tree(more rows) = node(tree(rows with bit 0), tree(rows with bit 1)), node = SHA-256(l ‖ r)
 *
 * So the root depends on the set of rows and on nothing else. `leafTag` keeps leaves and inner nodes
 * apart: nobody can show 64 bytes that hash to it.
 */

/** Root of a tree without rows, and the hash of every empty subtree. */
export const emptyTree: Buffer = Buffer.alloc(32);

/** Right half of what a leaf is the hash of. */
export const leafTag: Buffer = sha256(Buffer.from('daybook state leaf v1'));

const rootDomain = Buffer.from('daybook state root v1\0');

/** SHA-256 of the state key: the path of its row in the tree. */
export function stateKeyHash(key: Bytestring): Buffer {
  return sha256(bytesOf(key));
}

/** What a leaf commits to besides the key. */
export function rowContentHash(version: Position, value: Bytestring): Buffer {
  const bytes = Buffer.allocUnsafe(8 + value.length);
  bytes.writeBigUInt64BE(BigInt(version), 0);
  bytes.latin1Write(value, 8, value.length);
  return sha256(bytes);
}

/** Hash of an inner node. */
export function stateNodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  return sha256(left, right);
}

/** Hash of a row's leaf. */
export function stateLeafHash(keyHash: Uint8Array, contentHash: Uint8Array): Buffer {
  return stateNodeHash(stateNodeHash(keyHash, contentHash), leafTag);
}

/**
 * The state root: it covers the base tree and the bulk updates that are recorded but not yet
 * applied to the rows (design §7).
 *
 * @param pendingRoot - {@link noPendingUpdates}, or `merkleRoot` of the pending updates' leaves in
 *   log order.
 */
export function stateRootOf(treeRoot: Uint8Array, pendingRoot: Uint8Array): Buffer {
  return sha256(rootDomain, treeRoot, pendingRoot);
}

/** The pending root when no bulk update waits. */
export const noPendingUpdates: Buffer = merkleRoot([]);

/** Bit `depth` of a key hash, first bit first. */
export function bitAt(keyHash: Uint8Array, depth: number): 0 | 1 {
  return (((keyHash[depth >>> 3] as number) >>> (7 - (depth & 7))) & 1) as 0 | 1;
}

/** SHA-256 of every 64 bytes of `input`, 32 bytes each, into `output`. Many at once is 6× faster. */
export const hashPairs: (input: Uint8Array, output: Uint8Array) => void = hashInto;

let scratch = Buffer.allocUnsafeSlow(4096);

/** {@link stateKeyHash} written to `target` at `offset`, without a buffer per call. */
export function writeKeyHash(key: Bytestring, target: Buffer, offset: number): void {
  const length = key.length;
  reserve(length);
  scratch.latin1Write(key, 0, length);
  target.latin1Write(hash('sha256', scratch.subarray(0, length), 'binary'), offset, 32);
}

/** {@link rowContentHash} written to `target` at `offset`, without a buffer per call. */
export function writeContentHash(
  version: Position,
  value: Bytestring,
  target: Buffer,
  offset: number,
): void {
  const length = 8 + value.length;
  reserve(length);
  scratch.writeUInt32BE(Math.floor(version / 0x1_0000_0000), 0);
  scratch.writeUInt32BE(version % 0x1_0000_0000, 4);
  scratch.latin1Write(value, 8, value.length);
  target.latin1Write(hash('sha256', scratch.subarray(0, length), 'binary'), offset, 32);
}

function reserve(length: number): void {
  if (length > scratch.length) scratch = Buffer.allocUnsafeSlow(length * 2);
}
