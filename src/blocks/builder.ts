import { hash } from 'node:crypto';
import {
  asBuffer,
  assert,
  type Bytestring,
  type ByteWriter,
  bytestringOfText,
  lowerBound,
} from '../base/index.ts';
import type { BlockVersion } from '../model/index.ts';
import {
  addressOf,
  type BatchProof,
  type BulkRule,
  bulkRuleDefaults,
  type ChannelConfig,
  decodeChannelConfig,
  decodeTransaction,
  type EnvelopeSource,
  EnvelopeWriter,
  endorsedSource,
  type Position,
  ProtoWriter,
  positionOf,
  type Signer,
  stateKey,
  type Transaction,
  verdicts,
} from '../model/index.ts';
import { type AppliedRecord, configKey, configNamespace } from '../replica/index.ts';
import {
  type RecordedUpdate,
  recordedUpdateOf,
  type StateTree,
  type StateWrite,
} from '../state/index.ts';
import { type RecordSigning, recordSignings } from './batch-paths.ts';
import { encodeBlockProof } from './block-proof.ts';
import { BulkSwitch } from './bulk-switch.ts';
import type { BlockCut, BlockRecord } from './cutter.ts';
import {
  type BlockHeader,
  type CommittedWrite,
  commitHash,
  encodeOrdererMetadata,
  encodeSignedMetadata,
  headerHash,
  type MetadataSignature,
  signBlock,
  writeBlock,
} from './fabric/block.ts';
import { encodeConfigEnvelope } from './fabric/config-envelope.ts';
import { HistoryFrontier } from './history-tree.ts';

/** Where a chain stands between two blocks: all that the next block depends on, but the state. */
export interface ChainPoint {
  /** Blocks so far, which is the number of the next one. */
  readonly height: number;
  /** Where the next block begins. */
  readonly position: Position;
  /** Of the last block's header; empty at height 0. */
  readonly hash: Uint8Array;
  /** Fabric's commit hash of the last block; empty at heights 0 and 1. */
  readonly commitHash: Uint8Array;
  readonly historySize: number;
  readonly historyEdge: readonly Uint8Array[];
  /** Number of the last configuration block. */
  readonly lastConfig: number;
  /** The configuration in force, as JSON; empty at height 0. */
  readonly configJson: string;
}

/** Where every chain begins. */
export const chainStart: ChainPoint = {
  height: 0,
  position: positionOf(addressOf(0 as Position), 0),
  hash: Buffer.alloc(0),
  commitHash: Buffer.alloc(0),
  historySize: 0,
  historyEdge: [],
  lastConfig: 0,
  configJson: '',
};

/**
 * A block without signatures: the same bytes at every generator. `envelopes` are views that the
 * next block overwrites.
 */
export interface BuiltBlock {
  readonly header: BlockHeader;
  readonly envelopes: readonly Buffer[];
  /** `OrdererBlockMetadata` with the `BlockProof` in it: what signatures cover, with the header. */
  readonly metadataValue: Buffer;
  readonly transactionsFilter: Buffer;
  readonly commitHash: Buffer;
  readonly stateRoot: Buffer;
  readonly positions: readonly Position[];
  /** Transaction ids, 32 bytes each; zeros for a configuration. */
  readonly txIds: readonly Uint8Array[];
  /** Hashes that the block completes on the kept levels of the history tree, in order. */
  readonly historyHashes: readonly { readonly level: number; readonly hash: Buffer }[];
  /** Records in the chain, this block's included. */
  readonly historySize: number;
}

/**
 * Turns cuts into blocks, one after the other: envelopes, hashes, state root, history root. Pure
 * and synchronous; the same cuts give the same bytes everywhere.
 */
export class BlockBuilder {
  readonly #tree: StateTree;
  readonly #history: HistoryFrontier;
  readonly #bulk: BulkSwitch;
  #rule: BulkRule | undefined;
  readonly #writer = new EnvelopeWriter();
  readonly #signings = new WeakMap<object, RecordSigning[]>();
  #point: ChainPoint;
  #channel: string;
  #data = Buffer.allocUnsafeSlow(1 << 20);
  /** 0x00, position, verdict, transaction id, envelope hash: see `historyLeafHash`. */
  readonly #leaf = Buffer.alloc(1 + 8 + 1 + 32 + 32);

  /**
   * @param tree - the state tree at `point`; the builder updates it.
   * @param bulk - what waits there for its switch.
   */
  constructor(point: ChainPoint, tree: StateTree, bulk: BulkSwitch = new BulkSwitch()) {
    this.#point = point;
    this.#bulk = bulk;
    this.#tree = tree;
    this.#history = new HistoryFrontier(point.historySize, point.historyEdge);
    const config = configAt(point);
    this.#channel = config?.channel ?? '';
    this.#rule = config?.bulk;
  }

  /** Where the chain stands after the blocks built so far. */
  get point(): ChainPoint {
    return this.#point;
  }

  /** Positions of bulk updates that the state root covers as pending, ascending. */
  get pendingUpdates(): readonly Position[] {
    return this.#bulk.positions;
  }

  /** Appends them, with what belongs to them, for a checkpoint. */
  encodePending(writer: ByteWriter): void {
    this.#bulk.encode(writer);
  }

  /** Root over them. */
  get pendingRoot(): Buffer {
    return this.#bulk.pendingRoot;
  }

  /** Bulk updates whose rows {@link BlockBuilder.build} needs for this cut. */
  updatesDue(cut: BlockCut): Position[] {
    return this.#bulk.due(this.#point.height, this.#recordedUpdates(cut), this.#rule);
  }

  /**
   * @param versionOf - block and transaction of a position in an earlier block; positions that
   *   name no record get an answer, too, but always the same one.
   * @param updatedRows - the rows that each of {@link BlockBuilder.updatesDue} changed.
   */
  build(
    cut: BlockCut,
    versionOf: (position: Position) => BlockVersion,
    updatedRows: (position: Position) => Iterable<readonly StateWrite[]> = noRows,
  ): BuiltBlock {
    assert(cut.first === this.#point.position, 'a cut that does not follow the last block');
    const number = this.#point.height;
    const { content } = cut;
    const records = content.kind === 'records' ? content.records : [];
    const positions = content.kind === 'records' ? records.map((one) => one.position) : [cut.first];
    const filter = Buffer.alloc(positions.length);
    const writes = new Map<Bytestring, CommittedWrite & { readonly version: Position }>();
    const txIds: Uint8Array[] = [];
    const ends: number[] = [];
    let end = 0;
    const resolve = resolver(number, positions, versionOf);
    if (content.kind === 'config') {
      this.#channel = content.config.channel;
      this.#rule = content.config.bulk;
      end = this.#put(
        encodeConfigEnvelope({
          config: content.config,
          configJson: content.entry.config,
          timestampMs: content.entry.timestampMs,
          creator: content.entry.creator,
          signature: content.entry.signature,
        }),
        0,
      );
      ends.push(end);
      txIds.push(noTxId);
      writes.set(stateKey(configNamespace, configKey), {
        namespace: configNamespace,
        key: configKey,
        value: bytestringOfText(content.entry.config),
        block: number,
        transaction: 0,
        version: cut.first,
      });
    }
    for (const [transaction, one] of records.entries()) {
      end = this.#put(this.#envelope(one, resolve), end);
      ends.push(end);
      txIds.push(one.record.txId);
      filter[transaction] = one.verdict;
      if (one.verdict === verdicts.valid) collectWrites(one, number, transaction, writes);
    }
    const envelopes = ends.map((stop, at) => this.#data.subarray(ends[at - 1] ?? 0, stop));
    return this.#seal(cut, { positions, filter, writes, txIds, envelopes, end }, updatedRows);
  }

  #recordedUpdates({ content }: BlockCut): RecordedUpdate[] {
    return content.kind === 'records' ? this.updatesAmong(content.records) : [];
  }

  /** The bulk updates that took effect among records behind the last block. */
  updatesAmong(records: readonly AppliedRecord[]): RecordedUpdate[] {
    const { heavyRowsMin } = this.#rule ?? bulkRuleDefaults;
    return records.flatMap(({ record, position, verdict }) => {
      if (verdict !== verdicts.valid) return [];
      const at = { position, txId: record.txId, timestampMs: 0 };
      return recordedUpdateOf(record.sets, at, heavyRowsMin) ?? [];
    });
  }

  /** Brings the block's writes into the tree, and the rows of bulk updates that switch here. */
  #updateTree(
    cut: BlockCut,
    writes: BlockContents['writes'],
    updatedRows: (position: Position) => Iterable<readonly StateWrite[]>,
  ): void {
    const tree = this.#tree;
    const rows = [...writes].map(
      ([key, { value, version }]): StateWrite => ({ key, value, version }),
    );
    tree.update(rows);
    const added = this.#recordedUpdates(cut);
    for (const { position, keeps } of this.#bulk.step(
      this.#point.height,
      added,
      this.#rule,
      rows,
    )) {
      for (const part of updatedRows(position)) {
        tree.update(part.filter(({ key }) => keeps(key)));
        // Hashes what has come: the tree must not hold all rows besides.
        tree.root();
      }
    }
  }

  #seal(
    cut: BlockCut,
    parts: BlockContents,
    updatedRows: (position: Position) => Iterable<readonly StateWrite[]>,
  ): BuiltBlock {
    const { height: number, hash: previousHash, commitHash: previousCommit } = this.#point;
    const { positions, filter, writes, txIds, envelopes } = parts;
    const historyHashes: { level: number; hash: Buffer }[] = [];
    for (const [at, envelope] of envelopes.entries()) {
      const leaf = this.#leafHash(
        positions[at] as Position,
        filter[at] as number,
        txIds[at] as Uint8Array,
        envelope,
      );
      this.#history.append(leaf, (level, node) => historyHashes.push({ level, hash: node }));
    }
    const sorted = [...writes.keys()].sort().map((key) => {
      return writes.get(key) as CommittedWrite & { version: Position };
    });
    this.#updateTree(cut, writes, updatedRows);
    const stateRoot = this.#tree.stateRoot(this.#bulk.pendingRoot);
    const header: BlockHeader = {
      number,
      previousHash,
      dataHash: sha256Fast(this.#data.subarray(0, parts.end)),
    };
    const isConfig = cut.content.kind === 'config';
    const lastConfig = isConfig ? number : this.#point.lastConfig;
    const proof = encodeBlockProof({
      stateRoot,
      historyRoot: this.#history.root(),
      historySize: this.#history.size,
      first: cut.first,
      end: cut.end,
      positions,
      logTimeMs: cut.logTimeMs,
    });
    const commit = number === 0 ? Buffer.alloc(0) : commitHash(filter, sorted, previousCommit);
    this.#point = {
      height: number + 1,
      position: cut.end,
      hash: headerHash(header),
      commitHash: commit,
      historySize: this.#history.size,
      historyEdge: [...this.#history.edge],
      lastConfig,
      configJson: cut.content.kind === 'config' ? cut.content.entry.config : this.#point.configJson,
    };
    return {
      header,
      envelopes,
      metadataValue: encodeOrdererMetadata(lastConfig, proof),
      transactionsFilter: filter,
      commitHash: commit,
      stateRoot,
      positions,
      txIds,
      historyHashes,
      historySize: this.#history.size,
    };
  }

  /** `historyLeafHash`, without a buffer per part. */
  #leafHash(position: Position, verdict: number, txId: Uint8Array, envelope: Buffer): Buffer {
    const leaf = this.#leaf;
    leaf.writeUInt32BE(Math.floor(position / 0x1_0000_0000), 1);
    leaf.writeUInt32BE(position % 0x1_0000_0000, 5);
    leaf[9] = verdict;
    leaf.set(txId, 10);
    leaf.latin1Write(hash('sha256', envelope, 'binary'), 42, 32);
    return sha256Fast(leaf);
  }

  #envelope(one: BlockRecord, resolve: Resolver): Buffer {
    const { record, applied, place } = one;
    const proof = applied.entry.batches[record.batch];
    const transaction = readTransaction(record.transactionBytes);
    const opaque = (): Buffer => {
      const txId = asBuffer(record.txId).toString('hex');
      return this.#writer.writeOpaque(this.#channel, txId, record.transactionBytes);
    };
    if (proof === undefined || transaction === undefined) return opaque();
    let signings = this.#signings.get(applied);
    if (signings === undefined) {
      signings = recordSignings(applied);
      this.#signings.set(applied, signings);
    }
    const signing = signings[place] as RecordSigning;
    const creator = applied.entry.identities[proof.creator] as Uint8Array;
    if (proof.mode === 'single') {
      const single = singleSource(one, transaction, creator, signing.signature, proof);
      return single === undefined ? opaque() : this.#writer.write(single);
    }
    return this.#writer.write({
      record,
      transaction,
      creator,
      signature: signing.signature,
      mode: proof.mode,
      batchId: proof.batchId,
      batchSize: proof.size,
      path: signing.path,
      executor: applied.entry.writer,
      versionOf: (version) =>
        resolve(typeof version === 'object' ? positionOf(applied.address, version.index) : version),
    });
  }

  /** Appends an envelope to the block's data; returns where it ends. */
  #put(envelope: Buffer, at: number): number {
    const end = at + envelope.length;
    if (end > this.#data.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(this.#data.length * 2, end));
      this.#data.copy(grown, 0, 0, at);
      this.#data = grown;
    }
    envelope.copy(this.#data, at);
    return end;
  }
}

interface BlockContents {
  readonly positions: readonly Position[];
  readonly filter: Buffer;
  readonly writes: ReadonlyMap<Bytestring, CommittedWrite & { readonly version: Position }>;
  readonly txIds: readonly Uint8Array[];
  readonly envelopes: readonly Buffer[];
  readonly end: number;
}

type Resolver = (position: Position) => BlockVersion;

const noTxId = Buffer.alloc(32);

const noRows = (): never[] => [];

/** The bytes of a block with these signatures. */
export function encodeBuiltBlock(
  built: BuiltBlock,
  signatures: readonly MetadataSignature[],
): Buffer {
  return Buffer.from(viewBuiltBlock(built, signatures, new ProtoWriter()));
}

/**
 * {@link encodeBuiltBlock} without new memory: a view that the writer's next use invalidates.
 * Megabytes of fresh buffers per block cost more time in the garbage collector than hashing them.
 */
export function viewBuiltBlock(
  built: BuiltBlock,
  signatures: readonly MetadataSignature[],
  writer: ProtoWriter,
): Buffer {
  const { header, envelopes, metadataValue, transactionsFilter } = built;
  const nothing = Buffer.alloc(0);
  const commit =
    header.number === 0
      ? nothing
      : encodeSignedMetadata({ value: built.commitHash, signatures: [] });
  const signed = encodeSignedMetadata({ value: metadataValue, signatures });
  const metadata = [signed, nothing, transactionsFilter, nothing, commit];
  writer.reset();
  writeBlock({ header, envelopes, metadata }, writer);
  return writer.view();
}

/** A generator's signature over a block. */
export function signBuiltBlock(built: BuiltBlock, signer: Signer): MetadataSignature {
  return signBlock(signer, built.metadataValue, built.header);
}

/** The channel configuration in force at a point of the chain. */
export function configAt(point: ChainPoint): ChannelConfig | undefined {
  return point.configJson === '' ? undefined : decodeChannelConfig(point.configJson);
}

function resolver(block: number, positions: readonly Position[], versionOf: Resolver): Resolver {
  const [first] = positions;
  assert(first !== undefined, 'an empty block');
  return (position) => {
    if (position < first) return versionOf(position);
    // A read of this very block: only an invalid record, or one cut without `cutBeforeReads`.
    const at = lowerBound(positions, position);
    return { block, transaction: positions[at] === position ? at : positions.length };
  };
}

function collectWrites(
  { record, position }: BlockRecord,
  block: number,
  transaction: number,
  writes: Map<Bytestring, CommittedWrite & { readonly version: Position }>,
): void {
  for (const { namespace, writes: rows } of record.sets) {
    for (const { key, value } of rows) {
      const version = position;
      writes.set(stateKey(namespace, key), { namespace, key, value, block, transaction, version });
    }
  }
}

/** Signed singly: versions stand as they were signed; a record with other ones is invalid. */
function singleSource(
  { record, applied }: BlockRecord,
  transaction: Transaction,
  creator: Uint8Array,
  signature: Uint8Array,
  { endorsement }: BatchProof,
): EnvelopeSource | undefined {
  if (endorsement === undefined) return undefined;
  const endorser = applied.entry.identities[endorsement.endorser] as Uint8Array;
  return endorsedSource(record, transaction, creator, { ...endorsement, endorser }, signature);
}

function readTransaction(bytes: Uint8Array): Transaction | undefined {
  try {
    return decodeTransaction(bytes);
  } catch {
    return undefined;
  }
}

function sha256Fast(bytes: Buffer): Buffer {
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}
