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
import { rotBlocks } from '../process/rot-blocks.ts';
import { startTellers } from '../process/transfers.ts';
import { differentBlocks, until } from './chains.ts';
import { etcdUrl } from './ledger.ts';

const { openClusterAdmin, startNetwork } = (await import(
  built('src/node/index.js')
)) as typeof NodeRoom;

describe.skipIf(!etcdAvailable())('retention of the log on etcd', { timeout: 300_000 }, () => {
  const suite = etcdSuite({ members: 1 });

  test('what two nodes hold leaves etcd; a node that comes late goes on from a snapshot', async () => {
    const url = etcdUrl(suite.etcd);
    const cluster = {
      log: { url },
      privateHost: '127.0.0.1',
      privatePort: 0,
      housekeepingMs: 300,
    };
    const network = await startNetwork({
      directory: join(suite.directory, 'first'),
      executors: 2,
      httpPort: 0,
      cluster,
      retention: { entries: 150, holders: 2 },
      tickIntervalMs: 200,
    });
    const { gateways, channel, signer } = network;
    const client = await connect({ gateways, channel, signer });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    let tellers = startTellers(client, 1, 'first-');
    const log = await openEtcdLog(realIo(), parseEtcdUrl(url));
    await until(async () => (await log.start()) >= 100);
    expect((await log.tail()) - (await log.start())).toBeGreaterThanOrEqual(150);

    const events: string[] = [];
    const startLate = (): ReturnType<typeof startNetwork> =>
      startNetwork({
        directory: join(suite.directory, 'late'),
        nodePrefix: 'late-',
        executors: 1,
        httpPort: 0,
        cluster,
        onEvent: (text) => events.push(text),
      });
    let late = await startLate();
    expect(events.join('\n')).toMatch(/fetched the snapshot at \d+ from executor-/);
    await tellers.stop();
    // Its chain comes from the others, too, and goes on by itself.
    expect(await differentBlocks([...gateways, ...late.gateways])).toEqual([]);
    expect(events.join('\n')).toMatch(/blocks are there and hold/);

    // Away for longer than the log is kept.
    const reached = (await late.status()).executors[0]?.status?.nextAddress ?? 0;
    await late.close();
    tellers = startTellers(client, 1, 'second-');
    await until(async () => (await log.start()) > reached);
    events.length = 0;
    late = await startLate();
    expect(events.join('\n')).toMatch(/fetched the snapshot at \d+ from executor-/);
    await tellers.stop();
    expect(await differentBlocks([...gateways, ...late.gateways])).toEqual([]);
    expect(events.join('\n')).toMatch(/blocks are there and hold/);
    const one = await connect({ gateways: late.gateways, channel, signer });
    // Older transactions cannot be looked up there; the balances hold them.
    const [told] = tellers.told;
    await one.waitFor(told?.acknowledged.at(-1)?.position as Parameters<typeof one.waitFor>[0]);
    const balance = (await one.evaluate('bench', 'read', ['second-teller0'])).text();
    expect(-Number(balance)).toBe(told?.acknowledged.length);
    // It takes part: its own transactions are valid for all.
    const { position } = await one.submit('bench', 'move', ['late', 'common0', '1']);
    await client.waitFor(position);
    expect((await client.evaluate('bench', 'read', ['late'])).text()).toBe('-1');

    // A block rots that the log has no entries for any more: others have it.
    events.length = 0;
    rotBlocks(join(suite.directory, 'late/late-1/chain'), 2);
    const ask = async (): Promise<Response> =>
      await fetch(`${late.gateways[0]}/v1/channels/main/blocks/2`);
    expect((await ask()).status).toBe(500);
    await until(async () => (await ask()).ok);
    expect(events.join('\n')).toMatch(/blocks are mended: block 2 in blocks-0+\.pb is damaged/);
    expect(await differentBlocks([...gateways, ...late.gateways])).toEqual([]);
    await one.close();
    await client.close();
    await late.close();
    await log.close();
    await network.close();
  });

  test('while who makes blocks is away the log waits, and says so, until it is back or forgotten', async () => {
    const url = etcdUrl(suite.etcd);
    const cluster = { log: { url }, privateHost: '127.0.0.1', privatePort: 0, housekeepingMs: 300 };
    const start = (name: string, blocks: boolean): ReturnType<typeof startNetwork> =>
      startNetwork({
        directory: join(suite.directory, name),
        nodePrefix: `${name}-`,
        executors: 1,
        httpPort: 0,
        blocks,
        cluster,
        retention: { entries: 50, holders: 1 },
        tickIntervalMs: 200,
        onEvent: (text) => events.push(text),
      });
    const events: string[] = [];
    let maker = await start('maker', true);
    const plain = await start('plain', false);
    const { channel, signer } = maker;
    const client = await connect({ gateways: plain.gateways, channel, signer });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const tellers = startTellers(client, 1);
    const log = await openEtcdLog(realIo(), parseEtcdUrl(url));
    await until(async () => (await log.start()) >= 10);
    await maker.close();
    const stands = await log.start();
    await until(async () => (await log.tail()) > stands + 300);
    expect(await log.start()).toBe(stands);
    expect(events.join('\n')).toMatch(/the log is not trimmed: it waits for maker-1/);
    const { channels } = (await (await fetch(`${plain.gateways[0]}/health`)).json()) as {
      readonly channels: readonly { readonly logWaitsFor?: readonly string[] }[];
    };
    expect(channels[0]?.logWaitsFor).toEqual(['maker-1']);
    const metrics = await (await fetch(`${plain.gateways[0]}/metrics`)).text();
    expect(metrics).toMatch(/daybook_log_waits_for_nodes\{channel="main"\} 1/);
    const admin = await openClusterAdmin(realIo(), { url });
    expect(await admin.makers()).toEqual(['maker-1']);
    await expect(admin.forget('plain-1')).rejects.toMatchObject({ code: 'NOT_FOUND' });

    // Its chain goes on, and the log is trimmed again.
    maker = await start('maker', true);
    await expect(admin.forget('maker-1')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await until(async () => (await log.start()) > stands + 100);
    await tellers.stop();
    expect(await differentBlocks(maker.gateways)).toEqual([]);
    await maker.close();
    // It will not come back.
    await until(async () => (await admin.members()).length === 1);
    await admin.forget('maker-1');
    const more = startTellers(client, 1, 'more-');
    const before = await log.tail();
    await until(async () => (await log.start()) > before);
    await more.stop();
    await admin.close();
    await client.close();
    await log.close();
    await plain.close();
  });

  test('where nobody leads, every node trims', async () => {
    const url = etcdUrl(suite.etcd);
    const network = await startNetwork({
      directory: join(suite.directory, 'leaderless'),
      executors: 2,
      httpPort: 0,
      sequencer: false,
      blocks: false,
      cluster: { log: { url }, privateHost: '127.0.0.1', privatePort: 0, housekeepingMs: 300 },
      retention: { entries: 30, holders: 2 },
    });
    const client = await connect(network);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const tellers = startTellers(client, 1);
    const log = await openEtcdLog(realIo(), parseEtcdUrl(url));
    await until(async () => (await log.start()) >= 50);
    await tellers.stop();
    const effects = -Number((await client.evaluate('bench', 'read', ['teller0'])).text());
    const { acknowledged = [], unknown = 0 } = tellers.told[0] ?? {};
    expect(effects).toBeGreaterThanOrEqual(acknowledged.length);
    expect(effects).toBeLessThanOrEqual(acknowledged.length + unknown);
    await client.close();
    await log.close();
    await network.close();
  });
});
