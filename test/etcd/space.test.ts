import { afterEach, describe, expect, test } from 'vitest';
import { isDaybookError } from '../../src/base/index.ts';
import type { EtcdLog } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { type Cluster, etcdAvailable, pause, startCluster } from './cluster.ts';
import { Load, openLogs, readAll } from './load.ts';

const mebibyte = 1024 * 1024;

describe.skipIf(!etcdAvailable())('the space of etcd', { timeout: 240_000 }, () => {
  let cluster: Cluster;
  let log: EtcdLog;

  afterEach(async () => {
    await log.close();
    await cluster.stop();
  });

  async function begin(quotaBytes: number, believedBytes = quotaBytes): Promise<void> {
    cluster = await startCluster({ quotaBytes });
    [log] = (await openLogs(1, [cluster.endpoints], 'space/', { quotaBytes: believedBytes })) as [
      EtcdLog,
    ];
  }

  /** Writes until the log says that it is full; returns the first address not written. */
  async function writeUntilFull(from: number): Promise<number> {
    const startMs = performance.now();
    for (let address = from; ; ) {
      try {
        await log.write({ epoch: 0, address: asAddress(address) }, entry(address));
        address++;
        if (address % 50 === 0) await pause(20);
      } catch (error) {
        expect(isDaybookError(error, 'OVERLOADED')).toBe(true);
        expect(error).toMatchObject({ retry: 'same', details: { limit: 'logSpaceBytes' } });
        if (address > from + 100 || performance.now() - startMs > 60_000) {
          // The error leaves open whether the entry is there.
          return log.tail();
        }
        await pause(100);
      }
    }
  }
  const entry = (address: number): Buffer => Buffer.alloc(64 * 1024, `entry ${address} `);

  test('writers are slowed down before the quota is reached, until the log is trimmed', async () => {
    await begin(64 * mebibyte, 40 * mebibyte);
    let next = await writeUntilFull(0);
    expect(cluster.etcdctl('alarm', 'list')).toBe('');
    for (let round = 0; round < 2; round++) {
      await log.trim(asAddress(next - 10));
      const more = await writeUntilFull(next);
      expect(more - next).toBeGreaterThan(100);
      expect(Buffer.compare((await log.read(asAddress(next))).bytes, entry(next))).toBe(0);
      next = more;
    }
    expect(cluster.etcdctl('alarm', 'list')).toBe('');
  });

  test('a log that reached the quota is readable, and goes on after a trim', async () => {
    // The log believes that there is more space than there is.
    await begin(24 * mebibyte, 1024 * mebibyte);
    let next = await writeUntilFull(0);
    for (let round = 0; round < 2; round++) {
      expect(cluster.etcdctl('alarm', 'list')).toContain('NOSPACE');
      expect(Buffer.compare((await log.read(asAddress(next - 1))).bytes, entry(next - 1))).toBe(0);
      const [late] = await openLogs(1, [cluster.endpoints], 'space/');
      expect(await late?.tail()).toBe(next);
      await late?.close();
      await expect(log.seal(round + 1)).rejects.toMatchObject({ code: 'OVERLOADED' });
      await log.trim(asAddress(next - 10));
      expect(cluster.etcdctl('alarm', 'list')).toBe('');
      expect(await log.start()).toBe(next - 10);
      const texts = await readAll(log, asAddress(next - 10), asAddress(next));
      expect(texts.size).toBe(10);
      const more = await writeUntilFull(next);
      expect(more - next).toBeGreaterThan(100);
      next = more;
    }
  });

  test('an alarm that others raised is lifted when they have made room, though nothing can be trimmed', async () => {
    await begin(4 * mebibyte);
    await log.write({ epoch: 0, address: asAddress(0) }, entry(0));
    const fill = (): void => {
      for (let at = 0; at < 100; at++) {
        cluster.etcdctl('put', `others/${at}`, 'x'.repeat(100_000));
      }
    };
    expect(fill).toThrow('database space exceeded');
    const write = (): Promise<void> => log.write({ epoch: 0, address: asAddress(1) }, entry(1));
    await expect(write()).rejects.toMatchObject({ code: 'OVERLOADED' });
    cluster.etcdctl('del', '--prefix', 'others/');
    await expect(write()).rejects.toMatchObject({ code: 'OVERLOADED' });
    await log.reclaim();
    expect(cluster.etcdctl('alarm', 'list')).toBe('');
    await write();
    expect(await log.tail()).toBe(2);
  });

  test('the history of keys does not take a full log to the quota, though nothing can be trimmed', async () => {
    // A little more than the log believes, since pages are not filled evenly.
    await begin(20 * mebibyte, 16 * mebibyte);
    await writeUntilFull(0);
    const { client } = log.units.home;
    const key = Buffer.from('others/registry');
    // More than is left below the quota.
    for (let at = 0; at < 160; at++) {
      await client.call('put', { key, value: Buffer.alloc(60 * 1024, at) });
      if (at % 8 === 7) {
        await pause(150);
        await log.reclaim();
      }
    }
    expect(cluster.etcdctl('alarm', 'list')).toBe('');
    expect((await log.space())[0]?.usedBytes).toBeGreaterThan(0.75 * 16 * mebibyte);
  });

  test('a full log that nothing can be trimmed of is hardly written to', async () => {
    await begin(64 * mebibyte, 16 * mebibyte);
    await writeUntilFull(0);
    // Well above the mark, so that no write gets in after all.
    const { client } = log.units.home;
    await client.call('put', { key: Buffer.from('others'), value: Buffer.alloc(512 * 1024) });
    await pause(1000);
    const full = await log.tail();
    const revision = async (): Promise<number> =>
      Number((await client.call('range', { key: Buffer.of(0) })).header.revision);
    const before = await revision();
    const untilMs = performance.now() + 10_000;
    while (performance.now() < untilMs) {
      const write = log.write({ epoch: 0, address: asAddress(full) }, entry(full));
      await expect(write).rejects.toMatchObject({ code: 'OVERLOADED' });
      await pause(50);
    }
    expect((await revision()) - before).toBeLessThan(10);
    // What ends a block is let in, so that blocks may be saved, and their entries trimmed.
    await log.write({ epoch: 0, address: asAddress(full) }, Buffer.from('tick'), {
      makesRoom: true,
    });
    expect(await log.tail()).toBe(full + 1);
  });

  test('under load, with a trimmer that runs beside it, nothing is lost or refused for good', async () => {
    await begin(48 * mebibyte);
    const load = new Load([log], { writers: 8, entryBytes: 32 * 1024 });
    for (let round = 0; round < 6; round++) {
      await load.more(400);
      await log.trim(asAddress(Math.max(0, (await log.tail()) - 100)));
    }
    await load.stop();
    await load.check();
  });
});
