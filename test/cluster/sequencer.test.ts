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

  test('a leader that is paused is replaced; when it goes on it does no harm', async () => {
    ledger = await Ledger.start(etcd);
    const tellers = ledger.tellers(12);
    const first = await ledger.leader();
    await tellers.more(50);
    process.kill(first.pid, 'SIGSTOP');
    try {
      const others = async (): Promise<boolean> => {
        const { node } = (await ledger?.admin.leader()) ?? { node: first.name };
        return node !== first.name;
      };
      while (!(await others())) await sleep(20);
      await tellers.more(50);
    } finally {
      process.kill(first.pid, 'SIGCONT');
    }
    await tellers.more(100);
    expect((await ledger.leader()).epoch).toBeGreaterThan(first.epoch);
    expect(await tellers.settle()).toEqual([]);
  });

  test('moves on request and by the clock without a visible stall; drained nodes do not lead', async () => {
    ledger = await Ledger.start(etcd);
    const tellers = ledger.tellers(12);
    const stalls: number[] = [];
    for (const to of ['executor-2', 'executor-3', 'executor-1']) {
      await tellers.more(50);
      if ((await ledger.leader()).name === to) continue;
      tellers.takeStallMs();
      await ledger.admin.moveSequencer(to);
      await tellers.more(50);
      stalls.push(tellers.takeStallMs());
      expect((await ledger.leader()).name).toBe(to);
    }
    process.stderr.write(`handover stalls ${stalls.join()} ms\n`);
    expect(Math.max(...stalls)).toBeLessThan(1_500);

    await expect(ledger.admin.moveSequencer('nobody')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await ledger.admin.drain('executor-1', true);
    while ((await ledger.leader()).name === 'executor-1') await sleep(20);
    const drained = (await ledger.network.status()).executors[0]?.status;
    expect(drained?.draining).toBe(true);
    await tellers.more(100);
    const { committed } = drained?.executor ?? {};
    await sleep(300);
    // What was under way may still have ended; nothing new began.
    const later = (await ledger.network.status()).executors[0]?.status?.executor.committed ?? 0;
    expect(later - (committed ?? 0)).toBeLessThanOrEqual(12);
    const nodes = await fetch(`${ledger.network.gateways[2]}/v1/nodes`);
    const listed = (await nodes.json()) as { nodes: { name: string; draining: boolean }[] };
    expect(listed.nodes.map(({ name, draining }) => [name, draining])).toEqual([
      ['executor-1', true],
      ['executor-2', false],
      ['executor-3', false],
    ]);
    await ledger.admin.drain('executor-1', false);
    await ledger.admin.moveSequencer('executor-1');
    await tellers.more(100);
    expect((await ledger.leader()).name).toBe('executor-1');
    expect(await tellers.settle()).toEqual([]);
  });
});
