import { expect, it } from 'vitest';
import { clusterBench } from '../../bench/cluster.bench.ts';
import { etcdAvailable } from '../etcd/cluster.ts';

it.skipIf(!etcdAvailable())(
  'runs the cluster bench in its small mode',
  async () => {
    const { rows, failoverMs } = await clusterBench(
      { keys: 100, seconds: 1, inFlight: 20, executorsMax: 1, members: 1, kills: 1 },
      () => undefined,
    );
    expect(rows).toHaveLength(1);
    expect(rows[0]?.tps).toBeGreaterThan(1);
    expect(failoverMs).toHaveLength(1);
  },
  90_000,
);
