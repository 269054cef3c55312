import { BenchLedger } from './bench-ledger.ts';
import { measureCosts } from './capacity/measure-costs.ts';
import { type Costs, predict, type Resource } from './capacity/model.ts';
import { simulate } from './capacity/simulate.ts';

/** Settings of the `capacity` bench. */
export interface CapacityBenchOptions {
  /** The largest network: powers of two up to these. */
  readonly executorsMax: number;
  readonly unitsMax: number;
  /** Virtual time that is measured per network, and the time before; longer where calls wait long. */
  readonly measuredMs: number;
  readonly warmUpMs: number;
  readonly keys: number;
  readonly networkUs: number;
  /** For the costs: see `MeasureOptions`. */
  readonly seconds: number;
  readonly transactions: number;
  readonly rows: number;
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
  rows: 100_000,
  logMs: 3_000,
  members: 3,
};

/** Two reads and two writes each, in different sizes. */
export interface CapacityLoad {
  readonly load: 'transfers' | 'documents' | 'lone signatures';
  readonly batch: number;
  /** Length of each of the two values written. */
  readonly valueBytes: number;
  /** Calls that clients keep open in all; at least so many per executor. */
  readonly openCalls: number;
  readonly openCallsMin: number;
}

/** The loads of the grid. */
export const capacityLoads = {
  transfers: {
    load: 'transfers',
    batch: 100,
    valueBytes: 54,
    openCalls: 4_000,
    openCallsMin: 150,
  },
  documents: {
    load: 'documents',
    batch: 100,
    valueBytes: 4096,
    openCalls: 400,
    openCallsMin: 60,
  },
  lone: {
    load: 'lone signatures',
    batch: 1,
    valueBytes: 54,
    openCalls: 1_000,
    openCallsMin: 100,
  },
} as const satisfies Record<string, CapacityLoad>;

/** A network to be predicted and simulated. */
export interface CapacityCase {
  readonly load: CapacityLoad;
  readonly executors: number;
  readonly units: number;
}

/** One network of the grid. Rates per second. */
export interface CapacityRow {
  readonly load: CapacityLoad['load'];
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
  const rows = await compareAll(costs, settings, gridOf(settings), progress);
  const ratios = rows.map(({ ratio }) => ratio);
  return {
    costs,
    rows,
    ratioMin: Math.min(...ratios),
    ratioMax: Math.max(...ratios),
    settings,
  };
}

/** Every power of two for one load, fewer for the others. */
function gridOf({ executorsMax, unitsMax }: CapacityBenchOptions): CapacityCase[] {
  const cases: CapacityCase[] = [];
  for (const load of Object.values(capacityLoads)) {
    for (const executors of powers(executorsMax, load.load === 'transfers' ? 2 : 8)) {
      for (const units of powers(unitsMax, 4)) cases.push({ load, executors, units });
    }
  }
  return cases;
}

type CompareOptions = Pick<CapacityBenchOptions, 'measuredMs' | 'warmUpMs' | 'keys' | 'networkUs'>;

/** Predicts and simulates every network. */
export async function compareAll(
  costs: Costs,
  options: CompareOptions,
  cases: readonly CapacityCase[],
  progress: (text: string) => void,
): Promise<CapacityRow[]> {
  const ledgers = new Map<number, BenchLedger>();
  const rows: CapacityRow[] = [];
  for (const each of cases) {
    const { valueBytes } = each.load;
    const ledger = ledgers.get(valueBytes) ?? (await BenchLedger.create(valueBytes));
    ledgers.set(valueBytes, ledger);
    const row = compare(costs, options, each, ledger);
    rows.push(row);
    progress(
      `${row.load}: ${row.executors} executors, ${row.units} units: ${row.simulatedTps} of ` +
        `${row.predictedTps} transactions/s, ${row.simulatedBottleneck}`,
    );
  }
  return rows;
}

function compare(
  costs: Costs,
  { keys, networkUs, warmUpMs, measuredMs }: CompareOptions,
  { load, executors, units }: CapacityCase,
  ledger: BenchLedger,
): CapacityRow {
  const { batch, openCalls, openCallsMin } = load;
  const inFlight = Math.max(openCallsMin, Math.floor(openCalls / executors));
  const sizing = { executors, units, batch, inFlight, networkUs };
  // Two values a record.
  const valueBytes = 2 * load.valueBytes;
  const guess = predict(costs, { ...sizing, recordBytes: valueBytes + 350, valueBytes });
  // The calls that are open at the beginning all wait in one place: they must have spread.
  const passMs = (executors * inFlight * 1000) / guess.tps;
  const found = simulate({
    costs,
    sizing,
    ledger,
    keys,
    valueBytes,
    warmUpMs: Math.max(warmUpMs, 2.5 * passMs),
    measuredMs: Math.max(measuredMs, 2 * passMs),
  });
  const { recordBytes } = found;
  const predicted = predict(costs, { ...sizing, recordBytes, valueBytes });
  return {
    load: load.load,
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
