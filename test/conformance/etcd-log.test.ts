import { afterAll, beforeAll, describe } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import { openEtcdLog } from '../../src/log/index.ts';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { type LogStorage, sharedLogConformance } from './shared-log.ts';

const io = realIo();
let logs = 0;

describe.skipIf(!etcdAvailable()).each([
  { name: 'etcd, three members', unitMembers: [3] },
  { name: 'etcd, two units', unitMembers: [1, 1] },
])('$name', { timeout: 180_000 }, ({ name, unitMembers }) => {
  let clusters: Cluster[];

  beforeAll(async () => {
    clusters = await Promise.all(unitMembers.map((members) => startCluster({ members })));
    for (const cluster of clusters) await cluster.leader();
  }, 30_000);
  afterAll(() => Promise.all(clusters.map((cluster) => cluster.stop())));

  sharedLogConformance(
    name,
    async (): Promise<LogStorage> => {
      const prefix = `log-${logs++}/`;
      return {
        open: () => {
          const units = clusters.map(({ endpoints }) => ({ endpoints }));
          return openEtcdLog(io, { units, prefix });
        },
        destroy: async () => undefined,
      };
    },
    { runs: 15 },
  );
});
