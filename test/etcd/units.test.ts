import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type EtcdLog, rememberedNodes, rememberNode } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { type Cluster, etcdAvailable, startCluster } from './cluster.ts';
import { Load, openLogs, Reader } from './load.ts';

describe.skipIf(!etcdAvailable())('log units come and go under load', { timeout: 180_000 }, () => {
  let clusters: Cluster[];

  beforeAll(async () => {
    clusters = await Promise.all([1, 1, 1].map((members) => startCluster({ members })));
    for (const cluster of clusters) await cluster.leader();
  }, 30_000);
  afterAll(() => Promise.all(clusters.map((cluster) => cluster.stop())));

  const endpoints = (unit: number): string[] => (clusters[unit] as Cluster).endpoints;

  async function begin(name: string, units: number[]): Promise<[EtcdLog[], Load, Reader]> {
    const logs = await openLogs(3, units.map(endpoints), `${name}/`);
    const load = new Load(logs.slice(0, 2), { writers: 16 });
    const reader = new Reader(logs[1] as EtcdLog);
    await load.more(100);
    return [logs, load, reader];
  }

  async function end(logs: EtcdLog[], load: Load, reader: Reader): Promise<void> {
    await load.stop();
    await load.check();
    await reader.passed((await (logs[2] as EtcdLog).tail()) - 1);
    await reader.stop();
    for (const [address, text] of load.acknowledged) expect(reader.texts[address]).toBe(text);
    for (const log of logs) await log.close();
  }

  test('added, exchanged and removed', async () => {
    const [logs, load, reader] = await begin('come', [0]);
    const admin = logs[2] as EtcdLog;
    for (const units of [[0, 1], [0, 1, 2], [2, 1], [1], [0, 2]]) {
      const layout = await admin.setUnits(units.map((unit) => ({ endpoints: endpoints(unit) })));
      expect(layout.segments.at(-1)?.units).toHaveLength(units.length);
      await load.more(200);
    }
    expect((await admin.layout()).generation).toBe(6);
    // Whoever knows a unit that has left finds the log all the same.
    const [late] = await openLogs(1, [endpoints(1)], 'come/');
    expect(await late?.layout()).toEqual(await admin.layout());
    await late?.close();
    // Trimmed segments are left out, and so are their units.
    const trimPoint = await admin.tail();
    await load.more(100);
    await reader.passed(trimPoint);
    await admin.trim(trimPoint);
    const layout = await admin.setUnits([{ endpoints: endpoints(2) }]);
    expect(layout.segments.length).toBeLessThanOrEqual(3);
    await load.more(100);
    await end(logs, load, reader);
  });

  test('a log moves to other units as a whole, and all follow', async () => {
    const logs = (await openLogs(3, [endpoints(0)], 'move/')) as [EtcdLog, EtcdLog, EtcdLog];
    const [admin, writer, idle] = logs;
    const write = (address: number): Promise<void> =>
      writer.write({ epoch: 0, address: asAddress(address) }, Buffer.from(`entry ${address}`));
    for (let address = 0; address < 10; address++) await write(address);
    await admin.trim(asAddress(10));
    const reader = new Reader(idle, asAddress(10));
    await rememberNode(writer, { name: 'away', id: '1' });
    const layout = await admin.setUnits([{ endpoints: endpoints(1) }]);
    expect(layout.units).toHaveLength(1);
    // Nobody has told them.
    expect(await idle.tail()).toBe(10);
    await expect(idle.read(asAddress(9))).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
    await write(10);
    await reader.passed(10);
    expect(reader.texts[10]).toBe('entry 10');
    expect(await idle.tail()).toBe(11);
    expect(await rememberedNodes(idle)).toEqual([{ name: 'away', id: '1' }]);
    await reader.stop();
    for (const log of logs) await log.close();
  });

  test('by several at the same time, while epochs are sealed', async () => {
    const [logs, load, reader] = await begin('race', [0, 1]);
    const sets = [[0], [0, 1, 2], [1, 2], [2, 0], [1]];
    let epoch = 1;
    await Promise.all([
      ...sets.map((units, index) =>
        (logs[index % 3] as EtcdLog).setUnits(
          units.map((unit) => ({ endpoints: endpoints(unit) })),
        ),
      ),
      (async () => {
        for (; epoch <= 5; epoch++) {
          const tail = await (logs[2] as EtcdLog).seal(epoch);
          expect(tail).toBeGreaterThan(0);
        }
      })(),
    ]);
    await load.more(200);
    for (const log of logs) expect(await log.epoch()).toBe(5);
    const generations = await Promise.all(logs.map(async (log) => (await log.layout()).generation));
    expect(new Set(generations).size).toBe(1);
    await end(logs, load, reader);
  });

  test('a reconfiguration that died half way is undone by those who write', async () => {
    const [logs, load, reader] = await begin('dead', [0, 1]);
    const fence = (clusters[1] as Cluster)
      .etcdctl('get', 'dead/fence', '--print-value-only')
      .trim();
    const sealed = JSON.stringify({ ...JSON.parse(fence), sealed: true, by: 'someone' });
    (clusters[1] as Cluster).etcdctl('put', 'dead/fence', sealed);
    await load.more(200);
    expect((await (logs[0] as EtcdLog).layout()).generation).toBe(2);
    await end(logs, load, reader);
  });

  test('every member of a unit is replaced by another one', async () => {
    const cluster = await startCluster({ members: 3 });
    try {
      await cluster.leader();
      const logs = await openLogs(3, [cluster.endpoints], 'members/');
      const load = new Load(logs.slice(0, 2), { writers: 8 });
      const reader = new Reader(logs[1] as EtcdLog);
      const founders = cluster.endpoints;
      await load.more(100);
      for (let round = 0; round < 3; round++) {
        await cluster.add();
        await (logs[2] as EtcdLog).setUnits([{ endpoints: cluster.endpoints }]);
        await cluster.remove(0);
        await (logs[2] as EtcdLog).setUnits([{ endpoints: cluster.endpoints }]);
        await load.more(100);
      }
      expect(cluster.endpoints.filter((each) => founders.includes(each))).toEqual([]);
      await end(logs, load, reader);
    } finally {
      await cluster.stop();
    }
  });

  test('an old epoch cannot write after the seal, on any unit', async () => {
    const logs = await openLogs(2, [0, 1, 2].map(endpoints), 'seal/');
    const [first, second] = logs as [EtcdLog, EtcdLog];
    for (let address = 0; address < 7; address++) {
      await first.write({ epoch: 0, address: asAddress(address) }, Buffer.from('old'));
    }
    expect(await second.seal(3)).toBe(7);
    for (let address = 7; address < 10; address++) {
      const write = first.write({ epoch: 2, address: asAddress(address) }, Buffer.from('late'));
      await expect(write).rejects.toMatchObject({ code: 'LOG_EPOCH_SEALED' });
    }
    await expect(first.seal(3)).rejects.toMatchObject({ code: 'LOG_EPOCH_SEALED' });
    const [a, b] = await Promise.allSettled([first.seal(4), second.seal(4)]);
    expect([a?.status, b?.status].sort()).toEqual(['fulfilled', 'rejected']);
    expect(await first.tail()).toBe(7);
    for (const log of logs) await log.close();
  });
});
