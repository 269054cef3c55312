import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { bytestringOf, bytestringOfText } from '../../base/index.ts';
import { identityBytes } from '../../model/index.ts';
import { bundleContract } from '../bundle.ts';
import { type ContractRuntimeOptions, createContractRuntime } from '../create-runtime.ts';
import type {
  CallOutcome,
  ContractBundle,
  ContractCall,
  ContractRuntime,
  StateAccess,
} from '../runtime.ts';
import { MemoryState } from './memory-access.ts';

/** Writes files to a directory of their own, bundles them as a contract, and cleans up. */
export async function bundleOf(
  files: Readonly<Record<string, string>>,
  manifest: Readonly<Record<string, unknown>> = {},
): Promise<ContractBundle> {
  const directory = mkdtempSync(join(tmpdir(), 'daybook-contract-'));
  try {
    const packageJson = JSON.stringify({ name: 'sample', version: '1.0.0', ...manifest });
    for (const [name, text] of Object.entries({ 'package.json': packageJson, ...files })) {
      mkdirSync(dirname(join(directory, name)), { recursive: true });
      writeFileSync(join(directory, name), text);
    }
    return await bundleContract(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** A contract class `Sample` with the given methods, in JavaScript. */
export function sampleOf(methods: string, before = ''): Promise<ContractBundle> {
  return bundleOf({
    'index.js': `'use strict';
const { Contract, Context } = require('fabric-contract-api');
${before}
class Sample extends Contract {
${methods}
}
module.exports.contracts = [Sample];
`,
  });
}

/** A runtime with a state in memory, and calls in short form. */
export class Harness {
  readonly state = new MemoryState();
  readonly logged: string[] = [];
  readonly runtime: ContractRuntime;
  creator: Uint8Array = identityBytes({ mspId: 'Org1MSP', certificate: 'not a certificate' });
  timestampMs = 1_700_000_000_123;
  #calls = 0;

  constructor(bundles: readonly ContractBundle[], options: Partial<ContractRuntimeOptions> = {}) {
    this.runtime = createContractRuntime({
      timers: { soon: (callback) => void setImmediate(callback) },
      onLog: (_contract, _txId, level, text) => {
        this.logged.push(`${level} ${text}`);
      },
      ...options,
    });
    for (const bundle of bundles) this.runtime.install(bundle);
  }

  newCall(functionName: string, args: readonly (string | Uint8Array)[]): ContractCall {
    this.#calls++;
    return {
      channel: 'main',
      contract: 'sample',
      functionName,
      args: args.map((arg) =>
        typeof arg === 'string' ? bytestringOfText(arg) : bytestringOf(arg),
      ),
      txId: this.#calls.toString(16).padStart(64, '0'),
      creator: this.creator,
      nonce: Buffer.alloc(24, 7),
      timestampMs: this.timestampMs,
    };
  }

  /** Calls a function of `sample` and keeps what it wrote. */
  async call(
    functionName: string,
    ...args: readonly (string | Uint8Array)[]
  ): Promise<CallOutcome> {
    const call = this.newCall(functionName, args);
    const access = this.state.access(
      call,
      this.runtime.options(call.contract)?.readYourWrites ?? false,
    );
    const outcome = await this.runtime.call(call, access);
    if (outcome.ok) access.commit();
    return outcome;
  }

  /** The result of a call that must succeed, as text. */
  async result(functionName: string, ...args: readonly (string | Uint8Array)[]): Promise<string> {
    const outcome = await this.call(functionName, ...args);
    if (!outcome.ok) throw new Error(`${outcome.code}: ${outcome.message}`);
    return Buffer.from(outcome.result, 'latin1').toString();
  }

  /** `code: message` of a call that must fail. */
  async refusal(functionName: string, ...args: readonly (string | Uint8Array)[]): Promise<string> {
    const outcome = await this.call(functionName, ...args);
    if (outcome.ok) throw new Error(`it succeeded: ${outcome.result}`);
    return `${outcome.code}: ${outcome.message}`;
  }
}

/** A state whose reads of the key `slow` answer only when told. */
export class SlowAccess implements StateAccess {
  readonly #inner: StateAccess;
  #answer: (() => void) | undefined;
  #refuse: ((error: Error) => void) | undefined;

  constructor(inner: StateAccess) {
    this.#inner = inner;
  }

  answer(): void {
    this.#answer?.();
  }

  refuse(error: Error): void {
    this.#refuse?.(error);
  }

  get: StateAccess['get'] = (namespace, key) => {
    if (key !== bytestringOfText('slow')) return this.#inner.get(namespace, key);
    return new Promise((resolve, reject) => {
      this.#answer = () => resolve(this.#inner.get(namespace, key));
      this.#refuse = reject;
    });
  };
  put: StateAccess['put'] = (namespace, key, value) => this.#inner.put(namespace, key, value);
  delete: StateAccess['delete'] = (namespace, key) => this.#inner.delete(namespace, key);
  range: StateAccess['range'] = (...args) => this.#inner.range(...args);
  query: StateAccess['query'] = (...args) => this.#inner.query(...args);
  history: StateAccess['history'] = (...args) => this.#inner.history(...args);
  updateRange: StateAccess['updateRange'] = (...args) => this.#inner.updateRange(...args);
}
