import { type DaybookError, limits } from '../src/base/index.ts';
import type { Cluster } from './cluster.ts';
import { SimulationFailure, type World } from './world.ts';

/** Limits of a world's processes: some seeds have small ones, so that they are met. */
export interface Bounds {
  /** Transactions under way in one executor. */
  readonly transactionsMax: number;
  /** Keys that a sequencer remembers. */
  readonly windowKeysMax: number;
}

const lookUs = 20_000;

/** Draws limits; those of production, or ones that a few clients reach. */
export function drawBounds({ chance }: World, small: boolean): Bounds {
  const few = small && chance.happens(0.4);
  return {
    transactionsMax: few ? chance.between(25, 50) : limits.executorTransactionsMax,
    windowKeysMax: few ? chance.between(150, 400) : limits.sequencerWindowKeysMax,
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
  for (const { name, executor } of nodes) {
    const under = executor?.metrics().transactions ?? 0;
    check(name, 'transactions', under, bounds.transactionsMax);
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
