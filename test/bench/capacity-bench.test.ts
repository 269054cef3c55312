import { expect, it } from 'vitest';
import { measureCosts } from '../../bench/capacity/measure-costs.ts';
import type { Costs } from '../../bench/capacity/model.ts';
import { capacityBenchDefaults, capacityGrid } from '../../bench/capacity.bench.ts';
import { etcdAvailable } from '../etcd/cluster.ts';

/** About what two cores gave. */
const costs: Costs = {
  contractUs: 35,
  admissionUs: 30,
  entryUs: 30,
  ownRecordUs: 7,
  foreignRecordUs: 11,
  recordKibUs: 1.5,
  signatureUs: 90,
  sequencerGroupUs: 10,
  sequencerRecordUs: 4,
  unitTransactionUs: 300,
  unitEntryUs: 10,
  unitKibUs: 45,
  unitLatencyUs: 1_500,
};

it('predicts what the simulation finds, and what saturates first', async () => {
  const settings = { ...capacityBenchDefaults, executorsMax: 8, unitsMax: 4 };
  const rows = await capacityGrid(
    costs,
    { ...settings, measuredMs: 100, warmUpMs: 150 },
    () => undefined,
  );
  const bottlenecks = new Map<string, string>();
  for (const row of rows) {
    const name = `${row.load} ${row.executors}x${row.units}`;
    bottlenecks.set(name, row.simulatedBottleneck);
    expect(row.ratio, name).toBeGreaterThan(0.75);
    expect(row.ratio, name).toBeLessThan(1.3);
    expect(row.conflicts, name).toBeLessThan(0.1);
  }
  // One executor is held up by its contracts or its own thread, many by replay; large values by the
  // disks of a lone unit.
  expect(bottlenecks.get('transfers 8x4')).toBe('executor');
  expect(bottlenecks.get('documents 8x1')).toBe('log');
  expect(bottlenecks.get('lone signatures 8x4')).toBe('executor');
});

it.skipIf(!etcdAvailable())('measures every cost', async () => {
  const measured = await measureCosts(
    { seconds: 1, transactions: 2_000, logMs: 200, members: 1 },
    () => undefined,
  );
  expect(Object.keys(measured).sort()).toEqual(Object.keys(costs).sort());
  for (const [name, us] of Object.entries(measured)) {
    expect(Number.isFinite(us), name).toBe(true);
    expect(us, name).toBeGreaterThanOrEqual(0);
  }
});
