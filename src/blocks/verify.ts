import {
  type Bytestring,
  type ByteWriter,
  bytestringOfText,
  DaybookError,
  toDaybookError,
} from '../base/index.ts';
import type { Disk } from '../io/index.ts';
import {
  type BlockVersion,
  type BulkRule,
  bulkRuleDefaults,
  decodeChannelConfig,
  type EndorserTransaction,
  headerTypes,
  IdentityVerifier,
  type MspConfig,
  type Position,
  readEnvelopeHead,
  sha256,
  stateKey,
  verdicts,
} from '../model/index.ts';
import { configKey, configNamespace } from '../replica/index.ts';
import {
  PendingUpdate,
  type RecordedUpdate,
  type Row,
  recordedUpdateOf,
  StateTree,
  type StateWrite,
} from '../state/index.ts';
import { attestationOf, verifyAttestation } from './attestation.ts';
import { lengthPrefix, segmentFrames, segmentHeights, segmentName } from './block-files.ts';
import type { BlockProof } from './block-proof.ts';
import type { ChainPoint } from './builder.ts';
import { BulkSwitch } from './bulk-switch.ts';
import {
  type BlockHeader,
  type BlockParts,
  type CommittedWrite,
  commitHash,
  dataHash,
  decodeBlock,
  decodeOrdererMetadata,
  decodeSignedMetadata,
  encodeBlock,
  encodeOrdererMetadata,
  encodeSignedMetadata,
  headerHash,
  metadataIndex,
} from './fabric/block.ts';
import { readConfigJson } from './fabric/config-envelope.ts';
import { HistoryFrontier, historyLeafHash } from './history-tree.ts';
import { verifyEnvelope } from './verify-envelope.ts';

/** Settings of {@link verifyChain}. */
export interface VerifyOptions {
  /**
   * Whom to believe for block signatures at the start; later the chain's own configurations say.
   * Without it the first block's configuration is believed: compare its MSPs yourself.
   */
  readonly msps?: readonly MspConfig[];
  /** Signatures of different members that every block must have. Default 1. */
  readonly signaturesMin?: number;
  /** Buckets of the state tree that is kept, 2^n; fewer make a small chain quicker. Default 16. */
  readonly bucketBits?: number;
  /** A further check of every block that holds otherwise, such as a `ChainExecution`. */
  readonly also?: { next(block: Buffer): Promise<void> };
  /** Hears of every subtree of the history tree that a block completes on a kept level. */
  readonly onHistory?: (level: number, hash: Buffer) => void;
  /** Hears of every block that holds. */
  readonly onBlock?: (height: number) => void;
}

/** Where a chain is broken. */
export interface ChainProblem {
  readonly file: string;
  /** Byte in the file at which the block begins. */
  readonly offset: number;
  readonly height: number;
  /** Number in the block, where one transaction can be named. */
  readonly transaction?: number;
  readonly what: string;
}

/** What {@link verifyChain} found. Everything before `problem` holds. */
export interface ChainReport {
  readonly problem: ChainProblem | undefined;
  /** Blocks that hold. */
  readonly height: number;
  readonly records: number;
  /** Records whose verdict is valid. */
  readonly valid: number;
  readonly channel: string;
  /** Hexadecimal, after the last block that holds. */
  readonly blockHash: string;
  readonly stateRoot: string;
  readonly historyRoot: string;
}

/**
 * Checks a chain from its block files alone. For every block, from number 0 on:
 *
 * 1. The bytes are exactly one canonical block; the number is next; `previous_hash` is the hash of
 *    the header before; `data_hash` is the hash of the envelopes.
 * 2. Members of the channel's MSPs signed header and metadata.
 * 3. Every valid transaction is signed by its creator, with the id and proposal hash that follow.
 * 4. Every valid transaction read the versions that were current before it.
 * 5. The history root, the state root and Fabric's commit hash follow from the transactions and
 *    their validation codes.
 *
 * So any changed byte of a block is found, in its block or, if a signing generator lied, by
 * recomputation. Keeps a tree of all keys in memory: about 200 bytes per key.
 */
export async function verifyChain(
  disk: Disk,
  directory: string,
  options: VerifyOptions = {},
): Promise<ChainReport> {
  const verification = new ChainVerification(options);
  let problem: ChainProblem | undefined;
  let held = verification.summary();
  for (const firstHeight of segmentHeights(await disk.list(directory))) {
    const file = segmentName(firstHeight);
    const bytes = (await disk.readFile(`${directory}/${file}`)) ?? Buffer.alloc(0);
    let next = 0;
    try {
      if (firstHeight !== held.height) fail(`the file before block ${firstHeight} is missing`);
      for (const frame of segmentFrames(bytes)) {
        const prefix = lengthPrefix(frame.bytes.length).length;
        if (frame.offset - prefix !== next) fail('the length is not canonical');
        verification.next(frame.bytes);
        await options.also?.next(frame.bytes);
        held = verification.summary();
        options.onBlock?.(held.height - 1);
        next = frame.offset + frame.bytes.length;
      }
    } catch (thrown) {
      const error = toDaybookError(thrown);
      const { transaction } = error.details;
      problem = {
        file,
        offset: next,
        height: held.height,
        ...(typeof transaction === 'number' ? { transaction } : {}),
        what: error.message,
      };
      break;
    }
  }
  return { problem, ...held };
}

/** The checks of {@link verifyChain}, block by block. */
export class ChainVerification {
  readonly #options: VerifyOptions;
  readonly #tree: StateTree;
  readonly #versions = new Map<Bytestring, BlockVersion>();
  readonly #history = new HistoryFrontier();
  /** All rows, as bulk updates need them. */
  readonly #rows = new Map<Bytestring, Row>();
  readonly #bulk = new BulkSwitch();
  /** Rows that each pending bulk update changed. */
  readonly #updatedRows = new Map<Position, Row[]>();
  #rule: BulkRule | undefined;
  #verifier: IdentityVerifier | undefined;
  #channel = '';
  #configJson = '';
  #configs = 0;
  #header: BlockHeader | undefined;
  #lastConfig = 0;
  #end = 0;
  #commitHash: Buffer = Buffer.alloc(0);
  #stateRoot: Buffer = Buffer.alloc(0);
  #valid = 0;

  constructor(options: VerifyOptions = {}) {
    this.#options = options;
    this.#tree = new StateTree({ bucketBits: options.bucketBits ?? 16 });
    if (options.msps !== undefined) this.#verifier = new IdentityVerifier(options.msps);
  }

  /** Blocks that hold so far. */
  get height(): number {
    return this.#header === undefined ? 0 : this.#header.number + 1;
  }

  /** Where the chain stands behind the blocks that hold. */
  get point(): ChainPoint {
    return {
      height: this.height,
      position: this.#end as Position,
      hash: this.#header === undefined ? Buffer.alloc(0) : headerHash(this.#header),
      commitHash: this.#commitHash,
      historySize: this.#history.size,
      historyEdge: this.#history.edge,
      lastConfig: this.#lastConfig,
      configJson: this.#configJson,
    };
  }

  /** The state behind them, without the rows of pending bulk updates. */
  get tree(): StateTree {
    return this.#tree;
  }

  /** Bulk updates that the last state root covers as pending, ascending. */
  get pendingUpdates(): readonly Position[] {
    return this.#bulk.positions;
  }

  /** Rows that a pending bulk update changed. */
  rowsOf(update: Position): readonly Row[] {
    return this.#updatedRows.get(update) ?? [];
  }

  /** Appends the pending bulk updates, for a checkpoint. */
  encodePending(writer: ByteWriter): void {
    this.#bulk.encode(writer);
  }

  summary(): Omit<ChainReport, 'problem'> {
    return {
      height: this.height,
      records: this.#history.size,
      valid: this.#valid,
      channel: this.#channel,
      blockHash: this.#header === undefined ? '' : headerHash(this.#header).toString('hex'),
      stateRoot: this.#stateRoot.toString('hex'),
      historyRoot: this.#history.root().toString('hex'),
    };
  }

  /**
   * Checks the next block.
   *
   * @throws {DaybookError} `PROOF_INVALID` or `MALFORMED` saying what does not hold, with
   *   `details.transaction` where one can be named. The verification cannot go on then.
   */
  next(bytes: Buffer): void {
    const block = decodeBlock(bytes);
    this.#checkForm(block, bytes);
    this.#checkHeader(block);
    const config = this.#configOf(block);
    if (config !== undefined && this.#verifier === undefined) {
      this.#verifier = new IdentityVerifier(config.msps);
    }
    if (this.#verifier === undefined) fail('a chain begins with a configuration');
    const verifier = this.#verifier as IdentityVerifier;
    const signaturesMin = this.#options.signaturesMin ?? 1;
    const proof = verifyAttestation(attestationOf(bytes), { msps: [], signaturesMin }, verifier);
    this.#checkCover(block, proof);
    const writes = new Map<Bytestring, CommittedWrite & { readonly version: Position }>();
    const updates: RecordedUpdate[] = [];
    if (config !== undefined) {
      this.#appendHistory(block, proof, 0, Buffer.alloc(32));
      this.#channel = config.channel;
      this.#configJson = config.json;
      this.#rule = config.bulk;
      this.#verifier = new IdentityVerifier(config.msps);
      this.#lastConfig = block.header.number;
      this.#configs++;
      this.#write(writes, block, proof, 0, [
        {
          namespace: configNamespace,
          writes: [{ key: configKey, value: bytestringOfText(config.json) }],
        },
      ]);
    } else this.#transactions(block, proof, verifier, writes, updates);
    this.#checkRoots(block, proof, writes, updates);
    this.#header = block.header;
    this.#end = proof.end;
  }

  /** Nothing in the bytes but what the decoded form says. */
  #checkForm(block: BlockParts, bytes: Buffer): void {
    if (!encodeBlock(block).equals(bytes)) fail('the block is not in canonical form');
    const { metadata } = block;
    const signed = decodeSignedMetadata(metadata[metadataIndex.signatures] ?? Buffer.alloc(0));
    const orderer = decodeOrdererMetadata(signed.value);
    const value = encodeOrdererMetadata(orderer.lastConfig, orderer.consenterMetadata);
    const canonical =
      metadata.length === 5 &&
      metadata[metadataIndex.lastConfig]?.length === 0 &&
      metadata[metadataIndex.orderer]?.length === 0 &&
      value.equals(signed.value) &&
      encodeSignedMetadata(signed).equals(metadata[metadataIndex.signatures] as Buffer);
    if (!canonical) fail('the metadata are not in canonical form');
  }

  #checkHeader({ header, envelopes }: BlockParts): void {
    if (header.number !== this.height) fail(`block ${header.number} stands in its place`);
    const previous = this.#header === undefined ? Buffer.alloc(0) : headerHash(this.#header);
    if (!previous.equals(header.previousHash)) fail('the previous hash');
    if (!dataHash(envelopes).equals(header.dataHash)) fail('the data hash');
  }

  #configOf({ header, envelopes }: BlockParts): Config | undefined {
    const head = readEnvelopeHead(envelopes[0] ?? Buffer.alloc(0));
    if (head.type !== headerTypes.config) return undefined;
    const json = readConfigJson(head.data);
    if (json === undefined || envelopes.length !== 1) fail('the configuration');
    const config = decodeChannelConfig(json as string);
    if (config.sequence !== this.#configs) fail('the configuration’s sequence number');
    if (header.number > 0 && config.channel !== this.#channel) fail('the channel');
    return { ...config, json: json as string };
  }

  #checkCover(block: BlockParts, proof: BlockProof): void {
    const { lastConfig } = decodeOrdererMetadata(
      decodeSignedMetadata(block.metadata[0] as Buffer).value,
    );
    const isConfig = readEnvelopeHead(block.envelopes[0] as Buffer).type === headerTypes.config;
    if (lastConfig !== (isConfig ? block.header.number : this.#lastConfig)) fail('last_config');
    if (block.header.number > 0 && proof.first !== this.#end) fail('the covered positions');
    const last = proof.positions.at(-1);
    if (proof.positions.length !== block.envelopes.length || last === undefined) {
      fail('the number of positions');
    } else if (last >= proof.end) fail('the covered positions');
    if (block.metadata[metadataIndex.transactionsFilter]?.length !== block.envelopes.length) {
      fail('the number of validation codes');
    }
  }

  #transactions(
    block: BlockParts,
    proof: BlockProof,
    verifier: IdentityVerifier,
    writes: Map<Bytestring, CommittedWrite & { readonly version: Position }>,
    updates: RecordedUpdate[],
  ): void {
    for (const [transaction, envelope] of block.envelopes.entries()) {
      try {
        const head = readEnvelopeHead(envelope);
        this.#appendHistory(block, proof, transaction, Buffer.from(head.txId, 'hex'));
        const code = block.metadata[metadataIndex.transactionsFilter]?.[transaction];
        if (code !== verdicts.valid) continue;
        if (head.channel !== this.#channel) fail('the channel');
        const done = verifyEnvelope(head, verifier);
        this.#checkReads(done);
        const position = proof.positions[transaction] as Position;
        const update = recordedUpdateOf(
          done.sets,
          { position, txId: Buffer.from(head.txId, 'hex'), timestampMs: head.timestampMs },
          (this.#rule ?? bulkRuleDefaults).heavyRowsMin,
        );
        if (update !== undefined) {
          updates.push(update);
          this.#update(update, { block: block.header.number, transaction });
        }
        this.#write(writes, block, proof, transaction, done.sets);
        this.#valid++;
      } catch (thrown) {
        const error = toDaybookError(thrown);
        throw new DaybookError('PROOF_INVALID', error.message, {
          cause: error,
          details: { ...error.details, transaction },
        });
      }
    }
  }

  /** Every row takes the update here at once; the tree gets it when it switches. */
  #update(recorded: RecordedUpdate, place: BlockVersion): void {
    const update = new PendingUpdate(recorded);
    const updated: Row[] = [];
    for (const row of this.#rows.values()) {
      if (!update.covers(row.key)) continue;
      const value = update.valueAfter(row.key, row.value);
      if (value !== undefined) updated.push({ key: row.key, value, version: update.position });
    }
    for (const row of updated) {
      this.#rows.set(row.key, row);
      this.#versions.set(row.key, place);
    }
    this.#updatedRows.set(update.position, updated);
  }

  #appendHistory(block: BlockParts, proof: BlockProof, transaction: number, txId: Buffer): void {
    const leaf = historyLeafHash({
      position: proof.positions[transaction] as Position,
      verdict: block.metadata[metadataIndex.transactionsFilter]?.[transaction] as number,
      txId,
      envelopeHash: sha256(block.envelopes[transaction] as Buffer),
    });
    this.#history.append(leaf, (level, hash) => this.#options.onHistory?.(level, hash));
  }

  #checkReads({ sets }: EndorserTransaction): void {
    for (const { namespace, reads } of sets) {
      for (const { key, version } of reads) {
        const current = this.#versions.get(stateKey(namespace, key));
        const same =
          current?.block === version?.block && current?.transaction === version?.transaction;
        if (!same) fail(`it read a version of ${namespace}/${key} that was not current`);
      }
    }
  }

  #write(
    writes: Map<Bytestring, CommittedWrite & { readonly version: Position }>,
    block: BlockParts,
    proof: BlockProof,
    transaction: number,
    sets: readonly Pick<EndorserTransaction['sets'][number], 'namespace' | 'writes'>[],
  ): void {
    const version = proof.positions[transaction] as Position;
    const place = { block: block.header.number, transaction };
    for (const { namespace, writes: rows } of sets) {
      for (const { key, value } of rows) {
        const whole = stateKey(namespace, key);
        writes.set(whole, { namespace, key, value, ...place, version });
        if (value === undefined) {
          this.#versions.delete(whole);
          this.#rows.delete(whole);
        } else {
          this.#versions.set(whole, place);
          this.#rows.set(whole, { key: whole, value, version });
        }
      }
    }
  }

  #checkRoots(
    block: BlockParts,
    proof: BlockProof,
    writes: ReadonlyMap<Bytestring, CommittedWrite & { readonly version: Position }>,
    updates: readonly RecordedUpdate[],
  ): void {
    if (this.#history.size !== proof.historySize) fail('the history size');
    if (!this.#history.root().equals(proof.historyRoot)) fail('the history root');
    const rows = [...writes].map(
      ([key, { value, version }]): StateWrite => ({ key, value, version }),
    );
    this.#tree.update(rows);
    const switched = this.#bulk.step(block.header.number, updates, this.#rule, rows);
    for (const { position, keeps } of switched) {
      this.#tree.update((this.#updatedRows.get(position) ?? []).filter(({ key }) => keeps(key)));
      this.#updatedRows.delete(position);
    }
    this.#stateRoot = this.#tree.stateRoot(this.#bulk.pendingRoot);
    if (!this.#stateRoot.equals(proof.stateRoot)) fail('the state root');
    const stored = block.metadata[metadataIndex.commitHash] as Buffer;
    if (block.header.number === 0) {
      if (stored.length !== 0) fail('the commit hash');
      return;
    }
    const flags = block.metadata[metadataIndex.transactionsFilter] as Buffer;
    const sorted = [...writes.keys()].sort().map((key) => writes.get(key) as CommittedWrite);
    this.#commitHash = commitHash(flags, sorted, this.#commitHash);
    const expected = encodeSignedMetadata({ value: this.#commitHash, signatures: [] });
    if (!expected.equals(stored)) fail('the commit hash');
  }
}

type Config = ReturnType<typeof decodeChannelConfig> & { readonly json: string };

function fail(what: string): never {
  throw new DaybookError('PROOF_INVALID', `${what} does not hold`, { details: { what } });
}
