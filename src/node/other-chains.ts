import { isDaybookError } from '../base/index.ts';
import { unpackBlocks } from '../blocks/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { EtcdLog } from '../log/index.ts';
import type { Member } from './members.ts';
import type { OtherChains } from './node-blocks.ts';
import { remoteOrders } from './private-service.ts';

const retryMs = 500;

/**
 * The chains of the other members of a cluster, over the private network. Asks those first that say
 * they hold most.
 */
export function otherChains(
  io: Pick<Io, 'network' | 'timers'>,
  log: EtcdLog,
  others: () => readonly Member[],
): OtherChains {
  const distrusted = new Set<string>();
  let last: string | undefined;
  const trusted = (): Member[] =>
    others()
      .filter(({ name }) => !distrusted.has(name))
      .sort((a, b) => (b.held ?? 0) - (a.held ?? 0));
  return {
    logStart: () => log.start(),
    fetch: async (from) => {
      for (const { name, address } of trusted()) {
        try {
          const blocks = unpackBlocks(await remoteOrders(io, address).blocks(from));
          last = name;
          if (blocks.length > 0) return blocks;
        } catch (error) {
          // It is away, or has no chain: the next one.
          if (!isDaybookError(error)) throw error;
        }
      }
      // They have not come so far, or none is there: blocks are late, never lost.
      await pause(io, retryMs);
      return [];
    },
    distrustLast: () => {
      if (last !== undefined) distrusted.add(last);
      last = undefined;
      return trusted().length > 0;
    },
  };
}
