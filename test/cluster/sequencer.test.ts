import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { Ledger } from './ledger.ts';

/* The sequencer's place among three nodes over etcd, while tellers transfer money. */

describe.skipIf(!etcdAvailable())('sequencer of a cluster', { timeout: 120_000 }, () => {
  let etcd: Cluster;
  let ledger: Ledger | undefined;

  beforeAll(async () => {
    etcd = await startCluster();
    await etcd.leader();
  }, 30_000);
  afterEach(async () => {
    await ledger?.close();
    ledger = undefined;
  });
  afterAll(() => etcd.stop());

  test('kill -9 of the leader, again and again: another leads within 3 s, nothing is lost', async () => {
    ledger = await Ledger.start(etcd);
    const tellers = ledger.tellers(12);
    const stalls: number[] = [];
    for (let kill = 0; kill < 3; kill++) {
      const { pid, epoch } = await ledger.leader();
      await tellers.more(50);
      tellers.takeStallMs();
      process.kill(pid, 'SIGKILL');
      await tellers.more(50);
      stalls.push(tellers.takeStallMs());
      while ((await ledger.leader()).epoch === epoch) await sleep(20);
    }
    process.stderr.write(`failover stalls ${stalls.join()} ms\n`);
    expect(Math.max(...stalls)).toBeLessThan(3_000);
    expect(await tellers.settle()).toEqual([]);
  });
});
