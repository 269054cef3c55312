import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import { openEmbeddedLog, openEtcdLog, parseEtcdUrl, type SharedLog } from '../../src/log/index.ts';
import { asAddress, positionOf } from '../../src/model/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { etcdAvailable } from '../etcd/cluster.ts';
import { etcdSuite } from '../etcd/suite.ts';
import { built, root } from '../process/built.ts';
import { discrepancies, startTellers } from '../process/transfers.ts';
import { etcdUrl } from './ledger.ts';

const { copyLog, startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;
const io = realIo();

/* A channel moves from the embedded log to etcd and back. */

describe.skipIf(!etcdAvailable())('log copy', { timeout: 300_000 }, () => {
  const suite = etcdSuite({ members: 1 });

  test('a channel goes on at the same addresses, on etcd and back on the embedded log', async () => {
    const data = join(suite.directory, 'network');
    const embedded = { directory: join(data, 'log') };
    const cluster = { log: { url: etcdUrl(suite.etcd) }, privateHost: '127.0.0.1', privatePort: 0 };
    const first = await startNetwork({ directory: data, executors: 1, httpPort: 0 });
    const { channel, signer } = first;
    const client = await connect({ gateways: first.gateways, channel, signer });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const before = await transfers(client, 200);
    await client.close();
    await first.close();

    const copied = await copyLog(io, embedded, cluster.log);
    expect(copied).toMatchObject({ resumedAt: 0 });
    // Again: nothing is added.
    expect(await copyLog(io, embedded, cluster.log)).toMatchObject({ entries: copied.entries });
    const second = await startNetwork({ directory: data, executors: 2, httpPort: 0, cluster });
    const there = await connect({ gateways: second.gateways, channel, signer });
    expect(await discrepancies(there, before)).toEqual([]);
    const during = await transfers(there, 100);
    await there.close();
    const chains = await chainsOf(second);
    expect(chains[0]).toEqual(chains[1]);
    await second.close();

    const back = { directory: join(suite.directory, 'back', 'log') };
    await copyLog(io, cluster.log, back);
    await expect(copyLog(io, embedded, back)).rejects.toMatchObject({ code: 'LOG_ADDRESS_TAKEN' });
    expect((await entriesOf(back.directory)).slice(0, copied.entries)).toEqual(
      await entriesOf(embedded.directory),
    );
    // A node with nothing but the copy comes to the same.
    const third = await startNetwork({
      directory: join(suite.directory, 'back'),
      executors: 1,
      httpPort: 0,
    });
    const again = await connect({ gateways: third.gateways, channel, signer });
    const both = before.map((told, teller) => ({
      acknowledged: [...told.acknowledged, ...(during[teller]?.acknowledged ?? [])],
      unknown: told.unknown + (during[teller]?.unknown ?? 0),
    }));
    expect(await discrepancies(again, both)).toEqual([]);
    expect(await chainsOf(third)).toEqual([chains[0]]);
    await again.close();
    await third.close();
  });

  test('a log that has lost its beginning is not copied, and says so', async () => {
    const url = etcdUrl(suite.etcd);
    const log = await openEtcdLog(io, parseEtcdUrl(url));
    for (const address of [0, 1, 2]) {
      await log.write({ epoch: 0, address: asAddress(address) }, Buffer.from(`entry ${address}`));
    }
    await log.trim(asAddress(2));
    await log.close();
    const to = join(suite.directory, 'beheaded');
    await expect(copyLog(io, { url }, { directory: to })).rejects.toMatchObject({
      code: 'LOG_TRIMMED',
      details: { start: 2 },
    });
  });
});

/** Height, hash and state root of every executor's chain, once all the log is in blocks. */
async function chainsOf(network: NodeRoom.Network): Promise<unknown[]> {
  // The log ends in a tick when it has not grown for longer than a tick takes.
  for (let tail = -1; tail !== (await network.status()).tail; ) {
    ({ tail } = await network.status());
    await new Promise((resolve) => setTimeout(resolve, 2_500));
  }
  for (const untilMs = performance.now() + 30_000; ; ) {
    const { executors, tail } = await network.status();
    const chains = executors.map(({ status }) => status?.blocks);
    if (chains.every((chain) => (chain?.position ?? 0) >= positionOf(asAddress(tail - 1), 0))) {
      return chains.map((chain) => [chain?.height, chain?.blockHash, chain?.stateRoot]);
    }
    if (performance.now() > untilMs) throw new Error(`${tail}: ${JSON.stringify(chains)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function transfers(
  client: Parameters<typeof startTellers>[0],
  count: number,
): Promise<ReturnType<typeof startTellers>['told']> {
  const tellers = startTellers(client, 4);
  while (tellers.told.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0) < count) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await tellers.stop();
  return tellers.told;
}

async function entriesOf(directory: string): Promise<string[]> {
  const log: SharedLog = await openEmbeddedLog({ io, directory });
  const found: string[] = [];
  try {
    const tail = await log.tail();
    for (let address = 0; address < tail; address++) {
      const { kind, epoch, bytes } = await log.read(asAddress(address));
      found.push(`${address} ${kind} ${epoch} ${Buffer.from(bytes).toString('base64')}`);
    }
  } finally {
    await log.close();
  }
  return found;
}
