import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Layout } from '../../src/log/index.ts';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { command } from '../process/built.ts';
import { Ledger } from './ledger.ts';

const run = promisify(execFile);

/* Log units come and go under a network that is in use, by the operator's command. */

describe.skipIf(!etcdAvailable())('log units of a network', { timeout: 300_000 }, () => {
  let clusters: Cluster[];

  beforeAll(async () => {
    clusters = await Promise.all([1, 1].map((members) => startCluster({ members })));
    for (const cluster of clusters) await cluster.leader();
  }, 30_000);
  afterAll(() => Promise.all(clusters.map((cluster) => cluster.stop())));

  test('added and removed while tellers transfer money', async () => {
    const [first, second] = clusters as [Cluster, Cluster];
    const ledger = await Ledger.start(first, { executors: 2 });
    try {
      const tellers = ledger.tellers(8);
      await tellers.more(50);
      const units = async (...args: string[]): Promise<Layout> => {
        const all = [command, 'log', 'units', ...args, '--json', '--log', ledger.url];
        const { stdout } = await run(process.execPath, all);
        return (JSON.parse(stdout) as { layout: Layout }).layout;
      };
      expect((await units()).generation).toBe(1);
      const lists = [
        `${first.endpoints.join()};${second.endpoints.join()}`,
        second.endpoints.join(),
        `${second.endpoints.join()};${first.endpoints.join()}`,
      ];
      const used: number[] = [];
      for (const list of lists) {
        used.push((await units(`etcd://${list}`)).segments.at(-1)?.units.length ?? 0);
        await tellers.more(50);
      }
      expect(used).toEqual([2, 1, 2]);
      expect((await ledger.admin.layout()).generation).toBe(4);
      expect(await tellers.settle()).toEqual([]);
    } finally {
      await ledger.close();
    }
  });
});
