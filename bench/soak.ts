import { residentMiB, startBenchNetwork } from './cluster-under-load.ts';

/** Settings of the `soak` bench. */
export interface SoakBenchOptions {
  readonly transactions: number;
  /** Memory is taken first after this part of the transactions, when caches are full. */
  readonly warmPart: number;
  readonly keys: number;
  readonly inFlight: number;
}

/** Full size. */
export const soakBenchDefaults: SoakBenchOptions = {
  transactions: 5_000_000,
  warmPart: 0.2,
  keys: 1_000_000,
  inFlight: 4_000,
};

/** What the `soak` bench prints. */
export interface SoakBenchResult {
  readonly transactions: number;
  readonly tps: number;
  readonly rssFirstMiB: number;
  readonly rssLastMiB: number;
  readonly reopenMs: number;
  readonly settings: SoakBenchOptions;
}

/** Memory over many transactions, and the time to reopen the node after them. */
export async function soakBench(
  settings: SoakBenchOptions,
  progress: (text: string) => void,
): Promise<SoakBenchResult> {
  const bench = await startBenchNetwork({ blocks: false });
  try {
    const { keys, inFlight } = settings;
    await bench.load({ work: 'fill', keys, inFlight: 64 });
    const warm = Math.round(settings.transactions * settings.warmPart);
    const first = await bench.load({ work: 'move', keys, inFlight, callsMax: warm });
    const rssFirstMiB = residentMiB(process.pid);
    progress(`${warm} transactions, ${Math.round(rssFirstMiB)} MiB`);
    const rest = await bench.load({
      work: 'move',
      keys,
      inFlight,
      callsMax: settings.transactions - warm,
    });
    const rssLastMiB = residentMiB(process.pid);
    progress(`${settings.transactions} transactions, ${Math.round(rssLastMiB)} MiB; reopening`);
    const reopenMs = await bench.reopen();
    return {
      transactions: first.committed + rest.committed,
      tps: Math.round((first.committed + rest.committed) / (first.seconds + rest.seconds)),
      rssFirstMiB: Math.round(rssFirstMiB),
      rssLastMiB: Math.round(rssLastMiB),
      reopenMs: Math.round(reopenMs),
      settings,
    };
  } finally {
    await bench.close();
  }
}
