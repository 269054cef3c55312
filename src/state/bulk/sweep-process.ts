import { type Io, rpcPeer } from '../../io/index.ts';
import { decodeSweepSlice, encodeSweepRequest, type Sweeper } from './sweeper.ts';

/** Methods of a sweep process. */
export const sweepMethods = {
  /** `encodeSweepRequest` → `encodeSweepSlice`. */
  slice: 1,
} as const;

/** Rows can wait, commits cannot. */
const niceness = 10;

/**
 * Starts a worker process that reads the store in a state's directory and works out what bulk updates
 * make of its rows. It is started when there is a bulk update, and ended after it.
 *
 * @param stateDirectory - where a store is already.
 */
export function startSweepProcess(io: Pick<Io, 'processes'>, stateDirectory: string): Sweeper {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const child = io.processes.spawn(new URL(`./sweep-process-main.${extension}`, import.meta.url), {
    args: [stateDirectory],
    niceness,
  });
  const peer = rpcPeer(child.connection);
  return {
    slice: async (request) => {
      const answer = await peer.call(sweepMethods.slice, [encodeSweepRequest(request)]);
      return decodeSweepSlice(answer);
    },
    close: () => child.kill(),
  };
}
