import { BenchLedger } from './bench-ledger.ts';
import { measureCosts } from './capacity/measure-costs.ts';
import { type Costs, predict, type Resource, type Sizing } from './capacity/model.ts';
import { simulate } from './capacity/simulate.ts';

/** Settings of the `capacity` bench. */
export interface CapacityBenchOptions {
  /** The largest network: powers of two up to these. */
  readonly executorsMax: number;
  readonly unitsMax: number;
  /** Virtual time that is measured per network, and the time before. */
  readonly measuredMs: number;
  readonly warmUpMs: number;
  readonly keys: number;
  readonly networkUs: number;
  /** For the costs: see `MeasureOptions`. */
  readonly seconds: number;
  readonly transactions: number;
  readonly logMs: number;
  readonly members: number;
}

export const capacityBenchDefaults: CapacityBenchOptions = {
  executorsMax: 64,
  unitsMax: 16,
  measuredMs: 300,
  warmUpMs: 400,
  keys: 1_000_000,
  networkUs: 150,
  seconds: 5,
  transactions: 40_000,
  logMs: 3_000,
  members: 3,
};

/** Two reads and two writes each, in different sizes. */
export interface CapacityLoad {
  readonly load: 'transfers' | 'documents' | 'lone signatures';
  readonly batch: number;
  /** Length of each of the two values written. */
  readonly valueBytes: number;
}

const loads: readonly CapacityLoad[] = [
  { load: 'transfers', batch: 100, valueBytes: 54 },
  { load: 'documents', batch: 100, valueBytes: 4096 },
  { load: 'lone signatures', batch: 1, valueBytes: 54 },
];

/** One network of the grid. Rates per second. */
export interface CapacityRow extends CapacityLoad {
  readonly executors: number;
  readonly units: number;
  readonly predictedTps: number;
  readonly simulatedTps: number;
  /** `simulatedTps / predictedTps`. */
  readonly ratio: number;
  readonly predictedBottleneck: Resource;
  readonly simulatedBottleneck: Resource;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly conflicts: number;
  readonly recordsPerEntry: number;
  readonly busy: Readonly<Record<string, number>>;
}

/** What the `capacity` bench prints. */
export interface CapacityBenchResult {
  /** Measured on this machine, microseconds; `docs/capacity.md` explains them. */
  readonly costs: Costs;
  readonly rows: readonly CapacityRow[];
  readonly ratioMin: number;
  readonly ratioMax: number;
  readonly settings: CapacityBenchOptions;
}

/**
 * The capacity model against a simulation of networks larger than this machine: costs are measured
 * first, then every network of the grid is predicted and simulated.
 */
export async function capacityBench(
  settings: CapacityBenchOptions,
  progress: (text: string) => void,
): Promise<CapacityBenchResult> {
  const costs = await measureCosts(settings, progress);
  progress(JSON.stringify(costs));
  const rows = await capacityGrid(costs, settings, progress);
  const ratios = rows.map(({ ratio }) => ratio);
  return {
    costs,
    rows,
    ratioMin: Math.min(...ratios),
    ratioMax: Math.max(...ratios),
    settings,
  };
}

type GridOptions = Pick<
  CapacityBenchOptions,
  'executorsMax' | 'unitsMax' | 'measuredMs' | 'warmUpMs' | 'keys' | 'networkUs'
>;

/** Predicts and simulates every network: all sizes of one load, the corners of the others. */
export async function capacityGrid(
  costs: Costs,
  options: GridOptions,
  progress: (text: string) => void,
): Promise<CapacityRow[]> {
  const rows: CapacityRow[] = [];
  for (const load of loads) {
    const ledger = await BenchLedger.create(load.valueBytes);
    const step = load.load === 'transfers' ? 2 : 8;
    for (const executors of powers(options.executorsMax, step)) {
      for (const units of powers(options.unitsMax, step === 2 ? 2 : 4)) {
        const row = compare(costs, options, { ...load, ledger, executors, units });
        rows.push(row);
        progress(
          `${row.load}: ${executors} executors, ${units} units: ${row.simulatedTps} of ` +
            `${row.predictedTps} transactions/s, ${row.simulatedBottleneck}`,
        );
      }
    }
  }
  return rows;
}

interface Network extends CapacityLoad {
  readonly ledger: BenchLedger;
  readonly executors: number;
  readonly units: number;
}

function compare(costs: Costs, options: GridOptions, network: Network): CapacityRow {
  const { ledger, executors, units, load, batch, valueBytes } = network;
  const { keys, networkUs, warmUpMs, measuredMs } = options;
  const sizing: Omit<Sizing, 'recordBytes' | 'valueBytes'> = {
    executors,
    units,
    batch,
    inFlight: Math.max(150, Math.floor(4_000 / executors)),
    networkUs,
  };
  // Two values a record.
  const values = 2 * valueBytes;
  const found = simulate({ costs, sizing, ledger, keys, valueBytes: values, warmUpMs, measuredMs });
  const { recordBytes } = found;
  const predicted = predict(costs, { ...sizing, recordBytes, valueBytes: values });
  return {
    load,
    batch,
    valueBytes,
    executors,
    units,
    predictedTps: Math.round(predicted.tps),
    simulatedTps: Math.round(found.tps),
    ratio: round(found.tps / predicted.tps),
    predictedBottleneck: predicted.bottleneck,
    simulatedBottleneck: found.bottleneck,
    p50Ms: round(found.p50Ms),
    p99Ms: round(found.p99Ms),
    conflicts: round(found.conflicts),
    recordsPerEntry: round(found.group),
    busy: Object.fromEntries(Object.entries(found.busy).map(([name, part]) => [name, round(part)])),
  };
}

function powers(most: number, step: number): number[] {
  const found: number[] = [];
  for (let each = 1; each <= most; each *= step) found.push(each);
  return found;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
