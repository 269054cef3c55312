import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import { openEtcdLog, parseEtcdUrl } from '../../src/log/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';
import { built, root } from '../process/built.ts';
import { startTellers } from '../process/transfers.ts';
import { differentBlocks, until } from './chains.ts';
import { etcdUrl } from './ledger.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

describe.skipIf(!etcdAvailable())('a new node', { timeout: 240_000 }, () => {
  const suite = etcdSuite({ members: 1 });

  test('begins with another node’s snapshot when the log is long, though nothing was trimmed', async () => {
    const url = etcdUrl(suite.etcd);
    const start = (
      name: string,
      joinReplayEntriesMax: number,
    ): Promise<NodeRoom.Network> & { events: string[] } => {
      const events: string[] = [];
      const network = startNetwork({
        directory: join(suite.directory, name),
        nodePrefix: `${name}-`,
        executors: 1,
        httpPort: 0,
        tickIntervalMs: 200,
        cluster: {
          log: { url },
          privateHost: '127.0.0.1',
          privatePort: 0,
          housekeepingMs: 300,
          joinReplayEntriesMax,
        },
        onEvent: (text) => events.push(text),
      });
      return Object.assign(network, { events });
    };
    const first = await start('first', 100);
    const { channel, signer } = first;
    const clientOf = ({ gateways }: NodeRoom.Network): ReturnType<typeof connect> =>
      connect({ gateways, channel, signer, deadlineMs: 60_000 });
    const client = await clientOf(first);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const log = await openEtcdLog(realIo(), parseEtcdUrl(url));
    const before = startTellers(client, 2, 'before-');
    await until(async () => (await log.tail()) > 150);
    await before.stop();

    // While the network is in use: what comes after the snapshot comes from the log.
    const during = startTellers(client, 2, 'during-');
    const starting = start('second', 100);
    const second = await starting;
    const [, address = ''] =
      /fetched the snapshot at (\d+) from first-1/.exec(starting.events.join('\n')) ?? [];
    expect(Number(address)).toBeGreaterThan(50);
    expect(await log.start()).toBe(0);
    await during.stop();
    expect(await differentBlocks([...first.gateways, ...second.gateways])).toEqual([]);
    const there = await clientOf(second);
    for (const [tellers, prefix] of [
      [before, 'before-'],
      [during, 'during-'],
    ] as const) {
      for (const [teller, { acknowledged }] of tellers.told.entries()) {
        const last = acknowledged.at(-1)?.position;
        await there.waitFor(last as Parameters<typeof there.waitFor>[0]);
        const balance = await there.evaluate('bench', 'read', [`${prefix}teller${teller}`]);
        expect(-Number(balance.text())).toBe(acknowledged.length);
      }
    }
    // Its own transactions are valid for all.
    const { position } = await there.submit('bench', 'move', ['late', 'common0', '1']);
    await client.waitFor(position);
    expect((await client.evaluate('bench', 'read', ['late'])).text()).toBe('-1');
    await there.close();

    // A log that is short enough is replayed, and so is a long one when nobody offers anything.
    const replaying = start('third', 1_000_000);
    await (await replaying).close();
    expect(replaying.events.join('\n')).not.toContain('snapshot');
    await client.close();
    await second.close();
    await first.close();
    const alone = start('fourth', 100);
    const fourth = await alone;
    expect(alone.events.join('\n')).toContain('a snapshot would save replaying them');
    expect(alone.events.join('\n')).not.toContain('fetched');
    const last = await clientOf(fourth);
    expect((await last.evaluate('bench', 'read', ['late'])).text()).toBe('-1');
    await last.close();
    await fourth.close();
    await log.close();
  });
});
