import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Bytestring } from '../base/index.ts';
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
  joinRecord,
  lifecycleNamespace,
  positionOf,
  stateKey,
} from '../model/index.ts';
import { Overlay } from '../state/index.ts';
import { Engine, type EngineResults } from './engine.ts';
import { type RunnerCall, receivedCalls } from './frames.ts';

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

/** What a deployment of that version writes. */
function deployment(version: string): { readonly key: Bytestring; readonly value: Bytestring }[] {
  const bundle = encodeBundle({ ...contract, version, options });
  const bundleHash = createHash('sha256').update(bundle, 'latin1').digest('hex');
  const definition = encodeDefinition({ version, sequence: Number(version), bundleHash, options });
  return [
    { key: stateKey(lifecycleNamespace, bundleKey('steps')), value: bundle },
    { key: stateKey(lifecycleNamespace, definitionKey('steps')), value: definition },
  ];
}

/** An engine over a state that holds version 1 of the contract and nothing else. */
function engineWith(
  exclusiveControl: ExclusiveControl,
  runtime: ContractRuntime,
  results: EngineResults,
): Engine {
  const committed = new Overlay({ get: () => undefined, range: () => [] });
  const version = asPosition(0);
  for (const write of deployment('1')) committed.set({ ...write, version });
  return new Engine({
    runtime,
    committed,
    snapshot: version,
    exclusiveControl,
    firstExecution: 0,
    results,
    flush: () => undefined,
    monotonicMs: () => performance.now(),
    soon: (callback) => setImmediate(callback),
    history: () => Promise.resolve({ entries: [], bookmark: '' }) as never,
  });
}

function callOf(call: number, unit: number, steps: readonly Step[]): RunnerCall {
  const transactionBytes = encodeTransaction({
    channel: 'main',
    contract: 'steps',
    contractVersion: '',
    functionName: 'run',
    args: [Buffer.from(JSON.stringify(steps))],
    nonce: Buffer.alloc(24, call),
    timestampMs: 0,
  });
  const txId = createHash('sha256').update(transactionBytes).digest();
  const creator = Buffer.alloc(0);
  return { call, kind: 'submit', unit, txId, creator, transactionBytes };
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
  const engine = engineWith(exclusiveControl, runtime, {
    length: 0,
    record: (call, execution) => {
      answers.set(call, 'record');
      emitted.push(execution);
    },
    refused: (call) => answers.set(call, 'refused'),
    evaluated: () => undefined,
    prepared: () => undefined,
  });
  const calls: RunnerCall[] = [];
  for (const [batch, members] of batches.entries()) {
    for (const steps of members) calls.push(callOf(calls.length, batch, steps));
  }
  engine.execute(receivedCalls(calls));
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

it('a record names the version that ran, whatever is deployed while its call waits', async () => {
  let installed = '';
  const runtime: ContractRuntime = {
    install: ({ version }) => {
      installed = version;
    },
    options: () => options,
    call: async (_, access): Promise<CallOutcome> => {
      const result = installed;
      await run(access, [{ write: 'a' }]);
      return { ok: true, result, event: undefined };
    },
  };
  const head = {
    type: 'call',
    txId: Buffer.alloc(32),
    batch: 0,
    leaf: 0,
    transactionBytes: Buffer.alloc(0),
  } as const;
  const emitted: number[] = [];
  const versions: string[] = [];
  const engine = engineWith('transaction', runtime, {
    length: 0,
    record: (_, execution, made, bodyBytes) => {
      const { contractVersion, result } = joinRecord(head, made.subarray(0, bodyBytes));
      expect(contractVersion).toBe(result);
      versions.push(result);
      emitted.push(execution);
    },
    refused: (call, code) => expect.unreachable(`${call} is refused: ${code}`),
    evaluated: () => undefined,
    prepared: () => undefined,
  });
  // The first holds the lock of `a` until its fate is known; the second has run and waits for it.
  engine.execute(receivedCalls([callOf(0, 0, []), callOf(1, 1, [])]));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(emitted).toHaveLength(1);
  const [execution = 0] = emitted;
  const position = positionOf(asAddress(1), 0);
  const upgrade = deployment('2').map((write) => ({ kind: 'write' as const, ...write }));
  const deployedAt = positionOf(asAddress(2), 0);
  engine.apply(
    upgrade.map((write) => ({ ...write, version: deployedAt })),
    positionOf(asAddress(3), 0),
  );
  engine.apply([{ kind: 'own', count: 1, execution, position }], positionOf(asAddress(3), 0));
  await expect.poll(() => versions).toHaveLength(2);
});
