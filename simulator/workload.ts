import { deployArgument } from '../src/contract/index.ts';
import { deployFunction, lifecycleNamespace } from '../src/model/index.ts';
import type { SimCall, SimClient } from './client.ts';
import type { Cluster } from './cluster.ts';
import { contractBundle, contractName } from './contracts.ts';
import { SimulationFailure } from './world.ts';

const accounts = 12;
const unitsPerAccount = 100;
const setupDeadlineMs = 30_000;
const callDeadlineMs = 12_000;

/** Deploys the contract and opens the accounts; nothing is broken yet. */
export async function prepareWorkload(cluster: Cluster): Promise<void> {
  const [client] = cluster.clients;
  if (client === undefined) return;
  await demand(client, [deployCall('1')], 'deploy');
  const opening = Array.from({ length: accounts }, (_, at) =>
    money('put', account(at), String(unitsPerAccount)),
  );
  await demand(client, opening, 'open the accounts');
  cluster.money = accounts * unitsPerAccount;
}

/** One client's work, until told to stop. */
export async function work(
  cluster: Cluster,
  client: SimClient,
  stopped: () => boolean,
  sleep: (ms: number) => Promise<void>,
): Promise<void> {
  const { chance } = cluster.world;
  const batchMax = chance.pick([1, 4, 20]);
  const pauseMsMax = chance.pick([2, 20, 100]);
  let version = 2;
  while (!stopped()) {
    const calls = chance.happens(0.005)
      ? [deployCall(`1.${version++}.${chance.below(1_000_000)}`)]
      : Array.from({ length: chance.between(1, batchMax) }, () => randomCall(cluster));
    await client.submit(calls, { deadlineMs: callDeadlineMs });
    await sleep(1 + chance.below(pauseMsMax + 1));
  }
}

/** After everything healed: every node must commit within `boundMs`. */
export async function probe(cluster: Cluster, boundMs: number): Promise<void> {
  const [client] = cluster.clients;
  if (client === undefined) return;
  for (let node = 0; node < cluster.nodes.length; node++) {
    const calls = [money('count', `p${node}`)];
    const answers = await client.submit(calls, { node, deadlineMs: boundMs });
    if (answers.some(({ outcome }) => outcome?.status !== 'committed')) {
      const said = JSON.stringify(answers.map(({ outcome }) => outcome ?? 'no answer'));
      throw new SimulationFailure(
        'liveness',
        `node${node} commits nothing after all healed: ${said}`,
      );
    }
  }
}

async function demand(client: SimClient, calls: readonly SimCall[], what: string): Promise<void> {
  const answers = await client.submit(calls, { deadlineMs: setupDeadlineMs });
  const failed = answers.find(({ outcome }) => outcome?.status !== 'committed');
  if (failed !== undefined) {
    const said = JSON.stringify(failed.outcome ?? 'no answer');
    throw new SimulationFailure('liveness', `cannot ${what}: ${said}`);
  }
}

function randomCall(cluster: Cluster): SimCall {
  const { chance } = cluster.world;
  // Half of the traffic goes to two hot accounts.
  const one = (): string => account(chance.happens(0.5) ? chance.below(2) : chance.below(accounts));
  const pick = chance.below(20);
  const call = ((): SimCall => {
    if (pick < 10) return money('move', one(), one(), String(chance.below(30)));
    if (pick < 12) return money('sum', 'a', account(chance.below(accounts)), `s${chance.below(3)}`);
    if (pick < 14) return money('toggle', `a5x${chance.below(4)}`);
    if (pick < 15) return money('remove', `s${chance.below(3)}`);
    if (pick < 19) return money('count', `c${chance.below(40)}`);
    return money('put', `s${chance.below(3)}`, String(chance.below(100)));
  })();
  return chance.happens(0.1) ? { ...call, orderingKey: `k${chance.below(3)}` } : call;
}

function account(number: number): string {
  return `a${number}`;
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
