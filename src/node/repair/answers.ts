import { join } from 'node:path';
import { DaybookError, isDaybookError } from '../../base/index.ts';
import {
  attestationFromJson,
  type BlockService,
  decodeBlockProof,
  decodeOrdererMetadata,
} from '../../blocks/index.ts';
import { type Io, pause } from '../../io/index.ts';
import { type Address, asAddress, positionOf } from '../../model/index.ts';
import { type State, writeBlockEndSnapshot } from '../../state/index.ts';
import type { Guard } from './guard.ts';
import type { NodeAnswers, SnapshotOffer } from './other-nodes.ts';

/** Settings of {@link nodeAnswers}. */
export interface NodeAnswersOptions {
  readonly io: Pick<Io, 'disk' | 'timers'>;
  readonly name: string;
  readonly channel: string;
  /** Of the node. */
  readonly directory: string;
  readonly state: State;
  readonly guard: Guard;
  /** @throws {DaybookError} while it is being opened. */
  readonly blocks: () => Pick<BlockService, 'now' | 'statement' | 'digests' | 'block'>;
}

const pieceBytes = 4 * 1024 * 1024;
const pollMs = 100;
const blockEndWaitMs = 60_000;

/** What a node that serves tells others about its state. */
export function nodeAnswers(options: NodeAnswersOptions): NodeAnswers {
  const { io, name, directory, guard, blocks } = options;
  const path = (address: number): string => join(directory, 'offers', `snapshot-${address}`);
  let writing: Promise<SnapshotOffer> | undefined;
  const heightOf = async (): Promise<number> => (await blocks().now()).height;
  return {
    height: async () => guard.pass(await heightOf()),
    statement: async (height) => {
      guard.check();
      return { node: name, block: await blocks().statement(height) };
    },
    snapshot: async () => {
      guard.check();
      // Several who ask at the same time get the same one.
      writing ??= offer(options, path).finally(() => {
        writing = undefined;
      });
      return await writing;
    },
    snapshotPiece: async (address, offset) => {
      guard.check();
      const file = await io.disk.open(path(address));
      try {
        const bytes = Buffer.allocUnsafe(pieceBytes);
        return bytes.subarray(0, await file.read(bytes, offset));
      } finally {
        await file.close();
      }
    },
    digests: async (from, count) => {
      guard.check();
      return [await blocks().digests(from, count)];
    },
    block: async (height) => guard.pass(await blocks().block(height)),
  };
}

async function offer(
  options: NodeAnswersOptions,
  path: (address: number) => string,
): Promise<SnapshotOffer> {
  const { io, directory, channel, state, blocks } = options;
  const status = await blocks().now();
  if ((status.pendingUpdates ?? 0) > 0 || state.pendingUpdates.length > 0) {
    throw new DaybookError('TIMEOUT', 'a bulk update is under way; ask again later');
  }
  if (status.covered === positionOf(state.nextAddress, 0)) state.noteBlockEnd(state.nextAddress);
  const offers = join(directory, 'offers');
  await io.disk.remove(offers);
  await io.disk.makeDirectory(offers);
  const fresh = join(offers, 'writing');
  const { nextAddress } = await writeBlockEndSnapshot(
    state,
    io.disk,
    fresh,
    channel,
    blockEndWaitMs,
  );
  const address = asAddress(nextAddress);
  await io.disk.rename(fresh, path(address));
  return { address, height: await heightAt(options, address) };
}

/** Number of blocks that hold the records before an address, at which a block ends. */
async function heightAt(options: NodeAnswersOptions, address: Address): Promise<number> {
  const { io, blocks } = options;
  const end = positionOf(address, 0);
  let { height, covered = 0 } = await blocks().now();
  while (covered < end) {
    await pause(io, pollMs);
    ({ height, covered = 0 } = await blocks().now());
  }
  for (; height > 0; height--) {
    try {
      const { metadataValue } = attestationFromJson(await blocks().statement(height));
      const proof = decodeBlockProof(decodeOrdererMetadata(metadataValue).consenterMetadata);
      if (proof.end <= end) return height;
    } catch (error) {
      if (!isDaybookError(error, 'NOT_FOUND')) throw error;
    }
  }
  throw new DaybookError('NOT_FOUND', 'there is no block before the snapshot');
}
