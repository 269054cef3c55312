import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { LogEntry, SharedLog } from '../../src/log/index.ts';
import { type Address, asAddress } from '../../src/model/index.ts';
import { followed, ModelLog, outcomeOf } from './model-log.ts';

/** One log's storage, empty when created. */
export interface LogStorage {
  /** Opens the log; the one opened before is closed by then. */
  open(): Promise<SharedLog>;
  destroy(): Promise<void>;
}

export interface ConformanceOptions {
  /** Random cases per property. Default 40. */
  readonly runs?: number;
}

const at = asAddress;
const bytes = (text: string): Buffer => Buffer.from(text, 'utf8');

/** What every engine of the shared log must do. */
export function sharedLogConformance(
  name: string,
  create: () => Promise<LogStorage>,
  options: ConformanceOptions = {},
): void {
  const numRuns = options.runs ?? 40;

  describe(`shared log: ${name}`, () => {
    let storage: LogStorage;
    let log: SharedLog;

    beforeEach(async () => {
      storage = await create();
      log = await storage.open();
    });
    afterEach(async () => {
      await log.close();
      await storage.destroy();
    });

    async function reopen(): Promise<void> {
      await log.close();
      log = await storage.open();
    }

    it('starts empty', async () => {
      expect(await log.tail()).toBe(0);
      expect(await log.start()).toBe(0);
      expect(await log.epoch()).toBe(0);
      await expect(log.read(at(0))).rejects.toMatchObject({ code: 'LOG_NOT_WRITTEN' });
    });

    it('writes an address once, and takes the same bytes again', async () => {
      await log.write({ epoch: 0, address: at(0) }, bytes('one'));
      await log.write({ epoch: 0, address: at(0) }, bytes('one'));
      await expect(log.write({ epoch: 0, address: at(0) }, bytes('two'))).rejects.toMatchObject({
        code: 'LOG_ADDRESS_TAKEN',
        retry: 'refresh',
      });
      const entry = await log.read(at(0));
      expect(entry).toMatchObject({ address: 0, kind: 'data', epoch: 0 });
      expect(Buffer.from(entry.bytes).toString()).toBe('one');
      expect(await log.tail()).toBe(1);
    });

    it('refuses an entry without bytes or above the limit', async () => {
      const token = { epoch: 0, address: at(0) };
      await expect(log.write(token, new Uint8Array(0))).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      await expect(log.write(token, Buffer.alloc(8 * 1024 * 1024 + 1))).rejects.toMatchObject({
        code: 'LIMIT_EXCEEDED',
        details: { limit: 'entryBytesMax' },
      });
    });

    it('keeps large entries', async () => {
      const large = Buffer.alloc(700_000, 'large entry ');
      await log.write({ epoch: 0, address: at(0) }, large);
      await reopen();
      expect(Buffer.compare((await log.read(at(0))).bytes, large)).toBe(0);
    });

    it('lets one of several racing writers win, and tells the others', async () => {
      const texts = ['a', 'b', 'c', 'd'];
      const outcomes = await Promise.all(
        texts.map((text) => outcomeOf(log.write({ epoch: 0, address: at(0) }, bytes(text)))),
      );
      expect(outcomes.filter((outcome) => outcome === 'ok')).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === 'LOG_ADDRESS_TAKEN')).toHaveLength(3);
      const winner = texts[outcomes.indexOf('ok')] as string;
      expect(Buffer.from((await log.read(at(0))).bytes).toString()).toBe(winner);
    });

    it('fills a hole; the late writer loses; filling again does nothing', async () => {
      await log.write({ epoch: 0, address: at(1) }, bytes('one'));
      await log.fill(at(0));
      await log.fill(at(0));
      await log.fill(at(1));
      expect(await log.read(at(0))).toMatchObject({ kind: 'fill' });
      expect((await log.read(at(0))).bytes).toHaveLength(0);
      expect(await log.read(at(1))).toMatchObject({ kind: 'data' });
      await expect(log.write({ epoch: 0, address: at(0) }, bytes('late'))).rejects.toMatchObject({
        code: 'LOG_ADDRESS_TAKEN',
      });
    });

    it('fences sealed epochs, also after reopening', async () => {
      await log.write({ epoch: 0, address: at(0) }, bytes('zero'));
      expect(await log.seal(2)).toBe(1);
      await expect(log.seal(2)).rejects.toMatchObject({ code: 'LOG_EPOCH_SEALED' });
      await expect(log.seal(1)).rejects.toMatchObject({ code: 'LOG_EPOCH_SEALED' });
      await reopen();
      expect(await log.epoch()).toBe(2);
      await expect(log.write({ epoch: 1, address: at(1) }, bytes('x'))).rejects.toMatchObject({
        code: 'LOG_EPOCH_SEALED',
      });
      await log.write({ epoch: 2, address: at(1) }, bytes('two'));
      expect(await log.read(at(1))).toMatchObject({ epoch: 2 });
    });

    it('lets no write of a fenced epoch in behind the tail that seal returned', async () => {
      const writes = Array.from({ length: 20 }, (_, address) =>
        outcomeOf(log.write({ epoch: 0, address: at(address) }, bytes(`w${address}`))),
      );
      const tail = await log.seal(1);
      const later = Array.from({ length: 20 }, (_, address) =>
        outcomeOf(log.write({ epoch: 0, address: at(tail + address) }, bytes('late'))),
      );
      expect(new Set(await Promise.all(later))).toEqual(new Set(['LOG_EPOCH_SEALED']));
      for (const [address, outcome] of (await Promise.all(writes)).entries()) {
        if (outcome === 'ok') expect(address).toBeLessThan(tail);
        else expect(outcome).toBe('LOG_EPOCH_SEALED');
      }
      expect(await log.tail()).toBe(tail);
    });

    it('forgets what is trimmed, also after reopening', async () => {
      for (let address = 0; address < 10; address += 1) {
        await log.write({ epoch: 0, address: at(address) }, bytes(`entry ${address}`));
      }
      await log.trim(at(4));
      await log.trim(at(2));
      for (let round = 0; round < 2; round += 1) {
        expect(await log.start()).toBe(4);
        await expect(log.read(at(3))).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
        await expect(log.write({ epoch: 0, address: at(3) }, bytes('x'))).rejects.toMatchObject({
          code: 'LOG_TRIMMED',
        });
        await expect(followed(log, at(3), at(5))).rejects.toMatchObject({ code: 'LOG_TRIMMED' });
        expect((await followed(log, at(4), at(10))).map((entry) => entry.address)).toEqual([
          4, 5, 6, 7, 8, 9,
        ]);
        await reopen();
      }
      await log.trim(at(10));
      expect(await log.start()).toBe(10);
      expect(await log.tail()).toBe(10);
      await log.write({ epoch: 0, address: at(10) }, bytes('goes on'));
      await reopen();
      expect(await log.tail()).toBe(11);
    });

    it('follows in order, waits at holes and at the tail', async () => {
      const seen: LogEntry[] = [];
      const stop = new AbortController();
      const done = (async () => {
        for await (const run of log.follow(at(0), stop.signal)) seen.push(...run);
      })();
      await log.write({ epoch: 0, address: at(2) }, bytes('two'));
      await log.write({ epoch: 0, address: at(0) }, bytes('zero'));
      await waitFor(() => seen.length === 1);
      await log.fill(at(1));
      await waitFor(() => seen.length === 3);
      await log.write({ epoch: 0, address: at(3) }, bytes('three'));
      await waitFor(() => seen.length === 4);
      expect(seen.map(({ address, kind }) => [address, kind])).toEqual([
        [0, 'data'],
        [1, 'fill'],
        [2, 'data'],
        [3, 'data'],
      ]);
      stop.abort();
      await done;
    });

    it('ends followers when it is closed', async () => {
      const waiting = followed(log, at(0), at(1));
      waiting.catch(() => undefined);
      await log.read(at(0)).catch(() => undefined);
      await log.close();
      await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
      await expect(log.tail()).rejects.toMatchObject({ code: 'CLOSED' });
      await log.close();
      log = await storage.open();
    });

    it('agrees with a naive model', async () => {
      await fc.assert(
        fc.asyncProperty(fc.array(operation, { maxLength: 60 }), async (operations) => {
          const fresh = await create();
          let tested = await fresh.open();
          const model = new ModelLog();
          try {
            for (const step of operations) {
              if (step.kind === 'reopen') {
                await tested.close();
                tested = await fresh.open();
              } else {
                const expected = await outcomeOf(perform(model, step));
                expect([step, await outcomeOf(perform(tested, step))]).toEqual([step, expected]);
              }
            }
            const [start, contiguous] = [await model.start(), model.contiguous()];
            expect(await tested.start()).toBe(start);
            expect(await tested.epoch()).toBe(await model.epoch());
            expect(await tested.tail()).toBe(await model.tail());
            const entries = await followed(tested, start, contiguous);
            expect(entries.map(plain)).toEqual(
              (await followed(model, start, contiguous)).map(plain),
            );
          } finally {
            await tested.close();
            await fresh.destroy();
          }
        }),
        { numRuns },
      );
    });

    it('gives all followers the same entries whatever several writers do at once', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.array(racingOperation, { maxLength: 25 }), { minLength: 2, maxLength: 4 }),
          async (writers) => {
            const fresh = await create();
            let tested = await fresh.open();
            const acknowledged = new Map<number, string>();
            const last = Math.max(0, ...writers.flat().map(({ address }) => address + 1));
            try {
              const following = [0, 1].map(() => followed(tested, at(0), at(last)));
              await Promise.all(
                writers.map(async (operations, writer) => {
                  for (const { kind, address } of operations) {
                    const text = `${writer}:${address}`;
                    const work =
                      kind === 'fill'
                        ? tested.fill(at(address))
                        : tested.write({ epoch: 0, address: at(address) }, bytes(text));
                    const outcome = await outcomeOf(work);
                    if (kind === 'write' && outcome === 'ok') {
                      expect(acknowledged.get(address) ?? text).toBe(text);
                      acknowledged.set(address, text);
                    } else {
                      expect(['ok', 'LOG_ADDRESS_TAKEN']).toContain(outcome);
                    }
                  }
                }),
              );
              for (let address = 0; address < last; address += 1) await tested.fill(at(address));
              const [first, second] = await Promise.all(following);
              expect(first?.map(plain)).toEqual(second?.map(plain));
              for (const [address, text] of acknowledged) {
                expect(first?.[address] && plain(first[address])).toEqual([address, 'data', text]);
              }
              await tested.close();
              tested = await fresh.open();
              const again = await followed(tested, at(0), at(last));
              expect(again.map(plain)).toEqual(first?.map(plain));
            } finally {
              await tested.close();
              await fresh.destroy();
            }
          },
        ),
        { numRuns: Math.ceil(numRuns / 2) },
      );
    });
  });
}

type Operation =
  | { kind: 'write'; epoch: number; address: number; size: number }
  | { kind: 'fill' | 'trim' | 'read'; address: number }
  | { kind: 'seal'; epoch: number }
  | { kind: 'reopen' };

const address = fc.integer({ min: 0, max: 24 });
const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('write' as const),
      epoch: fc.integer({ min: 0, max: 4 }),
      address,
      size: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 1, max: 6000 })),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('fill' as const), address }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('read' as const), address }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('trim' as const), address }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('seal' as const),
      epoch: fc.integer({ min: 0, max: 4 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('reopen' as const) }) },
);
const racingOperation = fc.record({
  kind: fc.constantFrom('write' as const, 'write' as const, 'fill' as const),
  address: fc.integer({ min: 0, max: 15 }),
});

async function perform(
  log: SharedLog,
  step: Exclude<Operation, { kind: 'reopen' }>,
): Promise<unknown> {
  switch (step.kind) {
    case 'write':
      return log.write(
        { epoch: step.epoch, address: at(step.address) },
        Buffer.alloc(step.size, `${step.size} `),
      );
    case 'fill':
      return log.fill(at(step.address));
    case 'trim':
      return log.trim(at(step.address));
    case 'read':
      return plain(await log.read(at(step.address)));
    case 'seal':
      return log.seal(step.epoch);
  }
}

function plain(entry: LogEntry): [Address, string, string] {
  return [entry.address, entry.kind, Buffer.from(entry.bytes).toString()];
}

async function waitFor(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  while (!condition()) {
    expect(Date.now(), 'waited too long').toBeLessThan(deadline);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
