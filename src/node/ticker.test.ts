import { expect, test } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { Timer } from '../io/index.ts';
import type { SharedLog, Token, WriteOptions } from '../log/index.ts';
import { asAddress, decodeEntry, encodeEntry } from '../model/index.ts';
import { MemoryLog } from '../replica/testing/memory-log.ts';
import type { Repeated } from './repeat.ts';
import { startTicker, type TickerOptions } from './ticker.ts';

/* The ticker on a log in memory, driven one interval at a time. */

class Hand {
  readonly log = new MemoryLog();
  readonly errors: string[] = [];
  readonly ticker: Repeated;
  #due: (() => void) | undefined;

  constructor(options: Partial<Pick<TickerOptions, 'sequencer' | 'log'>> = {}) {
    this.ticker = startTicker({
      io: {
        clock: { nowMs: () => 1000, monotonicMs: () => 0 },
        timers: {
          after: (_delayMs, callback): Timer => {
            this.#due = callback;
            return { cancel: () => undefined };
          },
          soon: (callback) => callback(),
        },
      },
      log: options.log ?? this.log,
      sequencer: options.sequencer,
      writer: 'test',
      onError: (message) => this.errors.push(message),
    });
  }

  /** Lets one interval pass. */
  async interval(): Promise<void> {
    const due = this.#due;
    this.#due = undefined;
    due?.();
    while (this.#due === undefined) await new Promise((resolve) => setImmediate(resolve));
  }

  async kinds(): Promise<string[]> {
    const kinds: string[] = [];
    for (let at = 0; at < (await this.log.tail()); at++) {
      const { kind, bytes } = await this.log.read(asAddress(at));
      kinds.push(kind === 'fill' ? kind : decodeEntry(bytes).kind);
    }
    return kinds;
  }
}

const records = encodeEntry({
  kind: 'records',
  writer: 'test',
  timestampMs: 1,
  identities: [],
  batches: [],
  records: [],
});

test('one tick after records, none on an idle log', async () => {
  const hand = new Hand();
  await hand.interval();
  hand.log.append(records);
  hand.log.append(records);
  for (let pass = 0; pass < 3; pass++) await hand.interval();
  hand.log.append(records);
  await hand.log.fill(asAddress(4));
  for (let pass = 0; pass < 3; pass++) await hand.interval();
  expect(await hand.kinds()).toEqual(['records', 'records', 'tick', 'records', 'fill', 'tick']);
  expect(hand.errors).toEqual([]);
});

test('a log that ends in a tick is left alone after a restart', async () => {
  const hand = new Hand();
  hand.log.append(encodeEntry({ kind: 'tick', writer: 'test', timestampMs: 1 }));
  await hand.interval();
  expect(await hand.kinds()).toEqual(['tick']);
});

test('the address comes from the sequencer; a token that lost is replaced', async () => {
  let next = 1;
  const hand = new Hand({
    sequencer: { grant: (): Token => ({ epoch: 1, address: asAddress(next++) }) },
  });
  hand.log.append(records);
  await hand.log.fill(asAddress(1));
  await hand.interval();
  expect(await hand.kinds()).toEqual(['records', 'fill', 'tick']);
});

test('a log that refuses is asked again at the next interval', async () => {
  const log = new MemoryLog();
  let refuse = true;
  const refusing = Object.assign(Object.create(log) as SharedLog, {
    tail: () => (refuse ? Promise.reject(new Error('away')) : log.tail()),
    start: () => log.start(),
    epoch: () => log.epoch(),
    read: (address: never) => log.read(address),
    write: (token: Token, bytes: Uint8Array) => log.write(token, bytes),
  });
  const hand = new Hand({ log: refusing });
  log.append(records);
  await hand.interval();
  expect(hand.errors).toHaveLength(1);
  refuse = false;
  await hand.interval();
  expect(await log.tail()).toBe(2);
  await hand.ticker.close();
});

test('a tick that is refused for a while leaves no holes behind', async () => {
  const log = new MemoryLog();
  let refuse = true;
  let refusals = 0;
  const full = Object.assign(Object.create(log) as SharedLog, {
    tail: () => log.tail(),
    start: () => log.start(),
    read: (address: never) => log.read(address),
    write: async (token: Token, bytes: Uint8Array, options?: WriteOptions) => {
      expect(options).toEqual({ makesRoom: true });
      if (!refuse) return log.write(token, bytes);
      refusals++;
      throw new DaybookError('OVERLOADED', 'no room');
    },
  });
  let next = 1;
  const grant = (): Token => ({ epoch: 1, address: asAddress(next++) });
  const hand = new Hand({ log: full, sequencer: { grant } });
  log.append(records);
  for (let pass = 0; pass < 5; pass++) await hand.interval();
  expect(refusals).toBe(5);
  refuse = false;
  for (let pass = 0; pass < 2; pass++) await hand.interval();
  expect(next).toBe(2);
  // Somebody who waited has closed the hole.
  refuse = true;
  log.append(records);
  next = 3;
  await hand.interval();
  await log.fill(asAddress(3));
  refuse = false;
  for (let pass = 0; pass < 2; pass++) await hand.interval();
  expect(await log.tail()).toBe(5);
  await hand.ticker.close();
});
