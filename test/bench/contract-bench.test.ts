import { expect, it } from 'vitest';
import { contractBench } from '../../bench/contract.bench.ts';

it('runs the contract bench in its small mode', async () => {
  const result = await contractBench({ calls: 1_000 });
  for (const [name, value] of Object.entries(result)) {
    expect(value, name).toBeGreaterThan(0);
    expect(Number.isFinite(value), name).toBe(true);
  }
});
