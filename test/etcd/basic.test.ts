import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { realIo } from '../../src/io/index.ts';
import { type EtcdLog, openEtcdLog } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { type Cluster, etcdAvailable, startCluster } from './cluster.ts';

const io = realIo();

describe.skipIf(!etcdAvailable())('the log on etcd', () => {
  let cluster: Cluster;
  let log: EtcdLog;
  let prefixes = 0;

  beforeAll(async () => {
    cluster = await startCluster();
  });
  afterAll(() => cluster.stop());

  const open = (prefix = `t${++prefixes}/`): Promise<EtcdLog> =>
    openEtcdLog(io, { units: [{ endpoints: cluster.endpoints }], prefix });
  const entry = (n: number, size = 100): Buffer => Buffer.alloc(size, `entry ${n} `);
  const token = (
    address: number,
    epoch = 0,
  ): { epoch: number; address: ReturnType<typeof asAddress> } => ({
    epoch,
    address: asAddress(address),
  });

  test('writes, reads, follows', async () => {
    log = await open();
    expect(await log.tail()).toBe(0);
    await Promise.all(Array.from({ length: 1000 }, (_, n) => log.write(token(n), entry(n))));
    expect(await log.tail()).toBe(1000);
    const other = await open(`t${prefixes}/`);
    expect(await other.tail()).toBe(1000);
    let next = 0;
    for await (const entries of other.follow(asAddress(0))) {
      for (const each of entries) {
        expect(each.address).toBe(next);
        expect(Buffer.compare(each.bytes, entry(next))).toBe(0);
        next++;
      }
      if (next === 1000) void log.write(token(1001), entry(1001));
      if (next === 1000) void log.write(token(1000), entry(1000, 3_000_000));
      if (next >= 1000) break;
    }
    for await (const entries of other.follow(asAddress(1000))) {
      expect(entries.length).toBeGreaterThan(0);
      expect(Buffer.compare(entries[0]?.bytes ?? Buffer.of(), entry(1000, 3_000_000))).toBe(0);
      break;
    }
    await other.close();
    await log.close();
  });

  test('a lone entry reaches a waiting follower at once', async () => {
    log = await open();
    const times: number[] = [];
    const abort = new AbortController();
    const following = (async () => {
      for await (const entries of log.follow(asAddress(0), abort.signal)) {
        for (const each of entries) times[each.address] = performance.now();
      }
    })();
    const delays: number[] = [];
    for (let n = 0; n < 50; n++) {
      const start = performance.now();
      await log.write(token(n), entry(n));
      const written = performance.now();
      while (times[n] === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
      delays.push((times[n] as number) - written, written - start);
    }
    console.log(delays.map((x) => x.toFixed(1)).join(' '));
    abort.abort();
    await following;
    await log.close();
  });
});
