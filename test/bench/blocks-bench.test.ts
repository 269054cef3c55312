import { expect, it } from 'vitest';
import { blocksBench, blocksBenchSmall } from '../../bench/blocks.bench.ts';
import { merkleBench, merkleBenchSmall } from '../../bench/merkle.bench.ts';

it('runs the merkle bench in its small mode', async () => {
  const result = await merkleBench(merkleBenchSmall);
  for (const value of Object.values(result)) expect(value).toBeGreaterThan(0);
});

it('runs the blocks bench in its small mode', { timeout: 60_000 }, async () => {
  const result = await blocksBench(blocksBenchSmall);
  for (const value of Object.values(result)) expect(value).toBeGreaterThan(0);
  expect(result.hotRecordsPerBlock).toBeLessThan(result.hotDenseRecordsPerBlock);
});
