import { crc32 } from 'node:zlib';
import { DaybookError } from '../base/index.ts';
import { type Io, whileLocked } from '../io/index.ts';
import type { MspConfig } from '../model/index.ts';
import { attestationOf, verifyAttestation } from './attestation.ts';
import { type BlockStore, openBlockStore } from './block-store.ts';
import { unlessDamaged } from './damaged-blocks.ts';
import {
  type BlockParts,
  dataHash,
  decodeBlock,
  decodeSignedMetadata,
  encodeBlock,
  encodeSignedMetadata,
  headerHash,
  metadataIndex,
} from './fabric/block.ts';
import { HistoryFiles } from './history-files.ts';
import { indexedFields, readProof } from './segment-files.ts';
import type { BlockPlace } from './segment-index.ts';
import { leafHashes } from './stored-history.ts';

/** Settings of {@link mendAsWritten}. */
export interface AsWrittenOptions {
  /** Directory of a generator; nobody else may use it meanwhile. */
  readonly directory: string;
  /** Whom to believe for signatures. */
  readonly msps: readonly MspConfig[];
}

/**
 * Mends damaged blocks with other nodes' without a look at the rest of the chain, which would take 160 µs
 * a transaction. Blocks of different nodes differ in their signatures only, so another node's with the
 * signatures that are left of one's own is what was written: its checksum says so. Checksums are for disks, not for
 * people, hence what can be compared is: signatures, the header with the next block's, and what became of
 * each record with the history tree.
 *
 * @returns number of blocks, all of which are whole.
 * @throws {DaybookError} `STATE_DAMAGED`: some cannot be mended so; those that could are.
 */
export async function mendAsWritten(
  { disk }: Pick<Io, 'disk'>,
  { directory, msps }: AsWrittenOptions,
  blocksFrom: (height: number) => Promise<readonly Buffer[]>,
): Promise<number> {
  return await whileLocked(disk, directory, async () => {
    const store = await openBlockStore({ disk, directory: `${directory}/blocks` });
    const history = await HistoryFiles.open(disk, directory);
    try {
      // From behind: each is compared with the next one.
      for (const height of store.damagedBlocks.reverse()) {
        const [other] = await blocksFrom(height);
        const bytes = other && (await written(store, history, height, other, msps));
        if (bytes === undefined) {
          throw new DaybookError('STATE_DAMAGED', `block ${height} is not what others have`, {
            details: { what: 'block', height },
          });
        }
        await store.mend(height, { bytes, ...indexedFields(decodeBlock(bytes)) });
      }
      await store.sync();
      return store.height;
    } finally {
      await store.close();
      await history.close();
    }
  });
}

/** `undefined`: it cannot be told, or is not so. */
async function written(
  store: BlockStore,
  history: HistoryFiles,
  height: number,
  other: Buffer,
  msps: readonly MspConfig[],
): Promise<Buffer | undefined> {
  const next = height + 1 < store.height && (await unlessDamaged(store.block(height + 1)));
  if (!next) return undefined;
  try {
    const { place, bytes: rotted } = await store.rotted(height);
    const bytes = fits(place, other) ? other : withSignaturesOf(rotted, other);
    if (!fits(place, bytes)) return undefined;
    const block = decodeBlock(bytes);
    verifyAttestation(attestationOf(bytes), { msps });
    const { previousHash } = decodeBlock(next).header;
    const holds =
      headerHash(block.header).equals(previousHash) &&
      dataHash(block.envelopes).equals(block.header.dataHash) &&
      (await isInHistory(block, history));
    return holds ? bytes : undefined;
  } catch {
    // Bytes of somebody else, or that rotted, may break any rule.
    return undefined;
  }
}

function fits({ length, sum }: BlockPlace, bytes: Buffer): boolean {
  return bytes.length === length && crc32(bytes) === sum;
}

function withSignaturesOf(rotted: Buffer, other: Buffer): Buffer {
  const { signatures } = decodeSignedMetadata(signedPartOf(decodeBlock(rotted)));
  const block = decodeBlock(other);
  const { value } = decodeSignedMetadata(signedPartOf(block));
  const signed = encodeSignedMetadata({ value, signatures });
  return encodeBlock({
    ...block,
    metadata: block.metadata.with(metadataIndex.signatures, signed),
  });
}

function signedPartOf({ metadata }: BlockParts): Buffer {
  return metadata[metadataIndex.signatures] as Buffer;
}

/** Its records are those of the own history, with the same verdicts. */
async function isInHistory(block: BlockParts, history: HistoryFiles): Promise<boolean> {
  const proof = readProof(block);
  const leaves = leafHashes(block, proof);
  const own = await history.read(0, proof.historySize - leaves.length, leaves.length);
  return leaves.every((leaf, at) => leaf.equals(own[at] as Buffer));
}
