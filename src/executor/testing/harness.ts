import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Bytestring, textOf } from '../../base/index.ts';
import { deployArgument } from '../../contract/index.ts';
import { type Child, type Io, realIo } from '../../io/index.ts';
import { openEmbeddedLog, type SharedLog } from '../../log/index.ts';
import {
  asAddress,
  type BatchItem,
  type ChannelConfig,
  type ContractBundle,
  decodeBatch,
  deployFunction,
  identityBytes,
  lifecycleNamespace,
  type Outcome,
  type Signer,
  signBatch,
  type TxId,
} from '../../model/index.ts';
import { openReplica, type Replica } from '../../replica/index.ts';
import { configEntry, testConfig, testMember } from '../../replica/testing/ledger.ts';
import { type LocalSequencer, type Sequencer, startSequencer } from '../../sequencer/index.ts';
import { MemoryStore, openState, type State } from '../../state/index.ts';
import { createExecutor } from '../create-executor.ts';
import type { ExecutorOptions, RunningExecutor } from '../executor-options.ts';
import { inlineProcesses, type TestContracts } from './inline-processes.ts';

/** One call as tests write it. */
export interface TestCall {
  readonly contract: string;
  readonly functionName: string;
  readonly args?: readonly (string | Uint8Array)[];
  readonly orderingKey?: string;
}

/** The outcome of a call, and which one it was. */
export type TestOutcome = Outcome & { readonly txId: TxId };

/** One executor with its replica. */
export interface TestNode {
  readonly name: string;
  readonly executor: RunningExecutor;
  readonly replica: Replica;
  readonly state: State;
  /** Contract processes that run in this process, in the order of their start. */
  readonly children: readonly Child[];
  close(): Promise<void>;
}

/** A channel with a log, perhaps a sequencer, and executors, all in this process. */
export interface TestChannel {
  readonly log: SharedLog;
  readonly sequencer: LocalSequencer | undefined;
  readonly nodes: readonly TestNode[];
  readonly signer: Signer;
  /** Signs and submits calls as one batch; resolves with all outcomes. */
  submit(node: number, calls: readonly TestCall[], deadlineMs?: number): Promise<TestOutcome[]>;
  /** The text that an evaluated function returned. */
  evaluate(node: number, contract: string, fn: string, ...args: string[]): Promise<string>;
  deploy(node: number, bundle: ContractBundle): Promise<Outcome>;
  /** Waits until all replicas have applied what the log holds. */
  settle(): Promise<void>;
  close(): Promise<void>;
}

export interface TestChannelOptions {
  readonly executors?: number;
  readonly withoutSequencer?: boolean;
  readonly config?: Partial<ChannelConfig>;
  /** Contracts that run in this process; without them a real contract process is started. */
  readonly contracts?: TestContracts;
  readonly executor?: Partial<ExecutorOptions>;
  /** Comes between the executors and the log. */
  readonly wrapLog?: (log: SharedLog) => SharedLog;
  /** Comes between the executors and the sequencer. */
  readonly wrapSequencer?: (sequencer: Sequencer, log: SharedLog) => Sequencer;
  readonly windowKeysMax?: number;
}

const member = testMember('Org1');

/** Opens the log of a test channel, in a temporary directory if it needs one. */
export type OpenTestLog = (io: Io, directory: string) => Promise<SharedLog>;

let openLog: OpenTestLog = (io, directory) => openEmbeddedLog({ io, directory });

/** From now on channels have logs of another engine: the same tests for all of them. */
export function openTestLogsBy(open: OpenTestLog): void {
  openLog = open;
}

/** Opens a {@link TestChannel} in a temporary directory. */
export async function openTestChannel(options: TestChannelOptions = {}): Promise<TestChannel> {
  const io = realIo();
  const directory = await mkdtemp(join(tmpdir(), 'daybook-executor-'));
  const { msp, signer } = await member;
  const store = await openLog(io, join(directory, 'log'));
  const founding = configEntry(testConfig([msp], options.config ?? {}), io.clock.nowMs());
  await store.write({ epoch: 0, address: asAddress(0) }, founding);
  const { windowKeysMax } = options;
  const sequencer =
    options.withoutSequencer === true
      ? undefined
      : await startSequencer({
          log: store,
          ...(windowKeysMax === undefined ? {} : { windowKeysMax }),
        });
  const log = options.wrapLog?.(store) ?? store;
  const asked = sequencer && (options.wrapSequencer?.(sequencer, store) ?? sequencer);
  const nodes: TestNode[] = [];
  for (let number = 0; number < (options.executors ?? 1); number++) {
    nodes.push(await openNode(io, directory, `node${number}`, log, asked, options));
  }
  const submit: TestChannel['submit'] = (node, calls, deadlineMs = 20_000) =>
    new Promise((resolve) => {
      const batch = signCalls(io, signer, calls);
      const outcomes: TestOutcome[] = [];
      let missing = calls.length;
      nodes[node]?.executor.submit(batch, io.clock.monotonicMs() + deadlineMs, (index, outcome) => {
        const { txId } = batch.items[index] as BatchItem;
        outcomes[index] = { ...outcome, txId: Buffer.from(txId).toString('hex') };
        missing--;
        if (missing === 0) resolve(outcomes);
      });
    });
  return {
    log,
    sequencer,
    nodes,
    signer,
    submit,
    evaluate: async (node, contract, functionName, ...args) =>
      textOf(
        (await nodes[node]?.executor.evaluate({
          channel: 'bank',
          contract,
          functionName,
          args: args.map((arg) => Buffer.from(arg)),
          creator: signer.identity,
        })) as Bytestring,
      ),
    deploy: async (node, bundle) => {
      const [outcome] = await submit(node, [
        {
          contract: lifecycleNamespace,
          functionName: deployFunction,
          args: [deployArgument(bundle)],
        },
      ]);
      return outcome as Outcome;
    },
    settle: async () => {
      const tail = await store.tail();
      for (const { replica } of nodes) {
        while (replica.nextAddress < tail) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
    close: async () => {
      for (const node of nodes) await node.close();
      await store.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Signs calls as a batch, as a gateway would hand it over. */
export function signCalls(
  io: Io,
  signer: Signer,
  calls: readonly TestCall[],
): ReturnType<typeof decodeBatch> {
  const { bytes } = signBatch(
    signer,
    'bank',
    io.random.bytes(16),
    calls.map(({ contract, functionName, args, orderingKey }) => ({
      transaction: {
        channel: 'bank',
        contract,
        contractVersion: '',
        functionName,
        args: (args ?? []).map((arg) => (typeof arg === 'string' ? Buffer.from(arg) : arg)),
        nonce: io.random.bytes(24),
        timestampMs: io.clock.nowMs(),
      },
      ...(orderingKey === undefined ? {} : { orderingKey }),
    })),
  );
  return decodeBatch(bytes);
}

async function openNode(
  io: Io,
  directory: string,
  name: string,
  log: SharedLog,
  sequencer: Sequencer | undefined,
  options: TestChannelOptions,
): Promise<TestNode> {
  const stateDirectory = join(directory, name);
  const store = options.contracts === undefined ? undefined : new MemoryStore();
  const state = await openState({
    io,
    directory: stateDirectory,
    ...(store === undefined ? {} : { store, flushIntervalMs: 20 }),
  });
  const replica = openReplica({ io, log, state, holeTimeoutMs: 200 });
  while (replica.config === undefined) await new Promise((resolve) => setTimeout(resolve, 1));
  const inline =
    options.contracts === undefined || store === undefined
      ? undefined
      : inlineProcesses(io, store, options.contracts);
  const executor = await createExecutor({
    io: { ...io, processes: inline ?? io.processes },
    name,
    log,
    sequencer,
    replica,
    stateDirectory,
    ...options.executor,
  });
  return {
    name,
    executor,
    replica,
    state,
    children: inline?.children ?? [],
    close: async () => {
      await executor.close();
      await replica.close();
      await state.close();
    },
  };
}

/** The creator of all test calls. */
export async function testCreator(): Promise<Buffer> {
  return identityBytes((await member).signer.identity);
}
