import { buildCluster, type Cluster, readLog } from './cluster.ts';
import { checkSettled, type FinalCounts } from './final-checks.ts';
import { type Mutant, noMutant } from './mutants.ts';
import { Nemesis } from './nemesis.ts';
import { drawWorkload, prepareWorkload, probe, type Workload, work } from './workload.ts';
import { type FailureKind, SimulationFailure, World } from './world.ts';

/** What to simulate. */
export interface RunOptions {
  readonly seed: number;
  /** Virtual milliseconds in which things break. */
  readonly ticks: number;
  readonly mutant?: Mutant;
  /** Instead of the one that the seed draws. */
  readonly workload?: Workload['kind'];
  /** Where the log lies, instead of where the seed says. */
  readonly log?: 'embedded' | 'etcd';
}

/** How a run ended. */
export interface RunReport {
  readonly seed: number;
  readonly traceHash: string;
  readonly events: number;
  readonly virtualMs: number;
  readonly failure?: {
    readonly kind: FailureKind;
    readonly message: string;
    readonly stack: string;
  };
  /** The last noted events, oldest first. */
  readonly recent: readonly string[];
  readonly counts?: FinalCounts;
  /** Records applied by all nodes together. */
  readonly recordsApplied: number;
}

/** Share of seeds that work under full load. */
const loadShare = 0.1;
/** Share of seeds whose log lies on etcd. */
const etcdShare = 0.35;
const setupBoundMs = 60_000;
/** After everything healed, a batch must commit at each node within this. */
const progressBoundMs = 10_000;
/** All that was begun must have ended, and all nodes caught up, within this. */
const settleBoundMs = 40_000;

/** Runs one cluster through both phases: things break; everything heals and must go on. */
export async function runSeed(options: RunOptions): Promise<RunReport> {
  const { seed, ticks, mutant = noMutant } = options;
  const world = new World(seed);
  const { chance } = world;
  const drawn = chance.happens(loadShare) ? 'load' : 'mixed';
  const workload = drawWorkload(chance, options.workload ?? drawn);
  const log = chance.happens(etcdShare) ? 'etcd' : 'embedded';
  const units = chance.between(1, 3);
  const size = {
    units: (options.log ?? log) === 'etcd' ? units : 0,
    nodes: workload.kind === 'load' ? chance.between(1, 2) : chance.between(1, 3),
    followers: workload.kind === 'load' ? 0 : Math.max(chance.below(3), mutant.feed ? 1 : 0),
    clients: workload.kind === 'load' ? 4 : chance.between(1, 3),
    workload,
  };
  const cluster = buildCluster(world, size, mutant);
  let counts: FinalCounts | undefined;
  let failure: RunReport['failure'];
  try {
    counts = await phases(world, cluster, ticks);
  } catch (error) {
    const kind = error instanceof SimulationFailure ? error.kind : 'crash';
    const cause = error instanceof Error ? error : new Error(String(error));
    const inner = cause.cause instanceof Error ? `\n${cause.cause.stack}` : '';
    failure = { kind, message: cause.message, stack: `${cause.stack ?? ''}${inner}` };
    world.note(`${kind}: ${cause.message}`);
  }
  return {
    seed,
    traceHash: world.traceHash,
    events: world.events,
    virtualMs: Math.round(world.nowUs / 1000),
    recent: world.recent,
    recordsApplied: cluster.oracle.recordsApplied,
    ...(failure === undefined ? {} : { failure }),
    ...(counts === undefined ? {} : { counts }),
  };
}

async function phases(world: World, cluster: Cluster, ticks: number): Promise<FinalCounts> {
  if (cluster.etcd === undefined) cluster.logMachine.start();
  for (const node of cluster.nodes) node.start();
  const prepared = prepareWorkload(cluster, () => settled(world, cluster));
  await finish(world, prepared, setupBoundMs, 'the network does not start');

  for (const follower of cluster.followers) follower.start();
  const nemesis = new Nemesis(cluster, cluster.mutant.needs);
  nemesis.start();
  let stopping = false;
  const workers = cluster.clients.map((client, number) =>
    work(cluster, client, number, () => stopping),
  );
  for (const worker of workers) worker.catch((error: unknown) => world.fail(error));
  await world.run(() => false, world.nowUs + ticks * 1000);

  nemesis.heal();
  await finish(world, probe(cluster, progressBoundMs), settleBoundMs, 'no progress after healing');
  stopping = true;
  await finish(world, Promise.all(workers), settleBoundMs, 'calls do not end');
  await finish(world, settled(world, cluster), settleBoundMs, 'the nodes do not catch up');
  // What survives a power failure is what is durable.
  if (cluster.etcd === undefined) cluster.logMachine.crash(true);
  else for (const node of cluster.nodes) node.crash(true);
  await finish(world, probe(cluster, progressBoundMs), settleBoundMs, 'no progress at the end');
  await finish(
    world,
    settled(world, cluster),
    settleBoundMs,
    'the nodes do not catch up at the end',
  );
  return await finish(world, checkSettled(cluster), settleBoundMs, 'the checks do not end');
}

/** Waits until every node has applied what the log holds, twice the same. */
async function settled(world: World, cluster: Cluster): Promise<void> {
  let quiet = 0;
  let tail = -1;
  while (quiet < 5) {
    await world.sleep(undefined, 100_000);
    const now = (await tailOf(cluster)) ?? -1;
    const posted = cluster.oracle.lastValid;
    const caught =
      cluster.nodes.every(({ replica }) => replica?.nextAddress === now) &&
      cluster.followers.every(
        ({ isStarted, sink }) => !isStarted || (sink.position ?? -1) > posted,
      );
    quiet = now === tail && caught ? quiet + 1 : 0;
    tail = now;
  }
}

async function tailOf(cluster: Cluster): Promise<number | undefined> {
  try {
    return await (await readLog(cluster))?.tail();
  } catch {
    return undefined;
  }
}

/** Lets the world go on until the work is done. */
async function finish<T>(
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
