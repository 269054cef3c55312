import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { LogRetention } from '../model/index.ts';
import {
  insteadOf,
  type Member,
  membersOf,
  successorOf,
  type TrimPoint,
  trimPoint,
} from './members.ts';

const log = { start: 0, tail: 1_000 };

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
  const retention: LogRetention = { entries: 50, holders: 2 };
  const before = (some: Member[], more: Partial<LogRetention> = {}): number =>
    trimPoint(some, [], { ...retention, ...more }, log).before;
  expect(before(members)).toBe(500);
  expect(before(members, { followerEntries: 450 })).toBe(550);
  expect(before(members, { followerEntries: 1 })).toBe(900);
  expect(before(members.slice(0, 1), { holders: 1 })).toBe(500);
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
        const { before } = trimPoint(members, [], { entries, holders }, { start: 0, tail });
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

const maker = (name: string, held: number): Member => member(name, { held, chain: true });
const retention = { entries: 10, holders: 2 };
const others = [member('c', { held: 700 }), member('d', { held: 800 })];

test('snapshots of nodes that make no blocks do not stand for blocks', () => {
  const before = (...members: Member[]): number => trimPoint(members, [], retention, log).before;
  expect(before(maker('a', 300), ...others)).toBe(300);
  expect(before(maker('a', 300), maker('b', 200), ...others)).toBe(200);
  expect(before(maker('a', 900), others[0] as Member)).toBe(700);
  expect(before(...others)).toBe(700);
});

test('who makes blocks and is away is waited for, unless enough others hold them', () => {
  const all = (...members: Member[]): TrimPoint =>
    trimPoint([...members, ...others], ['a', 'b', 'e'], retention, log);
  // Nobody has blocks that these could go on behind.
  expect(all()).toEqual({ before: 0, waitsFor: ['a', 'b', 'e'] });
  // With its disk the only copy would be lost.
  expect(all(maker('a', 900))).toEqual({ before: 0, waitsFor: ['b', 'e'] });
  // It is there, and makes none any more.
  expect(all(maker('a', 900), member('b', { held: 900 })).waitsFor).toEqual(['b', 'e']);
  expect(all(maker('a', 900), maker('b', 600))).toEqual({ before: 600, waitsFor: [] });
  // Not all are known for good yet: nodes of an older version are not.
  expect(trimPoint([maker('a', 900), ...others], [], retention, log).before).toBe(800);
});

test('nobody is waited for where nothing could leave anyway', () => {
  const none = { before: 0, waitsFor: [] };
  expect(trimPoint(others, ['a'], retention, { start: 0, tail: 10 })).toEqual(none);
  expect(trimPoint(others, ['a'], retention, { start: 700, tail: 1_000 })).toEqual(none);
});
