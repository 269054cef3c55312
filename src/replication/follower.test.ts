import { expect, it, vi } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { type Io, realIo } from '../io/index.ts';
import type { ChangeRecord } from './change.ts';
import type { Feed } from './feed.ts';
import { startFollower } from './follower.ts';
import type { Page } from './page.ts';
import type { Sink, SinkBatch } from './sinks/sink.ts';

it('keeps one timer, however long pulling and acknowledging fail together', async () => {
  let nowMs = 0;
  const timers = new Map<() => void, number>();
  const io: Pick<Io, 'clock' | 'timers' | 'random'> = {
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    random: { bytes: (count) => Buffer.alloc(count), number: () => 0.5 },
    timers: {
      after: (delayMs, callback) => {
        timers.set(callback, nowMs + delayMs);
        return { cancel: () => timers.delete(callback) };
      },
      soon: (callback) => queueMicrotask(callback),
    },
  };
  const away = async (): Promise<never> => {
    throw new DaybookError('PEER_UNREACHABLE', 'nothing listens');
  };
  const feed = { pull: away, scan: away, applied: away, close: async () => undefined } as Feed;
  const at = { position: 5, cursor: 'c' };
  const sink = {
    open: async () => ({ at, parked: [] }),
    tryOut: async () => undefined,
    close: async () => undefined,
  } as unknown as Sink;
  const follower = startFollower({ io, name: 'f', feed, sink, subscription: [{ contract: 'c' }] });
  for (let round = 0; round < 60; round++) {
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(timers.size).toBeLessThanOrEqual(3);
    const [due] = [...timers].sort((left, right) => left[1] - right[1]);
    if (due === undefined) break;
    // A timer may be early.
    nowMs = Math.max(nowMs, due[1] - 1);
    timers.delete(due[0]);
    due[0]();
    nowMs++;
  }
  expect(nowMs).toBeGreaterThan(1_000);
  void follower.stop();
});

it('says which changes the processor refused, once for each entity', async () => {
  const change = (key: string, position: number): ChangeRecord => {
    return { position, timeMs: 0, txId: '', contract: 'c', key, content: '{}' };
  };
  const changes = [change('good', 6), change('bad', 7), change('bad', 8)];
  const pages: Page[] = [{ from: 5, next: 9, cursor: 'd', tail: 9, changes }];
  const nothingMore = new Promise<Page>(() => undefined);
  const feed = {
    pull: () => (pages.length > 0 ? Promise.resolve(pages.shift()) : nothingMore),
    applied: async () => undefined,
    close: async () => undefined,
  } as unknown as Feed;
  const applied: SinkBatch[] = [];
  const sink = {
    open: async () => ({ at: { position: 5, cursor: 'c' }, parked: [] }),
    apply: async (_from: number, batch: SinkBatch) => void applied.push(batch),
    close: async () => undefined,
  } as unknown as Sink;
  const events: string[] = [];
  const follower = startFollower({
    io: realIo(),
    name: 'f',
    feed,
    sink,
    subscription: [{ contract: 'c' }],
    processor: ({ key }) => {
      if (key === 'bad') throw new Error('no such thing');
      return [];
    },
    policy: 'park',
    onEvent: (text) => events.push(text),
  });
  await vi.waitFor(() => expect(applied.length).toBe(1));
  expect(applied[0]?.parked.map(({ change: { position } }) => position)).toEqual([7, 8]);
  expect(events).toEqual([expect.stringMatching(/^left out c\/bad of 7: .*no such thing/)]);
  void follower.stop();
});
