import { toDaybookError } from '../src/base/index.ts';
import {
  type BlockBackend,
  type BlockBackendOptions,
  type BlockService,
  localBlocks,
  openBlockGenerator,
  serveBlocks,
} from '../src/blocks/index.ts';
import { type Child, type Disk, type Io, rpcPeer } from '../src/io/index.ts';
import { type NodeBlocks, startNodeBlocks } from '../src/node/node-blocks.ts';
import type { Replica } from '../src/replica/index.ts';
import { MemoryBucketStore } from '../src/state/index.ts';
import type { Cluster } from './cluster.ts';
import { simulatedSigner } from './identity.ts';
import type { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** Where a node's block files lie on its disk. */
export const chainDirectory = '/chain';
/** Rows of bulk updates that a generator did not need any more; the last check does. */
export const keptRowsDirectory = '/kept-rows';

const identityFiles = { mspId: 'Org1', certificateFile: '/peer/cert', keyFile: '/peer/key' };
/** A generator whose node was killed goes on for so long, sometimes. */
const orphanUsMax = 1_000_000;

/**
 * The process that makes blocks beside a node, as it runs in production: fed over frames by a
 * service in the node's process, started again when it ends. Its files outlive it; the saved state
 * tree, which a library keeps on disk, lies in memory.
 */
export class BlockMachine {
  readonly #cluster: Cluster;
  readonly #name: string;
  readonly #disk: SimDisk;
  readonly #buckets = new MemoryBucketStore();
  readonly #checkpointBlocks: number;
  #process: SimProcess | undefined;
  #blocks: NodeBlocks | undefined;
  #starts = 0;

  constructor(cluster: Cluster, node: string, disk: SimDisk) {
    this.#cluster = cluster;
    this.#name = node;
    this.#disk = disk;
    this.#checkpointBlocks = cluster.world.chance.between(1, 12);
  }

  /** Begins to make blocks beside a node's process. */
  async start(parent: SimProcess, io: Io, replica: Replica): Promise<void> {
    const { world } = this.#cluster;
    await io.disk.writeFile(identityFiles.certificateFile, Buffer.from('not used'));
    await io.disk.writeFile(identityFiles.keyFile, Buffer.from('not used'));
    const blocks = startNodeBlocks({
      io: { ...io, processes: { spawn: () => this.#spawn(parent) } },
      replica,
      directory: chainDirectory,
      peer: identityFiles,
      onEvent: (text) =>
        world.fail(new SimulationFailure('correctness', `I7: ${parent.name}: ${text}`)),
    });
    this.#blocks = blocks;
    parent.onDeath.push(() => {
      if (this.#blocks === blocks) this.#blocks = undefined;
    });
  }

  /** Ends the process that makes blocks; the node's goes on and starts another. */
  kill(): void {
    if (this.#process?.alive !== true) return;
    this.#cluster.world.note(`${this.#process.name} is killed`);
    this.#cluster.world.happened('blocks: a generator is killed');
    this.#cluster.world.kill(this.#process);
  }

  /** With the node's power goes this one's. */
  losePower(): void {
    if (this.#process !== undefined) this.#cluster.world.kill(this.#process);
  }

  /** @throws {DaybookError} while there is none. @throws {SimulationFailure} when it gave up. */
  service(): BlockService | undefined {
    let service: BlockService | undefined;
    try {
      service = this.#blocks?.service();
    } catch (error) {
      const { code } = toDaybookError(error);
      if (code !== 'PROOF_NOT_READY' && code !== 'LOG_LOCKED' && code !== 'PEER_UNREACHABLE') {
        throw error;
      }
    }
    const alarm = service?.alarm;
    if (alarm !== undefined) {
      const what = `I7: ${this.#name} makes no more blocks: ${alarm.code} ${alarm.message}`;
      throw new SimulationFailure('correctness', what, alarm);
    }
    return service;
  }

  #spawn(parent: SimProcess): Child {
    const { world, network } = this.#cluster;
    const process = world.spawn(this.#name, `${this.#name}.blocks.${this.#starts++}`);
    this.#process = process;
    const [ours, theirs] = network.pair(parent, process);
    process.onDeath.push(() => {
      world.after(parent, 0, 'exit', () => {
        for (const listener of exits) listener('signal SIGKILL');
      });
    });
    const exits: ((reason: string) => void)[] = [];
    const io = simIo(world, process, this.#disk, network);
    const peer = rpcPeer(theirs);
    peer.onClose(() => {
      const isSlow = world.chance.happens(0.2);
      if (isSlow) world.happened('blocks: a generator outlives its node');
      const us = isSlow ? world.chance.below(orphanUsMax) : 0;
      world.after(process, us, 'orphan', () => world.kill(process));
    });
    serveBlocks(peer, { open: (options) => this.#open(io, options) });
    return {
      pid: 0,
      connection: ours,
      residentBytes: () => undefined,
      cpuMs: () => undefined,
      kill: () => world.kill(process),
      onExit: (listener) => exits.push(listener),
    };
  }

  /** As `openLocalBlocks` does, with a state tree and a signer that runs can repeat. */
  async #open(io: Io, { directory }: BlockBackendOptions): Promise<BlockBackend> {
    const { world, mutant } = this.#cluster;
    const disk = keepingRows(io.disk, this.#disk);
    await disk.makeDirectory(directory);
    await disk.lock(directory);
    const generator = await openBlockGenerator({
      io: { disk },
      directory,
      signer: simulatedSigner,
      buckets: this.#buckets,
      bucketBits: 4,
      checkpointBlocks: this.#checkpointBlocks,
    });
    if (generator.store.height > generator.point.height) {
      world.happened('blocks: made again and compared');
    }
    world.note(`${this.#name} makes blocks from ${generator.nextAddress}`);
    const backend = localBlocks(generator, simulatedSigner);
    return mutant.blocks?.(backend, this.#name, this.#cluster) ?? backend;
  }
}

/** The disk, which keeps a copy of what is removed. */
function keepingRows(disk: Disk, whole: SimDisk): Disk {
  return {
    ...disk,
    remove: async (path) => {
      whole.keep(path, `${keptRowsDirectory}/${path.slice(path.lastIndexOf('/') + 1)}`);
      await disk.remove(path);
    },
  };
}
