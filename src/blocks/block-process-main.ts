import { bytestringOf, DaybookError } from '../base/index.ts';
import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import type { Position } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { decodeApplied } from './applied-frames.ts';
import { type BlockBackend, type BlockBackendOptions, openLocalBlocks } from './block-backend.ts';
import { blockMethods, json, keyPathToJson } from './block-process.ts';

/* A block process: started by `startBlockProcess`, ends with its parent. */

const io = realIo();
const peer = rpcPeer(parentConnection());
let backend: BlockBackend | undefined;
// Ctrl-C reaches the whole process group; the parent decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

function opened(): BlockBackend {
  if (backend === undefined) throw new DaybookError('CLOSED', 'the generator is not open');
  return backend;
}

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

peer.handle(blockMethods.open, async (payload) => {
  const options = JSON.parse(payload.toString()) as BlockBackendOptions;
  spoils = spoiledDirectory !== undefined && options.directory.includes(spoiledDirectory);
  backend = await openLocalBlocks(io, options);
  return json(backend.nextAddress);
});
peer.handle(blockMethods.push, async (payload) =>
  json(await opened().push(spoiled(decodeApplied(payload)))),
);
peer.handle(blockMethods.useBulkDirectory, async (payload) => {
  await opened().useBulkDirectory?.(JSON.parse(payload.toString()) as string);
  return [];
});
peer.handle(blockMethods.status, async () => json(await opened().status()));
peer.handle(blockMethods.block, async (payload) => [
  await opened().block(Number(payload.toString())),
]);
peer.handle(blockMethods.statement, async (payload) =>
  json(await opened().statement(Number(payload.toString()))),
);
peer.handle(blockMethods.digests, async (payload) => {
  const [from, count] = JSON.parse(payload.toString()) as [number, number];
  return [await opened().digests(from, count)];
});
peer.handle(blockMethods.receipt, async (payload) =>
  json(await opened().receipt(JSON.parse(payload.toString()) as string)),
);
peer.handle(blockMethods.keyPath, async (payload) =>
  json(keyPathToJson(await opened().keyPath(bytestringOf(payload)))),
);
peer.handle(blockMethods.placesOf, async (payload) =>
  json(await opened().placesOf(JSON.parse(payload.toString()) as Position[])),
);
peer.handle(blockMethods.close, async () => {
  await opened().close();
  backend = undefined;
  return [];
});
