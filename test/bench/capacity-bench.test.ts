import { expect, it } from 'vitest';
import { measureCosts } from '../../bench/capacity/measure-costs.ts';
import type { Costs } from '../../bench/capacity/model.ts';
import { capacityBenchDefaults, capacityLoads, compareAll } from '../../bench/capacity.bench.ts';
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
  const { transfers, documents, lone } = capacityLoads;
  const rows = await compareAll(
    costs,
    { ...capacityBenchDefaults, measuredMs: 150, warmUpMs: 250 },
    [
      { load: transfers, executors: 1, units: 1 },
      { load: transfers, executors: 16, units: 4 },
      { load: documents, executors: 2, units: 1 },
      { load: documents, executors: 2, units: 4 },
      { load: lone, executors: 4, units: 2 },
    ],
    () => undefined,
  );
  const [one, many, narrow, wide] = rows;
  for (const row of rows) {
    const name = `${row.load}, ${row.executors} executors, ${row.units} units`;
    expect(row.ratio, name).toBeGreaterThan(0.75);
    expect(row.ratio, name).toBeLessThan(1.3);
    expect(row.conflicts, name).toBeLessThan(0.1);
    expect(row.simulatedBottleneck, name).toBe(row.predictedBottleneck);
  }
  expect(many?.simulatedTps).toBeGreaterThan(1.5 * (one?.simulatedTps ?? 0));
  expect(many?.simulatedBottleneck).toBe('executor');
  expect(narrow?.simulatedBottleneck).toBe('log');
  expect(wide?.simulatedTps).toBeGreaterThan(2.5 * (narrow?.simulatedTps ?? 0));
});

it.skipIf(!etcdAvailable())('measures every cost', async () => {
  const measured = await measureCosts(
    { seconds: 1, transactions: 2_000, rows: 2_000, logMs: 200, members: 1 },
    () => undefined,
  );
  expect(Object.keys(measured).sort()).toEqual(Object.keys(costs).sort());
  for (const [name, us] of Object.entries(measured)) {
    expect(Number.isFinite(us), name).toBe(true);
    expect(us, name).toBeGreaterThanOrEqual(0);
  }
});
