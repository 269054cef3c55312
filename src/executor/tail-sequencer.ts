import type { SharedLog } from '../log/index.ts';
import { type Address, nextAddress } from '../model/index.ts';
import type { Sequencer } from '../sequencer/index.ts';

/**
 * Does without a sequencer: every group is sent to the log's tail, whoever gets there first has
 * the address, and conflicts show at replay (invariant I3).
 */
export function tailSequencer(log: SharedLog): Sequencer {
  let next: Address | undefined;
  return {
    request: async ({ count }) => {
      const [tail, epoch] = await Promise.all([log.tail(), log.epoch()]);
      // Own writes that are under way are not at the tail yet.
      const address = next === undefined || tail > next ? tail : next;
      next = nextAddress(address);
      return { token: { epoch, address }, conflicts: new Array<undefined>(count).fill(undefined) };
    },
  };
}
