import { bundleContract, type ContractCall, createContractRuntime } from '../src/contract/index.ts';
import { repositoryPath } from './cluster-under-load.ts';

export interface ContractBenchOptions {
  readonly calls: number;
}

export const contractBenchDefaults: ContractBenchOptions = { calls: 300_000 };

export interface ContractBenchResult extends ContractBenchOptions {
  /** CPU time of a call of the `bench` contract (2 reads, 2 writes, JSON) in the sandbox, µs. */
  readonly callUs: number;
  /** CPU time of the same work as a plain async function, µs: the reference. */
  readonly plainUs: number;
  /** Time to install a bundle, ms. */
  readonly installMs: number;
}

const row = '{"balance":100,"moves":10}';

/** What the sandbox and Fabric's contract API cost, on a state that answers at once. */
export async function contractBench(options: ContractBenchOptions): Promise<ContractBenchResult> {
  const bundle = await bundleContract(repositoryPath('examples/contracts/bench'));
  const runtime = createContractRuntime({ timers: { soon: (job) => void setImmediate(job) } });
  const installStarted = performance.now();
  runtime.install(bundle);
  const installMs = performance.now() - installStarted;

  let written = 0;
  const put = (_namespace: string, _key: string, value: string): void => {
    written += value.length;
  };
  const access = {
    get: () => row,
    put,
    delete: () => undefined,
    range: () => [],
    query: () => ({ rows: [], bookmark: '' }),
    history: () => ({ rows: [], bookmark: '' }),
    updateRange: () => undefined,
  };
  const calls = Array.from({ length: 1000 }, (_, index) => callOf(index));
  const sandboxed = async (call: ContractCall): Promise<void> => {
    const outcome = await runtime.call(call, access);
    if (!outcome.ok) throw new Error(outcome.message);
  };
  const plain = async (call: ContractCall): Promise<void> => {
    const [from = '', to = '', amount = ''] = call.args;
    const payer = JSON.parse(await Promise.resolve(row)) as { balance: number; moves: number };
    const payee = JSON.parse(await Promise.resolve(row)) as { balance: number; moves: number };
    payer.balance -= Number(amount);
    payee.balance += Number(amount);
    put('', from, JSON.stringify(payer));
    put('', to, JSON.stringify(payee));
  };
  const measure = async (run: (call: ContractCall) => Promise<void>): Promise<number> => {
    const repeat = async (count: number): Promise<void> => {
      for (let at = 0; at < count; at++) await run(calls[at % calls.length] as ContractCall);
    };
    await repeat(options.calls / 4);
    const before = process.cpuUsage();
    await repeat(options.calls);
    const { user, system } = process.cpuUsage(before);
    return (user + system) / options.calls;
  };
  const plainUs = await measure(plain);
  const callUs = await measure(sandboxed);
  if (written === 0) throw new Error('nothing was written');
  return { ...options, callUs, plainUs, installMs };
}

function callOf(index: number): ContractCall {
  return {
    channel: 'main',
    contract: 'bench',
    functionName: 'move',
    args: [`account${index}`, `account${index + 1}`, '1'],
    txId: index.toString(16).padStart(64, '0'),
    creator: new Uint8Array(),
    nonce: new Uint8Array(24),
    timestampMs: 1_700_000_000_000,
  };
}
