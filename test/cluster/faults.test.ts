import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { Ledger } from './ledger.ts';

/*
 * Bad days of a network over etcd while tellers transfer money: nothing acknowledged may be lost,
 * nothing may take effect twice, and service comes back by itself.
 */

describe.skipIf(!etcdAvailable())('faults of a cluster', { timeout: 180_000 }, () => {
  let etcd: Cluster;
  let ledger: Ledger;

  beforeEach(async () => {
    etcd = await startCluster();
    await etcd.leader();
  }, 30_000);
  afterEach(async () => {
    await ledger?.close();
    await etcd.stop();
  }, 60_000);

  test('kill -9 of each executor, and of each member of etcd in turn', async () => {
    ledger = await Ledger.start(etcd);
    const tellers = ledger.tellers(12);
    const stalls: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      await tellers.more(50);
      const pid = (await ledger.network.status()).executors[turn]?.pid;
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
      await tellers.more(50);
      tellers.takeStallMs();
      await etcd.kill(turn);
      await tellers.more(100);
      stalls.push(tellers.takeStallMs());
      etcd.start(turn);
      await sleep(1_000);
    }
    process.stderr.write(`stalls after the death of a member of etcd ${stalls.join()} ms\n`);
    expect(await tellers.settle()).toEqual([]);
  });

  test('a majority of etcd killed and brought back; executors that were paused meanwhile', async () => {
    ledger = await Ledger.start(etcd);
    const tellers = ledger.tellers(12);
    await tellers.more(100);
    const { executors } = await ledger.network.status();
    await Promise.all([etcd.kill(0), etcd.kill(1)]);
    const pid = executors[2]?.pid ?? 0;
    process.kill(pid, 'SIGSTOP');
    await sleep(3_000);
    etcd.start(0);
    etcd.start(1);
    await sleep(500);
    process.kill(pid, 'SIGCONT');
    await tellers.more(200, 60_000);
    expect(await tellers.settle()).toEqual([]);
  });

  test('the sequencer moves on by the clock while executors die', async () => {
    ledger = await Ledger.start(etcd, { rotateMs: 1_500 });
    const tellers = ledger.tellers(12);
    const leaders = new Set<string>();
    for (let round = 0; round < 6; round++) {
      leaders.add((await ledger.leader()).name);
      if (round % 2 === 1) {
        const pid = (await ledger.network.status()).executors[round % 3]?.pid;
        if (pid !== undefined) process.kill(pid, 'SIGKILL');
      }
      await tellers.more(50);
      await sleep(1_000);
    }
    expect(leaders.size).toBeGreaterThan(1);
    expect(await tellers.settle()).toEqual([]);
  });

  test('without a sequencer: executors append at the tail', async () => {
    ledger = await Ledger.start(etcd, { sequencer: false });
    const tellers = ledger.tellers(6);
    await tellers.more(150);
    const pid = (await ledger.network.status()).executors[0]?.pid;
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
    await tellers.more(150);
    expect(await tellers.settle()).toEqual([]);
  });
});
