import { isDaybookError, toDaybookError } from '../src/base/index.ts';
import { segmentFrames, segmentHeights, segmentName } from '../src/blocks/block-files.ts';
import { type BlockBackend, type BlockService, blockDigest } from '../src/blocks/index.ts';
import { SegmentIndex, summaryBytes } from '../src/blocks/segment-index.ts';
import { sha256 } from '../src/model/index.ts';
import type { Cluster } from './cluster.ts';
import type { SimDisk } from './sim-disk.ts';
import { SimulationFailure } from './world.ts';

const digestBytes = 32;
const sweepUsMax = 400_000;

/** What a machine's chain files are, for whoever lets them rot. */
export interface ChainRotParts {
  readonly disk: SimDisk;
  /** Directory of the block files. */
  readonly directory: string;
  /** @throws {DaybookError} while there is none. */
  readonly service: () => BlockService;
}

/** Where a block lies in the files of a machine. */
interface FoundBlock {
  readonly path: string;
  readonly offset: number;
  readonly length: number;
}

/**
 * Lets a node's stored blocks rot, one node's at a time and such as another has durably, and watches that
 * whatever a node hands out as a block is what all others do.
 */
export class ChainRot {
  readonly #cluster: Cluster;
  readonly #name: string;
  readonly #parts: ChainRotParts;
  /** Height of the chain when one of its blocks rotted that is not known to be whole again. */
  #struck: number | undefined;
  #lies: number;

  constructor(cluster: Cluster, name: string, parts: ChainRotParts) {
    this.#cluster = cluster;
    this.#name = name;
    this.#parts = parts;
    this.#lies = cluster.retention?.chains?.lies ?? 0;
  }

  /** A block has rotted and was not mended yet, or nobody has looked. */
  get isAiling(): boolean {
    return this.#struck !== undefined;
  }

  /** Its files were replaced. */
  replaced(): void {
    this.#struck = undefined;
  }

  /** It hands out what it has, from now on. */
  heal(): void {
    this.#lies = 0;
  }

  /** Something rots, if it may. */
  strike(): void {
    const { world, retention, nodes } = this.#cluster;
    const { disk, directory } = this.#parts;
    const rot = retention?.chains?.rot;
    if (rot === 'indexes') {
      const path = disk.rot(/^\/chain\/blocks\/.*\.index$/);
      if (path === undefined) return;
      world.happened('blocks: an index rots');
      world.note(`a bit of ${path} of ${this.#name} rots`);
    }
    if (rot !== 'blocks' || nodes.some(({ blocks }) => blocks?.rot.isAiling === true)) return;
    const others = nodes.filter(
      ({ name }) =>
        name !== this.#name && (retention?.losses !== 'disk' || name !== nodes.at(-1)?.name),
    );
    const elsewhere = Math.max(0, ...others.map(({ blocks }) => blocks?.rot.durable ?? 0));
    const blocks = this.#found().slice(0, Math.min(elsewhere, this.durable));
    if (blocks.length === 0) return;
    const { path, offset, length } = world.chance.pick(blocks);
    disk.rotAt(`${directory}/${path}`, offset + world.chance.below(length));
    world.happened('blocks: a stored block rots');
    world.note(`a block in ${path} of ${this.#name} rots`);
    this.#struck = this.durable;
    this.#look();
  }

  /** Number of blocks that a power failure leaves. */
  get durable(): number {
    const { disk, directory } = this.#parts;
    let end = 0;
    for (const [name, bytes] of disk.files(directory)) {
      if (!name.endsWith('.index') || bytes.length < summaryBytes) continue;
      try {
        const { firstHeight, blocks } = SegmentIndex.summary(bytes.subarray(0, summaryBytes));
        end = Math.max(end, firstHeight + blocks);
      } catch {
        // It rotted, too.
      }
    }
    return end;
  }

  #found(): FoundBlock[] {
    const { disk, directory } = this.#parts;
    const files = disk.files(directory);
    return segmentHeights([...files.keys()]).flatMap((height) => {
      const path = segmentName(height);
      const found: FoundBlock[] = [];
      try {
        for (const { offset, bytes } of segmentFrames(files.get(path) as Buffer)) {
          found.push({ path, offset, length: bytes.length });
        }
      } catch {
        // A torn end.
      }
      return found;
    });
  }

  /** Somebody reads the whole chain now and then, until all of it is whole. */
  #look(): void {
    const { world } = this.#cluster;
    world.after(undefined, world.chance.between(20_000, sweepUsMax), 'look', () => {
      if (this.#struck === undefined) return;
      this.#readAll().catch((error: unknown) => {
        // It is being opened, or was killed.
        if (!isDaybookError(toDaybookError(error), 'STATE_DAMAGED')) return;
        world.happened('blocks: one that rotted is refused');
      });
      this.#look();
    });
  }

  async #readAll(): Promise<void> {
    const service = this.#parts.service();
    let height = 0;
    for (;;) {
      const page = await service.digests(height, Number.MAX_SAFE_INTEGER);
      if (page.length === 0) break;
      height += page.length / digestBytes;
    }
    if (this.#struck !== undefined && height >= this.#struck) this.#struck = undefined;
  }

  /** What other nodes get instead. */
  handedOut(blocks: readonly Buffer[]): readonly Buffer[] {
    const { world } = this.#cluster;
    if (this.#lies === 0 || blocks.length === 0 || !world.chance.happens(this.#lies)) return blocks;
    world.happened('blocks: a donor lies');
    // Who mends takes the first one only.
    const at = world.chance.happens(0.5) ? 0 : world.chance.below(blocks.length);
    // Another block than was asked for.
    if (blocks.length > 1 && world.chance.happens(0.3)) return blocks.toSpliced(at, 1);
    const lie = Buffer.from(blocks[at] as Buffer);
    const byte = world.chance.below(lie.length);
    lie[byte] = (lie[byte] as number) ^ (1 << world.chance.below(8));
    return blocks.with(at, lie);
  }

  /** I7: all that a node hands out as a block is what every other does. */
  checked(backend: BlockBackend): BlockBackend {
    // There they are signed by the same key; elsewhere a chain may be wrong for a while.
    if (this.#cluster.retention?.chains === undefined) return backend;
    return {
      ...backend,
      block: async (height) => {
        const bytes = await backend.block(height);
        this.#see(height, sha256(bytes), 'bytes');
        this.#see(height, digestOf(bytes), 'digests');
        return bytes;
      },
      digests: async (from, count) => {
        const page = await backend.digests(from, count);
        for (let at = 0; at < page.length; at += digestBytes) {
          this.#see(from + at / digestBytes, page.subarray(at, at + digestBytes), 'digests');
        }
        return page;
      },
    };
  }

  #see(height: number, digest: Buffer, what: keyof Seen): void {
    const seen = seenBlocks.get(this.#cluster) ?? { bytes: new Map(), digests: new Map() };
    seenBlocks.set(this.#cluster, seen);
    const hex = digest.toString('hex');
    const before = seen[what].get(height);
    seen[what].set(height, hex);
    if (before === undefined || before === hex) return;
    const wrong = `I7: block ${height} of ${this.#name} is not what was handed out before`;
    this.#cluster.world.fail(new SimulationFailure('correctness', wrong));
  }
}

interface Seen {
  readonly bytes: Map<number, string>;
  readonly digests: Map<number, string>;
}

/** Of a cluster's nodes together. */
const seenBlocks = new WeakMap<Cluster, Seen>();

function digestOf(bytes: Buffer): Buffer {
  try {
    return blockDigest(bytes);
  } catch {
    // No block at all.
    return sha256(bytes);
  }
}
