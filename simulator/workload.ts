import { deployArgument } from '../src/contract/index.ts';
import { deployFunction, lifecycleNamespace } from '../src/model/index.ts';
import type { SimCall, SimClient } from './client.ts';
import type { Cluster } from './cluster.ts';
import { account, bulkRowCount, bulkRowKey, contractBundle, contractName } from './contracts.ts';
import { loadBatch, loadBatchAgeMs, type SignedCalls } from './load-batches.ts';
import type { Chance } from './random.ts';
import { keptRows } from './repair.ts';
import { SimulationFailure } from './world.ts';

/** What the clients of a world do. Every seed has its own. */
export interface Workload {
  /** Few clients with all kinds of calls, or many large batches as under full load. */
  readonly kind: 'mixed' | 'load';
  readonly accounts: number;
  /** Batches that one client has under way at a time. */
  readonly batchesInFlight: number;
  readonly batchMax: number;
  readonly pauseMsMax: number;
}

const unitsPerAccount = 100;
const setupDeadlineMs = 30_000;
const callDeadlineMs = 12_000;
/** Where there is little room, a client sends more than that at once now and then. */
const burstShare = 0.06;
const burstBatches = 4;
const burstCalls = 20;
/** How often a client whose log is trimmed sends something old again. */
const sentAgainShare = 0.15;
const probedAccounts = 12;
const announcedShare = 0.3;
const announcedKeys = 4;
/** Under load a client has so many calls under way, in one batch or in several. */
const loadCallsInFlight = 400;
/** A world is as large as its log: after so many calls of all clients each of them only trickles. */
const loadCallsMax = 300_000;
const tricklePauseUs = 1_000_000;
/** A client begins with one of so many batches. */
const firstLoadBatches = 32;

/** Draws a workload. */
export function drawWorkload(chance: Chance, kind: Workload['kind']): Workload {
  if (kind === 'mixed') {
    return { kind, accounts: 12, batchesInFlight: 1, batchMax: 20, pauseMsMax: 100 };
  }
  const batchMax = chance.pick([100, 200, 400]);
  const batchesInFlight = loadCallsInFlight / batchMax;
  return { kind, accounts: 600, batchesInFlight, batchMax, pauseMsMax: 2 };
}

/** Deploys the contract and opens the accounts; nothing is broken yet. */
export async function prepareWorkload(
  cluster: Cluster,
  caughtUp: () => Promise<void>,
): Promise<void> {
  const [client] = cluster.clients;
  if (client === undefined) return;
  const { accounts } = cluster.workload;
  await demand(client, [deployCall('1')], 'deploy');
  await caughtUp();
  const opening = Array.from({ length: accounts }, (_, at) =>
    money('put', account(at), String(unitsPerAccount)),
  );
  opening.push(money('openRows'));
  await demand(client, opening, 'open the accounts');
  if (cluster.repairs !== undefined) {
    const keeping = keptRows.map(([key, value]) => money('put', key, value));
    await demand(client, keeping, 'write what is to be kept');
  }
  await caughtUp();
  cluster.money = accounts * unitsPerAccount;
}

/** One client's work, until told to stop. */
export async function work(
  cluster: Cluster,
  client: SimClient,
  number: number,
  stopped: () => boolean,
): Promise<void> {
  const { chance } = cluster.world;
  const { kind, batchesInFlight } = cluster.workload;
  const mixed = kind === 'mixed';
  const batchMax = mixed ? chance.pick([1, 4, 20]) : cluster.workload.batchMax;
  const pauseMsMax = mixed ? chance.pick([2, 20, 100]) : cluster.workload.pauseMsMax;
  // Under load each client keeps to its node, as clients do that know where their keys are hot.
  const node = mixed ? {} : { node: number % cluster.nodes.length };
  const options = { ...node, deadlineMs: callDeadlineMs };
  let next = mixed ? 0 : chance.below(firstLoadBatches);
  const lastHurried = next + loadCallsMax / cluster.clients.length / batchMax;
  const one = async (): Promise<void> => {
    if (chance.happens(0.005)) {
      await client.submit([deployCall(`1.${chance.below(1_000_000_000)}`)], options);
    } else if (mixed) {
      await client.submit(randomCalls(cluster, chance.between(1, batchMax)), options);
    } else {
      await client.send(nextLoadBatch(cluster, number, next++), options);
    }
  };
  const small = cluster.bounds.transactionsMax < burstBatches * burstCalls;
  const loop = async (): Promise<void> => {
    while (!stopped()) {
      const burst = small && chance.happens(burstShare) ? burstBatches : 0;
      const more = Array.from({ length: burst }, () =>
        client.submit(randomCalls(cluster, burstCalls), options),
      );
      await Promise.all([one(), ...more]);
      if (cluster.retention !== undefined && chance.happens(sentAgainShare)) {
        await client.sendAgain(callDeadlineMs);
      }
      const pauseUs = (1 + chance.below(pauseMsMax + 1)) * 1000;
      const trickles = !mixed && next > lastHurried;
      await cluster.world.sleep(undefined, trickles ? tricklePauseUs : pauseUs);
    }
  };
  await Promise.all(Array.from({ length: batchesInFlight }, loop));
}

function nextLoadBatch(cluster: Cluster, client: number, number: number): SignedCalls {
  const { config, clients, workload, world } = cluster;
  const { accounts, batchMax } = workload;
  const age = Math.floor(world.nowUs / 1000 / loadBatchAgeMs);
  const of = { channel: config.channel, client, clients: clients.length, accounts, number, age };
  return loadBatch({ ...of, calls: batchMax });
}

/** After everything healed: every node must commit within `boundMs`. */
export async function probe(cluster: Cluster, boundMs: number): Promise<void> {
  const [client] = cluster.clients;
  if (client === undefined) return;
  for (let node = 0; node < cluster.nodes.length; node++) {
    // No account may have become unusable.
    const accounts = Array.from({ length: probedAccounts }, (_, at) => account(at));
    const calls = [
      money('count', `p${node}`),
      ...accounts.map((name) => money('move', name, name, '0')),
    ];
    const answers = await client.submit(calls, { node, deadlineMs: boundMs });
    const failed = answers.filter(({ outcome }) => outcome?.status !== 'committed');
    if (failed.length > 0) {
      const said = JSON.stringify(failed[0]?.outcome ?? 'no answer');
      throw new SimulationFailure(
        'liveness',
        `node${node} does not commit ${failed.length} of ${answers.length} calls after all healed: ${said}`,
      );
    }
  }
}

async function demand(client: SimClient, calls: readonly SimCall[], what: string): Promise<void> {
  const answers = await client.submit(calls, { node: 0, deadlineMs: setupDeadlineMs });
  const failed = answers.find(({ outcome }) => outcome?.status !== 'committed');
  if (failed !== undefined) {
    const said = JSON.stringify(failed.outcome ?? 'no answer');
    throw new SimulationFailure('liveness', `cannot ${what}: ${said}`);
  }
}

/** Calls as clients of mixed worlds make them, at random. */
export function randomCalls(cluster: Cluster, count: number): SimCall[] {
  const { chance } = cluster.world;
  if (chance.happens(0.02)) return [raiseCall(chance)];
  return Array.from({ length: count }, () => {
    const call = randomCall(cluster);
    const { readers, edge } = cluster;
    // Where nobody listens, nothing is announced.
    if (readers.length === 0 || !edge.happens(announcedShare)) return call;
    return { ...call, ...money('announce', `e${edge.below(announcedKeys)}`) };
  });
}

/** A bulk update, over all rows or over some; in mode `batch` it needs a batch of its own. */
function raiseCall(chance: Chance): SimCall {
  const all = chance.happens(0.7);
  const start = all ? 'r' : bulkRowKey(chance.below(bulkRowCount));
  return money('raise', start, 's', String(chance.between(1, 3)));
}

function randomCall(cluster: Cluster): SimCall {
  const { chance } = cluster.world;
  const { accounts } = cluster.workload;
  // Half of the traffic goes to two hot accounts.
  const one = (): string => account(chance.happens(0.5) ? chance.below(2) : chance.below(accounts));
  const pick = chance.below(27);
  const call = ((): SimCall => {
    if (pick < 10) return money('move', one(), one(), String(chance.below(30)));
    if (pick < 13) return money('sum', 'a', account(chance.below(accounts)), `s${chance.below(3)}`);
    if (pick < 17) return money('toggle', `a5x${chance.below(4)}`);
    if (pick < 18) return money('remove', `s${chance.below(3)}`);
    if (pick < 22) return money('count', `c${chance.below(40)}`);
    if (pick < 23) return money('put', `s${chance.below(3)}`, String(chance.below(100)));
    if (pick < 25) return money('raiseOne', bulkRowKey(chance.below(bulkRowCount)));
    if (pick < 26) return money('sumRows', bulkRowKey(chance.below(bulkRowCount)), 's');
    return money('stamp', `v${chance.below(3)}`);
  })();
  if (!chance.happens(0.1)) return call;
  cluster.world.happened('workload: an ordering key');
  return { ...call, orderingKey: `k${chance.below(3)}` };
}

function money(functionName: string, ...args: string[]): SimCall {
  return { contract: contractName, functionName, args };
}

function deployCall(version: string): SimCall {
  return {
    contract: lifecycleNamespace,
    functionName: deployFunction,
    args: [deployArgument(contractBundle(version))],
  };
}
