import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { CallOutcome, ContractRuntime, StateAccess } from '../contract/index.ts';
import {
  asAddress,
  asPosition,
  bundleKey,
  definitionKey,
  type ExclusiveControl,
  encodeBundle,
  encodeDefinition,
  encodeTransaction,
  lifecycleNamespace,
  positionOf,
  stateKey,
} from '../model/index.ts';
import { Overlay } from '../state/index.ts';
import { Engine } from './engine.ts';
import type { RunnerCall } from './frames.ts';

/** What a call does: reads of keys (several at a time), of ranges, writes; or it fails there. */
type Step =
  | { readonly read: readonly string[] }
  | { readonly range: readonly [string, string] }
  | { readonly write: string }
  | 'fail';

const contract = { name: 'steps', version: '1', source: '0' };
const options = { readYourWrites: false, indexes: {} };

async function run(access: StateAccess, steps: readonly Step[]): Promise<string> {
  for (const step of steps) {
    if (step === 'fail') throw new Error('as it was told to');
    if ('read' in step) await Promise.all(step.read.map(async (key) => access.get('steps', key)));
    else if ('range' in step) await access.range('steps', ...step.range, 100);
    else access.put('steps', step.write, 'written');
  }
  return '';
}

/**
 * Lets an engine alone execute calls. Whatever it hands out is in the log a while later, in that
 * order. @returns `record` or `refused` by call.
 */
async function executeAll(
  exclusiveControl: ExclusiveControl,
  batches: readonly (readonly (readonly Step[])[])[],
): Promise<Map<number, string>> {
  let executions = 0;
  const answers = new Map<number, string>();
  const emitted: number[] = [];
  const runtime: ContractRuntime = {
    install: () => undefined,
    options: () => options,
    call: async (call, access): Promise<CallOutcome> => {
      executions++;
      try {
        const steps = JSON.parse(String(call.args[0])) as Step[];
        return { ok: true, result: await run(access, steps), event: undefined };
      } catch (error) {
        return { ok: false, code: 'CONTRACT_REJECTED', message: String(error) };
      }
    },
  };
  const committed = new Overlay({ get: () => undefined, range: () => [] });
  const version = asPosition(0);
  const bundle = encodeBundle({ ...contract, options });
  const bundleHash = createHash('sha256').update(bundle, 'latin1').digest('hex');
  const definition = encodeDefinition({ version: '1', sequence: 1, bundleHash, options });
  for (const [key, value] of [
    [bundleKey('steps'), bundle],
    [definitionKey('steps'), definition],
  ] as const) {
    committed.set({ key: stateKey(lifecycleNamespace, key), value, version });
  }
  const engine = new Engine({
    runtime,
    committed,
    snapshot: version,
    exclusiveControl,
    firstExecution: 0,
    results: {
      length: 0,
      record: (call, execution) => {
        answers.set(call, 'record');
        emitted.push(execution);
      },
      refused: (call) => answers.set(call, 'refused'),
      evaluated: () => undefined,
      prepared: () => undefined,
    },
    flush: () => undefined,
    monotonicMs: () => performance.now(),
    soon: (callback) => setImmediate(callback),
    history: () => Promise.resolve({ entries: [], bookmark: '' }) as never,
  });
  const calls: RunnerCall[] = [];
  for (const [batch, members] of batches.entries()) {
    for (const steps of members) {
      const transactionBytes = encodeTransaction({
        channel: 'main',
        contract: 'steps',
        contractVersion: '',
        functionName: 'run',
        args: [Buffer.from(JSON.stringify(steps))],
        nonce: Buffer.alloc(24, calls.length),
        timestampMs: 0,
      });
      const txId = createHash('sha256').update(transactionBytes).digest();
      const call = { call: calls.length, kind: 'submit', batch, leaf: 0, txId } as const;
      calls.push({ ...call, creator: Buffer.alloc(0), transactionBytes });
    }
  }
  engine.execute(calls);
  let address = 0;
  let idleTurns = 0;
  while (answers.size < calls.length) {
    // Each is executed again and again: a circle without end.
    expect(executions).toBeLessThan(calls.length * 1000);
    expect(idleTurns, 'calls wait for one another').toBeLessThan(1000);
    const before = executions;
    await new Promise((resolve) => setImmediate(resolve));
    const settled = emitted.splice(0, 3).map((execution) => ({
      kind: 'own' as const,
      count: 1,
      execution,
      position: positionOf(asAddress(++address), 0),
    }));
    if (settled.length > 0) engine.apply(settled, positionOf(asAddress(address + 1), 0));
    idleTurns = settled.length > 0 || executions > before ? 0 : idleTurns + 1;
  }
  return answers;
}

const key = fc.constantFrom('a', 'b', 'c', 'd', 'e');
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ read: fc.array(key, { minLength: 1, maxLength: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ range: fc.constantFrom(['a', 'c'], ['b', ''], ['a', '']) }) },
  { weight: 4, arbitrary: fc.record({ write: key }) },
  { weight: 1, arbitrary: fc.constant('fail' as const) },
) as fc.Arbitrary<Step>;
const call = fc.array(step, { minLength: 1, maxLength: 4 });
const batches = fc.array(fc.array(call, { minLength: 1, maxLength: 8 }), {
  minLength: 20,
  maxLength: 60,
});

for (const exclusiveControl of ['interleaved', 'transaction', 'batch'] as const) {
  it(`all calls end, whatever they lock: mode ${exclusiveControl}`, async () => {
    await fc.assert(
      fc.asyncProperty(batches, async (all) => {
        const answers = await executeAll(exclusiveControl, all);
        const failing = all.flat().map((steps) => steps.includes('fail'));
        expect(failing.map((fails) => (fails ? 'refused' : 'record'))).toEqual(
          failing.map((_, at) => answers.get(at)),
        );
      }),
      { numRuns: 30 },
    );
  }, 60_000);
}
