import { expect, test } from 'vitest';
import { SimEtcdCluster } from '../../simulator/sim-etcd.ts';
import { SimNetwork } from '../../simulator/sim-network.ts';
import { World } from '../../simulator/world.ts';
import { realIo } from '../../src/io/index.ts';
import type { CallName, Calls, RequestOp } from '../../src/log/etcd/etcd-api.ts';
import { grpcMembers } from '../../src/log/etcd/grpc-member.ts';
import type { Member } from '../../src/log/index.ts';
import { etcdAvailable, pause, startCluster } from './cluster.ts';

/*
 * The simulator's model of etcd beside a real one: both are taken to their quota and back by the same
 * calls, and must answer alike.
 */

const kibibyte = 1024;
const quotaBytes = 4096 * kibibyte;
const valueBytes = 64 * kibibyte;
const sizeRatioMax = 1.5;

/** A cluster that is asked by its members. */
interface Asked {
  readonly members: readonly Member[];
  /** Lets time pass that the members need to commit to their files. */
  readonly settle: () => Promise<void>;
}

/** What a cluster answered; sizes in KiB. */
type Answers = Record<string, unknown>;

const key = (text: string): Buffer => Buffer.from(text);
const filled = (at: number): Buffer => key(`a/${String(at).padStart(6, '0')}`);
const put: RequestOp = { request_put: { key: key('t'), value: Buffer.alloc(1) } };
const read: RequestOp = { request_range: { key: key('t') } };

/** Fills a cluster, and makes room again. */
async function scenario({ members, settle }: Asked): Promise<Answers> {
  const answers: Answers = {};
  const call = <Name extends CallName>(
    at: number,
    name: Name,
    request: Calls[Name]['request'],
  ): Promise<Calls[Name]['response']> =>
    (members[at] as Member).call(name, request, { token: undefined, timeoutMs: 5000 });
  /** `ok`, or how it was refused. */
  const outcome = async (task: Promise<unknown>): Promise<string> => {
    try {
      await task;
      return 'ok';
    } catch (error) {
      const { code, details } = error as { code: number; details: string };
      return `${code} ${details}`;
    }
  };
  const sizes = async (): Promise<{ file: number[]; used: number[] }> => {
    const all = await Promise.all(members.map((_, at) => call(at, 'status', {})));
    return {
      file: all.map(({ dbSize }) => Number(dbSize) / kibibyte),
      used: all.map(({ dbSizeInUse }) => Number(dbSizeInUse) / kibibyte),
    };
  };
  const alarms = async (): Promise<Calls['alarm']['response']['alarms']> =>
    (await call(0, 'alarm', { action: 0 })).alarms;

  let puts = 0;
  let refusal = '';
  while (refusal === '') {
    const answer = await outcome(
      call(0, 'put', { key: filled(puts), value: Buffer.alloc(valueBytes, puts) }),
    );
    if (answer === 'ok') puts++;
    else refusal = answer;
    if (puts % 4 === 0) await settle();
  }
  Object.assign(answers, { puts, refusal, full: await sizes() });
  // How many members raise it is a matter of a moment.
  answers.alarms = [...new Set((await alarms()).map(({ alarm }) => alarm))];

  // Nothing is put any more, wherever it is asked for, and whichever branch would put it.
  const small = { key: key('t'), value: Buffer.alloc(0) };
  const never = [{ key: key('t'), target: 1, result: 1, create_revision: 0 }];
  answers.smallPut = await outcome(call(1, 'put', small));
  answers.txn = await outcome(call(1, 'txn', { compare: [], success: [put] }));
  answers.untaken = await outcome(
    call(2, 'txn', { compare: never, success: [put], failure: [read] }),
  );
  answers.reading = await outcome(call(1, 'txn', { compare: [], success: [read] }));
  answers.lease = await outcome(call(1, 'leaseGrant', { TTL: 10 }));
  // But for what is nested: it is not counted.
  const nested: RequestOp = { request_txn: { compare: [], success: [put] } };
  answers.nested = await outcome(call(1, 'txn', { compare: [], success: [nested] }));
  answers.nestedIsThere = (await call(0, 'range', { key: key('t') })).kvs.length;

  // Deleting gives nothing back; compaction does so within the file, as the next commits tell.
  const half = Math.floor(puts / 2);
  answers.deleting = await outcome(
    call(1, 'deleteRange', { key: filled(0), range_end: filled(half) }),
  );
  await settle();
  answers.deleted = await sizes();
  const { revision } = (await call(0, 'range', { key: key('t') })).header;
  answers.compacting = await outcome(call(0, 'compact', { revision, physical: true }));
  await settle();
  await settle();
  for (const at of [half, half + 1]) {
    await call(1, 'deleteRange', { key: filled(at) });
    await settle();
  }
  answers.compacted = await sizes();
  answers.again = await outcome(call(0, 'compact', { revision }));

  // The file shrinks on the member that is told to make it anew, and on no other.
  answers.defragmenting = await outcome(call(1, 'defragment', {}));
  answers.oneAnew = await sizes();
  for (const at of [0, 2]) await call(at, 'defragment', {});
  answers.allAnew = await sizes();

  // Room alone does not help.
  answers.stillRefused = await outcome(call(1, 'put', small));
  for (const { memberID, alarm } of await alarms()) {
    await call(2, 'alarm', { action: 2, memberID, alarm });
  }
  answers.lifted = (await alarms()).length;
  answers.putAgain = await outcome(call(1, 'put', small));
  answers.leaseAgain = await outcome(call(1, 'leaseGrant', { TTL: 10 }));
  return answers;
}

async function askModel(): Promise<Answers> {
  const world = new World(1);
  const cluster = new SimEtcdCluster(world, new SimNetwork(world), 0);
  cluster.space.quotaBytes = quotaBytes;
  const process = world.spawn('asker', 'asker');
  const members = cluster.endpoints.map((endpoint) => cluster.connect(process, endpoint));
  let over = false;
  const asking = scenario({
    members,
    settle: () => world.sleep(process, 250_000),
  }).finally(() => {
    over = true;
  });
  await Promise.all([asking, world.run(() => over, Number.MAX_SAFE_INTEGER)]);
  return await asking;
}

async function askReal(): Promise<Answers> {
  const cluster = await startCluster({ quotaBytes });
  try {
    await cluster.leader();
    const members = cluster.endpoints.map(grpcMembers(realIo().clock, undefined));
    try {
      return await scenario({ members, settle: () => pause(250) });
    } finally {
      for (const member of members) member.close();
    }
  } finally {
    await cluster.stop();
  }
}

test.skipIf(!etcdAvailable())('the model of etcd keeps its space as a real one does', async () => {
  const [model, real] = await Promise.all([askModel(), askReal()]);
  // Sizes are alike: into which free pages a value fits depends on the moments of a member's commits, and
  // with it how many puts there is room for, a fifth more or fewer from time to time.
  for (const [name, value] of Object.entries(model)) {
    if (name === 'puts' || (typeof value === 'object' && !Array.isArray(value))) continue;
    // Mended in etcd in July 2026.
    if (name.startsWith('nested')) continue;
    expect({ [name]: real[name] }).toEqual({ [name]: value });
  }
  expect(ratio(real.puts as number, model.puts as number)).toBeLessThan(sizeRatioMax);
  for (const name of ['full', 'deleted', 'compacted', 'oneAnew', 'allAnew']) {
    for (const what of ['file', 'used'] as const) {
      const sizes = [real, model].map((one) => (one[name] as Record<typeof what, number[]>)[what]);
      const ratios = sizes[0]?.map((size, at) => ratio(size, sizes[1]?.[at] ?? 0));
      expect(Math.max(...(ratios ?? [])), `${name}: ${JSON.stringify(sizes)}`).toBeLessThan(
        sizeRatioMax,
      );
    }
  }
});

function ratio(one: number, other: number): number {
  return Math.max(one / other, other / one);
}
