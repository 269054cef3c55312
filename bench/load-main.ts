import { readFileSync } from 'node:fs';
import { isDaybookError, toDaybookError } from '../src/base/index.ts';
import { connect } from '../src/client/index.ts';
import { signerFromPem } from '../src/model/index.ts';
import { percentile } from './ceiling.ts';

/* The load generator: a process of its own, so that the client's work is part of the measurement. */

/** What one load run does; arrives as JSON in the first argument. */
export interface LoadOptions {
  readonly gateways: readonly string[];
  readonly channel: string;
  readonly mspId: string;
  readonly certificateFile: string;
  readonly keyFile: string;
  /** Calls kept open at a time. */
  readonly inFlight: number;
  readonly seconds: number;
  /** Load of the same kind before anything is measured, so that this process is warm. Default 0. */
  readonly warmUpSeconds?: number;
  /** Ends after so many calls even when time is left. */
  readonly callsMax?: number;
  /** `fill` writes all keys, `move` updates two at random, `burn` one after `rounds` of CPU work. */
  readonly work: 'fill' | 'move' | 'burn';
  readonly keys: number;
  readonly rounds?: number;
}

/** What a load run measured; printed as JSON on standard output. */
export interface LoadResult {
  readonly committed: number;
  /** Committed before the measurement began. */
  readonly warmUpCommitted: number;
  readonly failed: number;
  /** Conflicts that the caller got to see. */
  readonly conflictsSeen: number;
  readonly errors: Readonly<Record<string, number>>;
  readonly seconds: number;
  readonly tps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** CPU time of this process per committed transaction, microseconds. */
  readonly clientCpuUs: number;
  /** The longest times without an acknowledgement, in order of time. */
  readonly gaps: readonly Gap[];
}

/** No call was acknowledged in this time. */
export interface Gap {
  /** When it began, milliseconds since 1970. */
  readonly atMs: number;
  readonly ms: number;
}

/** Shorter ones are of no interest. */
const gapMsMin = 20;
const gapsMax = 1000;

const fillRowsPerCall = 500;

async function run(options: LoadOptions): Promise<LoadResult> {
  const signer = signerFromPem(
    { mspId: options.mspId, certificate: readFileSync(options.certificateFile, 'utf8') },
    readFileSync(options.keyFile, 'utf8'),
  );
  const client = await connect({ gateways: options.gateways, channel: options.channel, signer });
  const latencies: number[] = [];
  const errors: Record<string, number> = {};
  const calls =
    options.work === 'fill' ? Math.ceil(options.keys / fillRowsPerCall) : options.callsMax;
  const started = performance.now() + (options.warmUpSeconds ?? 0) * 1000;
  const endsAt = started + options.seconds * 1000;
  let cpuAtStart: NodeJS.CpuUsage | undefined;
  let warmUpCommitted = 0;
  let begun = 0;
  let conflictsSeen = 0;
  let failed = 0;

  let acknowledgedAt = started;
  const gaps: Gap[] = [];
  const acknowledged = (): void => {
    const now = performance.now();
    const ms = now - acknowledgedAt;
    if (ms >= gapMsMin && gaps.length < gapsMax) {
      gaps.push({ atMs: performance.timeOrigin + acknowledgedAt, ms });
    }
    acknowledgedAt = now;
  };
  const account = (): string => `account${Math.floor(Math.random() * options.keys)}`;
  const call = (): Promise<unknown> => {
    if (options.work === 'fill') {
      const first = (begun - 1) * fillRowsPerCall;
      const rows = Math.min(fillRowsPerCall, options.keys - first);
      return client.submit('bench', 'fill', ['account', String(first), String(rows)]);
    }
    const from = account();
    if (options.work === 'burn') {
      return client.submit('bench', 'burn', [from, String(options.rounds ?? 0)]);
    }
    let to = account();
    while (to === from) to = account();
    return client.submit('bench', 'move', [from, to, '1']);
  };
  const worker = async (): Promise<void> => {
    while (performance.now() < endsAt && (calls === undefined || begun < calls)) {
      begun++;
      const at = performance.now();
      try {
        await call();
        acknowledged();
        const now = performance.now();
        if (now < started) {
          warmUpCommitted++;
        } else {
          cpuAtStart ??= process.cpuUsage();
          latencies.push(now - at);
        }
      } catch (error) {
        failed++;
        const { code } = toDaybookError(error);
        errors[code] = (errors[code] ?? 0) + 1;
        if (isDaybookError(error, 'TRANSACTION_CONFLICT')) conflictsSeen++;
      }
    }
  };
  await Promise.all(Array.from({ length: options.inFlight }, worker));
  const seconds = (performance.now() - started) / 1000;
  const cpu = process.cpuUsage(cpuAtStart);
  await client.close();
  return {
    committed: latencies.length,
    warmUpCommitted,
    failed,
    conflictsSeen,
    errors,
    seconds,
    tps: latencies.length / seconds,
    p50Ms: percentile(latencies, 0.5),
    p99Ms: percentile(latencies, 0.99),
    clientCpuUs: (cpu.user + cpu.system) / Math.max(1, latencies.length),
    gaps,
  };
}

const result = await run(JSON.parse(process.argv[2] ?? '') as LoadOptions);
process.stdout.write(`${JSON.stringify(result)}\n`);
