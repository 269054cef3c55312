import { DaybookError, toDaybookError } from '../base/index.ts';
import { type Io, whileLocked } from '../io/index.ts';
import {
  type Address,
  addressOf,
  asAddress,
  type MspConfig,
  type Position,
} from '../model/index.ts';
import { lmdbStores, type Stores, writeUpdatedRows } from '../state/index.ts';
import { type BlockStore, openBlockStore } from './block-store.ts';
import { encodeNote } from './chain-note.ts';
import { unlessDamaged } from './damaged-blocks.ts';
import { decodeBlock } from './fabric/block.ts';
import { ownRowsIn } from './generator.ts';
import { HistoryFiles } from './history-files.ts';
import { indexedFields } from './segment-files.ts';
import { ChainVerification } from './verify.ts';

/** So few at a time come only where the others are now. */
const fewBlocks = 8;

/** Settings of {@link adoptChain}. */
export interface AdoptionOptions {
  /** Directory of a generator, see `openBlockGenerator`; nobody else may use it meanwhile. */
  readonly directory: string;
  /** Behind the last record that the generator will not be handed: the chain is wanted so far. */
  readonly target: Position;
  /** The first entry that it can be handed; none before it has records from `target` on. */
  readonly first: Address;
  /** Whom to believe for signatures of the first blocks. */
  readonly msps: readonly MspConfig[];
  /** Only own blocks that do not hold are replaced; where the generator goes on stays as it is. */
  readonly mends?: boolean;
}

/** Blocks from `height` on, in order, as many as come at a time; none when there are no more yet. */
export type FetchBlocks = (height: number) => Promise<readonly Buffer[]>;

/**
 * Brings a chain so far that its generator can go on with a log that has lost its beginning: takes
 * the blocks that it lacks from others, checks the whole chain as `verifyChain` does, own blocks
 * included, and saves a checkpoint behind it. Own blocks that do not hold are replaced, too. What was
 * fetched stays when this is broken off. Needs about 200 bytes of memory per key.
 *
 * @param stores - where the state tree is kept.
 * @returns number of blocks.
 * @throws {DaybookError} `PROOF_INVALID`, `MALFORMED` with `details.height`: a block that was fetched
 *   does not hold; what `blocksFrom` throws.
 */
export async function adoptChain(
  io: Pick<Io, 'disk'>,
  options: AdoptionOptions,
  blocksFrom: FetchBlocks,
  stores: Pick<Stores, 'openBuckets' | 'bucketBits'> = lmdbStores,
): Promise<number> {
  const { directory } = options;
  return await whileLocked(io.disk, directory, async () => {
    const store = await openBlockStore({ disk: io.disk, directory: `${directory}/blocks` });
    try {
      for (;;) {
        const height = await adopt(io, options, store, blocksFrom, stores);
        if (height !== undefined) return height;
      }
    } finally {
      await store.close();
    }
  });
}

/** `undefined`: an own block turned out not to hold; begin again without it. */
async function adopt(
  io: Pick<Io, 'disk'>,
  { directory, target, first, msps, mends = false }: AdoptionOptions,
  store: BlockStore,
  blocksFrom: FetchBlocks,
  { openBuckets, bucketBits }: Pick<Stores, 'openBuckets' | 'bucketBits'>,
): Promise<number | undefined> {
  const history = await HistoryFiles.open(io.disk, directory);
  const buckets = openBuckets(`${directory}/tree`);
  try {
    if (!mends) await history.truncate(0);
    let completed: { level: number; hash: Buffer }[] = [];
    const verification = new ChainVerification({
      msps,
      ...(bucketBits === undefined ? {} : { bucketBits }),
      onHistory: (level, hash) => completed.push({ level, hash }),
    });
    const keepHistory = async (): Promise<void> => {
      if (!mends) await history.append(completed);
      completed = [];
    };
    const take = async (bytes: Buffer): Promise<void> => {
      const { height } = verification;
      try {
        verification.next(bytes);
      } catch (error) {
        throw asOfBlock(error, height);
      }
      await keepHistory();
      const block = decodeBlock(bytes);
      const fields = { bytes, ...indexedFields(block) };
      if (height < store.height) await store.mend(height, fields);
      else await store.append({ header: block.header, ...fields });
    };
    const ownBlock = async (): Promise<Buffer | undefined> =>
      verification.height < store.height
        ? await unlessDamaged(store.block(verification.height))
        : undefined;
    while (verification.height < store.height) {
      const own = await ownBlock();
      if (own === undefined) {
        for (const bytes of await blocksFrom(verification.height)) {
          await take(bytes);
          // Nobody's are better than those that hold.
          if (verification.height === store.height || (await ownBlock()) !== undefined) break;
        }
        continue;
      }
      const { height } = verification;
      try {
        verification.next(own);
      } catch {
        await store.distrust(height);
        return undefined;
      }
      await keepHistory();
    }
    if (mends) {
      await store.sync();
      return verification.height;
    }
    const reached = (): boolean => verification.point.position >= target;
    // As far as others are, for the log goes on losing its beginning meanwhile.
    for (let few = false; !few || !reached(); ) {
      const blocks = await blocksFrom(verification.height);
      for (const bytes of blocks) await take(bytes);
      few = blocks.length <= fewBlocks;
    }
    await store.sync();
    await history.sync();
    await buckets.clear();
    // This node's state may have begun after them: nobody else would give their rows.
    const rows = ownRowsIn(directory);
    await io.disk.makeDirectory(rows);
    for (const position of verification.pendingUpdates) {
      await writeUpdatedRows(io.disk, rows, position, verification.rowsOf(position));
    }
    const { height, point } = verification;
    const next = asAddress(Math.max(first, addressOf(point.position)));
    await buckets.save(verification.tree, encodeNote({ point, next, unmade: [] }, verification));
    return height;
  } finally {
    await buckets.close();
    await history.close();
  }
}

/** Bytes of somebody else may break any rule, so whatever is thrown is about them. */
function asOfBlock(thrown: unknown, height: number): DaybookError {
  const error = toDaybookError(thrown, 'MALFORMED');
  return new DaybookError(error.code, `block ${height}: ${error.message}`, {
    cause: error,
    details: { ...error.details, height },
  });
}
