import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../src/client/index.ts';
import { bundleContract } from '../../src/contract/index.ts';
import { realIo } from '../../src/io/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { Hosts } from '../etcd/hosts.ts';
import { built, command, root } from '../process/built.ts';
import { discrepancies, startTellers } from '../process/transfers.ts';
import { differentBlocks, until } from './chains.ts';

const { openClusterAdmin, openIdentities } = (await import(
  built('src/node/index.js')
)) as typeof NodeRoom;

const hosts = etcdAvailable() ? Hosts.create(3) : undefined;
if (hosts === undefined) console.warn('skipped: network namespaces are not permitted here');

/** Three hosts, each with a member of etcd and with a node that `daybook up` started there. */
describe.skipIf(hosts === undefined)('hosts that lose their network', { timeout: 300_000 }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-hosts-'));
  const nodes: ChildProcess[] = [];
  const gateways: string[] = [];
  let etcd: Cluster;
  let client: Client;
  let admin: NodeRoom.ClusterAdmin;
  let signer: Parameters<typeof connect>[0]['signer'];

  beforeAll(async () => {
    etcd = await startCluster({ hosts: hosts?.all ?? [] });
    await etcd.leader();
    const url = `etcd://${etcd.endpoints.join()}/hosts`;
    for (let at = 0; at < 3; at++) {
      const own = join(directory, `${at}`);
      // One authority for all.
      if (at > 0) cpSync(join(directory, '0', 'identities'), join(own, 'identities'), copying);
      gateways.push(await up(at, own, url));
    }
    const identities = await openIdentities(
      realIo(),
      join(directory, '0', 'identities'),
      'Org1MSP',
    );
    signer = await identities.load('admin');
    client = await connect({ gateways, channel: 'main', signer, deadlineMs: 60_000, attemptMs });
    await client.deploy(await bundleContract(join(root, 'examples/contracts/bench')));
    admin = await openClusterAdmin(realIo(), { url });
  }, 90_000);
  afterAll(async () => {
    await client?.close();
    await admin?.close();
    for (const node of nodes) node.kill('SIGTERM');
    await Promise.all(
      nodes.map(async (node) => {
        if (node.exitCode === null) await new Promise((resolve) => node.once('exit', resolve));
      }),
    );
    await etcd?.stop();
    hosts?.remove();
    rmSync(directory, { recursive: true, force: true });
  }, 60_000);

  /** Starts a node on a host; its gateway's URL. */
  async function up(at: number, own: string, url: string): Promise<string> {
    const [program = '', ...enter] = hosts?.all[at]?.command ?? [];
    const host = hosts?.all[at]?.address ?? '';
    const options = ['--log', url, '--host', host, '--port', '4270', '--executors', '1'];
    options.push('--private-host', hosts?.privateAddress(at) ?? '', '--node-prefix', `n${at}-`);
    const args = [...enter, process.execPath, command, 'up', '--directory', own, ...options];
    const node = spawn(program, args, { stdio: 'ignore' });
    nodes.push(node);
    const file = join(own, 'network.json');
    await until(async () => existsSync(file) || node.exitCode !== null);
    return (JSON.parse(readFileSync(file, 'utf8')) as { gateways: string[] }).gateways[0] as string;
  }

  const leader = async (): Promise<number> => {
    await until(async () => (await admin.leader()) !== undefined);
    return Number((await admin.leader())?.node.slice(1, 2));
  };

  /** Resolves when so many more transfers are acknowledged; how long that took, milliseconds. */
  async function more(tellers: ReturnType<typeof startTellers>, count: number): Promise<number> {
    const acknowledged = (): number =>
      tellers.told.reduce((sum, told) => sum + told.acknowledged.length, 0);
    const target = acknowledged() + count;
    const sinceMs = performance.now();
    await until(async () => acknowledged() >= target);
    return Math.round(performance.now() - sinceMs);
  }

  test('each host is cut off and comes back: the others go on, nothing is lost or done twice', async () => {
    const tellers = startTellers(client, 8, 'a-');
    await more(tellers, 100);
    const took: number[] = [];
    for (const host of [await leader(), 0, 1, 2]) {
      hosts?.cut(host);
      took.push(await more(tellers, 100));
      hosts?.heal(host);
      await more(tellers, 50);
    }
    process.stderr.write(`100 transfers after a host was cut off took ${took.join()} ms\n`);
    await tellers.stop();
    await settled();
    expect(await discrepancies(client, tellers.told, 'a-')).toEqual([]);
    expect(await differentBlocks(gateways)).toEqual([]);
  });

  test('a node that reaches etcd but not the sequencer sends its clients elsewhere', async () => {
    const tellers = startTellers(client, 8, 'b-');
    await more(tellers, 50);
    const leads = await leader();
    const lonely = (leads + 1) % 3;
    hosts?.cutPrivately(leads, lonely);
    const only = { gateways: [gateways[lonely] as string], channel: 'main' };
    const one = await connect({ ...only, ...(signer ? { signer } : {}), deadlineMs: 9_000 });
    await expect(one.submit('bench', 'move', ['b-x', 'b-y', '1'])).rejects.toMatchObject({
      code: 'PEER_UNREACHABLE',
    });
    expect((await admin.members()).map(({ cutOff }) => cutOff !== undefined)).toEqual(
      [0, 1, 2].map((at) => at === lonely),
    );
    await more(tellers, 100);
    expect(await leader()).toBe(leads);
    hosts?.healPrivately(leads, lonely);
    await until(async () => (await admin.members()).every(({ cutOff }) => cutOff === undefined));
    await one.submit('bench', 'move', ['b-x', 'b-y', '1']);
    await one.close();

    // No other node finds a way to the leader: one of them leads instead.
    const others = [0, 1, 2].filter((at) => at !== leads);
    for (const other of others) hosts?.cutPrivately(leads, other);
    await until(async () => others.includes(await leader()));
    await more(tellers, 100);
    for (const other of others) hosts?.healPrivately(leads, other);
    await until(async () => (await admin.members()).every(({ cutOff }) => cutOff === undefined));
    await more(tellers, 50);
    await tellers.stop();
    await settled();
    expect(await discrepancies(client, tellers.told, 'b-')).toEqual([]);
    expect(await differentBlocks(gateways)).toEqual([]);
  });

  /** Until all nodes have applied the same log. */
  async function settled(): Promise<void> {
    const { position } = await client.submit('bench', 'move', ['last', 'common', '0']);
    for (const gateway of gateways) {
      const one = await connect({
        gateways: [gateway],
        channel: 'main',
        ...(signer ? { signer } : {}),
      });
      await until(async () => {
        try {
          await one.waitFor(position);
          return true;
        } catch {
          return false;
        }
      });
      await one.close();
    }
    await sleep(100);
  }
});

const attemptMs = 2_000;
const copying = { recursive: true };
