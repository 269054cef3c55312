import { expect, it } from 'vitest';
import { federationBench } from '../../bench/federation.bench.ts';

it('runs the federation bench in its small mode', async () => {
  const result = await federationBench({ entities: 300, versions: 10, ledgerEntities: 0 });
  for (const [name, value] of Object.entries(result)) {
    if (name === 'ledgerEntities') continue;
    expect(value, name).toBeGreaterThan(0);
    expect(Number.isFinite(value), name).toBe(true);
  }
  expect(result.compactionRatio).toBeGreaterThan(1.5);
  expect(result.rowsAfterAcknowledgement).toBeLessThan(20);
});
