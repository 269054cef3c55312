import { expect, it } from 'vitest';
import { realIo } from '../io/index.ts';
import { asAddress } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import { EntryWindow } from './entry-window.ts';

const entry = (address: number): AppliedEntry => ({
  address: asAddress(address),
  entry: undefined,
  records: [],
  logTimeMs: 0,
});

/** A log of `tail` entries that is given out in runs of three, and counts how often it is opened. */
function source(tail: { at: number }, opened: number[], trimmed = 0) {
  return {
    nextAddress: () => asAddress(tail.at),
    async *follow(from: number, signal: AbortSignal) {
      opened.push(from);
      if (from < trimmed) throw new Error('trimmed');
      for (let at = from; !signal.aborted; ) {
        if (at >= tail.at) throw new Error('the window must not wait at the tail');
        const run = Array.from({ length: Math.min(3, tail.at - at) }, (_, n) => entry(at + n));
        at += run.length;
        yield run;
      }
    },
  };
}

const addresses = (entries: readonly AppliedEntry[]): number[] =>
  entries.map(({ address }) => address);

async function readAll(window: EntryWindow, from: number, to: number, limit: number) {
  const all: number[] = [];
  for (let at = from; at < to; ) {
    const found = addresses(await window.read(asAddress(at), limit));
    all.push(...found);
    at = (found.at(-1) ?? to) + 1;
  }
  return all;
}

it('reads every entry in order, with one stream for readers that go on where they left off', async () => {
  const tail = { at: 20 };
  const opened: number[] = [];
  const window = new EntryWindow(realIo(), source(tail, opened));
  const expected = Array.from({ length: 20 }, (_, at) => at);
  expect(await readAll(window, 0, 20, 2)).toEqual(expected);
  expect(await window.read(asAddress(20), 5)).toEqual([]);
  // Others that are near read what is there already, both at once.
  const both = await Promise.all([readAll(window, 0, 20, 7), readAll(window, 5, 20, 4)]);
  expect(both).toEqual([expected, expected.slice(5)]);
  tail.at = 26;
  const again = await Promise.all([readAll(window, 20, 26, 4), readAll(window, 20, 26, 4)]);
  expect(again).toEqual([expected.slice(0, 6).map((at) => at + 20), again[0]]);
  expect(opened).toEqual([0]);
  window.close();
});

it('opens a stream anew after an error, and tells the error', async () => {
  const opened: number[] = [];
  const window = new EntryWindow(realIo(), source({ at: 9 }, opened, 4));
  await expect(window.read(asAddress(0), 5)).rejects.toThrow('trimmed');
  await expect(window.read(asAddress(0), 5)).rejects.toThrow('trimmed');
  expect(await readAll(window, 4, 9, 5)).toEqual([4, 5, 6, 7, 8]);
  expect(opened).toEqual([0, 0, 4]);
  window.close();
});
