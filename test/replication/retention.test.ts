import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { toDaybookError } from '../../src/base/index.ts';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import { openEtcdLog, parseEtcdUrl } from '../../src/log/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { type FollowerIntroduction, httpFeed } from '../../src/replication/index.ts';
import { etcdUrl } from '../cluster/ledger.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';
import { built, root } from '../process/built.ts';
import { startTellers } from '../process/transfers.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;
const io = realIo();

describe.skipIf(!etcdAvailable())('the log is kept for followers', { timeout: 120_000 }, () => {
  const suite = etcdSuite({ members: 1 });

  it('as far as the policy goes; then the follower fills anew', async () => {
    const url = etcdUrl(suite.etcd);
    const network = await startNetwork({
      directory: suite.directory,
      executors: 1,
      httpPort: 0,
      cluster: { log: { url }, privateHost: '127.0.0.1', privatePort: 0, housekeepingMs: 200 },
      retention: { entries: 20, holders: 1, followerEntries: 600 },
      tickIntervalMs: 200,
    });
    const { gateways, channel, signer } = network;
    const client = await connect({ gateways, channel, signer, batchDelayMs: 2 });
    const log = await openEtcdLog(io, parseEtcdUrl(url));
    const feed = httpFeed({ io, gateways, channel });
    const introduction: FollowerIntroduction = {
      follower: 'slow',
      run: 'one',
      subscription: [{ contract: 'bench', prefix: 'common' }],
      applied: undefined,
      keys: [],
      changesMax: 10,
      filling: false,
      parked: 0,
    };
    /** Waits for the log to grow, and for the trim point to follow. */
    const until = async (what: (start: number, tail: number) => boolean): Promise<number> => {
      for (let tries = 0; ; tries++) {
        const [start, tail] = await Promise.all([log.start(), log.tail()]);
        if (what(start, tail)) return start;
        expect(tries, `start ${start}, tail ${tail}`).toBeLessThan(300);
        await sleep(100);
      }
    };
    try {
      await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
      const { page } = await feed.scan(introduction, undefined, undefined);
      await feed.applied({ ...introduction, applied: page.from });
      const needed = page.from / 4096;
      const first = startTellers(client, 4);
      await until((_start, tail) => tail > needed + 100);
      await first.stop();
      await sleep(600);
      expect(await log.start()).toBeLessThanOrEqual(needed);
      expect((await feed.status()).neededFrom).toBe(needed);
      // It comes forward: what is behind it goes.
      const before = await feed.pull(introduction, page.cursor, page.from, 1_000);
      const next = await feed.pull(introduction, before.cursor, before.next, 1_000);
      await feed.applied({ ...introduction, applied: next.next });
      await until((start) => start > needed);
      expect(await log.start()).toBeLessThanOrEqual(next.next / 4096);
      // It does not: no more is kept than the policy allows.
      const more = startTellers(client, 4);
      await until((start, tail) => start > next.next / 4096 && tail - start >= 20);
      await more.stop();
      // What the node still holds in memory is served for as long as it does.
      const pulled = async (): Promise<object> => {
        try {
          return await feed.pull(introduction, next.cursor, next.next, 1_000);
        } catch (error) {
          return toDaybookError(error);
        }
      };
      await expect.poll(pulled, { interval: 2_000, timeout: 60_000 }).toMatchObject({
        code: 'FOLLOWER_REFILL',
        details: { reason: 'log-trimmed' },
      });
      expect(await feed.status()).toMatchObject({
        inStep: false,
        followers: [{ name: 'slow', lagExact: false }],
      });
    } finally {
      await feed.close();
      await client.close();
      await log.close();
      await network.close();
    }
  });
});
