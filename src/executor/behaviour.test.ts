import { describe, expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import { realIo } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { type Outcome, stateKey } from '../model/index.ts';
import { type Sequencer, startSequencer } from '../sequencer/index.ts';
import {
  openTestChannel,
  signCalls,
  type TestCall,
  type TestChannel,
  type TestChannelOptions,
} from './testing/harness.ts';
import type { TestContracts } from './testing/inline-processes.ts';

const contracts: TestContracts = {
  'money:add': async (state, [key = '', units = '1']) => {
    const before = Number((await state.get('money', key)) ?? 0);
    state.put('money', key, String(before + Number(units)));
    return String(before + Number(units));
  },
  'money:append': async (state, [key = '', text = '']) => {
    const after = `${(await state.get('money', key)) ?? ''}${text}`;
    state.put('money', key, after);
    return after;
  },
  'money:read': async (state, [key = '']) => (await state.get('money', key)) ?? '',
  'money:demand': async (state, [key = '', units = '0']) => {
    const found = Number((await state.get('money', key)) ?? 0);
    if (found < Number(units)) throw new Error(`only ${found}`);
    return String(found);
  },
};
const options = { readYourWrites: false, indexes: {} };
const bundle = { name: 'money', version: '1', source: '0', options };
const add = (key: string, orderingKey?: string): TestCall => ({
  contract: 'money',
  functionName: 'add',
  args: [key],
  ...(orderingKey === undefined ? {} : { orderingKey }),
});

async function withChannel(
  settings: TestChannelOptions,
  body: (channel: TestChannel) => Promise<void>,
): Promise<void> {
  const channel = await openTestChannel({ contracts, ...settings });
  try {
    expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
    await channel.settle();
    await body(channel);
  } finally {
    await channel.close();
  }
}

const statuses = (outcomes: readonly Outcome[]): string[] => [
  ...new Set(
    outcomes.map((outcome) => (outcome.status === 'committed' ? 'committed' : outcome.error.code)),
  ),
];

/** Adds to a few keys in many batches, and checks that every one counted once. */
async function addAll(channel: TestChannel, batches = 40): Promise<void> {
  const all: Promise<Outcome[]>[] = [];
  for (let batch = 0; batch < batches; batch++) {
    const node = batch % channel.nodes.length;
    all.push(channel.submit(node, [add('x'), add('y'), add('x')]));
    if (batch % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
  }
  expect(statuses((await Promise.all(all)).flat())).toEqual(['committed']);
  await channel.settle();
  for (const { state } of channel.nodes) {
    expect(state.get(stateKey('money', 'x'))?.value).toBe(String(2 * batches));
    expect(state.get(stateKey('money', 'y'))?.value).toBe(String(batches));
  }
}

describe('answers', () => {
  it('a repeated batch gets the original outcomes, and takes effect once', async () => {
    await withChannel({}, async (channel) => {
      const io = realIo();
      const batch = signCalls(io, channel.signer, [add('k'), add('k')]);
      const submit = (): Promise<Outcome[]> =>
        new Promise((resolve) => {
          const outcomes: Outcome[] = [];
          channel.nodes[0]?.executor.submit(
            batch,
            io.clock.monotonicMs() + 10_000,
            (index, outcome) => {
              outcomes[index] = outcome;
              if (outcomes.filter(Boolean).length === 2) resolve(outcomes);
            },
          );
        });
      const [first, second] = await Promise.all([submit(), submit()]);
      const third = await submit();
      expect(statuses(first)).toEqual(['committed']);
      expect(second).toEqual(first);
      expect(third).toEqual(first);
      expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('2');
    });
  });

  it('refuses what is expired, unknown, or too much', async () => {
    await withChannel({ executor: { transactionsMax: 3 } }, async (channel) => {
      const io = realIo();
      const late: typeof io = {
        ...io,
        clock: { ...io.clock, nowMs: () => io.clock.nowMs() - 1e6 },
      };
      const expired = signCalls(late, channel.signer, [add('k')]);
      const outcome = await new Promise<Outcome>((resolve) => {
        const deadlineMs = io.clock.monotonicMs() + 1000;
        channel.nodes[0]?.executor.submit(expired, deadlineMs, (_, answer) => resolve(answer));
      });
      expect(statuses([outcome])).toEqual(['TRANSACTION_EXPIRED']);
      const unknown = [{ contract: 'nothing', functionName: 'at', args: ['all'] }];
      expect(statuses(await channel.submit(0, unknown))).toEqual(['CONTRACT_UNKNOWN']);
      await expect(channel.evaluate(0, 'nothing', 'at')).rejects.toMatchObject({
        code: 'CONTRACT_UNKNOWN',
      });
      const many = [add('a'), add('b'), add('c'), add('d')];
      await expect(channel.submit(0, many)).rejects.toMatchObject({
        code: 'OVERLOADED',
        details: { limit: 'executorTransactionsMax' },
      });
    });
  });

  it('a refusal that rests on a value in flight is told once that is in the log', async () => {
    await withChannel({}, async (channel) => {
      const demand = { contract: 'money', functionName: 'demand', args: ['k', '5'] };
      const outcomes = await channel.submit(0, [add('k'), demand]);
      expect(outcomes[0]).toMatchObject({ status: 'committed' });
      expect(outcomes[1]).toMatchObject({
        status: 'rejected',
        error: { code: 'CONTRACT_REJECTED', message: 'only 1' },
      });
    });
  });

  it('says "unknown" at the deadline when the record may be on its way', async () => {
    let hang = false;
    const wrapLog = (log: SharedLog): SharedLog => ({
      ...bound(log),
      write: (token, bytes) =>
        hang
          ? Promise.reject(new DaybookError('PEER_UNREACHABLE', 'gone'))
          : log.write(token, bytes),
    });
    await withChannel({ wrapLog }, async (channel) => {
      hang = true;
      const outcomes = await channel.submit(0, [add('k')], 300);
      expect(statuses(outcomes)).toEqual(['OUTCOME_UNKNOWN']);
      hang = false;
      // Behind the scenes it is written after all, or its address is filled by who waits for it.
      const [next] = await channel.submit(0, [add('k')]);
      expect(next?.status).toBe('committed');
      const result = next?.status === 'committed' ? next.result : '';
      expect(['1', '2']).toContain(result);
      expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe(result);
    });
  });
});

describe('order and hot keys', () => {
  it.each(['interleaved', 'batch'] as const)(
    'keeps the order of an ordering key, mode %s',
    async (exclusiveControl) => {
      await withChannel({ config: { exclusiveControl }, executors: 2 }, async (channel) => {
        const letters = Array.from('abcdefghijklmnop');
        const append = (text: string): TestCall => ({
          contract: 'money',
          functionName: 'append',
          args: ['word', text],
          orderingKey: 'one',
        });
        const noise = (): Promise<Outcome[]> =>
          channel.submit(1, [{ ...append('.'), orderingKey: 'other' }]);
        const [first, second] = await Promise.all([
          channel.submit(0, letters.slice(0, 10).map(append)),
          channel.submit(0, letters.slice(10).map(append)),
          noise(),
          noise(),
        ]);
        expect(statuses([...first, ...second])).toEqual(['committed']);
        await channel.settle();
        const word = await channel.evaluate(0, 'money', 'read', 'word');
        expect(word.replaceAll('.', '')).toBe(letters.join(''));
      });
    },
  );

  it('64 clients on 10 keys: everything commits, nothing conflicts', async () => {
    await withChannel({}, async (channel) => {
      const client = async (number: number): Promise<void> => {
        for (let round = 0; round < 20; round++) {
          const outcomes = await channel.submit(0, [add(`hot${(number * 7 + round) % 10}`)]);
          expect(statuses(outcomes)).toEqual(['committed']);
        }
      };
      await Promise.all(Array.from({ length: 64 }, (_, number) => client(number)));
      const metrics = channel.nodes[0]?.executor.metrics();
      expect(metrics).toMatchObject({
        committed: 64 * 20 + 1,
        conflictsAtSequencer: 0,
        conflictsAtReplay: 0,
        retries: 0,
      });
    });
  });

  it('two executors on one hot key: nobody starves', async () => {
    await withChannel({ executors: 2 }, async (channel) => {
      const client = async (node: number): Promise<void> => {
        for (let round = 0; round < 15; round++) {
          expect(statuses(await channel.submit(node, [add('hot')]))).toEqual(['committed']);
        }
      };
      await Promise.all([0, 1, 0, 1, 0, 1, 0, 1].map(client));
      await channel.settle();
      expect(await channel.evaluate(0, 'money', 'read', 'hot')).toBe('120');
    });
  });
});

describe('trouble', () => {
  it('writes whose answer is lost count once', async () => {
    let writes = 0;
    const wrapLog = (log: SharedLog): SharedLog => ({
      ...bound(log),
      write: async (token, bytes) => {
        writes++;
        if (writes % 3 === 0) throw new DaybookError('PEER_UNREACHABLE', 'before the write');
        await log.write(token, bytes);
        if (writes % 3 === 1) throw new DaybookError('PEER_UNREACHABLE', 'after the write');
      },
    });
    await withChannel({ wrapLog, executors: 2 }, (channel) => addAll(channel));
  });

  it('addresses that others filled are given up, with all that was read from them', async () => {
    let writes = 0;
    const wrapLog = (log: SharedLog): SharedLog => ({
      ...bound(log),
      write: async (token, bytes) => {
        writes++;
        if (writes % 4 === 3) await log.fill(token.address);
        await log.write(token, bytes);
      },
    });
    await withChannel({ wrapLog }, async (channel) => {
      await addAll(channel);
      expect(channel.nodes[0]?.executor.metrics().retries).toBeGreaterThan(0);
    });
  });

  it('goes on with the sequencer that takes over', async () => {
    let current: Sequencer | undefined;
    let takeOver: () => Promise<void> = () => Promise.resolve();
    const wrapSequencer = (first: Sequencer, log: SharedLog): Sequencer => {
      current = first;
      takeOver = async () => {
        current = await startSequencer({ log, windowKeysMax: 4 });
      };
      return { request: (group) => (current ?? first).request(group) };
    };
    await withChannel({ wrapSequencer, executors: 2 }, async (channel) => {
      const timer = setInterval(() => void takeOver().catch(() => undefined), 15);
      try {
        await addAll(channel, 60);
      } finally {
        clearInterval(timer);
      }
    });
  });

  it('what was refused at its deadline is not written by a grant that comes later', async () => {
    let delayMs = 0;
    const wrapSequencer = (inner: Sequencer): Sequencer => ({
      request: async (group) => {
        await new Promise((resolve) => setTimeout(resolve, delayMs));
        return inner.request(group);
      },
    });
    await withChannel({ wrapSequencer }, async (channel) => {
      delayMs = 300;
      expect(statuses(await channel.submit(0, [add('late')], 100))).toEqual([
        'TRANSACTION_CONFLICT',
      ]);
      delayMs = 0;
      expect(statuses(await channel.submit(0, [add('late'), add('other')]))).toEqual(['committed']);
      expect(await channel.evaluate(0, 'money', 'read', 'late')).toBe('1');
    });
  });

  it('calls that have not left are refused when the node cannot do them', async () => {
    let away = false;
    const wrapSequencer = (inner: Sequencer): Sequencer => ({
      request: async (group) => {
        if (away) throw new DaybookError('PEER_UNREACHABLE', 'no way to it');
        return inner.request(group);
      },
    });
    await withChannel({ wrapSequencer }, async (channel) => {
      away = true;
      const waiting = channel.submit(0, [add('k'), add('k')]);
      await new Promise((resolve) => setTimeout(resolve, 100));
      channel.nodes[0]?.executor.refuseWaiting(new DaybookError('PEER_UNREACHABLE', 'cut off'));
      expect(statuses(await waiting)).toEqual(['PEER_UNREACHABLE']);
      away = false;
      expect(statuses(await channel.submit(0, [add('k')]))).toEqual(['committed']);
      expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('1');
    });
  });

  it('calls that nobody grants in time are told why', async () => {
    let reason: DaybookError | undefined;
    const wrapSequencer = (inner: Sequencer): Sequencer => ({
      request: async (group) => {
        if (reason !== undefined) throw reason;
        return inner.request(group);
      },
    });
    await withChannel({ wrapSequencer }, async (channel) => {
      reason = new DaybookError('PEER_UNREACHABLE', 'nobody leads');
      expect(statuses(await channel.submit(0, [add('k')], 200))).toEqual(['PEER_UNREACHABLE']);
      reason = undefined;
      expect(statuses(await channel.submit(0, [add('k')]))).toEqual(['committed']);
      expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('1');
    });
  });

  it('says so while the log has no room, and goes on when it has', async () => {
    let full = false;
    const wrapLog = (log: SharedLog): SharedLog => ({
      ...bound(log),
      write: async (token, bytes) => {
        if (full) {
          throw new DaybookError('OVERLOADED', 'no room', { details: { limit: 'logSpaceBytes' } });
        }
        await log.write(token, bytes);
      },
    });
    await withChannel({ wrapLog }, async (channel) => {
      full = true;
      const early = channel.submit(0, [add('k')], 300);
      await new Promise((resolve) => setTimeout(resolve, 100));
      await expect(channel.submit(0, [add('k')])).rejects.toMatchObject({
        code: 'OVERLOADED',
        retry: 'same',
        details: { limit: 'logSpaceBytes' },
      });
      expect(statuses(await early)).toEqual(['OUTCOME_UNKNOWN']);
      full = false;
      await new Promise((resolve) => setTimeout(resolve, 300));
      expect(statuses(await channel.submit(0, [add('k')]))).toEqual(['committed']);
      expect(await channel.evaluate(0, 'money', 'read', 'k')).toBe('2');
    });
  });

  it('goes on when the newest token was lost, and with it writes that everybody waits for', async () => {
    let lost = 0;
    const wrapSequencer = (inner: Sequencer): Sequencer => ({
      request: async (group) => {
        const grant = await inner.request(group);
        // Nothing will ever stand behind its address: all calls touch the key that it is to write.
        if (lost++ % 4 === 3) throw new DaybookError('PEER_UNREACHABLE', 'cut off');
        return grant;
      },
    });
    await withChannel({ wrapSequencer, executors: 2 }, async (channel) => {
      for (let round = 0; round < 8; round++) {
        const outcomes = await channel.submit(round % 2, [add('hot')], 5_000);
        expect(statuses(outcomes)).toEqual(['committed']);
      }
      await channel.settle();
      expect(await channel.evaluate(0, 'money', 'read', 'hot')).toBe('8');
    });
  });

  it('a contract process that dies with calls in it costs time only', async () => {
    await withChannel({}, async (channel) => {
      for (let round = 1; round <= 4; round++) {
        const outcomes = channel.submit(0, [add('z'), add('z'), add('z')]);
        channel.nodes[0]?.children.at(-1)?.kill();
        expect(statuses(await outcomes)).toEqual(['committed']);
        expect(await channel.evaluate(0, 'money', 'read', 'z')).toBe(String(3 * round));
      }
      await addAll(channel, 20);
      expect(channel.nodes[0]?.executor.metrics().contractRestarts).toBe(4);
    });
  });
});

/** A log's methods as an object that can be spread. */
function bound(log: SharedLog): SharedLog {
  return {
    tail: () => log.tail(),
    write: (token, bytes) => log.write(token, bytes),
    read: (address) => log.read(address),
    follow: (from, signal) => log.follow(from, signal),
    fill: (address) => log.fill(address),
    trim: (before) => log.trim(before),
    seal: (epoch) => log.seal(epoch),
    epoch: () => log.epoch(),
    start: () => log.start(),
    close: () => log.close(),
  };
}
