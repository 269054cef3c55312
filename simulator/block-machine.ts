import { DaybookError, toDaybookError } from '../src/base/index.ts';
import {
  type BlockBackend,
  type BlockBackendOptions,
  type BlockGenerator,
  type BlockService,
  localBlocks,
  openBlockGenerator,
  serveBlocks,
  startScrub,
} from '../src/blocks/index.ts';
import { type Child, type Disk, type Io, rpcPeer } from '../src/io/index.ts';
import type { Signer } from '../src/model/index.ts';
import { type NodeBlocks, startNodeBlocks } from '../src/node/node-blocks.ts';
import { repeat } from '../src/node/repeat.ts';
import type { Replica } from '../src/replica/index.ts';
import type { Cluster } from './cluster.ts';
import type { NodeCare } from './repair.ts';
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

/** What a {@link BlockMachine} works with. */
export interface BlockMachineParts {
  readonly disk: SimDisk;
  readonly signer: Signer;
  readonly care: NodeCare;
}

/**
 * The process that makes blocks beside a node, as it runs in production: fed over frames by a
 * service in the node's process, started again when it ends. Its files outlive it; the saved state
 * tree, which a library keeps on disk, is an object of the simulated disk.
 */
export class BlockMachine {
  readonly #cluster: Cluster;
  readonly #name: string;
  readonly #disk: SimDisk;
  readonly #signer: Signer;
  readonly #care: NodeCare;
  readonly #checkpointBlocks: number;
  #process: SimProcess | undefined;
  #blocks: NodeBlocks | undefined;
  #starts = 0;
  /** Blocks are said to be saved up to here. */
  #saved = 0;

  constructor(cluster: Cluster, node: string, parts: BlockMachineParts) {
    this.#cluster = cluster;
    this.#name = node;
    this.#disk = parts.disk;
    this.#signer = parts.signer;
    this.#care = parts.care;
    this.#checkpointBlocks = cluster.world.chance.between(1, 12);
  }

  /** Begins to make blocks beside a node's process. */
  async start(parent: SimProcess, io: Io, replica: Replica): Promise<void> {
    const { world, repairs, mutant } = this.#cluster;
    await io.disk.writeFile(identityFiles.certificateFile, Buffer.from('not used'));
    await io.disk.writeFile(identityFiles.keyFile, Buffer.from('not used'));
    const blocks = startNodeBlocks({
      io: { ...io, processes: { spawn: () => this.#spawn(parent) } },
      replica,
      directory: chainDirectory,
      peer: identityFiles,
      scrubRowsPerS: mutant.comparesNoRows === true ? 0 : (repairs?.scrubRowsPerS ?? 0),
      onEvent: (text) => {
        world.note(`${parent.name}: ${text}`);
        if (!this.#care.isAiling) wrong(`${parent.name}: ${text}`);
      },
    });
    this.#blocks = blocks;
    if (repairs !== undefined) repeat(io, repairs.intervalMs, () => this.#save());
    parent.onDeath.push(() => {
      if (this.#blocks === blocks) this.#blocks = undefined;
    });
  }

  /** Its files were replaced. */
  replaced(): void {
    this.#saved = 0;
  }

  /** As a node does before it tells others what it holds. */
  async #save(): Promise<void> {
    try {
      this.#saved = Math.max(this.#saved, await this.open.save());
      this.#cluster.world.happened('blocks: saved');
    } catch (error) {
      // It is being opened.
      toDaybookError(error);
    }
  }

  /** I7: what was saved is there, whatever happened. */
  async #checkSaved(generator: Pick<BlockGenerator, 'store' | 'describe'>): Promise<void> {
    const { height } = generator.store;
    const end = height === 0 ? 0 : (await generator.describe(height - 1)).proof.end;
    if (end >= this.#saved) return;
    const what = `${this.#name} has blocks to ${end}, and had saved them to ${this.#saved}`;
    this.#cluster.world.fail(new SimulationFailure('correctness', `I7: ${what}`));
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

  /** @throws {DaybookError} while there is none. */
  get open(): BlockService {
    if (this.#blocks === undefined) throw new DaybookError('CLOSED', 'the node does not run');
    return this.#blocks.service();
  }

  /** @throws {DaybookError} while there is none. @throws {SimulationFailure} when it gave up. */
  service(): BlockService | undefined {
    let service: BlockService | undefined;
    try {
      service = this.open;
    } catch (error) {
      const { code } = toDaybookError(error);
      if (
        code !== 'PROOF_NOT_READY' &&
        code !== 'LOG_LOCKED' &&
        code !== 'PEER_UNREACHABLE' &&
        code !== 'CLOSED'
      ) {
        throw error;
      }
    }
    const alarm = service?.alarm;
    if (alarm !== undefined) {
      wrong(`${this.#name} makes no more blocks: ${alarm.code} ${alarm.message}`, alarm);
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
    serveBlocks(peer, {
      open: (options) => this.#open(io, options),
      entries: (entries) => this.#care.seen(entries),
    });
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
  async #open(io: Io, { directory, scrub: settings }: BlockBackendOptions): Promise<BlockBackend> {
    const { world, mutant } = this.#cluster;
    const { stores } = this.#care;
    const disk = keepingRows(io.disk, this.#disk);
    await disk.makeDirectory(directory);
    await disk.lock(directory);
    const generator = await openBlockGenerator({
      io: { disk },
      directory,
      signer: this.#signer,
      buckets: stores.openBuckets(`${directory}/tree`),
      bucketBits: stores.bucketBits,
      checkpointBlocks: this.#checkpointBlocks,
    });
    const { store } = generator;
    await this.#checkSaved(generator);
    if (store.height > generator.point.height) {
      world.happened('blocks: made again and compared');
    }
    world.note(`${this.#name} makes blocks from ${generator.nextAddress}`);
    const scrub = settings && startScrub(io, generator, settings, stores);
    const backend = localBlocks(generator, this.#signer, scrub);
    return mutant.blocks?.(backend, this.#name, this.#cluster) ?? backend;
  }
}

function wrong(what: string, cause?: unknown): never {
  throw new SimulationFailure('correctness', `I7: ${what}`, cause);
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
