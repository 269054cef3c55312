import { ByteWriter } from '../base/index.ts';
import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import { adoptionMethods, unpackBlocks } from './adopt-process.ts';
import { type AdoptionOptions, adoptChain } from './adoption.ts';

/* A process that adopts a chain: started by `adoptChainInProcess`, ends with its parent. */

const io = realIo();
const peer = rpcPeer(parentConnection());
// Ctrl-C reaches the whole process group; the parent decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

peer.handle(adoptionMethods.adopt, async (payload) => {
  const options = JSON.parse(payload.toString('utf8')) as AdoptionOptions;
  const height = await adoptChain(io, options, async (from) =>
    unpackBlocks(await peer.call(adoptionMethods.fetch, [new ByteWriter(8).u64(from).view()])),
  );
  return [new ByteWriter(8).u64(height).view()];
});
