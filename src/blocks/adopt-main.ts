import { parentConnection, realIo, rpcPeer } from '../io/index.ts';
import { serveAdoption } from './adopt-process.ts';
import { adoptChain } from './adoption.ts';
import { mendAsWritten } from './as-written.ts';

/* A process that adopts a chain: started by `adoptChainInProcess`, ends with its parent. */

const io = realIo();
// Ctrl-C reaches the whole process group; the parent decides when we stop.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);

serveAdoption(rpcPeer(parentConnection()), {
  adopt: (options, fetch) => adoptChain(io, options, fetch),
  mend: (options, fetch) => mendAsWritten(io, options, fetch),
});
