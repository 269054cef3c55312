import { sha256 } from '../model/index.ts';
import type { BlockProof } from './block-proof.ts';
import type { BlockStore } from './block-store.ts';
import type { ChainPoint } from './builder.ts';
import { type BlockParts, decodeBlock, metadataIndex } from './fabric/block.ts';
import type { HistoryFiles } from './history-files.ts';
import { HistoryFrontier, historyLeafHash } from './history-tree.ts';
import { indexedFields, readProof } from './segment-files.ts';

/** What stands in the history tree for each record of a block. */
export function leafHashes(
  block: BlockParts,
  { positions }: Pick<BlockProof, 'positions'>,
): Buffer[] {
  const { txIds } = indexedFields(block);
  const filter = block.metadata[metadataIndex.transactionsFilter] as Buffer;
  return block.envelopes.map((envelope, at) =>
    historyLeafHash({
      position: positions[at] as (typeof positions)[number],
      verdict: filter[at] as number,
      txId: txIds[at] as Buffer,
      envelopeHash: sha256(envelope),
    }),
  );
}

/** Adds a block's records to a history tree. @returns hashes for {@link HistoryFiles.append}. */
export function appendHistory(
  frontier: HistoryFrontier,
  block: BlockParts,
  proof: Pick<BlockProof, 'positions'>,
): { readonly level: number; readonly hash: Buffer }[] {
  const hashes: { level: number; hash: Buffer }[] = [];
  for (const leaf of leafHashes(block, proof)) {
    frontier.append(leaf, (level, hash) => hashes.push({ level, hash }));
  }
  return hashes;
}

/**
 * Makes the files of the history tree again from stored blocks.
 *
 * @returns false: the blocks do not lead to that point.
 * @throws {DaybookError} `STATE_DAMAGED` when one of them is damaged.
 */
export async function remakeHistory(
  history: HistoryFiles,
  store: BlockStore,
  { height, historyEdge }: Pick<ChainPoint, 'height' | 'historyEdge'>,
): Promise<boolean> {
  await history.truncate(0);
  const frontier = new HistoryFrontier();
  for (let at = 0; at < height; at++) {
    const block = decodeBlock(await store.block(at));
    await history.append(appendHistory(frontier, block, readProof(block)));
  }
  const { edge } = frontier;
  return (
    edge.length === historyEdge.length &&
    edge.every((hash, at) => hash.equals(historyEdge[at] as Uint8Array))
  );
}
