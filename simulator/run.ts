import { watchBounds } from './bounds.ts';
import { buildCluster, type Cluster, readLog } from './cluster.ts';
import type { Coverage } from './coverage.ts';
import { drawQuota, type EtcdQuota } from './etcd-quota.ts';
import { type FederationCounts, federate } from './federation-world.ts';
import { checkSettled, type FinalCounts } from './final-checks.ts';
import { finish } from './finish.ts';
import { type Mutant, noMutant } from './mutant.ts';
import { Nemesis } from './nemesis.ts';
import { peersMax } from './peers.ts';
import { type Chance, chanceOf } from './random.ts';
import { drawRepairs, mended, type Repairs } from './repair.ts';
import { drawRetention, type Retention } from './retention.ts';
import { checkSdkAnswered } from './sdk-checks.ts';
import { workThroughSdk } from './sdk-workload.ts';
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
  /** Registries under several administrations, instead of what the seed draws. */
  readonly federation?: boolean;
  /** Whether the log is trimmed, instead of what the seed draws. */
  readonly retention?: boolean;
  /** Where the log is trimmed, stored blocks rot, and nodes hand out what does not hold. */
  readonly rot?: boolean;
  /** Whether etcd runs out of space where the log is trimmed, instead of what the seed draws. */
  readonly quota?: boolean;
  /** Whether nodes compare and mend their states, instead of what the seed draws. */
  readonly repair?: boolean;
  /** Whether programs sign their calls singly, instead of what the seed draws. */
  readonly singles?: boolean;
  /** Whether programs follow contract events, instead of what the seed draws. */
  readonly readers?: boolean;
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
  /** What happened, by name; the ledger's worlds have {@link FinalCounts}. */
  readonly counts?: Readonly<Record<keyof FinalCounts, number>> | FederationCounts;
  /** What the world showed; see `coverage.ts`. */
  readonly coverage: Coverage;
  /** Records applied by all nodes together. */
  readonly recordsApplied: number;
  /** Processor time of this process for it, set-up and checks included. */
  readonly cpuMs: number;
}

/** Share of seeds that work under full load. */
const loadShare = 0.05;
/** Share of seeds that are a federation of registries. */
const federationShare = 0.1;
/** Share of seeds whose log lies on etcd. */
const etcdShare = 0.35;
/** Share of seeds whose log is trimmed. */
const retentionShare = 0.35;
/** Share of seeds, of those that trim a log on etcd, whose etcd runs out of space. */
const quotaShare = 0.5;
/** Share of seeds, of those that keep the whole log, whose nodes compare and mend their states. */
const repairShare = 0.2;
/** Share of seeds with programs that sign their calls singly, where blocks are made. */
const singlesShare = 0.35;
/** Share of seeds with programs that follow contract events. */
const readersShare = 0.35;
/** Share of seeds whose clocks, where they step at all, go wrong by much more than a transaction lives. */
const farClockShare = 0.5;
const nearMs = 5_000;
const farMs = 10 ** 11;
/** A state is restored from a snapshot that others have to be asked for. */
const mendBoundMs = 20_000;
const setupBoundMs = 60_000;
/** After everything healed, a batch must commit at each node within this. */
const progressBoundMs = 10_000;
const healthyUs = 150_000;
/** All that was begun must have ended, and all nodes caught up, within this. */
const settleBoundMs = 40_000;

/** Runs one world through both phases: things break; everything heals and must go on. */
export async function runSeed(options: RunOptions): Promise<RunReport> {
  const { seed } = options;
  const before = process.cpuUsage();
  const world = new World(seed);
  const kind = drawKind(world, options);
  const counted = { records: (): number => 0 };
  let counts: RunReport['counts'];
  let failure: RunReport['failure'];
  // A promise that nobody listens to would end a real process.
  const crash = (error: unknown): void =>
    world.fail(new SimulationFailure('crash', `nobody catches: ${String(error)}`, error));
  process.on('unhandledRejection', crash);
  try {
    if (kind === 'federation') counts = await federate(world, options.ticks, options.mutant);
    else {
      const cluster = drawCluster(world, options);
      counted.records = () => cluster.oracle.recordsApplied;
      counts = await phases(world, cluster, options.ticks);
    }
  } catch (error) {
    const kindOfFailure = error instanceof SimulationFailure ? error.kind : 'crash';
    const cause = error instanceof Error ? error : new Error(String(error));
    const inner = cause.cause instanceof Error ? `\n${cause.cause.stack}` : '';
    const stack = `${cause.stack ?? ''}${inner}`;
    failure = { kind: kindOfFailure, message: cause.message, stack };
    world.note(`${kindOfFailure}: ${cause.message}`);
  } finally {
    process.off('unhandledRejection', crash);
    for (const listener of world.onEnd) listener();
  }
  return {
    seed,
    traceHash: world.traceHash,
    events: world.events,
    virtualMs: Math.round(world.nowUs / 1000),
    recent: world.recent,
    coverage: world.coverage,
    recordsApplied: counted.records(),
    cpuMs: cpuMsSince(before),
    ...(failure === undefined ? {} : { failure }),
    ...(counts === undefined ? {} : { counts }),
  };
}

function cpuMsSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function drawKind({ chance }: World, options: RunOptions): 'federation' | 'ledger' {
  const { federation, log, workload, mutant, retention, quota, repair, singles, readers } = options;
  if (federation !== undefined) return federation ? 'federation' : 'ledger';
  const chosen = [log, workload, mutant, retention, quota, repair, singles, readers];
  const isChosen = chosen.some((one) => one !== undefined);
  return !isChosen && chance.happens(federationShare) ? 'federation' : 'ledger';
}

function drawCluster(world: World, options: RunOptions): Cluster {
  const { chance } = world;
  const { mutant = noMutant } = options;
  const drawn = chance.happens(loadShare) ? 'load' : 'mixed';
  const workload = drawWorkload(chance, options.workload ?? drawn);
  const log = chance.happens(etcdShare) ? 'etcd' : 'embedded';
  const units = chance.between(1, 3);
  const loaded = workload.kind === 'load';
  let nodes = loaded ? chance.between(1, 2) : chance.between(1, 3);
  if (options.rot === true) nodes = Math.max(2, nodes);
  // Numbers of their own: worlds that keep the whole log stay what they are.
  const own = chanceOf(options.seed ^ 0x5eed);
  const trims = options.retention ?? (options.repair !== true && own.happens(retentionShare));
  const retention = trims ? drawRetention(own, nodes, loaded, options.rot) : undefined;
  const repairs = drawRepair(options, workload, retention !== undefined);
  nodes = repairs?.nodes ?? nodes;
  const isOnEtcd = (options.log ?? log) === 'etcd';
  const quota = isOnEtcd && !loaded ? drawShortage(options, retention) : undefined;
  const edge = chanceOf(options.seed ^ 0xed6e);
  const hasBlocks = !loaded && (retention === undefined || retention.chains?.plain.length === 0);
  const { singles, readers } = drawEdge(edge, options, !loaded, hasBlocks);
  const size = {
    edge,
    singles,
    readers,
    units: isOnEtcd ? units : 0,
    quota,
    clockStepMsMax: chanceOf(options.seed ^ 0xc10c).happens(farClockShare) ? farMs : nearMs,
    nodes,
    // Trims come seldom there.
    retention: retention && quota ? { ...retention, everyMs: quota.trimEveryMs } : retention,
    repairs: repairs?.repairs,
    // What a follower is told of a wrong row before it is found stays with it.
    followers:
      loaded || repairs !== undefined
        ? 0
        : Math.max(chance.below(3), mutant.feed || mutant.followersReplica ? 1 : 0),
    sources: loaded ? 0 : chance.between(mutant.source ? 1 : 0, 1),
    clients: loaded ? 4 : chance.between(1, 3),
    sdkClients: loaded
      ? 0
      : Math.max(chance.between(mutant.transport || mutant.sdk ? 1 : 0, 2), Math.min(1, singles)),
    workload,
  };
  return buildCluster(world, size, mutant);
}

/** How many programs sign singly, and how many follow events. */
function drawEdge(
  edge: Chance,
  options: RunOptions,
  isMixed: boolean,
  hasBlocks: boolean,
): { readonly singles: number; readonly readers: number } {
  const { mutant } = options;
  const signsSingly = edge.happens(singlesShare) && mutant === undefined;
  const reads = edge.happens(readersShare) && mutant === undefined;
  const [singles, readers] = [edge.between(1, 2), edge.between(1, 2)];
  return {
    singles: hasBlocks && (options.singles ?? signsSingly) ? singles : 0,
    readers: isMixed && (options.readers ?? reads) ? readers : 0,
  };
}

/** Numbers of their own here, too. */
function drawShortage(
  { seed, quota }: RunOptions,
  retention: Retention | undefined,
): EtcdQuota | undefined {
  const own = chanceOf(seed ^ 0x5bace);
  const drawn = own.happens(quotaShare);
  return retention !== undefined && (quota ?? drawn) ? drawQuota(own, retention) : undefined;
}

/** And here. */
function drawRepair(
  { seed, repair, mutant }: RunOptions,
  { kind }: Workload,
  trims: boolean,
): { readonly nodes: number; readonly repairs: Repairs } | undefined {
  const own = chanceOf(seed ^ 0x4ea1);
  const drawn = own.happens(repairShare) && mutant === undefined;
  if (kind === 'load' || trims || !(repair ?? drawn)) return undefined;
  const nodes = own.pick([2, peersMax, peersMax]);
  return { nodes, repairs: drawRepairs(own, nodes) };
}

async function phases(world: World, cluster: Cluster, ticks: number): Promise<FinalCounts> {
  if (cluster.etcd === undefined) cluster.logMachine.start();
  const late = cluster.retention?.joinsLate === true ? cluster.nodes.at(-1) : undefined;
  for (const node of cluster.nodes) if (node !== late) node.start();
  const prepared = prepareWorkload(cluster, () => settled(world, cluster));
  await finish(world, prepared, setupBoundMs, 'the network does not start');

  if (late !== undefined) {
    world.happened('snapshot: a node joins late');
    late.stayAway(world.chance.between(200, ticks));
  }
  for (const follower of cluster.followers) follower.start();
  for (const reader of cluster.readers) reader.start();
  for (const source of cluster.sources) source.start();
  const nemesis = new Nemesis(cluster, cluster.mutant.needs);
  nemesis.start();
  cluster.etcd?.shortage?.start();
  watchBounds(cluster);
  let stopping = false;
  const workers = cluster.clients.map((client, number) =>
    work(cluster, client, number, () => stopping),
  );
  for (const client of cluster.sdkClients) {
    workers.push(workThroughSdk(cluster, client, () => stopping));
  }
  for (const { model } of cluster.sources) workers.push(model.work(() => stopping));
  for (const worker of workers) worker.catch((error: unknown) => world.fail(error));
  await world.run(() => false, world.nowUs + ticks * 1000);

  nemesis.heal();
  if (cluster.repairs !== undefined) {
    await finish(world, mended(cluster), mendBoundMs, 'a node does not mend');
  }
  cluster.healedUs = world.nowUs;
  await finish(world, probe(cluster, progressBoundMs), settleBoundMs, 'no progress after healing');
  // Everybody goes on for a while, all at once and with nothing broken.
  if (cluster.workload.kind === 'mixed') await world.run(() => false, world.nowUs + healthyUs);
  stopping = true;
  await finish(world, Promise.all(workers), settleBoundMs, 'calls do not end');
  checkAnswered(cluster);
  await finish(world, settled(world, cluster), settleBoundMs, 'the nodes do not catch up');
  // What survives a power failure is what is durable.
  if (cluster.etcd === undefined) cluster.logMachine.crash(true);
  if (cluster.etcd !== undefined || cluster.retention?.endsInTheDark === true) {
    for (const node of cluster.nodes) node.crash(true);
  }
  await finish(world, probe(cluster, progressBoundMs), settleBoundMs, 'no progress at the end');
  await finish(
    world,
    settled(world, cluster),
    settleBoundMs,
    'the nodes do not catch up at the end',
  );
  const { shortage } = cluster.etcd ?? {};
  if (shortage !== undefined) {
    await finish(world, shortage.check(), settleBoundMs, 'a trim does not end');
  }
  return await finish(world, checkSettled(cluster), settleBoundMs, 'the checks do not end');
}

/** Every call that was sent after all had healed was answered, and not at its deadline. */
function checkAnswered({ clients, sdkClients, healedUs }: Cluster): void {
  for (const client of sdkClients) checkSdkAnswered(client, healedUs, progressBoundMs);
  const late = (what: string): never => {
    throw new SimulationFailure('liveness', `${what} though it was sent after all healed`);
  };
  for (const { committed, failed } of clients) {
    for (const { txId, functionName, submittedUs, outcome } of failed) {
      if (outcome === undefined && submittedUs > healedUs)
        late(`${functionName} ${txId} got no answer`);
    }
    for (let row = 0; row < committed.count; row++) {
      const submittedUs = committed.submittedUs(row);
      const tookMs = (committed.answeredUs(row) - submittedUs) / 1000;
      if (submittedUs > healedUs && tookMs > progressBoundMs) {
        late(`the call at ${committed.position(row)} took ${tookMs} ms`);
      }
    }
  }
}

/** Waits until every node has applied what the log holds, twice the same. */
async function settled(world: World, cluster: Cluster): Promise<void> {
  let quiet = 0;
  let tail = -1;
  while (quiet < 5) {
    await world.sleep(undefined, 100_000);
    const now = (await tailOf(cluster)) ?? -1;
    const posted = cluster.oracle.ledger.lastPosition;
    const caught =
      cluster.sources.every(({ model }) => model.isDrained) &&
      cluster.readers.every((reader) => reader.isCaughtUp) &&
      cluster.nodes.every(({ hasJoined, replica }) => !hasJoined || replica?.nextAddress === now) &&
      (cluster.retention === undefined ||
        cluster.nodes.every(
          ({ hasJoined, blocks }) => !hasJoined || blocks?.isCaughtUp !== false,
        )) &&
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
