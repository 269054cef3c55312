import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DaybookError, isDaybookError } from '../../src/base/index.ts';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { built, root } from '../process/built.ts';
import { differentBlocks, timesInChain } from './chains.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

const quotaBytes = 24 * 1024 * 1024;

describe.skipIf(!etcdAvailable())('a network whose log has no room', { timeout: 300_000 }, () => {
  let etcd: Cluster;
  let directory: string;
  const networks: NodeRoom.Network[] = [];
  const clients: Client[] = [];

  beforeEach(async () => {
    directory = mkdtempSync(join(tmpdir(), 'daybook-space-'));
    etcd = await startCluster({ members: 1, quotaBytes });
    await etcd.leader();
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close();
    for (const network of networks.splice(0).toReversed()) await network.close();
    await etcd.stop();
    rmSync(directory, { recursive: true, force: true });
  }, 30_000);

  async function start(options: {
    readonly name: string;
    readonly executors: number;
    readonly toldBytes: number;
    readonly housekeepingMs: number;
    readonly tickIntervalMs?: number;
    readonly joinReplayEntriesMax?: number;
  }): Promise<NodeRoom.Network> {
    const { name, executors, toldBytes, housekeepingMs } = options;
    const { tickIntervalMs = 200, joinReplayEntriesMax } = options;
    const network = await startNetwork({
      directory: join(directory, name),
      nodePrefix: `${name}-`,
      executors,
      httpPort: 0,
      tickIntervalMs,
      retention: { entries: 3, holders: 2 },
      cluster: {
        log: { url: `etcd://${etcd.endpoints.join()}/space`, quotaBytes: toldBytes },
        privateHost: '127.0.0.1',
        privatePort: 0,
        housekeepingMs,
        ...(joinReplayEntriesMax === undefined ? {} : { joinReplayEntriesMax }),
      },
    });
    networks.push(network);
    return network;
  }

  async function clientOf(network: NodeRoom.Network, deadlineMs: number): Promise<Client> {
    const { gateways, channel, signer } = network;
    const client = await connect({ gateways, channel, signer, deadlineMs });
    clients.push(client);
    return client;
  }

  async function served(client: Client, patient: Client, filled: readonly string[]): Promise<void> {
    expect((await patient.evaluate('bench', 'read', ['paid'])).text()).toBe('0');
    await patient.submit('bench', 'move', ['payer', 'paid', '7']);
    // This client may ask the other node, which hears of it a moment later.
    await expect
      .poll(async () => (await client.evaluate('bench', 'read', ['paid'])).text(), {
        timeout: 30_000,
      })
      .toBe('7');
    const gateways = networks.flatMap((network) => network.gateways);
    expect(await differentBlocks(gateways)).toEqual([]);
    // Nothing that was acknowledged is lost, or there twice.
    const times = await timesInChain(gateways[0] ?? '', filled);
    expect(times.size).toBeGreaterThan(10);
    expect(new Set(times.values())).toEqual(new Set([1]));
  }

  test('near the quota, because nobody else holds what could leave: typed errors, until somebody does', async () => {
    const settings = { executors: 1, toldBytes: quotaBytes, housekeepingMs: 300 };
    const one = await start({ name: 'one', ...settings });
    const client = await clientOf(one, 3_000);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const filled = await fillUp([client]);
    expect(filled.refusal).toMatchObject(noRoom);
    expect(etcd.etcdctl('alarm', 'list')).toBe('');
    await start({ name: 'two', ...settings });
    await served(client, await clientOf(one, 60_000), filled.acknowledged);
  });

  test('near the quota, with a block that is open: whoever could make room begins with a snapshot ahead of it', async () => {
    const settings = { executors: 1, toldBytes: quotaBytes, housekeepingMs: 300 };
    const late = { tickIntervalMs: 5_000, joinReplayEntriesMax: 3 };
    const one = await start({ name: 'one', ...settings, ...late });
    const client = await clientOf(one, 3_000);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const filled = await fillUp([client]);
    expect(filled.refusal).toMatchObject(noRoom);
    await start({ name: 'two', ...settings, ...late });
    await served(client, await clientOf(one, 60_000), filled.acknowledged);
  });

  test('at the quota, which was told wrong: typed errors, until the next trim', async () => {
    // Trims come too seldom for so much.
    const settings = { executors: 2, toldBytes: 4 * quotaBytes, housekeepingMs: 8_000 };
    const one = await start({ name: 'one', ...settings });
    const client = await clientOf(one, 3_000);
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    const others = await Promise.all([clientOf(one, 3_000), clientOf(one, 3_000)]);
    const filled = await fillUp([client, ...others]);
    expect(filled.refusal).toMatchObject(noRoom);
    await served(client, await clientOf(one, 60_000), filled.acknowledged);
  });
});

const noRoom = { code: 'OVERLOADED', retry: 'same', details: { limit: 'logSpaceBytes' } };

/** What clients were told while the log filled up, and at last. */
interface Filled {
  /** Transaction ids. */
  readonly acknowledged: readonly string[];
  readonly refusal: DaybookError | undefined;
}

/** Every client writes about half a mebibyte at a time until one is refused. */
async function fillUp(clients: readonly Client[]): Promise<Filled> {
  const prefix = 'x'.repeat(900);
  const acknowledged: string[] = [];
  let refusal: DaybookError | undefined;
  const fill = async (client: Client, first: number): Promise<void> => {
    for (let round = 0; refusal === undefined; round++) {
      if (round === 400) throw new Error('there was room all the time');
      try {
        const args = [prefix, `${first + round * 500}`, '500'];
        acknowledged.push((await client.submit('bench', 'fill', args)).txId);
      } catch (error) {
        if (!isDaybookError(error)) throw error;
        // That one was on its way; what comes after it is refused.
        if (error.code !== 'OUTCOME_UNKNOWN') refusal = error;
      }
    }
  };
  await Promise.all(clients.map((client, at) => fill(client, at * 1_000_000)));
  return { acknowledged, refusal };
}
