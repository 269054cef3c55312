import { bytestringOf, DaybookError } from '../base/index.ts';
import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import type { Position } from '../model/index.ts';
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

peer.handle(blockMethods.open, async (payload) => {
  backend = await openLocalBlocks(io, JSON.parse(payload.toString()) as BlockBackendOptions);
  return json(backend.nextAddress);
});
peer.handle(blockMethods.push, async (payload) =>
  json(await opened().push(decodeApplied(payload))),
);
peer.handle(blockMethods.useBulkDirectory, async (payload) => {
  await opened().useBulkDirectory?.(JSON.parse(payload.toString()) as string);
  return [];
});
peer.handle(blockMethods.status, async () => json(await opened().status()));
peer.handle(blockMethods.block, async (payload) => [
  await opened().block(Number(payload.toString())),
]);
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
