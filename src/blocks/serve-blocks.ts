import { bytestringOf, DaybookError } from '../base/index.ts';
import type { RpcPeer } from '../io/index.ts';
import { asAddress, type Position } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { decodeApplied } from './applied-frames.ts';
import type { BlockBackend, BlockBackendOptions } from './block-backend.ts';
import { blockMethods, json, keyPathToJson } from './block-process.ts';

/** What a block process is made of; see {@link serveBlocks}. */
export interface ServedBlocks {
  readonly open: (options: BlockBackendOptions) => Promise<BlockBackend>;
  /** The entries that the generator gets instead of those that came. */
  readonly entries?: (entries: AppliedEntry[]) => AppliedEntry[];
}

/** Answers the parent of a block process: the other end of `startBlockProcess`. */
export function serveBlocks(peer: RpcPeer, { open, entries }: ServedBlocks): void {
  let backend: BlockBackend | undefined;
  const opened = (): BlockBackend => {
    if (backend === undefined) throw new DaybookError('CLOSED', 'the generator is not open');
    return backend;
  };
  peer.handle(blockMethods.open, async (payload) => {
    backend = await open(JSON.parse(payload.toString()) as BlockBackendOptions);
    return json([backend.nextAddress, backend.rowsFrom]);
  });
  peer.handle(blockMethods.push, async (payload) => {
    const pushed = decodeApplied(payload);
    return json(await opened().push(entries?.(pushed) ?? pushed));
  });
  peer.handle(blockMethods.useBulkDirectory, async (payload) => {
    await opened().useBulkDirectory?.(JSON.parse(payload.toString()) as string);
    return [];
  });
  peer.handle(blockMethods.status, async () => json(await opened().status()));
  peer.handle(blockMethods.save, async (payload) =>
    json(await opened().save(asAddress(Number(payload.toString())))),
  );
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
}
