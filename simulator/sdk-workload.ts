import type { Cluster } from './cluster.ts';
import type { SdkClient } from './sdk-client.ts';
import { randomCalls } from './workload.ts';

/** After everything healed a call has so long; before, what its client drew. */
const healedDeadlineMs = 12_000;
const loops = 2;
const ownShare = 0.3;
const orderedShare = 0.5;

/** What a program does that uses the client library, until told to stop. */
export async function workThroughSdk(
  cluster: Cluster,
  client: SdkClient,
  stopped: () => boolean,
): Promise<void> {
  const { world } = cluster;
  const { chance } = world;
  const callsMax = chance.pick([2, 10, 30]);
  const pauseMsMax = chance.pick([2, 20, 100]);
  const loop = async (): Promise<void> => {
    while (!stopped()) {
      const deadlineMs = world.nowUs > cluster.healedUs ? healedDeadlineMs : undefined;
      if (chance.happens(ownShare)) await client.count(deadlineMs);
      else {
        const key = `${client.name}.${chance.below(2)}`;
        const ordered = chance.happens(orderedShare);
        const calls = randomCalls(cluster, chance.between(1, callsMax)).map((call) =>
          ordered ? { ...call, orderingKey: key } : call,
        );
        await client.submit(calls, deadlineMs);
      }
      await world.sleep(undefined, (1 + chance.below(pauseMsMax + 1)) * 1000);
    }
  };
  await Promise.all(Array.from({ length: loops }, loop));
}
