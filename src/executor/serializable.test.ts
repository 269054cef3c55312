import { expect, it } from 'vitest';
import { decodeTransaction, stateKey, verdicts } from '../model/index.ts';
import type { AppliedEntry } from '../replica/index.ts';
import {
  openTestChannel,
  type TestCall,
  type TestChannelOptions,
  type TestOutcome,
} from './testing/harness.ts';
import type { TestContracts } from './testing/inline-processes.ts';

/*
 * Random concurrent contracts over few keys, on several executors. Whatever the executors did, the
 * valid records in log order must be a serial history: executing them one after another on a plain
 * Map gives the very results and writes that the log holds.
 */

/** A contract function over any reads and writes, so that the model can run it again. */
interface Access {
  get(key: string): Promise<string | undefined>;
  put(key: string, value: string): void;
  delete(key: string): void;
  range(start: string, end: string): Promise<readonly { key: string; value: string }[]>;
}

const functions: Record<string, (access: Access, args: readonly string[]) => Promise<string>> = {
  /** Moves units between two accounts; refuses what is not there. */
  move: async (access, [from = '', to = '', units = '0']) => {
    const payer = Number((await access.get(from)) ?? 0);
    const payee = Number((await access.get(to)) ?? 0);
    if (payer < Number(units)) throw new Error(`${from} has only ${payer}`);
    if (from === to) return `${payer}`;
    access.put(from, String(payer - Number(units)));
    access.put(to, String(payee + Number(units)));
    return `${payer - Number(units)},${payee + Number(units)}`;
  },
  /** Sums an interval and notes the sum. */
  sum: async (access, [start = '', end = '', into = '']) => {
    const rows = await access.range(start, end);
    const text = rows.map(({ key, value }) => `${key}=${value}`).join(';');
    access.put(into, text);
    return text;
  },
  remove: async (access, [key = '']) => {
    const before = await access.get(key);
    access.delete(key);
    return before ?? '';
  },
  /** Writes without reading. */
  put: async (access, [key = '', value = '']) => {
    access.put(key, value);
    return value;
  },
};

const contracts: TestContracts = Object.fromEntries(
  Object.entries(functions).map(([name, run]) => [
    `money:${name}`,
    (state, args) =>
      run(
        {
          get: async (key) => state.get('money', key),
          put: (key, value) => state.put('money', key, value),
          delete: (key) => state.delete('money', key),
          range: async (start, end) => state.range('money', start, end, 1000),
        },
        args,
      ),
  ]),
);

const bundle = {
  name: 'money',
  version: '1',
  source: '0',
  options: { readYourWrites: false, indexes: {} },
};

/** Small random numbers that a seed fixes. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

function randomCall(next: (below: number) => number, accounts: number, ordered: boolean): TestCall {
  const account = (): string => `a${next(accounts)}`;
  const pick = next(20);
  const call = ((): TestCall => {
    if (pick < 14) return money('move', account(), account(), String(next(30)));
    if (pick < 16) return money('sum', 'a', `a${next(accounts)}`, `s${next(3)}`);
    if (pick < 18) return money('remove', `s${next(3)}`);
    return money('put', `s${next(3)}`, String(next(100)));
  })();
  return ordered && next(3) === 0 ? { ...call, orderingKey: `k${next(3)}` } : call;
}

function money(functionName: string, ...args: string[]): TestCall {
  return { contract: 'money', functionName, args };
}

interface Run {
  readonly seed: number;
  readonly batches?: number;
  readonly options: TestChannelOptions;
}

async function check({ seed, batches = 60, options }: Run): Promise<Record<string, number>> {
  const next = random(seed);
  const accounts = 6;
  const channel = await openTestChannel({ ...options, contracts });
  try {
    expect(await channel.deploy(0, bundle)).toMatchObject({ status: 'committed' });
    const opening = Array.from({ length: accounts }, (_, at) => money('put', `a${at}`, '100'));
    await channel.submit(0, opening);
    await channel.settle();
    const submitted: { calls: TestCall[]; outcomes: Promise<TestOutcome[]> }[] = [];
    for (let batch = 0; batch < batches; batch++) {
      const calls = Array.from({ length: 1 + next(8) }, () => randomCall(next, accounts, true));
      const node = next(channel.nodes.length);
      submitted.push({ calls, outcomes: channel.submit(node, calls) });
      if (next(4) === 0) await new Promise((resolve) => setTimeout(resolve, next(4)));
    }
    const outcomes = (
      await Promise.all(
        submitted.map(async ({ calls, outcomes: answers }) =>
          (await answers).map((outcome, at) => ({ call: calls[at], outcome })),
        ),
      )
    ).flat();
    await channel.settle();

    // Every node found the same.
    const replica = channel.nodes[0]?.replica;
    const applied: AppliedEntry[] = [];
    const abort = new AbortController();
    for await (const entries of replica?.readApplied(0 as never, abort.signal) ?? []) {
      applied.push(...entries);
      if ((applied.at(-1)?.address ?? 0) + 1 >= (replica?.nextAddress ?? 0)) abort.abort();
    }

    // Serial execution in log order.
    const state = new Map<string, string>();
    const committed = new Map<string, { position: number; result: string }>();
    for (const { records } of applied) {
      for (const { record, position, verdict } of records) {
        if (verdict !== verdicts.valid || record.type === 'deploy') continue;
        const txId = Buffer.from(record.txId).toString('hex');
        expect(committed.has(txId), 'a transaction took effect twice').toBe(false);
        committed.set(txId, { position, result: record.result });
        const transaction = decodeTransaction(record.transactionBytes);
        const writes = new Map<string, string | undefined>();
        const result = await functions[transaction.functionName]?.(
          {
            get: async (key) => state.get(key),
            put: (key, value) => writes.set(key, value),
            delete: (key) => writes.set(key, undefined),
            range: async (start, end) =>
              [...state]
                .filter(([key]) => key >= start && key < end)
                .sort(([left], [right]) => (left < right ? -1 : 1))
                .map(([key, value]) => ({ key, value })),
          },
          transaction.args.map((arg) => Buffer.from(arg).toString('latin1')),
        );
        expect(record.result, 'the result of a serial execution').toBe(result);
        const recorded = record.sets.flatMap((set) => set.writes);
        expect(new Map(recorded.map(({ key, value }) => [key, value]))).toEqual(writes);
        for (const [key, value] of writes) {
          if (value === undefined) state.delete(key);
          else state.set(key, value);
        }
      }
    }

    // What was answered is what the log holds, and nothing else.
    let rejected = 0;
    for (const { outcome, call } of outcomes) {
      const inLog = committed.get(outcome.txId);
      if (outcome.status === 'committed') {
        expect(inLog).toEqual({ position: outcome.position, result: outcome.result });
      } else {
        rejected++;
        expect(inLog, `${call?.functionName}: ${outcome.error.message}`).toBeUndefined();
        expect(outcome.error.code).toBe('CONTRACT_REJECTED');
      }
    }
    expect(committed.size).toBe(outcomes.length - rejected + accounts);
    const total = Array.from({ length: accounts }, (_, at) => Number(state.get(`a${at}`) ?? 0));
    expect(total.reduce((sum, units) => sum + units, 0)).toBe(accounts * 100);
    for (const { state: replayed } of channel.nodes) {
      for (const [key, value] of state) {
        expect(replayed.get(stateKey('money', key))?.value).toBe(value);
      }
    }
    // Calls with one ordering key took effect in the order in which they were sent to one node.
    const metrics = channel.nodes.map(({ executor }) => executor.metrics());
    return {
      rejected,
      committed: committed.size,
      sequencer: metrics.reduce((sum, one) => sum + one.conflictsAtSequencer, 0),
      replay: metrics.reduce((sum, one) => sum + one.conflictsAtReplay, 0),
      retries: metrics.reduce((sum, one) => sum + one.retries, 0),
    };
  } finally {
    await channel.close();
  }
}

const modes = ['interleaved', 'transaction', 'batch'] as const;

for (const exclusiveControl of modes) {
  it(`one executor, mode ${exclusiveControl}: serial, exactly once, without conflicts`, async () => {
    for (const seed of [1, 2, 3]) {
      const counts = await check({ seed, options: { config: { exclusiveControl } } });
      expect(counts).toMatchObject({ sequencer: 0, replay: 0 });
    }
  });

  it(`three executors, mode ${exclusiveControl}: serial, exactly once`, async () => {
    for (const seed of [4, 5]) {
      await check({ seed, options: { config: { exclusiveControl }, executors: 3 } });
    }
  });
}

it('two executors without a sequencer: serial, exactly once', async () => {
  for (const seed of [6, 7, 8]) {
    const counts = await check({ seed, options: { executors: 2, withoutSequencer: true } });
    expect(counts.retries).toBeGreaterThan(0);
  }
});
