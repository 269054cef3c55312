import { expect, it } from 'vitest';
import { logBench } from '../../bench/log.bench.ts';

it('runs the log bench in its small mode', async () => {
  const result = await logBench({
    loneWrites: 20,
    entryBytes: 1000,
    inFlight: 4,
    entries: 100,
  });
  for (const [name, value] of Object.entries(result)) {
    expect(value, name).toBeGreaterThan(0);
    expect(Number.isFinite(value), name).toBe(true);
  }
});
