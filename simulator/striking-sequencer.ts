import type { Sequencer } from '../src/sequencer/index.ts';
import type { Cluster } from './cluster.ts';

/** The same sequencer; {@link Cluster.afterGrant} strikes when it grants. */
export function strikingSequencer(cluster: Cluster, sequencer: Sequencer): Sequencer {
  return {
    request: async (group) => {
      const grant = await sequencer.request(group);
      if (grant.conflicts.some((key) => key !== undefined)) {
        cluster.world.happened('sequencer: a conflict is refused');
      }
      const strike = cluster.afterGrant;
      if (grant.token === undefined || strike === undefined) return grant;
      cluster.afterGrant = undefined;
      strike(group.requester);
      return grant;
    },
  };
}
