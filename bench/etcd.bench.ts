import { startCluster } from '../test/etcd/cluster.ts';
import { compareEngine, type EngineRow } from './engine-rates.ts';

/** Settings of the `etcd` bench. */
export interface EtcdBenchOptions {
  readonly members: number;
  /** The sizes and counts up to these of 1 KB and 64 KB, and of 1, 32 and 256 in flight. */
  readonly entryBytesMax: number;
  readonly inFlightMax: number;
  /** Time per case and side, milliseconds. */
  readonly caseMs: number;
}

/** Full size. */
export const etcdBenchDefaults: EtcdBenchOptions = {
  members: 3,
  entryBytesMax: 64 * 1024,
  inFlightMax: 256,
  caseMs: 4000,
};

/** Of the clusters that benches start: room for all that they write. */
export const benchQuotaBytes = 8 * 1024 * 1024 * 1024;

/** Durable entries per second through the log on etcd, against a bare client: {@link compareEngine}. */
export async function etcdBench(
  settings: EtcdBenchOptions,
  progress: (text: string) => void,
): Promise<{ readonly cases: readonly EngineRow[]; readonly settings: EtcdBenchOptions }> {
  const { entryBytesMax, inFlightMax, caseMs, members } = settings;
  const cluster = await startCluster({ members, quotaBytes: benchQuotaBytes });
  try {
    await cluster.leader();
    const cases = [1024, 64 * 1024]
      .filter((size) => size <= entryBytesMax)
      .flatMap((entryBytes) =>
        [1, 32, 256]
          .filter((count) => count <= inFlightMax)
          .map((inFlight) => ({ entryBytes, inFlight })),
      );
    const { endpoints } = cluster;
    const quotaBytes = benchQuotaBytes;
    const rows = await compareEngine(
      { endpoints, quotaBytes, prefix: 'bench/', cases, caseMs },
      progress,
    );
    return { cases: rows, settings };
  } finally {
    await cluster.stop();
  }
}
