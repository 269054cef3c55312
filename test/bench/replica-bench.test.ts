import { expect, it } from 'vitest';
import { replicaBench, replicaBenchSmall } from '../../bench/replica.bench.ts';

it('runs the replica bench in its small mode', async () => {
  const result = await replicaBench(replicaBenchSmall);
  for (const [name, value] of Object.entries(result)) {
    expect(Number.isFinite(value), name).toBe(true);
    expect(value, name).toBeGreaterThanOrEqual(0);
  }
});
