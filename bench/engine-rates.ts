import { Etcd3 } from 'etcd3';
import { type Io, realIo } from '../src/io/index.ts';
import { type EtcdLog, openEtcdLog } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { percentile } from './ceiling.ts';

/** One case of {@link compareEngine}: ours against a bare client that puts the same bytes. */
export interface EngineRow {
  readonly entryBytes: number;
  readonly inFlight: number;
  readonly entriesPerSecond: number;
  readonly mbPerSecond: number;
  /** Of one write, durable when it ends. */
  readonly p50Ms: number;
  readonly bareEntriesPerSecond: number;
  readonly bareMbPerSecond: number;
  readonly bareP50Ms: number;
  /** `entriesPerSecond / bareEntriesPerSecond`; the same for bytes, as the entries are the same. */
  readonly ratio: number;
}

/** What {@link compareEngine} is to compare. */
export interface EngineCases {
  readonly endpoints: readonly string[];
  readonly quotaBytes: number;
  readonly prefix: string;
  readonly cases: readonly { readonly entryBytes: number; readonly inFlight: number }[];
  /** Time per case and side, milliseconds. */
  readonly caseMs: number;
}

/** The two sides take turns this often, as the machine may slow down meanwhile. */
const turns = 4;

/**
 * Durable entries per second through the log on etcd, against npm `etcd3` putting the same bytes
 * under new keys of the same cluster.
 */
export async function compareEngine(
  { endpoints, quotaBytes, prefix, cases, caseMs }: EngineCases,
  progress: (text: string) => void,
): Promise<EngineRow[]> {
  const io = realIo();
  const log = await openEtcdLog(io, { units: [{ endpoints }], prefix, quotaBytes });
  const bare = new Etcd3({ hosts: [...endpoints] });
  try {
    const sides = new Sides(log, bare, `${prefix}bare/`);
    const rows: EngineRow[] = [];
    for (const { entryBytes, inFlight } of cases) {
      progress(`${inFlight} entries of ${entryBytes} bytes in flight`);
      rows.push(await compareCase(sides, io, { entryBytes, inFlight, caseMs }));
      await sides.forget();
    }
    return rows;
  } finally {
    bare.close();
    await log.close();
  }
}

async function compareCase(
  sides: Sides,
  io: Io,
  { entryBytes, inFlight, caseMs }: { entryBytes: number; inFlight: number; caseMs: number },
): Promise<EngineRow> {
  const bytes = io.random.bytes(entryBytes);
  const [ours, bare] = [new Rate(), new Rate()];
  for (let turn = 0; turn < turns; turn++) {
    const run = async (rate: Rate, once: () => Promise<void>): Promise<void> =>
      rate.run(inFlight, caseMs / turns, once);
    // Now one side first, now the other.
    if (turn % 2 === 0) await run(bare, () => sides.bare(bytes));
    await run(ours, () => sides.ours(bytes));
    if (turn % 2 === 1) await run(bare, () => sides.bare(bytes));
  }
  return {
    entryBytes,
    inFlight,
    entriesPerSecond: Math.round(ours.perSecond),
    mbPerSecond: round((ours.perSecond * entryBytes) / 1e6),
    p50Ms: round(ours.p50Ms),
    bareEntriesPerSecond: Math.round(bare.perSecond),
    bareMbPerSecond: round((bare.perSecond * entryBytes) / 1e6),
    bareP50Ms: round(bare.p50Ms),
    ratio: round(ours.perSecond / bare.perSecond),
  };
}

/** The two ways to write an entry, each at a place of its own. */
class Sides {
  readonly #log: EtcdLog;
  readonly #bare: Etcd3;
  readonly #bareKeys: string;
  #address = 0;
  #key = 0;

  constructor(log: EtcdLog, bare: Etcd3, bareKeys: string) {
    this.#log = log;
    this.#bare = bare;
    this.#bareKeys = bareKeys;
  }

  async ours(bytes: Buffer): Promise<void> {
    await this.#log.write({ epoch: 0, address: asAddress(this.#address++) }, bytes);
  }

  async bare(bytes: Buffer): Promise<void> {
    await this.#bare.put(this.#bareKeys + String(this.#key++).padStart(14, '0')).value(bytes);
  }

  /** Removes what both wrote, so that the next case finds the same space. */
  async forget(): Promise<void> {
    await this.#bare.delete().prefix(this.#bareKeys);
    await this.#log.trim(asAddress(this.#address));
  }
}

/** Counts what is done in several turns. */
class Rate {
  readonly #latencies: number[] = [];
  #elapsedMs = 0;

  get perSecond(): number {
    return (this.#latencies.length * 1000) / this.#elapsedMs;
  }

  get p50Ms(): number {
    return percentile(this.#latencies, 0.5);
  }

  async run(inFlight: number, durationMs: number, once: () => Promise<void>): Promise<void> {
    const start = performance.now();
    const loop = async (): Promise<void> => {
      for (let at = start; at - start < durationMs; ) {
        await once();
        const now = performance.now();
        this.#latencies.push(now - at);
        at = now;
      }
    };
    await Promise.all(Array.from({ length: inFlight }, loop));
    this.#elapsedMs += performance.now() - start;
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
