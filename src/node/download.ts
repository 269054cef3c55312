import { DaybookError, limits } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { Address } from '../model/index.ts';

/** Another node's snapshots, in pieces. */
export interface SnapshotPieces {
  /** A piece of the snapshot at an address; empty behind its end. */
  snapshotPiece(address: Address, offset: number): Promise<Uint8Array>;
}

/**
 * Fetches another node's snapshot into a file of its own; durable when it resolves. Whether it is
 * whole and right is for the caller to check.
 *
 * @throws {DaybookError} `MALFORMED` when a piece is longer than any node sends; what the node and
 *   the disk throw.
 */
export async function downloadSnapshot(
  io: Pick<Io, 'disk'>,
  node: SnapshotPieces,
  address: Address,
  path: string,
): Promise<void> {
  await io.disk.remove(path);
  const file = await io.disk.open(path, { create: true });
  try {
    for (let offset = 0; ; ) {
      const piece = await node.snapshotPiece(address, offset);
      if (piece.length === 0) break;
      if (piece.length > limits.frameBytesMax) throw new DaybookError('MALFORMED', 'a long piece');
      await file.write([piece], offset);
      offset += piece.length;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
