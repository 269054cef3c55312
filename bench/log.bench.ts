import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { realIo, rpcPeer } from '../src/io/index.ts';
import { openEmbeddedLog, remoteLog, type SharedLog, serveLog } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { fsyncP50Ms, percentile } from './ceiling.ts';

/** Settings of the `log` bench. */
export interface LogBenchOptions {
  readonly loneWrites: number;
  readonly entryBytes: number;
  readonly inFlight: number;
  readonly entries: number;
}

export const logBenchDefaults: LogBenchOptions = {
  loneWrites: 2_000,
  entryBytes: 64 * 1024,
  inFlight: 16,
  entries: 10_000,
};

export interface LogBenchResult extends LogBenchOptions {
  /** A write into a file written before, and its fdatasync: the least a durable write can take. */
  readonly fsyncP50Ms: number;
  readonly loneP50Ms: number;
  readonly loneP99Ms: number;
  /** `loneP50Ms / fsyncP50Ms`. */
  readonly loneRatio: number;
  /** A lone write through the log of another process’s connection (here: our own, over a socket). */
  readonly remoteLoneP50Ms: number;
  readonly writeMBPerSecond: number;
  readonly remoteWriteMBPerSecond: number;
  /** A follower that reads everything from the disk. */
  readonly followMBPerSecond: number;
  readonly reopenMs: number;
}

/** The embedded log, and the same log over a unix socket. */
export async function logBench(options: LogBenchOptions): Promise<LogBenchResult> {
  const directory = mkdtempSync(join(process.env.DAYBOOK_BENCH_DIR ?? tmpdir(), 'daybook-log-'));
  const io = realIo();
  try {
    const reference = await fsyncP50Ms(directory, Math.min(options.loneWrites, 500));
    let log = await openEmbeddedLog({ io, directory });
    const lone = await loneTimesMs(log, options.loneWrites);
    const writeMBPerSecond = await megabytesPerSecond(log, options);
    const listener = await io.network.listen(`unix:${join(directory, 'socket')}`, (connection) =>
      serveLog(log, rpcPeer(connection)),
    );
    const peer = rpcPeer(await io.network.connect(listener.address));
    const remote = remoteLog(peer);
    const remoteLone = await loneTimesMs(remote, options.loneWrites);
    const remoteWriteMBPerSecond = await megabytesPerSecond(remote, options);
    await remote.close();
    peer.close();
    await listener.close();
    const followMBPerSecond = await followAll(log);
    await log.close();
    const started = performance.now();
    log = await openEmbeddedLog({ io, directory });
    const reopenMs = performance.now() - started;
    await log.close();
    return {
      ...options,
      fsyncP50Ms: reference,
      loneP50Ms: percentile(lone, 0.5),
      loneP99Ms: percentile(lone, 0.99),
      loneRatio: percentile(lone, 0.5) / reference,
      remoteLoneP50Ms: percentile(remoteLone, 0.5),
      writeMBPerSecond,
      remoteWriteMBPerSecond,
      followMBPerSecond,
      reopenMs,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function loneTimesMs(log: SharedLog, count: number): Promise<number[]> {
  const bytes = Buffer.alloc(400, 1);
  const times: number[] = [];
  const first = await log.tail();
  for (let at = 0; at < count; at += 1) {
    const started = performance.now();
    await log.write({ epoch: 0, address: asAddress(first + at) }, bytes);
    times.push(performance.now() - started);
  }
  return times;
}

async function megabytesPerSecond(log: SharedLog, options: LogBenchOptions): Promise<number> {
  const bytes = Buffer.alloc(options.entryBytes, 2);
  let next: number = await log.tail();
  const end = next + options.entries;
  const started = performance.now();
  const writer = async (): Promise<void> => {
    while (next < end) {
      const address = asAddress(next);
      next += 1;
      await log.write({ epoch: 0, address }, bytes);
    }
  };
  await Promise.all(Array.from({ length: options.inFlight }, writer));
  return (options.entries * options.entryBytes) / (performance.now() - started) / 1000;
}

async function followAll(log: SharedLog): Promise<number> {
  const tail = await log.tail();
  let [bytes, seen] = [0, 0];
  const started = performance.now();
  for await (const run of log.follow(asAddress(0))) {
    seen += run.length;
    for (const entry of run) bytes += entry.bytes.length;
    if (seen >= tail) break;
  }
  return bytes / (performance.now() - started) / 1000;
}
