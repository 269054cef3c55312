import { expect, it } from 'vitest';
import { bulkBench } from '../../bench/bulk.ts';

it('runs the bulk bench in a small mode', { timeout: 180_000 }, async () => {
  const result = await bulkBench(
    { rows: 1_500, accounts: 100, clients: 2, pauseMs: 20, idleSeconds: 1, loneCalls: 5 },
    () => undefined,
  );
  for (const name of ['bulkCommitMs', 'loneP50Ms', 'otherP99Ms', 'idleP99Ms'] as const) {
    expect(result[name], name).toBeGreaterThan(0);
  }
  expect(result.backgroundRowsPerS).toBeGreaterThan(0);
});
