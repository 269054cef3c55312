import { isDaybookError } from '../src/base/index.ts';
import {
  type AdoptionOptions,
  adoptChain,
  blockFiles,
  decodeBlock,
  type FetchBlocks,
  indexedFields,
  openBlockStore,
  unlessDamaged,
} from '../src/blocks/index.ts';
import type { IndexedRecords } from '../src/blocks/segment-index.ts';
import type { Disk } from '../src/io/index.ts';
import type { Mutant } from './mutant.ts';

/** Time to find, to ask others, and to ask again. */
const ticks = 3000;
const world = { log: 'embedded', workload: 'mixed', retention: true, rot: true, ticks } as const;

/** Bugs that show where stored blocks rot, and other nodes hand out what does not hold. */
export const rotMutants: readonly Mutant[] = [
  {
    name: 'hand-out-what-rotted',
    seedsMax: 10,
    shows: 'correctness',
    world,
    store: (store, disk) => {
      const block = store.block.bind(store);
      store.block = async (height) => {
        try {
          return await block(height);
        } catch (error) {
          if (!isDaybookError(error, 'STATE_DAMAGED')) throw error;
          return (await rawBlock(disk, height)) ?? (await block(height));
        }
      };
    },
  },
  {
    name: 'mend-with-whatever-comes',
    seedsMax: 40,
    shows: 'correctness',
    world,
    mend: ({ disk }, options, fetch) => mendUnchecked(disk, options, fetch),
    adopt: async (io, options, fetch, stores) =>
      options.mends === true
        ? await mendUnchecked(io.disk, options, fetch)
        : await adoptChain(io, options, fetch, stores),
  },
];

async function rawBlock(disk: Disk, wanted: number): Promise<Buffer | undefined> {
  let height = 0;
  try {
    for await (const bytes of blockFiles(disk, '/chain/blocks'))
      if (height++ === wanted) return bytes;
  } catch {
    // A length rotted.
  }
  return undefined;
}

async function mendUnchecked(
  disk: Disk,
  { directory }: Pick<AdoptionOptions, 'directory'>,
  fetch: FetchBlocks,
): Promise<number> {
  const store = await openBlockStore({ disk, directory: `${directory}/blocks` });
  for (let height = 0; height < store.height; ) {
    if ((await unlessDamaged(store.block(height))) !== undefined) height++;
    else {
      const [bytes] = await fetch(height);
      if (bytes !== undefined) await store.mend(height, { bytes, ...fieldsOf(bytes) });
    }
  }
  await store.close();
  return store.height;
}

function fieldsOf(bytes: Buffer): IndexedRecords {
  try {
    return indexedFields(decodeBlock(bytes));
  } catch {
    return { positions: [], txIds: [] };
  }
}
