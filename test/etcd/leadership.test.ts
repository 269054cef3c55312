import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import {
  campaign,
  currentLeader,
  type EtcdLog,
  forgetNode,
  listNodes,
  type NodeInfo,
  register,
  rememberedNodes,
  rememberNode,
  watchLeader,
  watchNodes,
} from '../../src/log/etcd/index.ts';
import { type Cluster, etcdAvailable, pause, startCluster } from './cluster.ts';
import { openLogs } from './load.ts';

const waiting = { timeout: 20_000 };

describe.skipIf(!etcdAvailable())('leases on etcd', { timeout: 180_000 }, () => {
  let cluster: Cluster;
  let logs: [EtcdLog, EtcdLog];

  beforeAll(async () => {
    cluster = await startCluster();
  }, 30_000);
  afterAll(() => cluster.stop());

  async function open(prefix: string): Promise<void> {
    logs = (await openLogs(2, [cluster.endpoints], `${prefix}/`)) as [EtcdLog, EtcdLog];
  }
  // Longer than any pause of a busy machine: nobody loses its place by that.
  const one = { node: 'one', address: 'one:1', leaseMs: 5000 };
  const two = { node: 'two', address: 'two:2' };

  test('one leads at a time; each reign has a higher epoch; a leader that dies is replaced', async () => {
    await open('reign');
    const first = await campaign(logs[0], one);
    expect(first).toMatchObject({ epoch: 1, tail: 0 });
    expect(await currentLeader(logs[1])).toEqual({ node: 'one', address: 'one:1', epoch: 1 });
    const seen: (string | undefined)[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      for await (const leader of watchLeader(logs[1], stop.signal)) seen.push(leader?.node);
    })();
    let second: Awaited<ReturnType<typeof campaign>> | undefined;
    const campaigning = campaign(logs[1], two).then((reign) => {
      second = reign;
    });
    await pause(6000);
    expect(second).toBeUndefined();
    expect(first.lost.aborted).toBe(false);
    // As if the process had died: nobody renews the lease any more.
    await logs[0].close();
    await campaigning;
    expect(second?.epoch).toBe(2);
    expect(first.lost.aborted).toBe(true);
    await vi.waitFor(() => expect(seen.filter(Boolean)).toEqual(['one', 'two']), waiting);
    stop.abort();
    await watching;
    await logs[1].close();
  });

  test('a leader hands over at once, and to whom it names', async () => {
    await open('move');
    const leaseMs = 20_000;
    let reign = await campaign(logs[0], { ...one, leaseMs });
    const stop = new AbortController();
    const third = campaign(logs[0], { node: 'three', address: 'three:3' }, stop.signal);
    third.catch(() => undefined);
    const next = campaign(logs[1], two);
    await pause(300);
    const startMs = performance.now();
    await reign.resign('two');
    reign = await next;
    expect(performance.now() - startMs).toBeLessThan(leaseMs / 2);
    expect(await currentLeader(logs[0])).toMatchObject({ node: 'two', epoch: 2 });
    stop.abort();
    await expect(third).rejects.toMatchObject({ code: 'CLOSED' });
    await reign.resign();
    expect(await currentLeader(logs[0])).toBeUndefined();
    for (const log of logs) await log.close();
  });

  test('a leader outlives the members of etcd that it talks to', async () => {
    await open('outlive');
    const reign = await campaign(logs[0], { ...one, leaseMs: 10_000 });
    for (const member of [0, 1, 2]) {
      await cluster.kill(member);
      await pause(1500);
      cluster.start(member);
      await pause(500);
    }
    expect(reign.lost.aborted).toBe(false);
    await reign.resign();
    for (const log of logs) await log.close();
  });

  test('nodes see one another come, change and go', async () => {
    await open('nodes');
    const seen: (readonly NodeInfo[])[] = [];
    const stop = new AbortController();
    const watching = (async () => {
      for await (const nodes of watchNodes(logs[0], stop.signal)) seen.push(nodes);
    })();
    const a = await register(logs[0], { name: 'a', roles: ['executor'] });
    const b = await register(logs[1], { name: 'b', load: 1 });
    await b.update({ name: 'b', load: 2 });
    expect(await listNodes(logs[1])).toEqual([
      { name: 'a', roles: ['executor'] },
      { name: 'b', load: 2 },
    ]);
    await a.close();
    expect(await listNodes(logs[1])).toEqual([{ name: 'b', load: 2 }]);
    await vi.waitFor(() => expect(seen.at(-1)).toEqual([{ name: 'b', load: 2 }]), waiting);
    stop.abort();
    await watching;
    await b.close();
    for (const log of logs) await log.close();
  });

  test('a name belongs to one node at a time', async () => {
    await open('names');
    const options = { isOwn: ({ id }: NodeInfo) => id === 'first', leaseMs: 4000 };
    const first = await register(logs[0], { name: 'n', id: 'first' }, options);
    await expect(
      register(logs[1], { name: 'n', id: 'second' }, { leaseMs: 4000 }),
    ).rejects.toMatchObject({ code: 'NODE_NAME_TAKEN', details: { node: 'n' } });
    // The same node started again, while the entry of its earlier life stands.
    const again = await register(logs[1], { name: 'n', id: 'first', life: 2 }, options);
    await first.update({ name: 'n', id: 'first', life: 1 });
    expect(await listNodes(logs[1])).toEqual([{ name: 'n', id: 'first', life: 2 }]);
    await first.close();
    expect(await listNodes(logs[1])).toHaveLength(1);
    // It dies without a word: its entry is waited for.
    await logs[1].close();
    const taken: boolean[] = [];
    const heir = await register(
      logs[0],
      { name: 'n', id: 'second' },
      { leaseMs: 4000, onTaken: (now) => taken.push(now) },
    );
    expect(await listNodes(logs[0])).toEqual([{ name: 'n', id: 'second' }]);
    await heir.close();
    await logs[0].close();
    expect(again).toBeDefined();
    expect(taken).toEqual([]);
  });

  test('a node that lost its lease hears that its name was taken meanwhile, and when it is free', async () => {
    await open('taken');
    const taken: boolean[] = [];
    const options = {
      isOwn: ({ id }: NodeInfo) => id === 'first',
      leaseMs: 20_000,
      onTaken: (now: boolean) => taken.push(now),
    };
    const first = await register(logs[0], { name: 'n', id: 'first' }, options);
    const { keys, home } = logs[1].units;
    const key = Buffer.concat([keys.nodes, Buffer.from('n')]);
    const lease = (await home.client.call('range', { key })).kvs[0]?.lease ?? '';
    await home.client.call('put', { key, value: Buffer.from('{"name":"n","id":"second"}') });
    await home.client.call('leaseRevoke', { ID: lease });
    const until = async (last: boolean): Promise<void> => {
      for (let round = 0; taken.at(-1) !== last && round < 100; round++) await pause(50);
      expect(taken.at(-1)).toBe(last);
    };
    await until(true);
    // What it tells meanwhile does not replace the other one.
    await first.update({ name: 'n', id: 'first', load: 1 });
    expect(await listNodes(logs[1])).toEqual([{ name: 'n', id: 'second' }]);
    await home.client.call('deleteRange', { key });
    await until(false);
    expect(await listNodes(logs[1])).toEqual([{ name: 'n', id: 'first', load: 1 }]);
    await first.close();
    for (const log of logs) await log.close();
  });

  test('nodes that are remembered outlive their leases, under their newest name, until forgotten', async () => {
    await open('remembered');
    const [one, other] = logs;
    const names = async (): Promise<string[]> =>
      (await rememberedNodes(other)).map(({ name }) => name);
    const registration = await register(one, { name: 'b', id: 'first' });
    await rememberNode(one, { name: 'b', id: 'first' });
    await rememberNode(other, { name: 'a', id: 'second' });
    await registration.close();
    await one.close();
    expect(await names()).toEqual(['a', 'b']);
    await rememberNode(other, { name: 'c', id: 'first' });
    expect(await names()).toEqual(['a', 'c']);
    // With another disk.
    await rememberNode(other, { name: 'a', id: 'third' });
    expect(await names()).toEqual(['a', 'c']);
    await forgetNode(other, 'a');
    await forgetNode(other, 'nobody');
    expect(await names()).toEqual(['c']);
    await other.close();
  });
});
