import { expect, it } from 'vitest';
import { clusterBench } from '../../bench/cluster.bench.ts';
import { etcdAvailable } from '../etcd/cluster.ts';

it.skipIf(!etcdAvailable())(
  'runs the cluster bench in its small mode',
  async () => {
    const result = await clusterBench(
      {
        keys: 100,
        seconds: 1,
        inFlight: 20,
        executorsMax: 1,
        members: 1,
        kills: 1,
        engineMs: 80,
        contractMs: 1,
        contractCores: 0.5,
      },
      () => undefined,
    );
    expect(result.engine).toHaveLength(5);
    expect(result.engineRatioMin).toBeGreaterThan(0);
    for (const rows of [result.contractBound, result.contractBoundFree, result.commits]) {
      expect(rows).toHaveLength(1);
      expect(rows[0]?.tps).toBeGreaterThan(1);
      expect(rows[0]?.failed).toBe(0);
    }
    // The share was kept to: half a core cannot do more than 500 calls of a millisecond.
    expect(result.contractBound[0]?.tps).toBeLessThan(600);
    expect(result.lone.p50Ms).toBeGreaterThan(0);
    expect(result.failover).toHaveLength(1);
    expect(result.failoverStallMs).toBeGreaterThan(0);
  },
  180_000,
);
