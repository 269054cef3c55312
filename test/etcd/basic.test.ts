import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { isDaybookError } from '../../src/base/index.ts';
import { realIo } from '../../src/io/index.ts';
import { type EtcdLog, openEtcdLog } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { type Cluster, etcdAvailable, pause, startCluster } from './cluster.ts';
import { readAll } from './load.ts';

const io = realIo();

describe.skipIf(!etcdAvailable())('the log on etcd', { timeout: 120_000 }, () => {
  let cluster: Cluster;
  let log: EtcdLog;
  let prefixes = 0;

  beforeAll(async () => {
    cluster = await startCluster();
  }, 30_000);
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

  test('a reader holds a bounded part of the log while it waits at a hole', async () => {
    log = await open();
    const count = 600;
    const size = 64 * 1024;
    const writing: Promise<void>[] = [];
    for (let n = 1; n < count; n++) writing.push(log.write(token(n), entry(n, size)));
    await Promise.all(writing);
    const other = await open(`t${prefixes}/`);
    const seen: number[] = [];
    const following = (async () => {
      for await (const entries of other.follow(asAddress(0))) {
        for (const { address, bytes } of entries) {
          expect(Buffer.compare(bytes, address === 0 ? Buffer.of() : entry(address, size))).toBe(0);
          seen.push(address);
        }
        if (seen.length >= count + 100) break;
      }
    })();
    await pause(1000);
    expect(seen).toEqual([]);
    await log.fill(asAddress(0));
    for (let n = count; n < count + 100; n++) await log.write(token(n), entry(n, size));
    await following;
    expect(seen).toEqual(Array.from({ length: count + 100 }, (_, n) => n));
    await other.close();
    await log.close();
  });

  test('a lone entry reaches a waiting follower at once', async () => {
    log = await open();
    const arrived = new Map<number, number>();
    const abort = new AbortController();
    const following = (async () => {
      for await (const entries of log.follow(asAddress(0), abort.signal)) {
        for (const { address } of entries) arrived.set(address, performance.now());
      }
    })();
    const delays: number[] = [];
    for (let n = 0; n < 50; n++) {
      await log.write(token(n), entry(n));
      const writtenMs = performance.now();
      while (!arrived.has(n)) await pause(1);
      delays.push((arrived.get(n) ?? 0) - writtenMs);
    }
    delays.sort((a, b) => a - b);
    // Not when a follower looks by itself whether it missed something: that is once a second.
    expect(delays[25]).toBeLessThan(300);
    abort.abort();
    await following;
    await log.close();
  });

  test('an entry of which one is not sure is written once', async () => {
    log = await open();
    const large = entry(0, 5_000_000);
    await log.write(token(0), large);
    await log.write(token(0), large);
    await expect(log.write(token(0), entry(1, 5_000_000))).rejects.toMatchObject({
      code: 'LOG_ADDRESS_TAKEN',
    });
    // The loser has taken its parts away.
    const parts = cluster.etcdctl('get', '--prefix', `t${prefixes}/p/`, '--keys-only');
    expect(parts.trim().split(/\s+/)).toHaveLength(5);
    expect(Buffer.compare((await log.read(asAddress(0))).bytes, large)).toBe(0);
    // Nor does a fence that was moved meanwhile make it fail.
    const other = await open(`t${prefixes}/`);
    await other.seal(1);
    await log.write(token(0), large);
    await other.trim(asAddress(1));
    await expect(log.write(token(0), large)).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
    expect(cluster.etcdctl('get', '--prefix', `t${prefixes}/p/`, '--keys-only').trim()).toBe('');
    await other.close();
    await log.close();
  });

  test('a large entry is there as a whole or not at all, whenever its writer ends', async () => {
    const prefix = `t${++prefixes}/`;
    log = await open(prefix);
    const kinds: string[] = [];
    const rounds = 10;
    for (let n = 0; n < rounds; n++) {
      const writer = await open(prefix);
      const writing = writer.write(token(n), entry(n, 3_000_000)).then(
        () => true,
        () => false,
      );
      // Before the first part, between parts, before the head, after it.
      if (n === rounds - 1) await writing;
      else await pause(5 * n);
      await writer.close();
      const told = await writing;
      await log.fill(asAddress(n));
      const { kind, bytes } = await log.read(asAddress(n));
      if (kind === 'data') expect(Buffer.compare(bytes, entry(n, 3_000_000))).toBe(0);
      else expect(told).toBe(false);
      kinds.push(kind);
    }
    expect(kinds[0]).toBe('fill');
    expect(kinds.at(-1)).toBe('data');
    const found = await readAll(log, asAddress(0), asAddress(rounds));
    expect([...found.values()].map((text) => (text === '' ? 'fill' : 'data'))).toEqual(kinds);
    await log.trim(asAddress(rounds));
    expect(cluster.etcdctl('get', '--prefix', `${prefix}p/`, '--keys-only').trim()).toBe('');
    await log.close();
  });

  test('without a sequencer, writers race at the tail and all get in', async () => {
    const logs = await Promise.all([open('race/'), open('race/'), open('race/')]);
    const append = async (racer: EtcdLog, bytes: Buffer): Promise<void> => {
      for (;;) {
        const address = await racer.tail();
        try {
          return await racer.write({ epoch: await racer.epoch(), address }, bytes);
        } catch (error) {
          if (!isDaybookError(error, 'LOG_ADDRESS_TAKEN')) throw error;
        }
      }
    };
    await Promise.all(
      logs.map(async (racer, index) => {
        for (let n = 0; n < 30; n++) await append(racer, entry(100 * index + n));
      }),
    );
    const seen: string[][] = [];
    for (const racer of logs) {
      expect(await racer.tail()).toBe(90);
      seen.push([...(await readAll(racer, asAddress(0), asAddress(90))).values()]);
      await racer.close();
    }
    expect(seen[1]).toEqual(seen[0]);
    expect(seen[2]).toEqual(seen[0]);
    expect(new Set(seen[0]).size).toBe(90);
  });

  test('several nodes found a log together', async () => {
    for (let round = 0; round < 10; round++) {
      const prefix = `t${++prefixes}/`;
      const logs = await Promise.all(Array.from({ length: 4 }, () => open(prefix)));
      const founded = await Promise.all(logs.map((each) => each.layout()));
      expect(new Set(founded.map((layout) => layout.log)).size).toBe(1);
      for (const each of logs) await each.close();
    }
  });

  test('a cluster that holds another log is not taken for a unit', async () => {
    log = await open();
    const second = await startCluster({ members: 1 });
    const units = [{ endpoints: second.endpoints }];
    const foreign = await openEtcdLog(io, { units, prefix: `t${prefixes}/` });
    await foreign.write(token(0), entry(0));
    const both = [{ endpoints: cluster.endpoints }, ...units];
    await expect(log.setUnits(both)).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    const opening = openEtcdLog(io, { units: both, prefix: `t${prefixes}/` });
    await expect(opening).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
    await log.write(token(0), entry(0));
    await foreign.close();
    await log.close();
    await second.stop();
  });

  test('damage is reported, by reads and by followers', async () => {
    log = await open();
    for (let n = 0; n < 3; n++) await log.write(token(n), entry(n));
    await log.write(token(3), entry(3, 3_000_000));
    const key = `t${prefixes}/e/${'1'.padStart(14, '0')}`;
    cluster.etcdctl('put', key, 'nonsense');
    await expect(log.read(asAddress(1))).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
    cluster.etcdctl('del', '--prefix', `t${prefixes}/p/`);
    await expect(log.read(asAddress(3))).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
    const other = await open(`t${prefixes}/`);
    const seen: number[] = [];
    const following = (async () => {
      for await (const entries of other.follow(asAddress(0))) {
        seen.push(...entries.map(({ address }) => address));
      }
    })();
    await expect(following).rejects.toMatchObject({ code: 'LOG_DAMAGED' });
    expect(seen).toEqual([0]);
    await other.close();
    await log.close();
  });

  test('members of a unit come and go', async () => {
    log = await open();
    await log.write(token(0), entry(0));
    const layout = await log.setUnits([{ endpoints: cluster.endpoints.slice(0, 2) }]);
    expect(layout.units).toMatchObject([{ endpoints: cluster.endpoints.slice(0, 2) }]);
    expect(layout.segments).toHaveLength(1);
    await log.write(token(1), entry(1));
    const other = await open(`t${prefixes}/`);
    expect(await other.tail()).toBe(2);
    await other.write(token(2), entry(2));
    await log.setUnits([{ endpoints: cluster.endpoints }]);
    await other.write(token(3), entry(3));
    expect(await log.tail()).toBe(4);
    await other.close();
    await log.close();
  });

  test('an unreachable log is a typed error, in bounded time', async () => {
    const opening = openEtcdLog(io, {
      units: [{ endpoints: ['127.0.0.1:1'] }],
      callTimeoutMs: 500,
    });
    await expect(opening).rejects.toMatchObject({ code: 'TIMEOUT' });
    await expect(openEtcdLog(io, { units: [] })).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  });
});
