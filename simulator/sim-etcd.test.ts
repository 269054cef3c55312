import { expect, it } from 'vitest';
import type { RequestOp } from '../src/log/etcd/etcd-api.ts';
import { EtcdLog } from '../src/log/etcd/etcd-log.ts';
import { unitOf } from '../src/log/etcd/layout.ts';
import { campaign, currentLeader, type LogEntry, type Member } from '../src/log/index.ts';
import { asAddress } from '../src/model/index.ts';
import { SimDisk } from './sim-disk.ts';
import { SimEtcdCluster } from './sim-etcd.ts';
import { simIo } from './sim-io.ts';
import { SimNetwork } from './sim-network.ts';
import { World } from './world.ts';

const second = 1_000_000;

function etcdWorld(seed: number, units = 1) {
  const world = new World(seed);
  const network = new SimNetwork(world);
  const clusters = Array.from({ length: units }, (_, at) => new SimEtcdCluster(world, network, at));
  const finished = async <T>(task: Promise<T>, seconds = 30): Promise<T> => {
    let over = false;
    const watched = task.finally(() => {
      over = true;
    });
    watched.catch(() => undefined);
    await world.run(() => over, world.nowUs + seconds * second);
    expect(over, 'it ends in time').toBe(true);
    return await watched;
  };
  const open = (name: string, seen = (member: Member): Member => member): Promise<EtcdLog> => {
    const process = world.spawn(name, name);
    const io = simIo(world, process, new SimDisk(world), network);
    const connectMember = (endpoint: string): Member => {
      const cluster = clusters.find((each) => each.has(endpoint)) as SimEtcdCluster;
      return seen(cluster.connect(process, endpoint));
    };
    return EtcdLog.open(
      { ...io, connectMember },
      {
        units: clusters.slice(0, 1).map(({ endpoints }) => ({ endpoints })),
        attemptTimeoutMs: 500,
      },
    );
  };
  const clusterAt = (at: number): SimEtcdCluster => clusters[at] as SimEtcdCluster;
  return { world, network, clusters, clusterAt, open, finished };
}

it('writes once, follows, fences: two nodes over the model of etcd', async () => {
  const { world, open, finished } = etcdWorld(1);
  const [one, two] = await finished(Promise.all([open('one'), open('two')]));
  await finished(one.write({ epoch: 0, address: asAddress(0) }, Buffer.from('first')));
  await expect(
    finished(two.write({ epoch: 0, address: asAddress(0) }, Buffer.from('other'))),
  ).rejects.toMatchObject({ code: 'LOG_ADDRESS_TAKEN' });
  const seen: LogEntry[] = [];
  void (async () => {
    for await (const run of two.follow(asAddress(0))) seen.push(...run);
  })();
  await world.run(() => seen.length > 0, world.nowUs + 5 * second);
  expect(Buffer.from(seen[0]?.bytes ?? []).toString()).toBe('first');
  await finished(two.seal(1));
  await expect(
    finished(one.write({ epoch: 0, address: asAddress(1) }, Buffer.from('late'))),
  ).rejects.toMatchObject({ code: 'LOG_EPOCH_SEALED' });
});

it('follows through lost answers, new leaders, compaction, dead members and changed layouts', async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const { world, clusters, clusterAt, open, finished } = etcdWorld(seed, 3);
    const [writer, reader, admin] = await finished(
      Promise.all([open('writer'), open('reader'), open('admin')]),
    );
    for (const cluster of clusters) cluster.members.faults.lostAnswers = 0.2;
    const seen: number[] = [];
    void (async () => {
      for await (const run of reader.follow(asAddress(0))) {
        for (const { address } of run) seen.push(address);
      }
    })();
    const count = 60;
    const write = async (): Promise<void> => {
      for (let at = 0; at < count; at++) {
        await writer.write({ epoch: 0, address: asAddress(at) }, Buffer.from(`entry ${at}`));
        if (at % 10 === 3) clusterAt(0).compact();
        if (at === 15) clusterAt(1).members.changeLeader();
        if (at === 20) {
          void admin.setUnits(clusters.slice(1).map(({ endpoints }) => ({ endpoints })));
        }
        if (at === 30) clusterAt(2).members.killOne(second);
        if (at === 40) void admin.setUnits(clusters.map(({ endpoints }) => ({ endpoints })));
      }
    };
    await finished(write(), 200);
    await world.run(() => seen.length >= count, world.nowUs + 20 * second);
    expect(seen).toEqual(Array.from({ length: count }, (_, at) => at));
  }
});

it('a follower does not take a unit that is about to join for one that has lost its data', async () => {
  const { world, clusterAt, open, finished } = etcdWorld(6, 2);
  const joining = clusterAt(1);
  let letJoin: () => void = () => undefined;
  const mayJoin = new Promise<void>((resolve) => {
    letJoin = resolve;
  });
  let held = 0;
  // The layout is decided and known, but for a while nobody gets to put it in force on the unit.
  const slowToJoin = (member: Member): Member => ({
    ...member,
    call: async (name, request, options) => {
      const text = JSON.stringify(request);
      if (name === 'txn' && joining.has(member.endpoint) && text.includes('request_put')) {
        held++;
        await mayJoin;
      }
      return member.call(name, request, options);
    },
  });
  const [admin, reader] = await finished(
    Promise.all([open('admin', slowToJoin), open('reader', slowToJoin)]),
  );
  const seen: number[] = [];
  let failure: unknown;
  const following = (async () => {
    for await (const run of reader.follow(asAddress(0))) {
      for (const { address } of run) seen.push(address);
    }
  })().catch((error: unknown) => {
    failure = error;
  });
  await finished(admin.write({ epoch: 0, address: asAddress(0) }, Buffer.from('before')));
  const units = [0, 1].map((at) => ({ endpoints: clusterAt(at).endpoints }));
  const changed = admin.setUnits(units);
  await world.run(() => held > 0, world.nowUs + 5 * second);
  // Somebody in the reader's process hears of the layout before the follower does.
  const heard = reader.layout();
  await world.run(() => held > 1, world.nowUs + 5 * second);
  await world.run(() => false, world.nowUs + second / 4);
  letJoin();
  await finished(Promise.all([changed, heard]));
  await finished(admin.write({ epoch: 0, address: asAddress(1) }, Buffer.from('after')));
  await finished(admin.write({ epoch: 0, address: asAddress(2) }, Buffer.from('after')));
  await world.run(() => seen.length === 3 || failure !== undefined, world.nowUs + 5 * second);
  expect(failure).toBe(undefined);
  expect(seen).toEqual([0, 1, 2]);
  await Promise.all([admin.close(), reader.close()]);
  await world.run(() => false, world.nowUs + 5 * second);
  await following;
});

it('trims when not even the trim point can be written, and nobody takes what is gone for a hole', async () => {
  const { clusters, open, finished } = etcdWorld(7, 2);
  const units = clusters.map(({ endpoints }) => ({ endpoints }));
  const [trimmer, other] = await finished(Promise.all([open('trimmer'), open('other')]));
  await finished(trimmer.setUnits(units));
  const write = (log: EtcdLog, at: number): Promise<void> =>
    finished(log.write({ epoch: 0, address: asAddress(at) }, Buffer.alloc(1000, `${at} `)));
  for (let at = 0; at < 20; at++) await write(trimmer, at);
  // A hole, at which the trim cannot mark its place.
  await write(trimmer, 21);
  for (const cluster of clusters) cluster.space.quotaBytes = 0;
  await expect(write(trimmer, 22)).rejects.toMatchObject({ code: 'OVERLOADED' });
  await expect(finished(trimmer.trim(asAddress(21)))).rejects.toMatchObject({ code: 'OVERLOADED' });
  // The entries are gone, though the trim point says otherwise; nobody can see nothing where one was.
  await expect(finished(other.read(asAddress(4)))).rejects.toMatchObject({ code: 'OVERLOADED' });
  await expect(finished(other.fill(asAddress(4)))).rejects.toMatchObject({ code: 'OVERLOADED' });
  expect(await finished(other.tail())).toBe(22);
  for (const cluster of clusters) cluster.space.quotaBytes = 200_000;
  // The trimmer is no more: it lifts no alarm and moves no trim point.
  await finished(trimmer.close());
  for (const cluster of clusters) cluster.liftAlarm();
  await finished(other.fill(asAddress(4)));
  await expect(finished(other.read(asAddress(4)))).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
  await write(other, 22);
  await write(other, 23);
  const kept = await finished(other.start());
  // What lies on the other unit is as it was.
  expect(kept).toBe(17);
  await finished(other.fill(asAddress(20)));
  const read: number[] = [];
  const collect = async (): Promise<void> => {
    for await (const run of other.follow(kept)) {
      for (const { address } of run) read.push(address);
      if (read.at(-1) === 23) return;
    }
  };
  await finished(collect());
  expect(read).toEqual(Array.from({ length: 24 - kept }, (_, at) => kept + at));
});

it('an alarm is lifted when there is room again, though there is nothing to trim', async () => {
  const { world, clusterAt, open, finished } = etcdWorld(8);
  const cluster = clusterAt(0);
  const log = await finished(open('writer'));
  const write = (at: number): Promise<void> =>
    finished(log.write({ epoch: 0, address: asAddress(at) }, Buffer.alloc(1000, `${at} `)));
  const others = (op: RequestOp): Promise<boolean> =>
    finished(new Promise<boolean>((done) => cluster.others(op, done)));
  await write(0);
  cluster.space.quotaBytes = 200_000;
  for (let puts = 0; cluster.space.alarms.length === 0; puts++) {
    const key = Buffer.from(`others/${puts}`);
    await others({ request_put: { key, value: Buffer.alloc(10_000) } });
  }
  await expect(write(1)).rejects.toMatchObject({ code: 'OVERLOADED' });
  // As long as there is none nothing changes.
  await finished(log.reclaim());
  const [key, range_end] = [Buffer.from('others/'), Buffer.from('others0')];
  await others({ request_delete_range: { key, range_end } });
  await expect(write(1)).rejects.toMatchObject({ code: 'OVERLOADED' });
  await world.run(() => false, world.nowUs + 10 * second);
  await finished(log.reclaim());
  await write(1);
  expect(await finished(log.tail())).toBe(2);
});

it('a unit is not emptied because another has no space', async () => {
  const { clusters, clusterAt, open, finished } = etcdWorld(9, 2);
  const units = clusters.map(({ endpoints }) => ({ endpoints }));
  const { space } = clusterAt(0);
  const lift = (): void => {
    space.quotaBytes = Number.POSITIVE_INFINITY;
    clusterAt(0).liftAlarm();
  };
  let isTrimming = false;
  // The home unit runs out of space as soon as it is trimmed.
  const thenFull = (member: Member): Member => ({
    ...member,
    call: async (name, request, options) => {
      const answer = await member.call(name, request, options);
      const isHome = clusterAt(0).has(member.endpoint);
      if (isTrimming && isHome && name === 'deleteRange') space.quotaBytes = 0;
      return answer;
    },
  });
  const log = await finished(open('trimmer', thenFull));
  await finished(log.setUnits(units));
  for (let at = 0; at < 10; at++) {
    const value = Buffer.alloc(1000, `${at} `);
    await finished(log.write({ epoch: 0, address: asAddress(at) }, value));
  }
  // Half way to another layout: one unit is sealed, the home unit has no space for that.
  space.quotaBytes = 0;
  await expect(finished(log.setUnits(units.toReversed()))).rejects.toMatchObject({
    code: 'OVERLOADED',
  });
  lift();
  isTrimming = true;
  await expect(finished(log.trim(asAddress(8)))).rejects.toMatchObject({ code: 'OVERLOADED' });
  isTrimming = false;
  const { layout } = log.units;
  const other = layout.units.map(({ id }) => id).find((id) => id !== log.units.home.id);
  const there = Array.from({ length: 8 }, (_, at) => at).filter(
    (at) => unitOf(layout, asAddress(at)) === other,
  );
  expect(there.length).toBeGreaterThan(2);
  for (const at of there) {
    expect((await finished(log.read(asAddress(at)))).bytes.length).toBe(1000);
  }
  // When there is space, all goes on.
  lift();
  await finished(log.trim(asAddress(8)));
  expect(await finished(log.start())).toBe(8);
  await finished(log.write({ epoch: 0, address: asAddress(10) }, Buffer.alloc(1000)));
});

it('one leads at a time; a leader that falls silent is replaced when its lease ends', async () => {
  const { world, network, clusterAt, open, finished } = etcdWorld(4);
  const [one, two] = await finished(Promise.all([open('one'), open('two')]));
  const first = await finished(campaign(one, { node: 'one', address: 'one:1' }));
  const second1 = campaign(two, { node: 'two', address: 'two:1' });
  await world.run(() => false, world.nowUs + 5 * second);
  await expect(finished(currentLeader(two))).resolves.toMatchObject({ node: 'one', epoch: 1 });
  for (const machine of clusterAt(0).machines) {
    network.link('one', machine).blockedUntilUs = world.nowUs + 60 * second;
  }
  const next = await finished(second1);
  expect(next.epoch).toBe(2);
  expect(first.lost.aborted).toBe(true);
});

it('a leader gives way when another has sealed its epoch, though its own lease lives', async () => {
  const { world, open, finished } = etcdWorld(5);
  const [one, two] = await finished(Promise.all([open('one'), open('two')]));
  const reign = await finished(campaign(one, { node: 'one', address: 'one:1' }));
  // As somebody does who won an election on a unit that is no longer the home of the log.
  await finished(two.seal(reign.epoch + 1));
  await world.run(() => reign.lost.aborted, world.nowUs + 3 * second);
  expect(reign.lost.aborted).toBe(true);
  const next = await finished(campaign(two, { node: 'two', address: 'two:1' }));
  expect(next.epoch).toBe(reign.epoch + 2);
});
