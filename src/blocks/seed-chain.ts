import { DaybookError } from '../base/index.ts';
import { type Disk, whileLocked } from '../io/index.ts';
import { type Address, readEnvelopeHead, sha256 } from '../model/index.ts';
import { lmdbStores, type Row, restoreStateTree, type Stores } from '../state/index.ts';
import { type BlockStore, openBlockStore } from './block-store.ts';
import { type ChainPoint, chainStart } from './builder.ts';
import { encodeNote } from './chain-note.ts';
import { unlessDamaged } from './damaged-blocks.ts';
import {
  type BlockParts,
  dataHash,
  decodeBlock,
  decodeSignedMetadata,
  encodeBlock,
  headerHash,
  metadataIndex,
} from './fabric/block.ts';
import { readConfigJson } from './fabric/config-envelope.ts';
import { ownRowsIn } from './generator.ts';
import { HistoryFiles } from './history-files.ts';
import { HistoryFrontier } from './history-tree.ts';
import { indexedFields, readProof } from './segment-files.ts';
import { appendHistory } from './stored-history.ts';

/** Settings of {@link seedChain}. */
export interface SeedOptions {
  readonly disk: Disk;
  /** The generator's directory. Good blocks in it are kept. */
  readonly directory: string;
  /** Blocks that cover the snapshot: its state is that after block `height - 1`. At least 1. */
  readonly height: number;
  /** The snapshot's first address that is not in it. */
  readonly address: Address;
  /** What others have signed about the state after these blocks. */
  readonly stateRoot: Uint8Array;
  /** The snapshot's rows. */
  readonly rows: Iterable<Row>;
  /** Hashes of another node's blocks, see {@link blockDigest}. */
  readonly digests: (from: number, count: number) => Promise<readonly Buffer[]>;
  /** A block of another node. */
  readonly block: (height: number) => Promise<Buffer>;
  /** Where the state tree is kept. Default {@link lmdbStores}. */
  readonly stores?: Pick<Stores, 'openBuckets' | 'bucketBits'>;
}

const digestsPerCall = 500;

/** What makes a block: all of it but the signatures, which every generator has its own. */
export function blockDigest(bytes: Uint8Array): Buffer {
  const block = decodeBlock(bytes);
  const signed = decodeSignedMetadata(block.metadata[metadataIndex.signatures] as Buffer);
  const unsigned = block.metadata.with(metadataIndex.signatures, Buffer.from(signed.value));
  return sha256(encodeBlock({ ...block, metadata: unsigned }));
}

/**
 * Makes a chain that goes on from a snapshot: own blocks that are others' too are kept, the rest is
 * fetched, and the state tree is built from the snapshot's rows. A generator that opens the directory
 * then goes on at `address`.
 *
 * Everything is checked: blocks follow one another by their hashes, their records lead to the history
 * roots that they name, and the rows to `stateRoot`.
 *
 * @throws {DaybookError} `SNAPSHOT_INVALID` when the rows are not those of `stateRoot`;
 *   `BLOCK_MISMATCH` when the blocks that were fetched do not belong together; `LOG_LOCKED` while a
 *   generator has the directory.
 */
export async function seedChain(options: SeedOptions): Promise<ChainPoint> {
  // A generator whose node was killed may live on for a moment, and save what it has.
  return await whileLocked(options.disk, options.directory, () => seed(options));
}

async function seed(options: SeedOptions): Promise<ChainPoint> {
  const { disk, directory, height, address, stores = lmdbStores } = options;
  const { openBuckets, bucketBits } = stores;
  const blocks = `${directory}/blocks`;
  await disk.makeDirectory(blocks);
  const bits = bucketBits === undefined ? {} : { bucketBits };
  const tree = restoreStateTree(options.rows, options.stateRoot, bits);
  await keepSameBlocks(options, blocks);
  await disk.remove(`${directory}/versions`);
  // No bulk update is pending there, and those of the state before may be wrong.
  await disk.remove(ownRowsIn(directory));
  const store = await openBlockStore({ disk, directory: blocks });
  const history = await HistoryFiles.open(disk, directory);
  let point: ChainPoint;
  try {
    for (let at = store.height; at < height; at++) await append(store, await options.block(at));
    await store.sync();
    await history.truncate(0);
    point = await readThrough(store, history, height);
    await history.sync();
  } finally {
    await store.close();
    await history.close();
  }
  await disk.makeDirectory(`${directory}/tree`);
  const buckets = openBuckets(`${directory}/tree`);
  try {
    await buckets.clear();
    await buckets.save(tree, encodeNote({ point, next: address, unmade: [] }));
  } finally {
    await buckets.close();
  }
  return point;
}

/** Removes the own blocks from the first on that is not the other node's. */
async function keepSameBlocks(options: SeedOptions, directory: string): Promise<void> {
  const store = await openBlockStore({ disk: options.disk, directory });
  let same = 0;
  try {
    same = await sameBlocks(options, store);
  } catch (error) {
    await store.close();
    throw error;
  }
  await store.cut(same);
}

async function sameBlocks({ height, digests }: SeedOptions, store: BlockStore): Promise<number> {
  const end = Math.min(store.height, height);
  for (let at = 0; at < end; at += digestsPerCall) {
    const theirs = await digests(at, Math.min(digestsPerCall, end - at));
    for (const [index, digest] of theirs.entries()) {
      if (!(await ownDigest(store, at + index)).equals(digest)) return at + index;
    }
    if (theirs.length < Math.min(digestsPerCall, end - at)) return at + theirs.length;
  }
  return end;
}

async function ownDigest(store: BlockStore, height: number): Promise<Buffer> {
  const bytes = await unlessDamaged(store.block(height));
  return bytes === undefined ? Buffer.alloc(0) : blockDigest(bytes);
}

async function append(store: BlockStore, bytes: Buffer): Promise<void> {
  const block = decodeBlock(bytes);
  if (block.header.number !== store.height) throw mismatch(store.height, 'has another number');
  if (!dataHash(block.envelopes).equals(block.header.dataHash)) {
    throw mismatch(store.height, 'does not have its data hash');
  }
  const { positions, txIds } = indexedFields(block);
  await store.append({ header: block.header, bytes, positions, txIds });
}

/** Reads all blocks, fills the history tree, and finds where the chain stands after them. */
async function readThrough(
  store: BlockStore,
  history: HistoryFiles,
  height: number,
): Promise<ChainPoint> {
  const frontier = new HistoryFrontier();
  let hash: Uint8Array = chainStart.hash;
  let last: { block: BlockParts; proof: ReturnType<typeof readProof> } | undefined;
  for (let at = 0; at < height; at++) {
    const block = decodeBlock(await store.block(at));
    if (!Buffer.from(block.header.previousHash).equals(hash)) {
      throw mismatch(at, 'does not follow the block before it');
    }
    hash = headerHash(block.header);
    const proof = readProof(block);
    const hashes = appendHistory(frontier, block, proof);
    if (!frontier.root().equals(proof.historyRoot)) {
      throw mismatch(at, 'does not have its history root');
    }
    await history.append(hashes);
    last = { block, proof };
  }
  if (last === undefined) return chainStart;
  const { lastConfig } = last.proof;
  const config = decodeBlock(await store.block(lastConfig));
  const configJson = readConfigJson(readEnvelopeHead(config.envelopes[0] as Buffer).data);
  if (configJson === undefined) throw mismatch(lastConfig, 'is no configuration');
  const commit = last.block.metadata[metadataIndex.commitHash] as Buffer;
  return {
    height,
    position: last.proof.end,
    hash,
    commitHash: commit.length === 0 ? commit : decodeSignedMetadata(commit).value,
    historySize: frontier.size,
    historyEdge: [...frontier.edge],
    lastConfig,
    configJson,
  };
}

function mismatch(height: number, what: string): DaybookError {
  return new DaybookError('BLOCK_MISMATCH', `block ${height} ${what}`, { details: { height } });
}
