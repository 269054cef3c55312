import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';
import { built, root } from '../process/built.ts';
import { discrepancies, startTellers } from '../process/transfers.ts';
import { differentBlocks, until } from './chains.ts';
import { etcdUrl } from './ledger.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

const row = 'vault9';

describe.skipIf(!etcdAvailable())('a wrong state among nodes on etcd', { timeout: 400_000 }, () => {
  const suite = etcdSuite({ members: 1 });

  test('a row changed in memory: the node takes the majority’s snapshot and serves again', async () => {
    process.env.DAYBOOK_DEBUG_SPOIL = `bench/${row}={"balance":900,"moves":0}`;
    const events: string[] = [];
    const directory = join(suite.directory, 'network');
    const network = await startNetwork({
      directory,
      executors: 3,
      httpPort: 0,
      tickIntervalMs: 200,
      repair: { intervalMs: 200, scrubRowsPerS: 20_000 },
      cluster: { log: { url: etcdUrl(suite.etcd) }, privateHost: '127.0.0.1', privatePort: 0 },
      onEvent: (text) => events.push(text),
    });
    delete process.env.DAYBOOK_DEBUG_SPOIL;
    const happened = (text: string): boolean => events.some((event) => event.includes(text));
    try {
      const { gateways } = network;
      const clientOf = (urls: readonly string[]): ReturnType<typeof connect> =>
        connect({ ...network, gateways: urls, deadlineMs: 60_000 });
      const all = await clientOf(gateways);
      await all.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
      await all.submit('bench', 'fill', ['vault', '0', '300']);
      const tellers = startTellers(all, 1);
      const { executors } = await network.status();
      process.kill(executors[2]?.pid ?? 0, 'SIGUSR2');
      await until(async () => happened('ALARM'), 120_000);
      await until(async () => happened('serves again'), 120_000);
      expect(events.find((event) => event.includes('ALARM'))).toMatch(
        new RegExp(`^executor-3: .*bench/${row} .*is changed`),
      );
      await tellers.stop();
      // The restored node answers, and rightly.
      const third = await clientOf(gateways.slice(2));
      await until(async () => {
        try {
          return (await third.evaluate('bench', 'read', [row])).text() === '0';
        } catch {
          return false;
        }
      });
      const others = await clientOf(gateways.slice(0, 2));
      expect(await discrepancies(others, tellers.told)).toEqual([]);
      expect(await differentBlocks(gateways)).toEqual([]);
      const kept = readdirSync(join(directory, 'executor-3', 'repair'));
      expect(kept.filter((name) => name.startsWith('evidence-'))).toHaveLength(1);
      const { status } = (await network.status()).executors[2] ?? {};
      expect(status?.guard?.state).toBe('serving');
      for (const client of [all, third, others]) await client.close();
    } catch (error) {
      throw new Error(`after\n${events.join('\n')}`, { cause: error });
    } finally {
      await network.close();
    }
  });
});
