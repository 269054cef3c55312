import { type Bytestring, DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import {
  type Address,
  type BlockVersion,
  type Identity,
  type Position,
  signerFromPem,
  type TxId,
} from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import type { StateProofPath } from '../state/index.ts';
import { type AttestationJson, attestationOf, attestationToJson } from './attestation.ts';
import {
  type BlockGenerator,
  type BlockGeneratorOptions,
  openBlockGenerator,
} from './generator.ts';
import { makeReceipt, type Receipt } from './receipt.ts';

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
  /** Where the replica's state keeps the rows that bulk updates changed (`State.bulkDirectory`). */
  useBulkDirectory?(directory: string): Promise<void>;
  /** Takes the next entries; resolves when the blocks that they complete are stored. */
  push(entries: readonly AppliedEntry[]): Promise<BlockStatus>;
  status(): Promise<BlockStatus>;
  /** @throws {DaybookError} `NOT_FOUND` */
  block(height: number): Promise<Buffer>;
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
}

/**
 * A generator in this process.
 *
 * @throws {DaybookError} `LOG_LOCKED` while another process has the directory: one that lost its
 *   parent may not have ended yet.
 */
export async function openLocalBlocks(
  io: Pick<Io, 'disk'>,
  options: BlockBackendOptions,
): Promise<BlockBackend> {
  const { signer, ...rest } = options;
  await io.disk.makeDirectory(options.directory);
  const lock = await io.disk.lock(options.directory);
  try {
    const generator = await openBlockGenerator({
      ...rest,
      io,
      ...(signer === undefined
        ? {}
        : { signer: signerFromPem(signer.identity, signer.privateKeyPem) }),
    });
    const backend = localBlocks(generator);
    return {
      ...backend,
      close: async () => {
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
export function localBlocks(generator: BlockGenerator): BlockBackend {
  const status = async (): Promise<BlockStatus> => {
    const { point, waitingFor } = generator;
    return {
      height: point.height,
      position: point.position,
      records: point.historySize,
      blockHash: Buffer.from(point.hash).toString('hex'),
      stateRoot: generator.stateRoot.toString('hex'),
      ...(waitingFor === undefined ? {} : { waitingFor }),
    };
  };
  return {
    nextAddress: generator.nextAddress,
    useBulkDirectory: async (directory) => generator.useBulkDirectory(directory),
    push: async (entries) => {
      await generator.push(entries);
      return status();
    },
    status,
    block: (height) => generator.store.block(height),
    receipt: (txId) => makeReceipt(generator, txId),
    keyPath: async (key) => {
      const { point, store, tree } = generator;
      if (point.height === 0) throw new DaybookError('PROOF_NOT_READY', 'there is no block yet');
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
    close: () => generator.close(),
  };
}
