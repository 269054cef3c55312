import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { openLocalBlocks } from './block-backend.ts';
import { serveBlocks } from './serve-blocks.ts';

/* A block process: started by `startBlockProcess`, ends with its parent. */

const io = realIo();
// Ctrl-C reaches the whole process group; the parent decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

/**
 * For tests of repair only: DAYBOOK_DEBUG_WRONG_WRITES=PART-OF-A-DIRECTORY:KEY lets the block process
 * of that directory see other values of a key than the log has, always the same ones.
 */
const [spoiledDirectory, spoiledKey] = process.env.DAYBOOK_DEBUG_WRONG_WRITES?.split(':') ?? [];
let spoils = false;

interface SpoiledSet {
  readonly writes: { readonly key: string; value: string }[];
}

function spoiled(entries: AppliedEntry[]): AppliedEntry[] {
  if (!spoils) return entries;
  for (const { record } of entries.flatMap(({ records }) => records)) {
    for (const { writes } of record.sets as unknown as SpoiledSet[]) {
      for (const write of writes) if (write.key === spoiledKey) write.value = 'spoiled';
    }
  }
  return entries;
}

serveBlocks(rpcPeer(parentConnection()), {
  open: (options) => {
    spoils = spoiledDirectory !== undefined && options.directory.includes(spoiledDirectory);
    return openLocalBlocks(io, options);
  },
  entries: spoiled,
});
