import { SimulationFailure, type World } from './world.ts';

/**
 * Lets the world go on until the work is done.
 *
 * @throws {SimulationFailure} `liveness` when it is not done within `boundMs`, and what it throws.
 */
export async function finish<T>(
  world: World,
  task: Promise<T>,
  boundMs: number,
  otherwise: string,
): Promise<T> {
  let over = false;
  const watched = task.finally(() => {
    over = true;
  });
  watched.catch(() => undefined);
  await world.run(() => over, world.nowUs + boundMs * 1000);
  if (!over) throw new SimulationFailure('liveness', `${otherwise} within ${boundMs} ms`);
  return await watched;
}
