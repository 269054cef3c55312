import { expect, it } from 'vitest';
import { etcdBench } from '../../bench/etcd.bench.ts';
import { etcdAvailable } from '../etcd/cluster.ts';

it.skipIf(!etcdAvailable())('runs the etcd bench in its small mode', async () => {
  const settings = { members: 1, entryBytesMax: 1024, inFlightMax: 32, caseMs: 200 };
  const { cases } = await etcdBench(settings, () => undefined);
  expect(cases).toHaveLength(2);
  for (const row of cases) {
    expect(row.entriesPerSecond).toBeGreaterThan(10);
    expect(row.bareEntriesPerSecond).toBeGreaterThan(10);
  }
});
