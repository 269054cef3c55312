import { assert, DaybookError, isDaybookError, limits, toDaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { BlockVersion } from '../model/index.ts';
import {
  type Address,
  addressOf,
  nextAddress,
  type Position,
  ProtoWriter,
  positionOf,
  type Signer,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import {
  type BucketStore,
  moveUpdatedRows,
  openBucketStore,
  openUpdatedRows,
  removeUpdatedRowsBefore,
  StateTree,
  type UpdatedRows,
  updatesWithRows,
} from '../state/index.ts';
import type { BlockProof } from './block-proof.ts';
import { type BlockStore, openBlockStore } from './block-store.ts';
import {
  BlockBuilder,
  type BuiltBlock,
  type ChainPoint,
  configAt,
  signBuiltBlock,
  viewBuiltBlock,
} from './builder.ts';
import { decodeNote, encodeNote, type NotedChain, newChain } from './chain-note.ts';
import { type BlockCut, Cutter, placeInCut } from './cutter.ts';
import { unlessDamaged } from './damaged-blocks.ts';
import { type BlockHeader, decodeBlock, decodeSignedMetadata, headerHash } from './fabric/block.ts';
import { HistoryFiles } from './history-files.ts';
import { indexedFields, readProof } from './segment-files.ts';
import { remakeHistory } from './stored-history.ts';
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
  /**
   * The log is whole: where a block is damaged that lies before the checkpoint, everything is made
   * again from the log's beginning, and what is damaged is mended on the way.
   */
  readonly remakes?: boolean;
}

/**
 * Makes the blocks of a channel from a replica's stream and keeps them, with the state tree, the
 * history tree and the map of versions. One caller at a time; nothing here is on the commit path.
 *
 * After a restart it goes on at {@link BlockGenerator.nextAddress}: where its last checkpoint
 * stands, or the beginning of the log. Blocks that it already has are made again and compared; those
 * that are damaged are replaced.
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
  /** The entries from the first record on that is in no block; none when all are. */
  #unmade: AppliedEntry[];
  #waitingFor: Position | undefined;
  #bulkDirectory: string | undefined;
  #nextAddress: Address;
  /** Bulk updates whose rows lie beside the blocks: the state may begin after them. */
  readonly #ownRows: Set<Position>;
  #savedTo: Address;
  /** Blocks that there were when a chain with a damaged one began anew. */
  readonly #remadeTo: number;
  /** What a block could not be made for: what is in memory may have half of it, and must not be saved. */
  #failure: DaybookError | undefined;
  #stored: Pick<ChainPoint, 'height' | 'historySize'>;
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
    this.#nextAddress = parts.next;
    this.#ownRows = parts.ownRows;
    this.#remadeTo = parts.remadeTo;
    this.#unmade = [...parts.unmade];
    for (const entry of parts.unmade) this.#cuts.push(...this.#cutter.push(entry));
    this.#savedTo = this.rowsFrom;
    this.#stored = parts.point;
  }

  /** Address of the entry to hand in first; later, of the next one. */
  get nextAddress(): Address {
    return this.#nextAddress;
  }

  /**
   * Everything before this address is here durably, in blocks or as entries of the block that is open,
   * the rows of bulk updates included: a restart needs no entry before it, nor the rows of an update
   * before it.
   */
  get savedTo(): Address {
    return this.#savedTo;
  }

  /** The chain has not come again to where it stood before one of its blocks was found damaged. */
  get isRemaking(): boolean {
    return this.point.height < this.#remadeTo;
  }

  /** Where a state must begin, at the latest, to have the rows that the next blocks need. */
  get rowsFrom(): Address {
    const pending = this.#updatesToSwitch().find((update) => !this.#ownRows.has(update));
    return pending === undefined ? this.#nextAddress : addressOf(pending);
  }

  /** Bulk updates whose rows are in no block yet, ascending. */
  #updatesToSwitch(): Position[] {
    const { position: end } = this.point;
    const records = this.#unmade.flatMap((entry) => entry.records);
    const unmade = records.filter(({ position }) => position >= end);
    const updates = this.#builder.updatesAmong(unmade).map(({ position }) => position);
    return [...this.#builder.pendingUpdates, ...updates];
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

  /** Behind the blocks that can be read, with their history; the newest comes a moment after `point`. */
  get stored(): Pick<ChainPoint, 'height' | 'historySize'> {
    return this.#stored;
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
      assert(entry.address === this.#nextAddress, 'entries are handed in in order, none left out');
      this.#cuts.push(...this.#cutter.push(entry));
      this.#unmade.push(entry);
      this.#nextAddress = nextAddress(entry.address);
      await this.#buildAll();
    }
    await this.#buildAll();
    this.#dropMade();
  }

  #dropMade(): void {
    const { isOpen } = this.#cutter;
    const first = addressOf(this.point.position);
    const kept = this.#unmade.findIndex(({ address }) => address >= first);
    if (kept === -1 || (!isOpen && this.#cuts.length === 0)) this.#unmade = [];
    else if (kept > 0) this.#unmade = this.#unmade.slice(kept);
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
      } catch (error) {
        this.#failure = toDaybookError(error);
        throw error;
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
        ? ownRowsIn(this.#options.directory)
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
    return { ...indexedFields(block), proof: readProof(block), header: block.header };
  }

  /**
   * Saves everything if that brings {@link BlockGenerator.savedTo} to `wanted` or beyond.
   *
   * @returns what that is then.
   * @throws {DaybookError} `STATE_DAMAGED` when one of the blocks was found damaged.
   */
  async save(wanted: Address): Promise<Address> {
    this.store.assertWhole(this.point.height);
    if (this.#savedTo >= wanted) return this.#savedTo;
    if (this.rowsFrom < wanted) await this.#takeRows();
    if (this.rowsFrom >= wanted) await this.checkpoint();
    return this.#savedTo;
  }

  /** So that the state may begin after bulk updates whose switch is still to come. */
  async #takeRows(): Promise<void> {
    const { directory, io } = this.#options;
    const from = this.#bulkDirectory;
    if (from === undefined) return;
    const ready = await updatesWithRows(io.disk, from);
    for (const position of this.#updatesToSwitch()) {
      if (this.#ownRows.has(position) || !ready.has(position)) continue;
      await moveUpdatedRows(io.disk, position, from, ownRowsIn(directory));
      this.#ownRows.add(position);
    }
  }

  /** Saves everything, so that a restart begins here. */
  async checkpoint(): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    const savedTo = this.rowsFrom;
    this.#sinceBlocks = 0;
    this.#sinceRecords = 0;
    // Blocks first: a checkpoint must not be ahead of them.
    await this.store.sync();
    await this.history.sync();
    await this.#versions.sync();
    const note = { point: this.point, next: this.#nextAddress, unmade: this.#unmade };
    await this.#buckets.save(this.tree, encodeNote(note, this.#builder));
    this.#savedTo = savedTo;
    // No restart asks for them again.
    const { pendingUpdates } = this.#builder;
    const { disk } = this.#options.io;
    const unneeded = async (rows: string): Promise<void> =>
      await removeUpdatedRowsBefore(disk, rows, this.point.position, pendingUpdates);
    if (this.#ownRows.size > 0) await unneeded(ownRowsIn(this.#options.directory));
    if (this.#bulkDirectory !== undefined) await unneeded(this.#bulkDirectory);
  }

  /** Saves, unless a block could not be made, and closes. */
  async close(): Promise<void> {
    if (this.#failure === undefined) await this.checkpoint();
    await this.store.close();
    await this.history.close();
    await this.#versions.close();
    await this.#buckets.close();
  }

  async #keep(built: BuiltBlock): Promise<void> {
    const { header, positions, txIds } = built;
    const { number } = header;
    if (number >= this.store.height) {
      await this.store.append({ header, bytes: this.#signed(built), positions, txIds });
    } else if (!(await this.#isStored(built))) {
      await this.store.mend(number, { bytes: this.#signed(built), positions, txIds });
      // The next checkpoint may be far.
      if (this.store.damaged === undefined) await this.store.sync();
    }
    await this.history.append(built.historyHashes);
    // The map was filled from the stored blocks as far as they reach.
    if (this.#versions.size < built.historySize) {
      const known = this.#versions.size - (built.historySize - positions.length);
      await this.#versions.append(number, positions, known);
    }
    this.#stored = { height: number + 1, historySize: built.historySize };
    this.#sinceBlocks++;
    this.#sinceRecords += built.positions.length;
    if (
      this.#sinceBlocks >= (this.#options.checkpointBlocks ?? 20_000) ||
      this.#sinceRecords >= (this.#options.checkpointRecords ?? 500_000)
    ) {
      await this.checkpoint();
    }
  }

  /** A view that the next block overwrites. */
  #signed(built: BuiltBlock): Buffer {
    const { signer } = this.#options;
    const signatures = signer === undefined ? [] : [signBuiltBlock(built, signer)];
    return viewBuiltBlock(built, signatures, this.#writer);
  }

  /** False: what is stored is damaged. */
  async #isStored(built: BuiltBlock): Promise<boolean> {
    const height = built.header.number;
    const stored = await unlessDamaged(this.store.block(height));
    if (stored === undefined) return false;
    const signed = decodeSignedMetadata(decodeBlock(stored).metadata[0] as Buffer);
    if (!viewBuiltBlock(built, signed.signatures, this.#writer).equals(stored)) {
      if (this.store.isFound(height)) {
        await this.store.distrust(height);
        return false;
      }
      throw new DaybookError('BLOCK_MISMATCH', `block ${height} is not what the log says`, {
        details: { height },
      });
    }
    return true;
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

interface Parts extends NotedChain {
  readonly tree: StateTree;
  readonly store: BlockStore;
  readonly history: HistoryFiles;
  readonly versions: VersionMap;
  readonly buckets: BucketStore;
  readonly ownRows: Set<Position>;
  readonly remadeTo: number;
}

/**
 * Opens a generator where it stood, or a new one.
 *
 * @throws {DaybookError} `STATE_DAMAGED` when a block before its checkpoint is known to be damaged, and
 *   the log's beginning is not said to be there.
 */
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
  let { note, tree } = await lastCheckpoint(buckets);
  const remakes =
    options.remakes === true && (store.damaged ?? note.point.height) < note.point.height;
  if (remakes) {
    note = newChain();
    tree = undefined;
  }
  // What the file holds beyond the checkpoint need not have come to the disk as it was written.
  const versions = await VersionMap.open(
    disk,
    directory,
    Math.min(store.records, note.point.historySize),
  );
  await fillVersions(versions, store);
  store.assertWhole(note.point.height);
  // No checkpoint, or one that these blocks do not reach: start over from the log.
  const { height, historySize } = note.point;
  const reaches =
    height <= store.height &&
    ((await history.truncate(historySize)) || (await remakeHistory(history, store, note.point)));
  if (!reaches) {
    note = newChain();
    tree = undefined;
    await history.truncate(0);
  }
  if (tree === undefined) await buckets.clear();
  const { point } = note;
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
  return new BlockGenerator(options, {
    ...note,
    tree,
    store,
    history,
    versions,
    buckets,
    ownRows: await updatesWithRows(disk, ownRowsIn(directory)),
    remadeTo: remakes ? store.height : 0,
  });
}

/** Without one, or with one that rotted, a new chain. */
async function lastCheckpoint(
  buckets: BucketStore,
): Promise<{ readonly note: NotedChain; readonly tree: StateTree | undefined }> {
  try {
    const saved = await buckets.load();
    if (saved !== undefined) return { note: decodeNote(saved.note), tree: saved.tree };
  } catch (error) {
    if (!isDaybookError(error, 'STATE_DAMAGED', 'MALFORMED')) throw error;
  }
  return { note: newChain(), tree: undefined };
}

async function newBuckets(disk: Io['disk'], directory: string): Promise<BucketStore> {
  await disk.makeDirectory(directory);
  return openBucketStore(directory);
}

/**
 * Adds the versions of stored blocks that the map lacks. Those behind a damaged block come with the blocks
 * that are made again.
 */
async function fillVersions(versions: VersionMap, store: BlockStore): Promise<void> {
  while (versions.size < store.records) {
    const { block, transaction } = await store.placeOfRecord(versions.size);
    const positions = await store.positionsOf(block);
    if (positions === undefined) break;
    await versions.append(block, positions, transaction);
  }
}

/** Where a chain keeps rows of bulk updates itself, below its directory. */
export function ownRowsIn(directory: string): string {
  return `${directory}/rows`;
}
