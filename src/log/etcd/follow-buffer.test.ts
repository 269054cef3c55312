import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Address, asAddress } from '../../model/index.ts';
import { FollowBuffer } from './follow-buffer.ts';

const entry = (address: number, size = 10): { address: Address; size: number } => ({
  address: asAddress(address),
  size,
});

test('entries leave in address order, once each, in whatever order they come', () => {
  const arrivals = fc.array(fc.tuple(fc.nat(30), fc.boolean()), { maxLength: 200 });
  fc.assert(
    fc.property(fc.nat(5), arrivals, (from, steps) => {
      const buffer = new FollowBuffer(asAddress(from), 1_000_000);
      const arrived = new Set<number>();
      let next = from;
      for (const [address, take] of steps) {
        expect(buffer.add(entry(address))).toBe(true);
        arrived.add(address);
        if (!take) continue;
        for (const taken of buffer.take(1_000_000)) expect(taken.address).toBe(next++);
        expect(arrived.has(next) && next >= from).toBe(false);
        expect(buffer.missing).toBe(next);
        expect(buffer.isReady).toBe(false);
      }
    }),
  );
});

test('a full buffer refuses all but the entry that the reader waits for', () => {
  const buffer = new FollowBuffer(asAddress(0), 1000);
  expect(buffer.add(entry(5, 2000))).toBe(true);
  expect(buffer.isFull).toBe(true);
  expect(buffer.add(entry(6))).toBe(false);
  expect(buffer.add(entry(0))).toBe(true);
  expect(buffer.add(entry(1))).toBe(false);
  expect(buffer.take(1)).toHaveLength(1);
  for (let address = 1; address < 5; address++) {
    expect(buffer.add(entry(address))).toBe(true);
    expect(buffer.take(1)).toHaveLength(1);
  }
  expect(buffer.take(1_000_000).map(({ address }) => address)).toEqual([5]);
  expect(buffer.isFull).toBe(false);
});

test('what is taken at a time is bounded', () => {
  const buffer = new FollowBuffer(asAddress(0), 1_000_000);
  for (let address = 0; address < 10; address++) buffer.add(entry(address, 300));
  expect(buffer.take(1000)).toHaveLength(2);
  expect(buffer.next).toBe(2);
});
