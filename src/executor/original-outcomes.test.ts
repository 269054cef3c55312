import { expect, it } from 'vitest';
import { DaybookError, limits } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import type { LogEntry, SharedLog } from '../log/index.ts';
import { addressOf, asAddress, type Outcome, positionOf } from '../model/index.ts';
import { OriginalOutcomes } from './original-outcomes.ts';
import { openTestChannel, signCalls } from './testing/harness.ts';

it('reads an entry once for all transactions of it that come again', async () => {
  let reads = 0;
  const channel = await openTestChannel({
    contracts: { 'bank:put': async () => 'done' },
    wrapLog: (log) =>
      new Proxy(log, {
        get: (target, name) => {
          if (name === 'read') reads++;
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      }),
  });
  try {
    await channel.deploy(0, {
      name: 'bank',
      version: '1',
      source: '0',
      options: { readYourWrites: false, indexes: {} },
    });
    const calls = Array.from({ length: 200 }, () => ({ contract: 'bank', functionName: 'put' }));
    const batch = signCalls(realIo(), channel.signer, calls);
    const submit = (): Promise<Outcome[]> =>
      new Promise((resolve) => {
        const outcomes: Outcome[] = [];
        let missing = calls.length;
        channel.nodes[0]?.executor.submit(batch, Number.MAX_SAFE_INTEGER, (index, outcome) => {
          outcomes[index] = outcome;
          missing--;
          if (missing === 0) resolve(outcomes);
        });
      });
    const first = await submit();
    expect(new Set(first.map(({ status }) => status))).toEqual(new Set(['committed']));
    const entries = new Set(
      first.map((outcome) => (outcome.status === 'committed' ? addressOf(outcome.position) : -1)),
    );
    reads = 0;
    expect(await submit()).toEqual(first);
    expect(reads).toBeLessThanOrEqual(entries.size);
  } finally {
    await channel.close();
  }
});

it('reads few entries at a time, and says of each transaction that is not read that it is unknown', async () => {
  const waiting: ((entry: LogEntry) => void)[] = [];
  const failing: ((error: Error) => void)[] = [];
  const log: Pick<SharedLog, 'read'> = {
    read: () =>
      new Promise((resolve, reject) => {
        waiting.push(resolve);
        failing.push(reject);
      }),
  };
  const originals = new OriginalOutcomes(log);
  const outcomes: Outcome[] = [];
  const count = 3 * limits.originalReadsMax;
  for (let at = 0; at < 2 * count; at++) {
    const position = positionOf(asAddress(at % count), at < count ? 0 : 1);
    originals.ask(Buffer.from(String(at)), position, (outcome) => outcomes.push(outcome));
  }
  expect(waiting).toHaveLength(limits.originalReadsMax);
  expect(originals.waiting).toBe(2 * count);
  for (let at = 0; at < count; at++) {
    const code = at % 2 === 0 ? 'LOG_TRIMMED' : 'PEER_UNREACHABLE';
    failing[at]?.(new DaybookError(code, 'as said'));
    await Promise.resolve().then(() => undefined);
    await new Promise((resolve) => setImmediate(resolve));
    expect(waiting.length).toBeLessThanOrEqual(at + 1 + limits.originalReadsMax);
  }
  expect(outcomes).toHaveLength(2 * count);
  expect(outcomes.filter(({ status }) => status === 'committed')).toHaveLength(count);
  expect(originals.waiting).toBe(0);
});
