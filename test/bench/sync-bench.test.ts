import { expect, it } from 'vitest';
import { syncBench } from '../../bench/sync.bench.ts';
import { noPostgres } from '../../src/replication/testing/postgres-server.ts';

const missing = noPostgres();
if (missing !== undefined) console.warn(`the sync bench is skipped: ${missing}`);

it.skipIf(missing !== undefined)(
  'runs the sync bench in its small mode',
  async () => {
    const result = await syncBench({
      inserts: 2_000,
      largeUpdates: 2,
      smallUpdates: 200,
      seconds: 1,
    });
    for (const rates of [result.bulkInserts, result.thousandRowUpdates, result.oneRowUpdates]) {
      expect(rates.ratio).toBeGreaterThan(0);
    }
    expect(result.lagMs.p99).toBeGreaterThanOrEqual(result.lagMs.p50);
    expect(result.thousandToThreeMs).toBeGreaterThan(0);
  },
  150_000,
);
