import fc from 'fast-check';
import { expect, test } from 'vitest';
import { insteadOf, type Member, membersOf, successorOf, trimPoint } from './members.ts';

function member(name: string, more: Partial<Member> = {}): Member {
  return {
    name,
    channel: 'main',
    gateway: `http://${name}`,
    address: `${name}:1`,
    roles: ['executor', 'sequencer'],
    draining: false,
    id: name,
    ...more,
  };
}

test('the successor is the next able node by name, round and round', () => {
  const members = [member('c'), member('a'), member('b', { draining: true })];
  expect(successorOf(members, 'a')).toBe('c');
  expect(successorOf(members, 'c')).toBe('a');
  expect(successorOf([member('a')], 'a')).toBeUndefined();
  expect(successorOf([member('b', { roles: ['executor'] })], 'a')).toBeUndefined();
});

test('a leader that most nodes miss should be followed by one of those', () => {
  const nodes = (...cutOff: string[]): Member[] =>
    ['a', 'b', 'c'].map((name) => member(name, cutOff.includes(name) ? { cutOff: 4 } : {}));
  expect(insteadOf(nodes('b', 'c'), 'a', 4)).toBe('b');
  expect(insteadOf(nodes('b', 'c'), 'a', 5)).toBeUndefined();
  expect(insteadOf(nodes('c'), 'a', 4)).toBeUndefined();
  expect(insteadOf(nodes('b', 'c').slice(0, 2), 'a', 4)).toBeUndefined();
});

test('other entries of the registry are no members', () => {
  expect(membersOf([{ name: 'x' }, member('a')]).map(({ name }) => name)).toEqual(['a']);
});

test('what a follower needs stays, by its newest word, up to a limit', () => {
  const holds = (...all: [string, number, number][]) =>
    all.map(([name, address, seenAtMs]) => ({ name, address, seenAtMs }));
  const members = [
    // It has moved on to the other node.
    member('a', { held: 900, followers: holds(['f', 10, 1], ['g', 600, 1]) }),
    member('b', { held: 900, followers: holds(['f', 500, 2]) }),
  ];
  const retention = { entries: 50, holders: 2 };
  expect(trimPoint(members, retention, 1_000)).toBe(500);
  expect(trimPoint(members, { ...retention, followerEntries: 450 }, 1_000)).toBe(550);
  expect(trimPoint(members, { ...retention, followerEntries: 1 }, 1_000)).toBe(900);
  expect(trimPoint(members.slice(0, 1), { ...retention, holders: 1 }, 1_000)).toBe(500);
});

test('what is trimmed is held by enough nodes, and the newest entries stay', () => {
  fc.assert(
    fc.property(
      fc.array(fc.nat(1000), { maxLength: 6 }),
      fc.integer({ min: 1, max: 500 }),
      fc.integer({ min: 1, max: 4 }),
      fc.nat(1200),
      (held, entries, holders, tail) => {
        const members = held.map((address, at) => member(`n${at}`, { held: address }));
        const before = trimPoint(members, { entries, holders }, tail);
        if (before === 0) return;
        expect(held.filter((address) => address >= before).length).toBeGreaterThanOrEqual(holders);
        expect(tail - before).toBeGreaterThanOrEqual(entries);
        // And it is the greatest such address.
        const more = before + 1;
        const stillHeld = held.filter((address) => address >= more).length >= holders;
        expect(stillHeld && tail - more >= entries).toBe(false);
      },
    ),
  );
});

test('snapshots of nodes that make no blocks do not stand for blocks', () => {
  const maker = (name: string, held: number): Member => member(name, { held, chain: true });
  const retention = { entries: 10, holders: 2 };
  const others = [member('c', { held: 700 }), member('d', { held: 800 })];
  expect(trimPoint([maker('a', 300), ...others], retention, 1_000)).toBe(300);
  expect(trimPoint([maker('a', 300), maker('b', 200), ...others], retention, 1_000)).toBe(200);
  expect(trimPoint([maker('a', 900), others[0] as Member], retention, 1_000)).toBe(700);
  expect(trimPoint(others, retention, 1_000)).toBe(700);
});
