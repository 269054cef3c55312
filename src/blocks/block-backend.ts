import { type Bytestring, DaybookError, limits, toDaybookError } from '../base/index.ts';
import type { Io, Timer } from '../io/index.ts';
import {
  type Address,
  type BlockVersion,
  type Identity,
  type Position,
  type Signer,
  signerFromPem,
  type TxId,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { lmdbStores, type StateProofPath, type StateReader, type Stores } from '../state/index.ts';
import { type AttestationJson, attestationOf, attestationToJson } from './attestation.ts';
import { type BlockSweep, startBlockSweep } from './block-sweep.ts';
import {
  type BlockGenerator,
  type BlockGeneratorOptions,
  openBlockGenerator,
} from './generator.ts';
import { makeReceipt, type Receipt } from './receipt.ts';
import { signedPart } from './root-statement.ts';
import { type RowDamage, Scrub, type ScrubProgress } from './scrub.ts';
import { blockDigest } from './seed-chain.ts';

/** Where a chain stands. */
export interface BlockStatus {
  /** Number of blocks. */
  readonly height: number;
  /** Everything in the log before this position is in blocks. */
  readonly position: Position;
  readonly records: number;
  /** Hexadecimal. */
  readonly blockHash: string;
  readonly stateRoot: string;
  /** Position of a bulk update whose rows the next block needs and the state has not all updated. */
  readonly waitingFor?: Position;
  /** Every record before this position is in a block, see `BlockGenerator.covered`. */
  readonly covered?: Position;
  /** Bulk updates that the state root covers as pending. */
  readonly pendingUpdates?: number;
  /** The first stored block that is known to be damaged. */
  readonly damaged?: number;
  /** See `BlockGenerator.isRemaking`. */
  readonly remakes?: true;
  /** Times that a sweep has read all stored blocks, see `startBlockSweep`. */
  readonly sweeps?: number;
  /** How far the comparison of the state's rows with the state tree has come. */
  readonly scrub?: ScrubProgress;
}

/** What a state tree knows of a key after the newest block, see `completeStateProof`. */
export interface KeyPath {
  readonly path: StateProofPath;
  /** End of the newest block: the row wanted is the newest version before it. */
  readonly position: Position;
  readonly block: AttestationJson;
  /** Bulk updates that the block's state root covers as pending, ascending. */
  readonly pending: readonly Position[];
  /** The root over them, hexadecimal. */
  readonly pendingRoot: string;
}

/** A generator, here or in another process. One `push` at a time. */
export interface BlockBackend {
  /** Address of the entry to hand in first. */
  readonly nextAddress: Address;
  /** Where the state must begin whose rows of bulk updates the next blocks need; at most `nextAddress`. */
  readonly rowsFrom: Address;
  /** Where the replica's state keeps the rows that bulk updates changed (`State.bulkDirectory`). */
  useBulkDirectory?(directory: string): Promise<void>;
  /** Takes the next entries; resolves when the blocks that they complete are stored. */
  push(entries: readonly AppliedEntry[]): Promise<BlockStatus>;
  status(): Promise<BlockStatus>;
  /**
   * Makes the blocks durable if they reach `wanted`.
   *
   * @returns see `BlockGenerator.savedTo`.
   * @throws {DaybookError} `STATE_DAMAGED` when one of them was found damaged.
   */
  save(wanted: Address): Promise<Address>;
  /** @throws {DaybookError} `NOT_FOUND`, `STATE_DAMAGED` */
  block(height: number): Promise<Buffer>;
  /**
   * What this node says about its state after `height` blocks, signed.
   *
   * @throws {DaybookError} `NOT_FOUND`: no such block, or nobody to sign.
   */
  statement(height: number): Promise<AttestationJson>;
  /** `blockDigest`s of at most `blockDigestsMax` blocks, 32 bytes each, as far as there are any. */
  digests(from: number, count: number): Promise<Buffer>;
  /** @throws {DaybookError} `TRANSACTION_UNKNOWN` */
  receipt(txId: TxId): Promise<Receipt>;
  keyPath(key: Bytestring): Promise<KeyPath>;
  /** See `BlockGenerator.placeOf`; `null` where that has no answer (yet). */
  placesOf(positions: readonly Position[]): Promise<readonly (BlockVersion | null)[]>;
  /** Saves and closes. */
  close(): Promise<void>;
  /** Called once when its process has ended, if it has one. */
  onExit?(listener: (reason: string) => void): void;
}

/** Settings of a backend that can travel to another process. */
export interface BlockBackendOptions
  extends Omit<BlockGeneratorOptions, 'io' | 'signer' | 'buckets'> {
  /** Who signs the blocks; without it they carry no signature. */
  readonly signer?: { readonly identity: Identity; readonly privateKeyPem: string };
  /** Compares the rows of the state in this directory with the state tree, round and round. */
  readonly scrub?: ScrubSettings;
  /** Reads all stored blocks at this pace, round and round, see `startBlockSweep`; 0: it does not. */
  readonly sweepBytesPerS?: number;
}

/** See `Scrub`. */
export interface ScrubSettings {
  readonly stateDirectory: string;
  readonly rowsPerS: number;
}

/**
 * A generator in this process.
 *
 * @throws {DaybookError} `LOG_LOCKED` while another process has the directory: one that lost its
 *   parent may not have ended yet.
 */
export async function openLocalBlocks(
  io: Pick<Io, 'disk' | 'timers'>,
  options: BlockBackendOptions,
): Promise<BlockBackend> {
  const { signer: files, scrub: settings, sweepBytesPerS = 0, ...rest } = options;
  const signer = files && signerFromPem(files.identity, files.privateKeyPem);
  await io.disk.makeDirectory(options.directory);
  const lock = await io.disk.lock(options.directory);
  try {
    const generator = await openBlockGenerator({
      ...rest,
      io,
      ...(signer === undefined ? {} : { signer }),
    });
    const scrub = settings === undefined ? undefined : startScrub(io, generator, settings);
    const sweep = sweepBytesPerS > 0 ? startBlockSweep(io, generator, sweepBytesPerS) : undefined;
    const backend = localBlocks(generator, signer, scrub, sweep);
    return {
      ...backend,
      close: async () => {
        scrub?.close();
        await sweep?.close();
        await backend.close();
        await lock.release();
      },
    };
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** The backend of an open generator. */
export function localBlocks(
  generator: BlockGenerator,
  signer?: Signer,
  scrub?: Pick<RunningScrub, 'progress'>,
  sweep?: Pick<BlockSweep, 'passes'>,
): BlockBackend {
  const status = async (): Promise<BlockStatus> => {
    const { point, waitingFor } = generator;
    const { damaged } = generator.store;
    return {
      height: point.height,
      position: point.position,
      records: point.historySize,
      blockHash: Buffer.from(point.hash).toString('hex'),
      stateRoot: generator.stateRoot.toString('hex'),
      ...(waitingFor === undefined ? {} : { waitingFor }),
      covered: generator.covered,
      pendingUpdates: generator.pending.updates.length,
      ...(damaged === undefined ? {} : { damaged }),
      ...(generator.isRemaking ? { remakes: true } : {}),
      ...(scrub === undefined ? {} : { scrub: scrub.progress() }),
      ...(sweep === undefined ? {} : { sweeps: sweep.passes }),
    };
  };
  // What is saved while a block is being made would be ahead of the stored blocks.
  let turn: Promise<unknown> = Promise.resolve();
  const alone = <T>(work: () => Promise<T>): Promise<T> => {
    const done = turn.then(work);
    turn = done.catch(() => undefined);
    return done;
  };
  return {
    nextAddress: generator.nextAddress,
    rowsFrom: generator.rowsFrom,
    useBulkDirectory: async (directory) => generator.useBulkDirectory(directory),
    push: (entries) =>
      alone(async () => {
        await generator.push(entries);
        return status();
      }),
    status,
    save: (wanted) => alone(() => generator.save(wanted)),
    block: (height) => generator.store.block(height),
    statement: async (height) => {
      if (signer === undefined) throw new DaybookError('NOT_FOUND', 'this node signs no blocks');
      return signedPart(await generator.store.block(height - 1), signer);
    },
    digests: async (from, count) => {
      const digests: Buffer[] = [];
      const end = Math.min(from + Math.min(count, limits.blockDigestsMax), generator.store.height);
      for (let at = from; at < end; at++) {
        digests.push(blockDigest(await generator.store.block(at)));
      }
      return Buffer.concat(digests);
    },
    receipt: (txId) => makeReceipt(generator, txId),
    keyPath: async (key) => {
      const { point, store, tree } = generator;
      if (point.height === 0) throw new DaybookError('PROOF_NOT_READY', 'there is no block yet');
      if (point.height > generator.stored.height) {
        throw new DaybookError('PROOF_NOT_READY', 'the newest block is not stored yet');
      }
      // The path is taken at once: blocks may be added while the block is read.
      const path = tree.path(key);
      const { updates, root } = generator.pending;
      const block = await store.block(point.height - 1);
      return {
        path,
        position: point.position,
        block: attestationToJson(attestationOf(block)),
        pending: updates,
        pendingRoot: root.toString('hex'),
      };
    },
    placesOf: async (positions) => positions.map((one) => generator.placeOf(one) ?? null),
    close: () => alone(() => generator.close()),
  };
}

/** A scrub that goes on by itself. */
export interface RunningScrub {
  progress(): ScrubProgress;
  close(): void;
}

const scrubStepMs = 100;

/** Compares rows at a steady pace, a few at a time; begins when there is a state to read. */
export function startScrub(
  io: Pick<Io, 'timers'>,
  generator: BlockGenerator,
  { stateDirectory, rowsPerS }: ScrubSettings,
  { openReader }: Pick<Stores, 'openReader'> = lmdbStores,
): RunningScrub {
  let reader: StateReader | undefined;
  let scrub: Scrub | undefined;
  let timer: Timer | undefined;
  let unreadable: RowDamage | undefined;
  const step = (): void => {
    if (scrub === undefined) {
      try {
        reader = openReader(stateDirectory);
        scrub = new Scrub(reader, () => ({
          tree: generator.tree,
          covered: generator.covered,
          pending: generator.pending.updates,
        }));
      } catch {
        // Not made yet; the next step tries again.
      }
    }
    try {
      scrub?.step(Math.max(1, Math.round((rowsPerS * scrubStepMs) / 1000)));
    } catch (error) {
      unreadable = { kind: 'unreadable', keyHash: '', reason: toDaybookError(error).message };
      return;
    }
    timer = io.timers.after(scrubStepMs, step);
  };
  timer = io.timers.after(scrubStepMs, step);
  return {
    progress: () => ({
      ...(scrub?.progress ?? { passes: 0, rows: 0 }),
      ...(unreadable === undefined ? {} : { damage: unreadable }),
    }),
    close: () => {
      timer?.cancel();
      reader?.close();
    },
  };
}
