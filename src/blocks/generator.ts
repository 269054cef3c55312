import { ByteReader, ByteWriter, DaybookError, isDaybookError, limits } from '../base/index.ts';
import type { Disk, Io } from '../io/index.ts';
import type { BlockVersion } from '../model/index.ts';
import {
  type Address,
  addressOf,
  asAddress,
  asPosition,
  nextAddress,
  type Position,
  ProtoWriter,
  positionOf,
  type Signer,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import {
  type BucketStore,
  openBucketStore,
  openUpdatedRows,
  removeUpdatedRowsBefore,
  StateTree,
  type UpdatedRows,
  updatesWithRows,
} from '../state/index.ts';
import { type BlockProof, decodeBlockProof } from './block-proof.ts';
import { type BlockStore, indexedFields, openBlockStore } from './block-store.ts';
import {
  BlockBuilder,
  type BuiltBlock,
  type ChainPoint,
  chainStart,
  configAt,
  signBuiltBlock,
  viewBuiltBlock,
} from './builder.ts';
import { BulkSwitch } from './bulk-switch.ts';
import { type BlockCut, Cutter, placeInCut } from './cutter.ts';
import {
  type BlockHeader,
  decodeBlock,
  decodeOrdererMetadata,
  decodeSignedMetadata,
  headerHash,
} from './fabric/block.ts';
import { HistoryFiles } from './history-files.ts';
import { VersionMap } from './version-map.ts';

/** Settings of {@link openBlockGenerator}. */
export interface BlockGeneratorOptions {
  readonly io: Pick<Io, 'disk'>;
  /** Absolute path of a directory of its own; block files lie in `blocks/` below it. */
  readonly directory: string;
  /** Signs the blocks; without one they carry no signature. */
  readonly signer?: Signer;
  /** Another store for the state tree than LMDB in `directory`: for tests and the simulator. */
  readonly buckets?: BucketStore;
  /** Save the state tree after so many blocks. Default 20,000. */
  readonly checkpointBlocks?: number;
  /** Save the state tree after so many records. Default 500,000. */
  readonly checkpointRecords?: number;
  readonly segmentBytesMax?: number;
  readonly bucketBits?: number;
}

/**
 * Makes the blocks of a channel from a replica's stream and keeps them, with the state tree, the
 * history tree and the map of versions. One caller at a time; nothing here is on the commit path.
 *
 * After a restart it goes on at {@link BlockGenerator.nextAddress}: where its last checkpoint
 * stands, or the beginning of the log. Blocks that it already has are made again and compared.
 */
export class BlockGenerator {
  readonly store: BlockStore;
  readonly history: HistoryFiles;
  readonly tree: StateTree;
  readonly #options: BlockGeneratorOptions;
  readonly #versions: VersionMap;
  readonly #buckets: BucketStore;
  readonly #builder: BlockBuilder;
  readonly #cutter: Cutter;
  readonly #writer = new ProtoWriter(1 << 20);
  /** Blocks that are cut and not made: the first one waits for a bulk update's rows. */
  #cuts: BlockCut[] = [];
  #waitingFor: Position | undefined;
  #bulkDirectory: string | undefined;
  /** Of the entries handed in; behind the entry that ended the last block there may be others. */
  #nextAddress: Address;
  /** Bulk updates whose rows came with adopted blocks: the state may have begun after them. */
  readonly #ownRows: ReadonlySet<Position>;
  #savedTo: Address;
  #sinceBlocks = 0;
  #sinceRecords = 0;

  /** Use {@link openBlockGenerator}. */
  constructor(options: BlockGeneratorOptions, parts: Parts) {
    this.#options = options;
    this.store = parts.store;
    this.history = parts.history;
    this.tree = parts.tree;
    this.#versions = parts.versions;
    this.#buckets = parts.buckets;
    this.#builder = new BlockBuilder(parts.point, parts.tree, parts.bulk);
    this.#cutter = new Cutter(parts.point.position, configAt(parts.point));
    this.#nextAddress = parts.nextAddress;
    this.#ownRows = parts.ownRows;
    this.#savedTo = this.#restartsAt(parts.nextAddress);
  }

  /** Address of the entry to hand in first; later, of the next one. */
  get nextAddress(): Address {
    return this.#nextAddress;
  }

  /**
   * Everything before this address is in durable blocks, the rows of bulk updates included: a restart
   * needs no entry before it, nor the rows of an update before it.
   */
  get savedTo(): Address {
    return this.#savedTo;
  }

  /** Where a state must begin, at the latest, to have the rows that the next blocks need. */
  get rowsFrom(): Address {
    return this.#restartsAt(this.#nextAddress);
  }

  /** @param next - the first entry that is wanted then. */
  #restartsAt(next: Address): Address {
    const pending = this.#builder.pendingUpdates.find((update) => !this.#ownRows.has(update));
    return pending === undefined ? next : asAddress(Math.min(next, addressOf(pending)));
  }

  /** Every record before this position is in a block, and the state tree covers no other. */
  get covered(): Position {
    const { position } = this.point;
    if (this.#cutter.isOpen || this.#cuts.length > 0) return position;
    return Math.max(position, positionOf(this.#nextAddress, 0)) as Position;
  }

  /**
   * The bulk update whose rows are not there yet: until they are no block can be made, and
   * {@link BlockGenerator.push} had better hand in nothing.
   */
  get waitingFor(): Position | undefined {
    return this.#waitingFor;
  }

  /**
   * Tells where the replica's state keeps the rows that bulk updates changed. Without it a block
   * that switches to such rows is never made.
   */
  useBulkDirectory(directory: string): void {
    this.#bulkDirectory = directory;
  }

  /** Bulk updates that the newest state root covers as pending, ascending, and the root over them. */
  get pending(): { readonly updates: readonly Position[]; readonly root: Buffer } {
    return { updates: this.#builder.pendingUpdates, root: this.#builder.pendingRoot };
  }

  /** The state root after the newest block. */
  get stateRoot(): Buffer {
    return this.tree.stateRoot(this.#builder.pendingRoot);
  }

  /** Where the chain stands after the last block. */
  get point(): ChainPoint {
    return this.#builder.point;
  }

  /**
   * Takes the next entries; resolves when the blocks they complete are stored, or wait for a bulk
   * update (see {@link BlockGenerator.waitingFor}; then no entries at all ask again).
   *
   * @throws {DaybookError} `BLOCK_MISMATCH` when the log gives another block than the one that is
   *   stored under its number: one of the two was tampered with.
   */
  async push(entries: readonly AppliedEntry[]): Promise<void> {
    for (const entry of entries) {
      this.#cuts.push(...this.#cutter.push(entry));
      this.#nextAddress = nextAddress(entry.address);
      await this.#buildAll();
    }
    await this.#buildAll();
  }

  async #buildAll(): Promise<void> {
    for (let cut = this.#cuts[0]; cut !== undefined; cut = this.#cuts[0]) {
      const rows = await this.#updatedRows(cut);
      if (rows === undefined) return;
      try {
        const built = this.#builder.build(
          cut,
          (position) => this.#versions.versionOf(position),
          (position) => (rows.get(position) as UpdatedRows).rows(),
        );
        this.#cuts.shift();
        await this.#keep(built);
      } finally {
        for (const file of rows.values()) await file.close();
      }
    }
  }

  /** The rows of the bulk updates that switch in this block; `undefined`: not all are there. */
  async #updatedRows(cut: BlockCut): Promise<Map<Position, UpdatedRows> | undefined> {
    const { io } = this.#options;
    const bulkDirectory = this.#bulkDirectory;
    const files = new Map<Position, UpdatedRows>();
    this.#waitingFor = undefined;
    for (const position of this.#builder.updatesDue(cut)) {
      const rowsDirectory = this.#ownRows.has(position)
        ? adoptedRowsIn(this.#options.directory)
        : bulkDirectory;
      const file =
        rowsDirectory === undefined
          ? undefined
          : await openUpdatedRows(io.disk, rowsDirectory, position);
      if (file === undefined) {
        this.#waitingFor = position;
        for (const open of files.values()) await open.close();
        return undefined;
      }
      files.set(position, file);
    }
    return files;
  }

  /**
   * Block and transaction number of a record, which are certain as soon as the record was handed in;
   * `undefined` before, and for a position of no record.
   */
  placeOf(position: Position): BlockVersion | undefined {
    const { height, position: end, historySize } = this.point;
    if (position < end) {
      // The newest block's versions come a moment after it.
      if (this.#versions.size < historySize) return undefined;
      const place = this.#versions.versionOf(position);
      return place.transaction < limits.recordsPerBlockMax ? place : undefined;
    }
    for (const [at, cut] of this.#cuts.entries()) {
      const transaction = placeInCut(cut, position);
      if (transaction !== undefined) return { block: height + at, transaction };
    }
    const transaction = this.#cutter.placeOf(position);
    return transaction === undefined
      ? undefined
      : { block: height + this.#cuts.length, transaction };
  }

  /**
   * What a stored block says about itself.
   *
   * @throws {DaybookError} `NOT_FOUND`
   */
  async describe(height: number): Promise<BlockDescription> {
    const block = decodeBlock(await this.store.block(height));
    const signed = decodeSignedMetadata(block.metadata[0] as Buffer);
    const proof = decodeBlockProof(decodeOrdererMetadata(signed.value).consenterMetadata);
    return { ...indexedFields(block), proof, header: block.header };
  }

  /**
   * Saves everything if that brings {@link BlockGenerator.savedTo} to `wanted` or beyond.
   *
   * @returns what that is then.
   */
  async save(wanted: Address): Promise<Address> {
    const reached = this.#restartsAt(addressOf(this.covered));
    if (this.#savedTo < wanted && reached >= wanted) await this.checkpoint();
    return this.#savedTo;
  }

  /** Saves everything, so that a restart begins here. */
  async checkpoint(): Promise<void> {
    const { height, position } = this.point;
    const next = addressOf(this.covered);
    const savedTo = this.#restartsAt(next);
    this.#sinceBlocks = 0;
    this.#sinceRecords = 0;
    // Blocks first: a checkpoint must not be ahead of them.
    await this.store.sync();
    await this.history.sync();
    await this.#versions.sync();
    await this.#buckets.save(this.tree, encodePoint(this.point, this.#builder));
    const { disk } = this.#options.io;
    if (next > addressOf(position)) {
      await writeSeed(disk, this.#options.directory, { height, address: next });
    }
    this.#savedTo = savedTo;
    // No restart asks for them again.
    const { pendingUpdates } = this.#builder;
    const unneeded = async (rows: string): Promise<void> =>
      await removeUpdatedRowsBefore(disk, rows, this.point.position, pendingUpdates);
    if (this.#ownRows.size > 0) await unneeded(adoptedRowsIn(this.#options.directory));
    if (this.#bulkDirectory !== undefined) await unneeded(this.#bulkDirectory);
  }

  /** Saves and closes. */
  async close(): Promise<void> {
    await this.checkpoint();
    await this.store.close();
    await this.history.close();
    await this.#versions.close();
    await this.#buckets.close();
  }

  async #keep(built: BuiltBlock): Promise<void> {
    const { number } = built.header;
    const isNew = number >= this.store.height;
    if (isNew) {
      const { signer } = this.#options;
      const signatures = signer === undefined ? [] : [signBuiltBlock(built, signer)];
      const bytes = viewBuiltBlock(built, signatures, this.#writer);
      const { header, positions, txIds } = built;
      await this.store.append({ header, bytes, positions, txIds });
    } else await this.#compare(built);
    await this.history.append(built.historyHashes);
    // The map was filled from the stored blocks as far as they reach.
    if (this.#versions.size < built.historySize)
      await this.#versions.append(number, built.positions);
    this.#sinceBlocks++;
    this.#sinceRecords += built.positions.length;
    if (
      this.#sinceBlocks >= (this.#options.checkpointBlocks ?? 20_000) ||
      this.#sinceRecords >= (this.#options.checkpointRecords ?? 500_000)
    ) {
      await this.checkpoint();
    }
  }

  async #compare(built: BuiltBlock): Promise<void> {
    const height = built.header.number;
    const stored = await this.store.block(height);
    const signed = decodeSignedMetadata(decodeBlock(stored).metadata[0] as Buffer);
    if (!viewBuiltBlock(built, signed.signatures, this.#writer).equals(stored)) {
      throw new DaybookError('BLOCK_MISMATCH', `block ${height} is not what the log says`, {
        details: { height },
      });
    }
  }
}

/** See {@link BlockGenerator.describe}. */
export interface BlockDescription {
  readonly header: BlockHeader;
  readonly proof: BlockProof;
  /** Per transaction. */
  readonly positions: readonly Position[];
  /** Per transaction, 32 bytes; zeros for a configuration. */
  readonly txIds: readonly Buffer[];
}

interface Parts {
  readonly point: ChainPoint;
  readonly bulk: BulkSwitch;
  readonly tree: StateTree;
  readonly store: BlockStore;
  readonly history: HistoryFiles;
  readonly versions: VersionMap;
  readonly buckets: BucketStore;
  readonly nextAddress: Address;
  readonly ownRows: ReadonlySet<Position>;
}

/** Opens a generator where it stood, or a new one. */
export async function openBlockGenerator(options: BlockGeneratorOptions): Promise<BlockGenerator> {
  const { disk } = options.io;
  const { directory } = options;
  const blocks = `${directory}/blocks`;
  await disk.makeDirectory(blocks);
  const segmentBytesMax = options.segmentBytesMax;
  const store = await openBlockStore({
    disk,
    directory: blocks,
    ...(segmentBytesMax === undefined ? {} : { segmentBytesMax }),
  });
  const history = await HistoryFiles.open(disk, directory);
  const buckets = options.buckets ?? (await newBuckets(disk, `${directory}/tree`));
  let saved: Awaited<ReturnType<BucketStore['load']>>;
  try {
    saved = await buckets.load();
  } catch (error) {
    if (!isDaybookError(error, 'STATE_DAMAGED')) throw error;
  }
  let { point, bulk } =
    saved === undefined ? { point: chainStart, bulk: new BulkSwitch() } : decodePoint(saved.note);
  let tree = saved?.tree;
  // What the file holds beyond the checkpoint need not have come to the disk as it was written.
  const versions = await VersionMap.open(
    disk,
    directory,
    Math.min(store.records, point.historySize),
  );
  await fillVersions(versions, store);
  // No checkpoint, or one beyond the blocks or the history that are here: start over from the log.
  if (point.height > store.height || !(await history.truncate(point.historySize))) {
    point = chainStart;
    bulk = new BulkSwitch();
    tree = undefined;
    await history.truncate(0);
  }
  if (tree === undefined) await buckets.clear();
  if (point.height > 0 && tree !== undefined) {
    const { header } = decodeBlock(await store.block(point.height - 1));
    if (!headerHash(header).equals(point.hash)) {
      throw new DaybookError('BLOCK_MISMATCH', `block ${header.number} changed on disk`, {
        details: { height: header.number },
      });
    }
  }
  tree ??= new StateTree(
    options.bucketBits === undefined ? {} : { bucketBits: options.bucketBits },
  );
  const seed = await readSeed(disk, directory);
  const nextAddress =
    seed?.height === point.height ? asAddress(seed.address) : addressOf(point.position);
  return new BlockGenerator(options, {
    point,
    bulk,
    tree,
    store,
    history,
    versions,
    buckets,
    nextAddress,
    ownRows: await updatesWithRows(disk, adoptedRowsIn(directory)),
  });
}

async function newBuckets(disk: Io['disk'], directory: string): Promise<BucketStore> {
  await disk.makeDirectory(directory);
  return openBucketStore(directory);
}

/** Adds the versions of stored blocks that the map lacks, durably: later checkpoints count on them. */
async function fillVersions(versions: VersionMap, store: BlockStore): Promise<void> {
  while (versions.size < store.records) {
    const { block, transaction } = await store.placeOfRecord(versions.size);
    const { positions } = indexedFields(decodeBlock(await store.block(block)));
    await versions.append(block, positions, transaction);
  }
  await versions.sync();
}

/** Where a chain keeps the rows of bulk updates that were pending when its blocks were adopted. */
export function adoptedRowsIn(directory: string): string {
  return `${directory}/rows`;
}

/**
 * Where a chain goes on that was made out of a snapshot, or of blocks that others made (see `seedChain`
 * and `adoptChain`), or whose last block is followed by ticks.
 */
export interface ChainSeed {
  readonly height: number;
  /** The first entry to hand in: no record stands between the two. */
  readonly address: number;
}

const seedName = 'seed.json';

/** Notes in a chain's directory where the chain is to go on. */
export async function writeSeed(disk: Disk, directory: string, seed: ChainSeed): Promise<void> {
  await disk.writeFile(`${directory}/${seedName}`, Buffer.from(JSON.stringify(seed)));
}

async function readSeed(disk: Disk, directory: string): Promise<ChainSeed | undefined> {
  const bytes = await disk.readFile(`${directory}/${seedName}`);
  return bytes && (JSON.parse(bytes.toString('utf8')) as ChainSeed);
}

/** Version 1 had no bulk updates: none were pending when it was written. */
const pointVersion = 2;

/**
 * As a checkpoint's note.
 *
 * @param builder - whose bulk updates wait for their switch; without it none do.
 */
export function encodePoint(
  point: ChainPoint,
  builder?: Pick<BlockBuilder, 'encodePending'>,
): Buffer {
  const writer = new ByteWriter(4096);
  writer.u8(pointVersion).u64(point.height).u64(point.position).bytes(point.hash);
  writer.bytes(point.commitHash).u64(point.historySize).u16(point.historyEdge.length);
  for (const hash of point.historyEdge) writer.bytes(hash);
  writer.u64(point.lastConfig).text(point.configJson);
  if (builder === undefined) new BulkSwitch().encode(writer);
  else builder.encodePending(writer);
  return writer.finish();
}

function decodePoint(bytes: Uint8Array): { point: ChainPoint; bulk: BulkSwitch } {
  const reader = new ByteReader(bytes, 'chain point');
  const version = reader.u8();
  if (version < 1 || version > pointVersion) reader.fail('unknown version');
  const height = reader.u64();
  const position: Position = asPosition(reader.u64());
  const hash = Buffer.from(reader.bytes(32));
  const commitHash = Buffer.from(reader.bytes(32));
  const historySize = reader.u64();
  const historyEdge: Buffer[] = [];
  for (let count = reader.u16(); count > 0; count--)
    historyEdge.push(Buffer.from(reader.bytes(32)));
  const lastConfig = reader.u64();
  const configJson = reader.text(limits.entryBytesMax);
  const bulk = version === 1 ? new BulkSwitch() : BulkSwitch.decode(reader);
  reader.finish();
  const chain = { height, position, hash, commitHash, historySize, historyEdge };
  return { point: { ...chain, lastConfig, configJson }, bulk };
}
