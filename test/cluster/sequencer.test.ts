import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { Ledger } from './ledger.ts';

/** How many transactions an executor has committed. */
async function committedBy(ledger: Ledger, executor: number): Promise<number> {
  return vi.waitFor(async () => {
    const { status } = (await ledger.network.status()).executors[executor] ?? {};
    if (status === undefined) throw new Error('it does not answer');
    return status.executor.committed;
  }, 20_000);
}

/* The sequencer's place among three nodes over etcd, while tellers transfer money. */

describe.skipIf(!etcdAvailable())('sequencer of a cluster', { timeout: 300_000 }, () => {
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
      await ledger.allServe();
      const { pid } = await ledger.leader();
      await tellers.more(50);
      tellers.takeStallMs();
      process.kill(pid, 'SIGKILL');
      await tellers.more(50);
      stalls.push(tellers.takeStallMs());
    }
    process.stderr.write(`failover stalls ${stalls.join()} ms\n`);
    // The median: a machine that does something else for a moment is not to be seen.
    expect(stalls.sort((a, b) => a - b)[1]).toBeLessThan(3_000);
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
    // So long that a busy machine does not take the sequencer away from the node that it is moved to.
    ledger = await Ledger.start(etcd, { leaseMs: 20_000 });
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
    expect(stalls.sort((a, b) => a - b)[0]).toBeLessThan(1_500);

    await expect(ledger.admin.moveSequencer('nobody')).rejects.toMatchObject({
      code: 'NOT_FOUND',
    });
    await ledger.admin.drain('executor-1', true);
    while ((await ledger.leader()).name === 'executor-1') await sleep(20);
    await ledger.allServe();
    const drained = (await ledger.network.status()).executors[0]?.status;
    expect(drained?.draining ?? true).toBe(true);
    // What was under way may still end; nothing new begins.
    await tellers.more(100);
    const counts = [await committedBy(ledger, 0)];
    do {
      await tellers.more(100);
      counts.push(await committedBy(ledger, 0));
    } while (counts.at(-1) !== counts.at(-2) && counts.length < 5);
    expect(counts.at(-1)).toBe(counts.at(-2));
    const url = `${ledger.network.gateways[2]}/v1/nodes`;
    await vi.waitFor(async () => {
      const listed = (await (await fetch(url)).json()) as {
        nodes: { name: string; draining: boolean }[];
      };
      expect(listed.nodes.map(({ name, draining }) => [name, draining])).toEqual([
        ['executor-1', true],
        ['executor-2', false],
        ['executor-3', false],
      ]);
    }, 10_000);
    await ledger.admin.drain('executor-1', false);
    await ledger.admin.moveSequencer('executor-1');
    await tellers.more(100);
    expect((await ledger.leader()).name).toBe('executor-1');
    expect(await tellers.settle()).toEqual([]);
  });
});
