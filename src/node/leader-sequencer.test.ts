import { afterEach, expect, test } from 'vitest';
import { type Listener, type RpcPeer, realIo, rpcPeer } from '../io/index.ts';
import type { Leader } from '../log/index.ts';
import { asAddress } from '../model/index.ts';
import { type Grant, groupSummary, type Sequencer, serveSequencer } from '../sequencer/index.ts';
import { LeaderSequencer } from './leader-sequencer.ts';

const io = realIo();
const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

/** A node that grants addresses of its epoch, or leaves requests unanswered. */
async function reign(
  epoch: number,
  request?: Sequencer['request'],
): Promise<{ leader: Leader; listener: Listener }> {
  const grant: Grant = { token: { epoch, address: asAddress(7) }, conflicts: [undefined] };
  const peers: RpcPeer[] = [];
  const listener = await io.network.listen('127.0.0.1:0', (connection) => {
    const peer = rpcPeer(connection);
    peers.push(peer);
    serveSequencer({ request: request ?? (async () => grant) }, peer);
  });
  open.push(listener);
  return { leader: { node: `n${epoch}`, address: listener.address, epoch }, listener };
}

function follower(own?: Sequencer): {
  sequencer: LeaderSequencer;
  gone: Leader[];
  cutOff: (number | undefined)[];
  why: string[];
} {
  const gone: Leader[] = [];
  const cutOff: (number | undefined)[] = [];
  const why: string[] = [];
  const sequencer = new LeaderSequencer({
    io,
    node: 'me',
    own,
    onGone: (leader) => gone.push(leader),
    onCutOff: (epoch, reason) => {
      cutOff.push(epoch);
      why.push(reason);
    },
  });
  open.push(sequencer);
  return { sequencer, gone, cutOff, why };
}

const group = groupSummary('me', [Buffer.alloc(25)]);

test('requests wait for a leader and go to the next one after that', async () => {
  const { sequencer } = follower();
  const early = sequencer.request(group);
  const first = await reign(1);
  sequencer.setLeader(first.leader);
  expect((await early).token?.epoch).toBe(1);
  sequencer.setLeader((await reign(2)).leader);
  expect((await sequencer.request(group)).token?.epoch).toBe(2);
});

test('what a leader leaves unanswered fails as soon as another one leads', async () => {
  const { sequencer } = follower();
  const hanging = await reign(1, () => new Promise(() => undefined));
  sequencer.setLeader(hanging.leader);
  const asked = sequencer.request(group);
  asked.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 50));
  sequencer.setLeader((await reign(2)).leader);
  await expect(asked).rejects.toMatchObject({ code: 'PEER_UNREACHABLE', retry: 'same' });
  expect((await sequencer.request(group)).token?.epoch).toBe(2);
});

test('a leader that was there and is not any more is told to be gone', async () => {
  const { sequencer, gone } = follower();
  const { leader, listener } = await reign(3);
  sequencer.setLeader(leader);
  await sequencer.request(group);
  await listener.close();
  for (let round = 0; gone.length === 0 && round < 100; round++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  expect(gone[0]).toEqual(leader);
});

test('one that was never reached is not: the way to it may be at fault', async () => {
  const { sequencer, gone } = follower();
  const { leader, listener } = await reign(3);
  await listener.close();
  sequencer.setLeader(leader);
  await expect(sequencer.request(group)).rejects.toMatchObject({ code: 'PEER_UNREACHABLE' });
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(gone).toEqual([]);
});

test('a leader that there is no way to is told, and that there is one again', async () => {
  const { sequencer, cutOff, why } = follower();
  const { leader, listener } = await reign(3);
  await listener.close();
  sequencer.setLeader(leader);
  const until = async (count: number): Promise<void> => {
    for (let round = 0; cutOff.length < count && round < 300; round++) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  await until(1);
  expect(cutOff).toEqual([3]);
  expect(why[0]).toBe(`${leader.address}: connect ECONNREFUSED ${leader.address}`);
  sequencer.setLeader((await reign(4)).leader);
  await until(2);
  expect(cutOff).toEqual([3, undefined]);
});

test('a node that leads itself asks itself', async () => {
  const grant: Grant = { token: { epoch: 9, address: asAddress(1) }, conflicts: [undefined] };
  const { sequencer } = follower({ request: async () => grant });
  sequencer.setLeader({ node: 'me', address: 'nowhere:1', epoch: 9 });
  expect(await sequencer.request(group)).toBe(grant);
});
