import {
  type BlockGenerator,
  type BlockService,
  blockDigest,
  openBlockGenerator,
  ownRowsIn,
  verifyChain,
} from '../src/blocks/index.ts';
import type { AppliedEntry } from '../src/replica/index.ts';
import { MemoryBucketStore } from '../src/state/index.ts';
import { chainDirectory, keptRowsDirectory } from './block-machine.ts';
import type { Cluster } from './cluster.ts';
import type { ExecutorMachine } from './executor-machine.ts';
import { simIo } from './sim-io.ts';
import { SimulationFailure } from './world.ts';

const blocksDirectory = '/blocks';
const rowsDirectory = '/rows-for-blocks';
const bucketBits = 4;
const bulkPollUs = 50_000;
/** Rows that are not there by then are lost, with the disks of those who had them. */
const bulkPollsMax = 60;
const verifiedShare = 0.25;

/**
 * I7: the chains that were made beside the nodes, through all their crashes, and chains made now out
 * of the whole log are the same.
 *
 * @param heads - the beginning of each node's stream.
 * @returns blocks that such a beginning has.
 * @throws {SimulationFailure}
 */
export async function checkBlocks(
  cluster: Cluster,
  heads: readonly (readonly AppliedEntry[])[],
): Promise<number> {
  const { nodes, world } = cluster;
  const [node] = nodes;
  const [head = []] = heads;
  if (node === undefined) return 0;
  const chain = await generate(cluster, node, head, 0);
  const maker = nodes.find(({ blocks }) => blocks !== undefined);
  const reference = chain ?? (maker && (await madeBeside(cluster, maker, 0)));
  if (reference === undefined) return 0;
  for (const [number, other] of nodes.entries()) {
    const made =
      other.blocks === undefined
        ? await generate(cluster, other, heads[number] ?? [], world.chance.between(1, 3))
        : await madeBeside(cluster, other, reference.length);
    compare(other.name, made ?? reference, reference);
  }
  if (node.blocks !== undefined && world.chance.happens(verifiedShare)) await verify(cluster, node);
  return reference.length;
}

/** Digests of a chain's blocks: over all that is in them but who signed. */
type Digests = readonly string[];

function compare(name: string, made: Digests, chain: Digests): void {
  const other = chain.findIndex((digest, height) => made[height] !== digest);
  if (other >= 0) wrong(`block ${other} of ${name} is not what the log says`);
}

/** What a node's own generator has made; waits until it has come so far. */
async function madeBeside(
  { world }: Cluster,
  { blocks }: ExecutorMachine,
  height: number,
): Promise<Digests> {
  for (;;) {
    const service = blocks?.service();
    if ((service?.status.height ?? -1) >= height) return await digestsOf(service as BlockService);
    await world.sleep(undefined, bulkPollUs);
  }
}

async function digestsOf(service: BlockService): Promise<Digests> {
  const digests: string[] = [];
  for (;;) {
    const page = await service.digests(digests.length, Number.MAX_SAFE_INTEGER);
    if (page.length === 0) return digests;
    for (let at = 0; at < page.length; at += 32) digests.push(page.toString('hex', at, at + 32));
  }
}

/** A sceptic's view of the files: signatures, hashes, verdicts, roots. */
async function verify(
  { world, network, config }: Cluster,
  { name, disk }: ExecutorMachine,
): Promise<void> {
  const sceptic = world.spawn(name, `${name}.sceptic`);
  const io = simIo(world, sceptic, disk, network);
  const { problem } = await verifyChain(io.disk, `${chainDirectory}/blocks`, {
    msps: config.msps,
    bucketBits,
  });
  world.happened('blocks: a chain is verified from its files');
  if (problem !== undefined) wrong(`block ${problem.height} of ${name}: ${problem.what}`);
}

/**
 * Makes the chain out of a stream; `crashes` times its process is killed on the way. `undefined`:
 * nobody has the rows of some bulk update any more.
 */
async function generate(
  cluster: Cluster,
  node: ExecutorMachine,
  entries: readonly AppliedEntry[],
  crashes: number,
): Promise<Digests | undefined> {
  const { world, network, nodes, retention, repairs } = cluster;
  node.disk.wipe(blocksDirectory);
  // Who began with a snapshot has not all of them.
  const mayLack = retention !== undefined || repairs !== undefined;
  const from = mayLack ? [...nodes.filter((other) => other !== node), node] : [node];
  // Of its own: a generator removes what it does not need any more, and others come after it.
  const copyRows = (): void => {
    for (const { state, disk } of from) {
      if (state !== undefined) node.disk.copy(state.bulkDirectory, rowsDirectory, disk);
    }
    // These win: a state that began while an update was pending has found only the rest of its rows.
    for (const { disk } of from) {
      node.disk.copy(ownRowsIn(chainDirectory), rowsDirectory, disk);
      node.disk.copy(keptRowsDirectory, rowsDirectory, disk);
    }
  };
  copyRows();
  const buckets = new MemoryBucketStore();
  for (let left = crashes; ; left--) {
    const process = world.spawn(node.name, `${node.name}.blocks`);
    const io = simIo(world, process, node.disk, network);
    const generator = await openBlockGenerator({
      io,
      directory: blocksDirectory,
      buckets,
      bucketBits,
      checkpointBlocks: 7,
    });
    generator.useBulkDirectory(rowsDirectory);
    const rest = entries.filter(({ address }) => address >= generator.nextAddress);
    if (left > 0) {
      await generator.push(rest.slice(0, world.chance.below(rest.length + 1)));
      world.kill(process);
      continue;
    }
    await generator.push(rest);
    for (let polls = 0; generator.waitingFor !== undefined; polls++) {
      if (mayLack && polls === bulkPollsMax) return undefined;
      await world.sleep(undefined, bulkPollUs);
      copyRows();
      await generator.push([]);
    }
    const digests = await digestsIn(generator);
    await generator.close();
    return digests;
  }
}

async function digestsIn({ store }: BlockGenerator): Promise<Digests> {
  const digests: string[] = [];
  for (let height = 0; height < store.height; height++) {
    digests.push(blockDigest(await store.block(height)).toString('hex'));
  }
  return digests;
}

function wrong(what: string): never {
  throw new SimulationFailure('correctness', `I7: ${what}`);
}
