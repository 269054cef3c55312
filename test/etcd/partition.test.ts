import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EtcdLog } from '../../src/log/etcd/index.ts';
import { type Cluster, etcdAvailable, pause, startCluster } from './cluster.ts';
import { Hosts } from './hosts.ts';
import { Load, openLogs, Reader } from './load.ts';

const hosts = etcdAvailable() ? Hosts.create(3) : undefined;
if (hosts === undefined) console.warn('skipped: network namespaces are not permitted here');

describe.skipIf(hosts === undefined)('etcd members on hosts that lose their network', () => {
  let cluster: Cluster;
  let logs: EtcdLog[];
  let load: Load;
  let reader: Reader;

  beforeAll(async () => {
    cluster = await startCluster({ hosts: hosts?.all ?? [] });
    await cluster.leader();
    logs = await openLogs(2, [cluster.endpoints], 'cut/');
  }, 30_000);
  afterAll(async () => {
    for (const log of logs ?? []) await log.close();
    await cluster?.stop();
    hosts?.remove();
  });

  test('writers and readers go on with the majority, and when it is back', async () => {
    load = new Load(logs, { writers: 16 });
    reader = new Reader(logs[1] as EtcdLog);
    await load.more(200);
    for (const member of [await cluster.leader(), 0, 1, 2]) {
      hosts?.cut(member);
      await load.more(200);
      await reader.passed(load.acknowledged.size - 1);
      hosts?.heal(member);
      await load.more(100);
    }
    hosts?.cut(0);
    hosts?.cut(1);
    await pause(3000);
    const before = load.acknowledged.size;
    await pause(1000);
    expect(load.acknowledged.size).toBe(before);
    hosts?.heal(0);
    hosts?.heal(1);
    await load.more(300);
    await load.stop();
    await load.check();
    await reader.passed((await (logs[0] as EtcdLog).tail()) - 1);
    await reader.stop();
    for (const [address, text] of load.acknowledged) expect(reader.texts[address]).toBe(text);
  }, 120_000);
});
