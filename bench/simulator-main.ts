import { runSeed } from '../simulator/run.ts';
import type { SimulatorBenchSettings, SimulatorWorldRun } from './simulator.bench.ts';

/* The process that runs the worlds: it has the flags of the simulator's own workers. */

const { worlds, rounds, ticks, seed } = JSON.parse(
  process.argv[2] ?? '{}',
) as SimulatorBenchSettings;
for (let round = 0; round < rounds; round++) {
  for (let world = 0; world < worlds; world++) {
    const run = await runSeed({
      seed: seed + world,
      ticks,
      workload: 'load',
      log: 'embedded',
      retention: false,
    });
    const { failure, counts, recordsApplied: applied, traceHash, cpuMs } = run;
    if (failure !== undefined) throw new Error(`seed ${seed + world}: ${failure.message}`);
    const transactions = counts !== undefined && 'valid' in counts ? counts.valid : 0;
    const told: SimulatorWorldRun = {
      round,
      seed: seed + world,
      transactions,
      applied,
      traceHash,
      cpuMs,
    };
    process.send?.(told);
  }
}
process.disconnect?.();
