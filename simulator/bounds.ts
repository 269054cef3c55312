import { type DaybookError, limits } from '../src/base/index.ts';
import type { Cluster } from './cluster.ts';
import type { Chance } from './random.ts';
import { SimulationFailure, type World } from './world.ts';

/** Limits of a world's processes: some seeds have small ones, so that they are met. */
export interface Bounds {
  /** Transactions under way in one executor. */
  readonly transactionsMax: number;
  /** Keys that a sequencer remembers. */
  readonly windowKeysMax: number;
  /** Calls that wait for their signature at one node, and for how long. */
  readonly preparedTransactionsMax: number;
  readonly preparedLifetimeMs: number;
  /** Requests under way at one gateway, of those that its own routes serve. */
  readonly gatewayBatchesInFlightMax: number;
  /** Readers of events at one gateway. */
  readonly eventSubscribersMax: number;
}

const lookUs = 20_000;

/**
 * Draws limits; those of production, or ones that a few clients reach.
 *
 * @param edge - draws those of the gateway and of preparing.
 * @param readers - so many follow events at a time.
 */
export function drawBounds(
  { chance }: World,
  small: boolean,
  edge: Chance,
  readers: number,
): Bounds {
  const few = small && chance.happens(0.4);
  const fewPrepared = edge.happens(0.4);
  const fewReaders = edge.happens(0.4);
  return {
    transactionsMax: few ? chance.between(25, 50) : limits.executorTransactionsMax,
    windowKeysMax: few ? chance.between(150, 400) : limits.sequencerWindowKeysMax,
    preparedTransactionsMax: fewPrepared ? edge.between(1, 4) : limits.preparedTransactionsMax,
    // What was prepared and never signed must not fill the room for long.
    preparedLifetimeMs: fewPrepared ? edge.between(300, 1_000) : limits.preparedLifetimeMs,
    gatewayBatchesInFlightMax: edge.happens(0.4)
      ? edge.between(2, 8)
      : limits.gatewayBatchesInFlightMax,
    eventSubscribersMax: fewReaders ? readers : limits.eventSubscribersMax,
  };
}

/** I9: looks every now and then whether anything holds more than its limit says. */
export function watchBounds(cluster: Cluster): void {
  const { world, nodes, logMachine, bounds } = cluster;
  const check = (who: string, what: string, count: number, max: number): void => {
    if (count <= max) return;
    world.fail(
      new SimulationFailure(
        'correctness',
        `I9: ${who} holds ${count} ${what}, its limit is ${max}`,
      ),
    );
  };
  for (const { name, executor, routes } of nodes) {
    const under = executor?.metrics().transactions ?? 0;
    check(name, 'transactions', under, bounds.transactionsMax);
    check(name, 'readers of events', routes?.readers ?? 0, bounds.eventSubscribersMax);
    check(name, 'requests', routes?.underWay ?? 0, bounds.gatewayBatchesInFlightMax);
  }
  for (const keys of logMachine.windowKeys)
    check('the sequencer', 'keys', keys, bounds.windowKeysMax);
  world.after(undefined, lookUs, 'bounds', () => watchBounds(cluster));
}

/** I9: whoever is refused for want of room is told which limit it was; nothing is refused without a reason. */
export function checkRefusal(world: World, who: string, error: DaybookError): void {
  const { code, message, details } = error;
  if (code === 'INTERNAL') {
    world.fail(new SimulationFailure('crash', `${who} answers ${code}: ${message}`, error));
  }
  if (code !== 'OVERLOADED' && code !== 'LIMIT_EXCEEDED') return;
  if (typeof details.limit === 'string' && details.limit in limits) {
    world.happened('limits: a refusal names its limit');
    return;
  }
  world.fail(
    new SimulationFailure(
      'correctness',
      `I9: ${who} answers ${code} without its limit: ${message}`,
    ),
  );
}
