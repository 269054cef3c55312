import fc from 'fast-check';
import { expect, it } from 'vitest';
import { DaybookError } from '../base/index.ts';
import type { ContractBundle, StateAccess } from './runtime.ts';
import { Harness, sampleOf } from './testing/harness.ts';

/*
 * Many calls at once whose reads answer at once, a promise reaction later, or turns of the event loop
 * later: each must end as it would alone, and see nothing but its own time.
 */

type Delay = 'none' | 'reaction' | 'turn' | 'turns' | 'abort';
const delay = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom<Delay>('none', 'reaction', 'turn', 'turns') },
  { weight: 1, arbitrary: fc.constant<Delay>('abort') },
);
const plan = fc.record({
  steps: fc.array(delay, { maxLength: 6 }),
  how: fc.constantFrom('one by one', 'all at once', 'nested', 'left behind'),
});

const methods = `
  async run(ctx, count, how) {
    const mine = Date.now();
    const check = (value) => { if (Date.now() !== mine) throw new Error('another call’s time'); return value; };
    const read = async (at) => check((await ctx.stub.getState('k' + at)).toString());
    const found = [];
    if (how === 'all at once') return (await Promise.all(Array.from({ length: Number(count) }, (_, at) => read(at)))).join();
    if (how === 'left behind') for (let at = 1; at < Number(count); at++) read(at).catch(() => {});
    const last = how === 'left behind' ? Math.min(1, Number(count)) : Number(count);
    for (let at = 0; at < last; at++) {
      if (how === 'nested') {
        const reply = await ctx.stub.invokeChaincode('sample', ['single', String(at)]);
        found.push(check(reply.payload.toString()));
      } else found.push(await read(at));
    }
    return found.join();
  }
  async single(ctx, at) { return (await ctx.stub.getState('k' + at)).toString(); }`;

function accessOf(inner: StateAccess, steps: readonly Delay[]): StateAccess {
  return {
    ...inner,
    get: (_namespace, key) => {
      const answer = `v${key.slice(1)}`;
      const step = steps[Number(key.slice(1))] ?? 'none';
      if (step === 'none') return answer;
      if (step === 'reaction') return Promise.resolve(answer);
      return new Promise((resolve, reject) => {
        const settle = (): void => {
          if (step === 'abort') reject(new DaybookError('TRANSACTION_CONFLICT', 'deadlock'));
          else resolve(answer);
        };
        if (step === 'turns') setImmediate(() => setImmediate(settle));
        else setImmediate(settle);
      });
    },
  };
}

it('keeps calls apart, whatever they wait for', async () => {
  const bundle: ContractBundle = await sampleOf(methods);
  const harness = new Harness([bundle]);
  await fc.assert(
    fc.asyncProperty(fc.array(plan, { minLength: 1, maxLength: 12 }), async (plans) => {
      const endings = plans.map(async ({ steps, how }, index) => {
        harness.timestampMs = 1_000 + index;
        const call = harness.newCall('run', [`${steps.length}`, how]);
        const access = accessOf(harness.state.access(call), steps);
        const wanted = steps.slice(0, how === 'left behind' ? 1 : undefined);
        const expected = wanted.map((_, at) => `v${at}`).join();
        const ended = await Promise.resolve(harness.runtime.call(call, access)).then(
          (outcome) => (outcome.ok ? outcome.result : outcome.message),
          (error: unknown) => (error as DaybookError).code,
        );
        if (!steps.includes('abort')) expect(ended).toBe(expected);
        else if (wanted.includes('abort')) expect(ended).toBe('TRANSACTION_CONFLICT');
        else expect([expected, 'TRANSACTION_CONFLICT']).toContain(ended);
      });
      await Promise.all(endings);
    }),
    { numRuns: 200 },
  );
});
