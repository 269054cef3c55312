import type { SharedLog } from '../src/log/index.ts';
import { asAddress, positionOf, stateKey } from '../src/model/index.ts';
import type { AppliedEntry } from '../src/replica/index.ts';
import { checkBlocks } from './block-checks.ts';
import type { CallHistory } from './client.ts';
import { type Cluster, readLog } from './cluster.ts';
import { type CommittedCalls, resultHash } from './committed-calls.ts';
import { contractName } from './contracts.ts';
import type { ExecutorMachine } from './executor-machine.ts';
import type { LedgerModel } from './ledger-model.ts';
import { digestOf, knownEntry } from './oracle.ts';
import { checkSdk } from './sdk-checks.ts';
import type { Workload } from './workload.ts';
import { SimulationFailure } from './world.ts';

/** What a run did, for its report. */
export interface FinalCounts {
  readonly addresses: number;
  readonly valid: number;
  readonly invalid: number;
  readonly fills: number;
  readonly blocks: number;
  readonly unknown: number;
  /** Transactions of followers' systems, and how often they were filled. */
  readonly posted: number;
  readonly fillsOfSinks: number;
}

/** Entries of so many records are made into blocks; making them costs more than committing them. */
const blockRecordsMax: Readonly<Record<Workload['kind'], number>> = { mixed: 2_000, load: 1_000 };
/** Where the end of a load world's stream begins, as a share of it. */
const loadTailStart = 7 / 8;
const noResult = resultHash('');

/**
 * Checks a settled cluster against its whole log: every node caught up, nobody writes any more.
 *
 * @throws {SimulationFailure} naming the invariant.
 */
export async function checkSettled(cluster: Cluster): Promise<FinalCounts> {
  const log = await readLog(cluster);
  if (log === undefined) throw new SimulationFailure('liveness', 'the log does not run');
  const fills = await checkLog(cluster, log);
  const model = cluster.oracle.ledger;
  const heads: AppliedEntry[][] = [];
  for (const node of cluster.nodes) heads.push(await readBack(cluster, await log.start(), node));
  model.compare(
    cluster.followers.flatMap(({ name, sink }) =>
      [...sink.checkpoints, sink.now()].map((checkpoint) => ({ ...checkpoint, name })),
    ),
  );
  checkMoney(cluster, model.rows);
  for (const node of cluster.nodes) checkState(node, model.rows);
  const trimmed = positionOf(await log.start(), 0);
  const committed = [...cluster.clients, ...cluster.sdkClients].map((client) => client.committed);
  for (const calls of committed) {
    const bare = checkCommitted(calls, model, trimmed);
    if (bare > 0) cluster.world.happened('snapshot: an outcome without its result');
  }
  for (const client of cluster.clients) checkFailed(client.failed, model);
  for (const client of cluster.sdkClients) checkSdk(client, model);
  for (const source of cluster.sources) model.captured.check(source, model.rows);
  checkRealTime(committed);
  const blocks = await checkBlocks(cluster, heads);
  let unknown = 0;
  for (const { failed } of cluster.clients) {
    for (const { outcome } of failed) if (outcome === undefined) unknown++;
  }
  const addresses = await log.tail();
  let posted = 0;
  let fillsOfSinks = 0;
  for (const { sink } of cluster.followers) {
    posted += sink.applies;
    fillsOfSinks += sink.fills;
  }
  const { size, invalid } = model;
  return { addresses, valid: size, invalid, fills, blocks, unknown, posted, fillsOfSinks };
}

/**
 * I1: what anybody ever read still stands there, unless it is trimmed; epochs never go down (what a
 * seal promises).
 */
async function checkLog(cluster: Cluster, log: SharedLog): Promise<number> {
  const [start, tail] = [await log.start(), await log.tail()];
  let epoch = 0;
  let fills = 0;
  for (let address = 0; address < tail; address++) {
    const entry =
      address < start ? cluster.oracle.archived(address) : await log.read(asAddress(address));
    if (entry === undefined) wrong('I2', `${address} was trimmed before anybody read it`);
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

/**
 * I3: what a node gives to those who read its stream is what was found when it was applied. Under
 * load that is looked at in the beginning and at the end.
 *
 * @returns the beginning.
 */
async function readBack(
  { oracle, workload: { kind } }: Cluster,
  logStart: number,
  { name, replica }: ExecutorMachine,
): Promise<AppliedEntry[]> {
  if (replica === undefined) throw new SimulationFailure('liveness', `${name} does not run`);
  const head: AppliedEntry[] = [];
  let headRecords = 0;
  const end = replica.nextAddress;
  // What it cannot tell of any more, it has agreed on with the others when it applied it.
  const start = asAddress(Math.max(replica.state.startAddress, logStart));
  let next = 0;
  const take = (entry: AppliedEntry): void => {
    const { address } = entry;
    if (address !== next++) wrong('I2', `${name} gives ${address} after ${next - 2}`);
    if (knownEntry(entry).fingerprint !== oracle.known(address)?.fingerprint) {
      wrong('I3', `${name} now holds other verdicts at ${address} than it found there`);
    }
    if (headRecords < blockRecordsMax[kind]) head.push(entry);
    headRecords += entry.records.length;
  };
  const takeFrom = async (from: number, isEnough: () => boolean): Promise<void> => {
    next = from;
    while (next < start && !isEnough()) take(oracle.appliedAt(next));
    if (next >= end || isEnough()) return;
    for await (const page of replica.readApplied(positionOf(asAddress(next), 0))) {
      for (const entry of page) take(entry);
      if (next >= end || isEnough()) return;
    }
  };
  await takeFrom(0, () => kind === 'load' && headRecords >= blockRecordsMax.load);
  if (next < end) await takeFrom(Math.max(next, Math.floor(end * loadTailStart)), () => false);
  return head;
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

/**
 * I4: what was answered is what the log holds, after all crashes. The result of what is trimmed may
 * be missing in an answer.
 *
 * @returns how many answers had no result for that.
 */
function checkCommitted(calls: CommittedCalls, model: LedgerModel, trimmed: number): number {
  let bare = 0;
  const { ids } = calls;
  for (let row = 0; row < calls.count; row++) {
    const at = calls.idAt(row);
    const number = model.find(ids, at);
    const what = (): string => {
      const id = Buffer.from(ids.subarray(at, calls.idAt(row + 1)));
      return `transaction ${id.toString('hex')}…`;
    };
    if (number === undefined) {
      wrong('I4', `${what()} was answered as committed and is not in the log`);
    }
    const position = calls.position(row);
    const isThere = model.position(number) === position;
    if (isThere && model.result(number) === calls.result(row)) continue;
    if (isThere && calls.result(row) === noResult && position < trimmed) bare++;
    else wrong('I4', `${what()} was answered differently from what the log holds`);
  }
  return bare;
}

/** I4: what was refused for good has not taken effect. */
function checkFailed(calls: readonly CallHistory[], model: LedgerModel): void {
  for (const { txId, outcome, attempts, functionName } of calls) {
    if (outcome?.status !== 'rejected') continue;
    if (outcome.error.code === 'CONTRACT_UNKNOWN') {
      // The contract was deployed, and that was answered, before anything else was sent.
      wrong('I5', `${functionName} ${txId} was refused by a node that had not caught up`);
    } else if (attempts === 1 && model.find(Buffer.from(txId, 'hex')) !== undefined) {
      wrong('I4', `${functionName} ${txId} was refused (${outcome.error.code}) and took effect`);
    }
  }
}

/** Calls that were sent together and answered together. */
interface Answered {
  readonly submittedUs: number;
  readonly answeredUs: number;
  /** Their least and greatest position. */
  least: number;
  greatest: number;
}

/** I5: what was sent after an answer stands behind what was answered. */
function checkRealTime(clients: readonly CommittedCalls[]): void {
  const groups = clients.flatMap(answeredTogether);
  const byAnswer = groups.toSorted((left, right) => left.answeredUs - right.answeredUs);
  const bySubmission = groups.toSorted((left, right) => left.submittedUs - right.submittedUs);
  let at = 0;
  let highest = -1;
  for (const { submittedUs, least } of bySubmission) {
    for (; (byAnswer[at]?.answeredUs ?? Number.POSITIVE_INFINITY) < submittedUs; at++) {
      highest = Math.max(highest, byAnswer[at]?.greatest ?? 0);
    }
    if (least < highest) {
      wrong('I5', `what stands at ${least} was sent after ${highest} was answered`);
    }
  }
}

function answeredTogether(calls: CommittedCalls): Answered[] {
  const groups: Answered[] = [];
  for (let row = 0; row < calls.count; row++) {
    const position = calls.position(row);
    const [submittedUs, answeredUs] = [calls.submittedUs(row), calls.answeredUs(row)];
    const last = groups.at(-1);
    if (last?.submittedUs === submittedUs && last.answeredUs === answeredUs) {
      last.least = Math.min(last.least, position);
      last.greatest = Math.max(last.greatest, position);
    } else groups.push({ submittedUs, answeredUs, least: position, greatest: position });
  }
  return groups;
}

function wrong(invariant: string, what: string): never {
  throw new SimulationFailure('correctness', `${invariant}: ${what}`);
}
