import { DaybookError, isDaybookError, limits, toDaybookError } from '../src/base/index.ts';
import {
  adoptChain,
  type BlockBackend,
  type BlockBackendOptions,
  type BlockGenerator,
  type BlockService,
  type FetchBlocks,
  localBlocks,
  mendAsWritten,
  openBlockGenerator,
  serveAdoption,
  serveBlocks,
  startScrub,
} from '../src/blocks/index.ts';
import type { Endorser } from '../src/executor/index.ts';
import { type Child, type Disk, type Io, pause, rpcPeer } from '../src/io/index.ts';
import type { SharedLog } from '../src/log/index.ts';
import { type Address, addressOf, positionOf, type Signer } from '../src/model/index.ts';
import { type ChainFiles, type NodeBlocks, startNodeBlocks } from '../src/node/node-blocks.ts';
import { otherChains } from '../src/node/other-chains.ts';
import { repeat } from '../src/node/repeat.ts';
import type { Replica } from '../src/replica/index.ts';
import { ChainRot } from './chain-rot.ts';
import type { Cluster } from './cluster.ts';
import type { Happening } from './coverage.ts';
import { simulatedSigner } from './identity.ts';
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
/** Where files rot, there are several. */
const segmentBytesMax = 30_000;
/** Between checkpoints, when nothing breaks any more. */
const healthyCheckpointBlocks = 200;

const told: readonly (readonly [RegExp, Happening])[] = [
  [/^blocks before address \d+ are fetched/, 'blocks: a node lacks what is trimmed'],
  [/^blocks of .* are refused/, 'blocks: what a donor gave is refused'],
];

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
  /** What happens to its files. */
  readonly rot: ChainRot;
  #checkpointBlocks: number;
  #process: SimProcess | undefined;
  /** All that may be alive: some outlive their node. */
  #processes: SimProcess[] = [];
  #blocks: NodeBlocks | undefined;
  #replica: Replica | undefined;
  #starts = 0;
  /** On busy cores blocks come late. */
  #pushMs: number;
  /** Blocks are said to be saved up to here. */
  #saved = 0;

  constructor(cluster: Cluster, node: string, parts: BlockMachineParts) {
    this.#cluster = cluster;
    this.#name = node;
    this.#disk = parts.disk;
    this.#signer = parts.signer;
    this.#care = parts.care;
    const directory = `${chainDirectory}/blocks`;
    this.rot = new ChainRot(cluster, node, {
      disk: parts.disk,
      directory,
      service: () => this.open,
    });
    this.#pushMs = cluster.retention?.chains?.pushMs ?? 0;
    this.#checkpointBlocks = cluster.world.chance.between(1, 12);
  }

  /** Begins to make blocks beside a node's process. */
  async start(
    parent: SimProcess,
    io: Io,
    replica: Replica,
    log: Pick<SharedLog, 'start' | 'read'>,
  ): Promise<void> {
    const { world, repairs, mutant, retention, members } = this.#cluster;
    await io.disk.writeFile(identityFiles.certificateFile, Buffer.from('not used'));
    await io.disk.writeFile(identityFiles.keyFile, Buffer.from('not used'));
    const blocks = startNodeBlocks({
      io: { ...io, processes: { spawn: ({ href }) => this.#spawn(parent, href) } },
      replica,
      directory: chainDirectory,
      peer: identityFiles,
      ...(retention === undefined
        ? {}
        : {
            others: otherChains(io, log, () =>
              members.all.filter(({ name }) => name !== this.#name),
            ),
          }),
      scrubRowsPerS: mutant.comparesNoRows === true ? 0 : (repairs?.scrubRowsPerS ?? 0),
      onEvent: (text) => {
        world.note(`${parent.name}: ${text}`);
        for (const [pattern, what] of told) if (pattern.test(text)) world.happened(what);
        if (retention === undefined ? !this.#care.isAiling : text.startsWith('no blocks'))
          wrong(`${parent.name}: ${text}`);
      },
    });
    this.#blocks = blocks;
    this.#replica = replica;
    if (repairs !== undefined) repeat(io, repairs.intervalMs, () => this.#saveAll());
    parent.onDeath.push(() => {
      if (this.#blocks !== blocks) return;
      this.#blocks = undefined;
      this.#replica = undefined;
    });
  }

  /** Endorses calls that are signed singly: it must know where in the chain stands what they read. */
  get endorser(): Endorser {
    return {
      signer: async () => simulatedSigner,
      placesOf: async (positions, waitMs) => await this.open.placesOf(positions, waitMs),
    };
  }

  /** Its core is free again, and checkpoints come seldom, as in production. */
  heal(): void {
    this.#pushMs = 0;
    this.#checkpointBlocks = healthyCheckpointBlocks;
    this.rot.heal();
  }

  /** Its files were replaced. */
  replaced(): void {
    this.#saved = 0;
    this.rot.replaced();
  }

  /** What other nodes get of its chain. @throws {DaybookError} while it does not run. */
  async blocksFrom(height: number): Promise<readonly Buffer[]> {
    if (this.#blocks === undefined) throw new DaybookError('CLOSED', 'the node does not run');
    return this.rot.handedOut(await this.#blocks.blocksFrom(height));
  }

  /** Whether anybody may count on its blocks just now. */
  get files(): ChainFiles {
    return this.#blocks?.files ?? 'unknown';
  }

  /** As a node does before it tells others what it holds. */
  async save(wanted: Address): Promise<Address> {
    const { open } = this;
    const saved = await open.save(wanted);
    if (saved > this.#saved) this.#cluster.world.happened('blocks: saved');
    this.#saved = Math.max(this.#saved, saved);
    return saved;
  }

  async #saveAll(): Promise<void> {
    try {
      await this.save(addressOf(this.open.status.position));
    } catch (error) {
      // It is being opened.
      toDaybookError(error);
    }
  }

  /** I7: what was saved is there, whatever happened. */
  async #checkSaved(generator: BlockGenerator): Promise<void> {
    const { world, oracle } = this.#cluster;
    // Until they are mended.
    if (this.rot.isAiling) return;
    const { point, savedTo, store } = generator;
    const fail = (end: number): void => {
      const what = `${this.#name} has blocks to ${end}, and had saved them to ${this.#saved}`;
      world.fail(new SimulationFailure('correctness', `I7: ${what}`));
    };
    // Who was killed while it took blocks over has these, and no checkpoint.
    if (point.height > 0 && savedTo < this.#saved) fail(savedTo);
    const { height } = store;
    const end = height === 0 ? 0 : (await generator.describe(height - 1)).proof.end;
    for (
      let address = Math.floor(end / limits.recordsPerEntryMax);
      address < this.#saved;
      address++
    ) {
      const { records } = oracle.appliedAt(address);
      const after = records.filter(({ position }) => position >= end);
      if (after.some(({ position }) => generator.placeOf(position) === undefined)) fail(end);
    }
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
    for (const process of this.#processes) this.#cluster.world.kill(process);
    this.#processes = [];
  }

  /** Everything that its node has applied is in blocks. */
  get isCaughtUp(): boolean {
    const { covered = 0 } = this.service()?.status ?? {};
    if (this.rot.isAiling) return false;
    return this.#replica !== undefined && covered >= positionOf(this.#replica.nextAddress, 0);
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
        !(code === 'STATE_DAMAGED' && this.rot.isAiling) &&
        code !== 'PROOF_NOT_READY' &&
        code !== 'LOG_LOCKED' &&
        code !== 'PEER_UNREACHABLE' &&
        code !== 'CLOSED'
      ) {
        throw error;
      }
    }
    const alarm = service?.alarm;
    // It begins anew a moment later, with others' blocks.
    const helped = isDaybookError(alarm, 'LOG_TRIMMED', 'STATE_DAMAGED', 'BULK_ROWS_GONE');
    const passes = this.#cluster.retention !== undefined && helped;
    if (alarm !== undefined && !passes) {
      wrong(`${this.#name} makes no more blocks: ${alarm.code} ${alarm.message}`, alarm);
    }
    return service;
  }

  #spawn(parent: SimProcess, main: string): Child {
    const { world, network } = this.#cluster;
    const process = world.spawn(this.#name, `${this.#name}.blocks.${this.#starts++}`);
    this.#process = process;
    this.#processes = [...this.#processes.filter(({ alive }) => alive), process];
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
    if (main.includes('/adopt-main.')) {
      const { stores } = this.#care;
      serveAdoption(peer, {
        adopt: async (options, fetch) => {
          const { adopt = adoptChain } = this.#cluster.mutant;
          const height = await adopt(io, options, this.#counted(fetch), stores);
          if (options.mends === true) {
            world.happened('blocks: mended with blocks of another node');
            return height;
          }
          world.happened('blocks: a chain goes on behind adopted blocks');
          const pending = await io.disk.list(`${options.directory}/rows`);
          if (pending.length > 0)
            world.happened('blocks: adopted while a bulk update is under way');
          return height;
        },
        mend: async (options, fetch) => {
          const { mend = mendAsWritten } = this.#cluster.mutant;
          const height = await mend(io, options, this.#counted(fetch));
          world.happened('blocks: mended as they were');
          return height;
        },
      });
    } else {
      serveBlocks(peer, {
        open: (options) => this.#open(io, options),
        entries: (entries) => this.#care.seen(entries),
      });
    }
    return {
      pid: 0,
      connection: ours,
      residentBytes: () => undefined,
      cpuMs: () => undefined,
      kill: () => world.kill(process),
      onExit: (listener) => exits.push(listener),
    };
  }

  #counted(fetch: FetchBlocks): FetchBlocks {
    return async (height) => {
      const blocks = await fetch(height);
      if (blocks.length > 0) this.#cluster.world.happened('blocks: adopted from another node');
      return blocks;
    };
  }

  /** As `openLocalBlocks` does, with a state tree and a signer that runs can repeat. */
  async #open(io: Io, options: BlockBackendOptions): Promise<BlockBackend> {
    const { directory, scrub: settings, remakes = false } = options;
    const { world, mutant, retention } = this.#cluster;
    const { stores } = this.#care;
    const onMoved = (): void =>
      world.happened('blocks: rows of a bulk update are kept until its switch');
    const disk = keepingRows(io.disk, this.#disk, onMoved);
    await disk.makeDirectory(directory);
    const lock = await disk.lock(directory);
    const buckets = stores.openBuckets(`${directory}/tree`);
    const checkpointBlocks = (): number => this.#checkpointBlocks;
    const generator = await openBlockGenerator({
      io: { disk },
      directory,
      signer: this.#signer,
      buckets: mutant.buckets?.(buckets) ?? buckets,
      bucketBits: stores.bucketBits,
      remakes,
      ...((retention?.chains?.rot ?? 'none') === 'none' ? {} : { segmentBytesMax }),
      get checkpointBlocks() {
        return checkpointBlocks();
      },
    });
    const { store } = generator;
    // It tells nobody any more that it holds them.
    if (remakes) this.#saved = 0;
    await this.#checkSaved(generator);
    if (remakes) world.happened('blocks: mended from the log');
    mutant.store?.(store, disk);
    if (store.height > generator.point.height) {
      world.happened('blocks: made again and compared');
    }
    if (generator.covered < positionOf(generator.nextAddress, 0)) {
      world.happened('blocks: goes on in the middle of one');
    }
    world.note(`${this.#name} makes blocks from ${generator.nextAddress}`);
    const scrub = settings && startScrub(io, generator, settings, stores);
    const made = localBlocks(generator, this.#signer, scrub);
    const backend: BlockBackend = {
      ...made,
      push: async (entries) => {
        if (this.#pushMs > 0 && entries.length > 0) await pause(io, this.#pushMs);
        return await made.push(entries);
      },
      close: async () => {
        await made.close();
        await lock.release();
      },
    };
    return this.rot.checked(mutant.blocks?.(backend, this.#name, this.#cluster) ?? backend);
  }
}

function wrong(what: string, cause?: unknown): never {
  throw new SimulationFailure('correctness', `I7: ${what}`, cause);
}

/** The disk, which keeps a copy of what is removed. @param onMoved - rows are taken over. */
function keepingRows(disk: Disk, whole: SimDisk, onMoved: () => void): Disk {
  return {
    ...disk,
    rename: async (from, to) => {
      await disk.rename(from, to);
      if (from.startsWith('/state/')) onMoved();
    },
    remove: async (path) => {
      whole.keep(path, `${keptRowsDirectory}/${path.slice(path.lastIndexOf('/') + 1)}`);
      await disk.remove(path);
    },
  };
}
