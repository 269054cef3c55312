import { Etcd3 } from 'etcd3';
import { realIo } from '../src/io/index.ts';
import { openEtcdLog } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { startCluster } from '../test/etcd/cluster.ts';

/** One case of {@link etcdBench}: ours against a bare client that puts the same bytes. */
export interface EtcdBenchRow {
  readonly entryBytes: number;
  readonly inFlight: number;
  readonly entriesPerSecond: number;
  readonly mbPerSecond: number;
  readonly bareEntriesPerSecond: number;
  /** `entriesPerSecond / bareEntriesPerSecond`. */
  readonly ratio: number;
}

/** Settings of the `etcd` bench. */
export interface EtcdBenchOptions {
  readonly members: number;
  /** The sizes and counts up to these of 1 KB and 64 KB, and of 1, 32 and 256 in flight. */
  readonly entryBytesMax: number;
  readonly inFlightMax: number;
  /** Time per measurement, milliseconds; each case takes four of them. */
  readonly caseMs: number;
}

/** Full size. */
export const etcdBenchDefaults: EtcdBenchOptions = {
  members: 3,
  entryBytesMax: 64 * 1024,
  inFlightMax: 256,
  caseMs: 2000,
};

const quotaBytes = 8 * 1024 * 1024 * 1024;

/**
 * Durable entries per second through the log on etcd, against npm `etcd3` putting the same bytes
 * under new keys of the same cluster. The two take turns, as the machine may slow down meanwhile.
 */
export async function etcdBench(
  settings: EtcdBenchOptions,
  progress: (text: string) => void,
): Promise<{ readonly cases: readonly EtcdBenchRow[]; readonly settings: EtcdBenchOptions }> {
  const { caseMs } = settings;
  const cluster = await startCluster({ members: settings.members, quotaBytes });
  await cluster.leader();
  const io = realIo();
  const log = await openEtcdLog(io, {
    units: [{ endpoints: cluster.endpoints }],
    quotaBytes,
  });
  const bare = new Etcd3({ hosts: cluster.endpoints });
  let [address, key] = [0, 0];
  const rows: EtcdBenchRow[] = [];
  try {
    for (const entryBytes of [1024, 64 * 1024].filter((size) => size <= settings.entryBytesMax)) {
      const bytes = io.random.bytes(entryBytes);
      for (const inFlight of [1, 32, 256].filter((count) => count <= settings.inFlightMax)) {
        progress(`${inFlight} entries of ${entryBytes} bytes in flight`);
        const ours = (): Promise<number> =>
          rate(inFlight, caseMs, () =>
            log.write({ epoch: 0, address: asAddress(address++) }, bytes),
          );
        const theirs = (): Promise<number> =>
          rate(inFlight, caseMs, async () => {
            await bare.put(`bare/${String(key++).padStart(14, '0')}`).value(bytes);
          });
        const bareRates = [await theirs()];
        const rates = [await ours(), await ours()];
        bareRates.push(await theirs());
        await log.trim(asAddress(address));
        const [entries, bareEntries] = [average(rates), average(bareRates)];
        rows.push({
          entryBytes,
          inFlight,
          entriesPerSecond: Math.round(entries),
          mbPerSecond: Math.round((entries * entryBytes) / 1e5) / 10,
          bareEntriesPerSecond: Math.round(bareEntries),
          ratio: Math.round((entries / bareEntries) * 100) / 100,
        });
      }
    }
    return { cases: rows, settings };
  } finally {
    bare.close();
    await log.close();
    await cluster.stop();
  }
}

async function rate(
  inFlight: number,
  durationMs: number,
  once: () => Promise<void>,
): Promise<number> {
  const start = performance.now();
  let done = 0;
  const loop = async (): Promise<void> => {
    while (performance.now() - start < durationMs) {
      await once();
      done++;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return (done * 1000) / (performance.now() - start);
}

function average(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
