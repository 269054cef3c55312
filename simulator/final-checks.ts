import { type ChainPoint, openBlockGenerator } from '../src/blocks/index.ts';
import type { SharedLog } from '../src/log/index.ts';
import {
  asAddress,
  decodeTransaction,
  positionOf,
  stateKey,
  verdicts,
} from '../src/model/index.ts';
import type { AppliedEntry } from '../src/replica/index.ts';
import { MemoryBucketStore } from '../src/state/index.ts';
import type { CallHistory } from './client.ts';
import type { Cluster } from './cluster.ts';
import { contractFunctions, contractName } from './contracts.ts';
import type { ExecutorMachine } from './executor-machine.ts';
import { digestOf } from './oracle.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SimulationFailure } from './world.ts';

/** What a run did, for its report. */
export interface FinalCounts {
  readonly addresses: number;
  readonly valid: number;
  readonly invalid: number;
  readonly fills: number;
  readonly blocks: number;
  readonly unknown: number;
}

/**
 * Checks a settled cluster against its whole log: every node caught up, nobody writes any more.
 *
 * @throws {SimulationFailure} naming the invariant.
 */
export async function checkSettled(cluster: Cluster): Promise<FinalCounts> {
  const log = cluster.logMachine.log;
  if (log === undefined) throw new SimulationFailure('liveness', 'the log does not run');
  const fills = await checkLog(cluster, log);
  const applied = await Promise.all(cluster.nodes.map((node) => appliedBy(node)));
  const [truth = []] = applied;
  const { state, valid, invalid } = await replay(truth);
  checkMoney(cluster, state);
  for (const node of cluster.nodes) checkState(node, state);
  const histories = cluster.clients.flatMap(({ history }) => history);
  checkAnswers(histories, valid);
  checkRealTime(histories);
  const blocks = await checkBlocks(cluster, applied);
  const unknown = histories.filter(({ outcome }) => outcome === undefined).length;
  return { addresses: truth.length, valid: valid.size, invalid, fills, blocks, unknown };
}

/** I1: what anybody ever read still stands there; epochs never go down (what a seal promises). */
async function checkLog(cluster: Cluster, log: SharedLog): Promise<number> {
  const tail = await log.tail();
  let epoch = 0;
  let fills = 0;
  for (let address = 0; address < tail; address++) {
    const entry = await log.read(asAddress(address));
    const known = cluster.oracle.entries.get(address);
    if (known !== undefined && known !== digestOf(entry)) {
      wrong('I1', `address ${address} holds another entry than a node read there`);
    }
    if (entry.kind === 'fill') fills++;
    else {
      if (entry.epoch < epoch) wrong('I1', `epoch ${entry.epoch} at ${address}, after ${epoch}`);
      epoch = entry.epoch;
    }
  }
  for (const address of cluster.oracle.entries.keys()) {
    if (address >= tail) wrong('I1', `the entry that was read at ${address} is gone`);
  }
  return fills;
}

async function appliedBy(node: ExecutorMachine): Promise<AppliedEntry[]> {
  const { replica } = node;
  if (replica === undefined) throw new SimulationFailure('liveness', `${node.name} does not run`);
  const applied: AppliedEntry[] = [];
  const abort = new AbortController();
  for await (const page of replica.readApplied(positionOf(asAddress(0), 0), abort.signal)) {
    applied.push(...page);
    if ((applied.at(-1)?.address ?? 0) + 1 >= replica.nextAddress) abort.abort();
  }
  return applied;
}

interface Replayed {
  readonly state: ReadonlyMap<string, string>;
  readonly valid: ReadonlyMap<string, { readonly position: number; readonly result: string }>;
  readonly invalid: number;
}

/** I5, I6: executing the valid records one after the other on a plain map gives what they hold. */
async function replay(applied: readonly AppliedEntry[]): Promise<Replayed> {
  const state = new Map<string, string>();
  const valid = new Map<string, { position: number; result: string }>();
  let invalid = 0;
  for (const { records } of applied) {
    for (const { record, position, verdict } of records) {
      if (verdict !== verdicts.valid) {
        invalid++;
        continue;
      }
      const txId = Buffer.from(record.txId).toString('hex');
      if (valid.has(txId)) wrong('I6', `${txId} took effect twice, again at ${position}`);
      valid.set(txId, { position, result: record.result });
      if (record.type === 'deploy') continue;
      const transaction = decodeTransaction(record.transactionBytes);
      const writes = new Map<string, string | undefined>();
      const run = contractFunctions[transaction.functionName];
      const result = await run?.(
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
      const what = `${transaction.functionName} at ${position}`;
      if (result !== record.result) {
        wrong('I5', `${what} returned ${record.result}; executed in log order ${result}`);
      }
      const recorded = new Map(
        record.sets.flatMap((set) => set.writes).map(({ key, value }) => [key, value]),
      );
      if (recorded.size !== writes.size) wrong('I5', `${what} has other writes`);
      for (const [key, value] of writes) {
        if (recorded.get(key) !== value) wrong('I5', `${what} wrote something else to ${key}`);
        if (value === undefined) state.delete(key);
        else state.set(key, value);
      }
    }
  }
  return { state, valid, invalid };
}

function checkMoney(cluster: Cluster, state: ReadonlyMap<string, string>): void {
  let total = 0;
  for (const [key, value] of state) if (key.startsWith('a')) total += Number(value);
  if (total !== cluster.money) wrong('I5', `${cluster.money} units became ${total}`);
}

/** I7: every node holds the same rows. */
function checkState(node: ExecutorMachine, state: ReadonlyMap<string, string>): void {
  const rows =
    node.state?.range(stateKey(contractName, ''), stateKey(`${contractName}\x01`, '')) ?? [];
  const held = new Map(rows.map(({ key, value }) => [key.slice(contractName.length + 1), value]));
  if (held.size !== state.size) {
    wrong('I7', `${node.name} holds ${held.size} rows, the log says ${state.size}`);
  }
  for (const [key, value] of state) {
    if (held.get(key) !== value) {
      wrong('I7', `${node.name} holds ${held.get(key)} under ${key}, the log says ${value}`);
    }
  }
}

/** I4: what was answered is what the log holds, after all crashes. */
function checkAnswers(histories: readonly CallHistory[], valid: Replayed['valid']): void {
  for (const { txId, outcome, attempts, functionName } of histories) {
    if (outcome === undefined) continue;
    const inLog = valid.get(txId);
    if (outcome.status === 'committed') {
      if (inLog === undefined) {
        wrong('I4', `${functionName} ${txId} was answered as committed and is not in the log`);
      } else if (inLog.position !== outcome.position || inLog.result !== outcome.result) {
        wrong('I4', `${functionName} ${txId} was answered differently from what the log holds`);
      }
    } else if (outcome.error.code === 'CONTRACT_UNKNOWN') {
      // The contract was deployed, and that was answered, before anything else was sent.
      wrong('I5', `${functionName} ${txId} was refused by a node that had not caught up`);
    } else if (attempts === 1 && inLog !== undefined) {
      wrong('I4', `${functionName} ${txId} was refused (${outcome.error.code}) and took effect`);
    }
  }
}

/** I5: what was sent after an answer stands behind what was answered. */
function checkRealTime(histories: readonly CallHistory[]): void {
  const committed = histories.flatMap(({ submittedUs, answeredUs, outcome, txId }) =>
    outcome?.status === 'committed' && answeredUs !== undefined
      ? [{ submittedUs, answeredUs, position: outcome.position as number, txId }]
      : [],
  );
  const byAnswer = committed.toSorted((left, right) => left.answeredUs - right.answeredUs);
  const bySubmission = committed.toSorted((left, right) => left.submittedUs - right.submittedUs);
  let at = 0;
  let highest = -1;
  for (const call of bySubmission) {
    for (; (byAnswer[at]?.answeredUs ?? Number.POSITIVE_INFINITY) < call.submittedUs; at++) {
      highest = Math.max(highest, byAnswer[at]?.position ?? 0);
    }
    if (call.position < highest) {
      wrong('I5', `${call.txId} at ${call.position} was sent after ${highest} was answered`);
    }
  }
}

/**
 * I7: every node's stream gives the same blocks and state roots, however often the generator is
 * killed and started again on the way.
 */
async function checkBlocks(
  cluster: Cluster,
  applied: readonly (readonly AppliedEntry[])[],
): Promise<number> {
  const ends: string[] = [];
  let height = 0;
  for (const entries of [applied[0] ?? [], ...applied]) {
    // The first stream goes through without a crash.
    const crashes = ends.length === 0 ? 0 : cluster.world.chance.between(1, 3);
    const { point, stateRoot } = await generate(cluster, entries, crashes);
    ({ height } = point);
    const parts = [point.hash, point.commitHash, stateRoot];
    ends.push([height, ...parts.map((part) => Buffer.from(part).toString('hex'))].join(' '));
  }
  for (const end of ends) if (end !== ends[0]) wrong('I7', `other blocks: ${ends.join(' / ')}`);
  return height;
}

async function generate(
  cluster: Cluster,
  entries: readonly AppliedEntry[],
  crashes: number,
): Promise<{ readonly point: ChainPoint; readonly stateRoot: Uint8Array }> {
  const { world, network } = cluster;
  const disk = new SimDisk(world);
  const buckets = new MemoryBucketStore();
  for (let left = crashes; ; left--) {
    const process = world.spawn('checker', 'checker');
    const io = simIo(world, process, disk, network);
    const generator = await openBlockGenerator({
      io,
      directory: '/blocks',
      buckets,
      bucketBits: 4,
      checkpointBlocks: 7,
    });
    const rest = entries.filter(({ address }) => address >= generator.nextAddress);
    if (left > 0) {
      await generator.push(rest.slice(0, world.chance.below(rest.length + 1)));
      world.kill(process);
      continue;
    }
    await generator.push(rest);
    const { point } = generator;
    const last = point.height === 0 ? undefined : await generator.describe(point.height - 1);
    await generator.close();
    return { point, stateRoot: last?.proof.stateRoot ?? Buffer.alloc(0) };
  }
}

function wrong(invariant: string, what: string): never {
  throw new SimulationFailure('correctness', `${invariant}: ${what}`);
}
