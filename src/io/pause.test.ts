import { getEventListeners } from 'node:events';
import { expect, test } from 'vitest';
import { pause } from './pause.ts';
import { realIo } from './real.ts';

const io = realIo();

test('a pause takes its time', async () => {
  const startMs = io.clock.monotonicMs();
  await pause(io, 20);
  expect(io.clock.monotonicMs() - startMs).toBeGreaterThanOrEqual(19);
});

test('an abort ends it and leaves no listener; one from before does not', async () => {
  const abort = new AbortController();
  const { signal } = abort;
  await pause(io, 1, { signal });
  const startMs = io.clock.monotonicMs();
  const long = pause(io, 60_000, { signal, keepAlive: true });
  expect(getEventListeners(signal, 'abort')).toHaveLength(1);
  abort.abort();
  await long;
  expect(io.clock.monotonicMs() - startMs).toBeLessThan(30_000);
  expect(getEventListeners(signal, 'abort')).toHaveLength(0);

  const againMs = io.clock.monotonicMs();
  await pause(io, 20, { signal });
  expect(io.clock.monotonicMs() - againMs).toBeGreaterThanOrEqual(19);
});
