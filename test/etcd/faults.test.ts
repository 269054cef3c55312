import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EtcdLog } from '../../src/log/etcd/index.ts';
import { asAddress } from '../../src/model/index.ts';
import { type Cluster, etcdAvailable, pause, startCluster } from './cluster.ts';
import { Load, openLogs, Reader } from './load.ts';
import { LossyProxy } from './proxy.ts';

describe.skipIf(!etcdAvailable())('faults of etcd under load', { timeout: 180_000 }, () => {
  let cluster: Cluster;
  let logs: EtcdLog[];
  let load: Load;
  let reader: Reader;

  beforeAll(async () => {
    cluster = await startCluster();
  }, 30_000);
  afterAll(() => cluster.stop());

  async function begin(name: string, endpoints = cluster.endpoints): Promise<void> {
    logs = await openLogs(2, [endpoints], `${name}/`);
    load = new Load(logs, { writers: 16 });
    reader = new Reader(logs[1] as EtcdLog);
    await load.more(200);
  }

  /** Nothing acknowledged is lost, and the reader that followed all the time saw the same. */
  async function end(): Promise<void> {
    await load.stop();
    await load.check();
    const tail = await (logs[0] as EtcdLog).tail();
    await reader.passed(tail - 1);
    await reader.stop();
    for (const [address, text] of load.acknowledged) expect(reader.texts[address]).toBe(text);
    for (const log of logs) await log.close();
  }

  test('kill -9 of each member in turn, leaders among them', async () => {
    await begin('kill');
    for (let round = 0; round < 3; round++) {
      const victim = round === 0 ? await cluster.leader() : (round + 1) % 3;
      await cluster.kill(victim);
      await load.more(300);
      cluster.start(victim);
      await load.more(300);
    }
    const leader = await cluster.leader();
    await cluster.kill(leader);
    await load.more(300);
    cluster.start(leader);
    await end();
  });

  test('a majority is killed and comes back', async () => {
    await begin('majority');
    await cluster.kill(0);
    await cluster.kill(1);
    await pause(2000);
    const before = load.acknowledged.size;
    await pause(500);
    expect(load.acknowledged.size).toBe(before);
    cluster.start(0);
    cluster.start(1);
    await load.more(300);
    await end();
  });

  test('the leader is paused and goes on', async () => {
    await begin('paused');
    const leader = await cluster.leader();
    cluster.pause(leader);
    await load.more(300);
    await pause(500);
    cluster.resume(leader);
    await load.more(300);
    await end();
  });

  test('a paused member does not stop the followers that hang on it', async () => {
    await begin('silent');
    for (const member of [0, 1, 2]) {
      cluster.pause(member);
      await load.more(200);
      await reader.passed(Math.max(...load.acknowledged.keys()), 15_000).catch(async (error) => {
        cluster.resume(member);
        throw error;
      });
      cluster.resume(member);
    }
    await end();
  });

  test('answers are lost', async () => {
    const proxies = await Promise.all(cluster.endpoints.map((target) => LossyProxy.start(target)));
    await begin(
      'lost',
      proxies.map((proxy) => proxy.endpoint),
    );
    for (let round = 0; round < 6; round++) {
      await (proxies[round % 3] as LossyProxy).loseAnswers(20 + 30 * round);
      await load.more(50);
    }
    await Promise.all(proxies.map((proxy) => proxy.loseAnswers(100)));
    await load.more(200);
    await end();
    for (const proxy of proxies) proxy.stop();
  });

  test('the log is compacted under its followers', async () => {
    await begin('compacted');
    for (let round = 0; round < 5; round++) {
      const status = cluster.etcdctl('endpoint', 'status', '-w', 'json');
      const revision = Math.max(
        ...[...status.matchAll(/"revision":(\d+)/g)].map((m) => Number(m[1])),
      );
      cluster.etcdctl('compact', String(revision), '--physical');
      await load.more(100);
    }
    await end();
  });

  test('a reader that stops for a while misses nothing', async () => {
    await begin('slow');
    const log = logs[0] as EtcdLog;
    let next = 0;
    for await (const entries of log.follow(asAddress(0))) {
      for (const { address } of entries) expect(address).toBe(next++);
      if (next > 500) break;
      await load.more(100);
    }
    await end();
  });
});
