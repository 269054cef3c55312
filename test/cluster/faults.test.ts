import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { connect } from '../../src/client/index.ts';
import type * as NodeRoom from '../../src/node/index.ts';
import { type Cluster, etcdAvailable, startCluster } from '../etcd/cluster.ts';
import { built } from '../process/built.ts';
import { until } from './chains.ts';
import { Ledger } from './ledger.ts';

const { startNetwork } = (await import(built('src/node/index.js'))) as typeof NodeRoom;

/*
 * Bad days of a network over etcd while tellers transfer money: nothing acknowledged may be lost,
 * nothing may take effect twice, all nodes end with the same balances and the same blocks, and
 * service comes back by itself.
 */

describe.skipIf(!etcdAvailable())('faults of a cluster', { timeout: 300_000 }, () => {
  let etcd: Cluster;
  let ledger: Ledger;
  let closed = false;

  beforeAll(async () => {
    etcd = await startCluster();
    await etcd.leader();
    ledger = await Ledger.start(etcd, { blocks: true, tickIntervalMs: 500 });
  }, 60_000);
  afterAll(async () => {
    if (!closed) await ledger?.close();
    await etcd?.stop();
  }, 60_000);

  async function executorPid(at: number): Promise<number> {
    const { executors } = await ledger.network.status();
    return executors[at]?.pid ?? 0;
  }

  test('kill -9 of each executor, and of each member of etcd in turn', async () => {
    const tellers = ledger.tellers(12);
    const stalls: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      await tellers.more(50);
      kill(await executorPid(turn), 'SIGKILL');
      await tellers.more(50);
      tellers.takeStallMs();
      await etcd.kill(turn);
      await tellers.more(100);
      stalls.push(tellers.takeStallMs());
      etcd.start(turn);
      await sleep(1_000);
    }
    process.stderr.write(`stalls after the death of a member of etcd ${stalls.join()} ms\n`);
    expect(await tellers.settle()).toEqual([]);
  });

  test('kill -9 of what makes blocks, on every node', async () => {
    const tellers = ledger.tellers(6);
    await tellers.more(100);
    const stalls: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      const pid = childOf(await executorPid(turn), 'block-process-main');
      expect(pid).toBeGreaterThan(0);
      tellers.takeStallMs();
      kill(pid, 'SIGKILL');
      await tellers.more(50);
      stalls.push(tellers.takeStallMs());
    }
    // Commits do not wait for blocks. The median: a busy machine may stand still for a moment.
    expect(stalls.sort((a, b) => a - b)[1]).toBeLessThan(2_000);
    expect(await tellers.settle()).toEqual([]);
  });

  test('a majority of etcd killed and brought back; an executor that was paused meanwhile', async () => {
    const tellers = ledger.tellers(12);
    await tellers.more(100);
    const pid = await executorPid(2);
    await Promise.all([etcd.kill(0), etcd.kill(1)]);
    kill(pid, 'SIGSTOP');
    await sleep(3_000);
    etcd.start(0);
    etcd.start(1);
    await sleep(500);
    kill(pid, 'SIGCONT');
    await tellers.more(200, 60_000);
    expect(await tellers.settle()).toEqual([]);
  });

  test('while most members of a log unit are away, every node says so and sends clients away', async () => {
    const { gateways } = ledger.network;
    const healths = () => Promise.all(gateways.map(healthOf));
    const since = ledger.events.length;
    await Promise.all([etcd.kill(0), etcd.kill(1)]);
    const { signer } = ledger.network;
    const hurried = await connect({ gateways, channel: 'main', signer, deadlineMs: 5_000 });
    const opened = (): Promise<unknown> =>
      hurried.submit('bench', 'move', ['away-x', 'away-y', '1']).then(
        () => undefined,
        (error: unknown) => error,
      );
    // While it may still be a failover, too.
    expect(await opened()).toMatchObject({ retry: 'same' });
    await until(async () => (await healths()).every(({ status }) => status === 503));
    const unit = etcd.endpoints.join();
    for (const { channels } of await healths()) {
      expect(channels[0]).toMatchObject({ ready: false, logUnitsAway: [unit] });
      expect(channels[0]?.reason).toContain(`no answer from etcd at ${unit}`);
    }
    expect(await opened()).toMatchObject({ code: 'PEER_UNREACHABLE', retry: 'same' });
    await hurried.close();
    etcd.start(0);
    etcd.start(1);
    await until(async () => (await healths()).every(({ status }) => status === 200));
    const told = ledger.events.slice(since);
    for (const node of ['executor-1', 'executor-2', 'executor-3']) {
      const own = told.filter((text) => text.includes(`${node}: `)).join('\n');
      expect(own).toMatch(
        /ALARM takes no transactions: no answer from etcd at .*\n(.*\n)*.*the log answers again/,
      );
    }
    expect(await ledger.tellers(3).settle()).toEqual([]);
  });

  test('a second node of a name that is in use is refused', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'daybook-same-'));
    const { log, privateHost } = { log: { url: ledger.url }, privateHost: '127.0.0.1' };
    await expect(
      startNetwork({
        directory,
        executors: 1,
        httpPort: 0,
        blocks: false,
        cluster: { log, privateHost, privatePort: 0 },
      }),
    ).rejects.toMatchObject({ code: 'NODE_NAME_TAKEN' });
    rmSync(directory, { recursive: true, force: true });
  });

  test('a directory is one network at a time', async () => {
    const { log, privateHost } = { log: { url: ledger.url }, privateHost: '127.0.0.1' };
    const { directory } = ledger;
    const cluster = { log, privateHost, privatePort: 0 };
    await expect(
      startNetwork({ directory, executors: 1, httpPort: 0, blocks: false, cluster }),
    ).rejects.toMatchObject({ code: 'LOG_LOCKED' });
  });

  test('a log unit is added and removed while the network is in use', async () => {
    const more = await startCluster({ members: 1 });
    await more.leader();
    const tellers = ledger.tellers(6);
    await tellers.more(50);
    const present = etcd.endpoints.join();
    const both = await ledger.admin.setUnits(`etcd://${present};${more.endpoints.join()}`);
    expect(both.segments.at(-1)?.units).toHaveLength(2);
    await tellers.more(100);
    const again = await ledger.admin.setUnits(`etcd://${present}`);
    expect(again.segments.map(({ units }) => units.length)).toEqual([1, 2, 1]);
    await tellers.more(100);
    expect(await tellers.settle()).toEqual([]);
    // What lies on the unit that left is still needed.
    await ledger.close();
    closed = true;
    await more.stop();
  });

  test('the sequencer moves on by the clock while executors die', async () => {
    const other = await Ledger.start(etcd, { rotateMs: 1_500 });
    const tellers = other.tellers(12);
    const leaders = new Set<string>();
    for (let round = 0; round < 6; round++) {
      leaders.add((await other.leader()).name);
      if (round % 2 === 1) {
        kill((await other.network.status()).executors[round % 3]?.pid ?? 0, 'SIGKILL');
      }
      await tellers.more(50);
      await sleep(1_000);
    }
    expect(leaders.size).toBeGreaterThan(1);
    expect(await tellers.settle()).toEqual([]);
    await other.close();
  });

  test('without a sequencer: executors append at the tail', async () => {
    const other = await Ledger.start(etcd, { sequencer: false });
    const tellers = other.tellers(6);
    await tellers.more(150);
    kill((await other.network.status()).executors[0]?.pid ?? 0, 'SIGKILL');
    await tellers.more(150);
    expect(await tellers.settle()).toEqual([]);
    await other.close();
  });
});

interface Health {
  readonly status: number;
  readonly channels: readonly { readonly reason?: string }[];
}

async function healthOf(gateway: string): Promise<Health> {
  const answer = await fetch(new URL('/health', gateway));
  return { status: answer.status, ...((await answer.json()) as Omit<Health, 'status'>) };
}

/** A process that is just being started again has no id: nothing is killed then. */
function kill(pid: number, signal: NodeJS.Signals): void {
  if (pid > 0) process.kill(pid, signal);
}

/** The child process of `parent` that runs a module of this name; 0: there is none. */
function childOf(parent: number, module: string): number {
  const text = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' });
  for (const line of text.split('\n')) {
    const [, pid, of, args = ''] = /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    if (Number(of) === parent && args.includes(module)) return Number(pid);
  }
  return 0;
}
