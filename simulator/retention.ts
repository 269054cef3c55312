import { DaybookError } from '../src/base/index.ts';
import { packBlocks } from '../src/blocks/index.ts';
import { type Io, rpcPeer } from '../src/io/index.ts';
import type { SharedLog } from '../src/log/index.ts';
import { asAddress, type LogRetention } from '../src/model/index.ts';
import { Housekeeping } from '../src/node/housekeeping.ts';
import type { Makers } from '../src/node/makers.ts';
import type { Member } from '../src/node/members.ts';
import { type NodeOrders, servePrivately } from '../src/node/private-service.ts';
import { catchUpBySnapshot, SnapshotFiles } from '../src/node/snapshots.ts';
import type { Replica } from '../src/replica/index.ts';
import { type State, type StateSettings, writeSnapshot } from '../src/state/index.ts';
import type { BlockMachine } from './block-machine.ts';
import type { Cluster } from './cluster.ts';
import type { Happening } from './coverage.ts';
import { plain } from './mutant.ts';
import type { Chance } from './random.ts';
import type { World } from './world.ts';

/** How a world's log is kept short, and what its nodes survive by it. */
export interface Retention {
  readonly log: LogRetention;
  /** Pause between two rounds of housekeeping. */
  readonly everyMs: number;
  readonly replayEntriesMax: number;
  /** What may happen to the last node's copies: where others hold as much, it may lose its own. */
  readonly losses: 'none' | 'disk' | 'rot';
  /** The last node joins when others have worked for a while. */
  readonly joinsLate: boolean;
  /** The log ends with a power failure of all nodes, so that all come back from snapshots. */
  readonly endsInTheDark: boolean;
  /** How blocks are made beside the nodes; `undefined`: they are not. */
  readonly chains: TrimmedChains | undefined;
}

/** Blocks made beside nodes whose log is trimmed. */
export interface TrimmedChains {
  /** So long a generator takes for what it is handed at a time: blocks lag behind snapshots. */
  readonly pushMs: number;
  readonly tickIntervalMs: number;
  /** All nodes lose power at once, now and then. */
  readonly blackouts: boolean;
  /** Numbers of the nodes that make none. */
  readonly plain: readonly number[];
  /** Which of one node's files rot at a time. */
  readonly rot: 'none' | 'blocks' | 'indexes';
  /** Share of what nodes hand out to others that does not hold, while things break. */
  readonly lies: number;
}

const chainsShare = 0.5;
/** Share of those worlds in which every node makes blocks. */
const allMakeShare = 0.5;

/** Draws how the log is kept. @param nodes - how many there are. @param rot - stored blocks rot in any case. */
export function drawRetention(
  chance: Chance,
  nodes: number,
  load: boolean,
  rot = false,
): Retention {
  const holders = chance.between(1, Math.min(2, nodes));
  const entries = load ? chance.between(60, 200) : chance.between(4, 60);
  const followerEntries = chance.pick([entries, 10 * entries]);
  const drawn = {
    log: { entries, holders, followerEntries },
    everyMs: load ? 500 : chance.between(40, 300),
    replayEntriesMax: chance.pick([entries, 10_000]),
    losses: holders > 1 ? chance.pick(['none', 'disk', 'rot'] as const) : 'none',
    joinsLate: nodes > 1 && chance.happens(0.3),
    endsInTheDark: chance.happens(0.5),
  };
  // Under full load they cost more than commits do.
  const isMade = chance.happens(chainsShare) || rot;
  const chains = isMade && !load ? drawChains(chance, nodes) : undefined;
  if (chains !== undefined && rot) {
    return { ...drawn, chains: { ...chains, plain: [], rot: 'blocks', lies: 0.8 } };
  }
  if (chains === undefined || chains.plain.length === 0) return { ...drawn, chains };
  // While some are away others are to be there, and the log to grow by more than what is kept of it.
  const log = { ...drawn.log, entries: chance.between(4, 12) };
  return { ...drawn, log, joinsLate: false, chains };
}

function drawChains(chance: Chance, nodes: number): TrimmedChains {
  return {
    pushMs: chance.pick([0, 20, 150, 600]),
    tickIntervalMs: chance.between(50, 200),
    blackouts: chance.happens(0.5),
    plain: nodes === 1 || chance.happens(allMakeShare) ? [] : drawPlain(chance, nodes),
    rot: chance.pick(['none', 'blocks', 'blocks', 'blocks', 'indexes'] as const),
    lies: chance.pick([0, 0.5]),
  };
}

/** The last node may lose its copies: where it makes blocks, another one does, too. */
function drawPlain(chance: Chance, nodes: number): readonly number[] {
  return nodes === 2 ? [1] : chance.pick([[0], [2], [1, 2]]);
}

const snapshotDirectory = '/snapshots';
/** A member that died is forgotten after so long, as with its lease. */
const leaseUs = 2_000_000;
/** The same where some nodes make no blocks: they are to be alone now and then. */
const shortLeaseUs = 200_000;
/** Snapshot files, as they lie on a node's disk. */
export const snapshotFiles: RegExp = /^\/snapshots\/snapshot-\d+$/;

const told: readonly (readonly [RegExp, Happening])[] = [
  [/this state ends at [1-9]/, 'snapshot: a node was away for longer than the log is kept'],
  [/^fetched the snapshot/, 'snapshot: fetched from another node'],
  [/^the state was restored/, 'snapshot: a node goes on from one'],
  [/^the snapshot at \d+ is refused/, 'snapshot: a damaged one is refused'],
];

/** The nodes of a world as they know one another. */
export class SimMembers {
  readonly #world: World;
  readonly #leaseUs: number;
  readonly #members = new Map<string, Member>();
  readonly #makers = new Set<string>();
  /** Those who make blocks; they outlive their leases. */
  readonly makers: Makers = {
    names: async () => [...this.#makers],
    remember: async ({ name }) => void this.#makers.add(name),
    forget: async (name) => void this.#makers.delete(name),
  };

  constructor(world: World, retention: Retention | undefined) {
    this.#world = world;
    this.#leaseUs = makesSomePlain(retention) ? shortLeaseUs : leaseUs;
  }

  get all(): readonly Member[] {
    return [...this.#members.values()];
  }

  tell(member: Member): void {
    this.#members.set(member.name, member);
  }

  /** Its process has died. */
  lost(name: string): void {
    const { id } = this.#members.get(name) ?? {};
    this.#world.after(undefined, this.#leaseUs, 'lease', () => {
      if (this.#members.get(name)?.id === id) this.#members.delete(name);
    });
  }
}

/** Some nodes make blocks and some do not. */
export function makesSomePlain(retention: Retention | undefined): boolean {
  return (retention?.chains?.plain.length ?? 0) > 0;
}

/** What a node has open to keep the log short. */
export interface RetentionParts {
  readonly cluster: Cluster;
  readonly name: string;
  /** Differs from start to start. */
  readonly id: string;
  readonly makesBlocks: boolean;
  readonly io: Io;
  readonly log: SharedLog;
  readonly stateDirectory: string;
  readonly stateSettings: StateSettings;
}

/** Parts of a node that serves. */
interface ServingParts {
  readonly state: State;
  readonly replica: Replica;
  readonly blocks: BlockMachine | undefined;
}

/** Lets a node whose state is too old, or gone, begin with a snapshot. */
export async function comeBack(parts: RetentionParts): Promise<SnapshotFiles> {
  const { cluster, name, makesBlocks: chain, io, log, stateDirectory, stateSettings } = parts;
  const { world, members, retention, config, mutant } = cluster;
  const reached = chain && mutant.trustsNewestSnapshot !== true;
  if (chain) await members.makers.remember({ name, id: parts.id });
  const snapshots = await SnapshotFiles.open(io, snapshotDirectory, reached);
  await catchUpBySnapshot({
    io,
    log,
    channel: config.channel,
    stateDirectory,
    snapshots,
    chain,
    members: () => Promise.resolve(members.all.filter((member) => member.name !== name)),
    ...(retention === undefined ? {} : { replayEntriesMax: retention.replayEntriesMax }),
    stateSettings,
    onEvent: (text) => {
      world.note(`${name}: ${text}`);
      for (const [pattern, what] of told) if (pattern.test(text)) world.happened(what);
    },
  });
  return snapshots;
}

/** Writes snapshots, gives them to others, and trims what enough nodes hold. */
export async function keepHouse(
  parts: RetentionParts,
  { everyMs, replayEntriesMax }: Retention,
  snapshots: SnapshotFiles,
  { state, replica, blocks }: ServingParts,
  followers: () => Member['followers'],
): Promise<void> {
  const { cluster, name, id, io, log } = parts;
  const { world, members, config, mutant } = cluster;
  const address = `${name}:9`;
  const info = (): Member => ({
    name,
    channel: config.channel,
    gateway: name,
    address,
    roles: ['executor'],
    draining: false,
    id,
    chain: blocks !== undefined,
    snapshot: snapshots.newest,
    held: housekeeping.held,
    followers: followers() ?? [],
  });
  const housekeeping = new Housekeeping({
    io,
    log: {
      ...plain(log),
      trim: async (before) => {
        world.note(`${name} trims before ${before}`);
        cluster.trimmed.before = Math.max(cluster.trimmed.before, before);
        await log.trim(before);
        world.happened('log: trimmed');
      },
    },
    name,
    snapshots,
    everyMs,
    joinReplayEntriesMax: replayEntriesMax,
    retention: () => replica.config?.retention,
    nextAddress: () => replica.nextAddress,
    writeSnapshot: async (path) => {
      const head = await writeSnapshot(state, io.disk, path, config.channel);
      world.happened('snapshot: written');
      return asAddress(head.nextAddress);
    },
    ...(blocks === undefined
      ? {}
      : { saveBlocks: (wanted) => blocks.save(wanted), chainFiles: () => blocks.files }),
    info,
    tell: async (member) => members.tell(member),
    members: () => members.all,
    makers: mutant.makers?.(members.makers) ?? members.makers,
    leavesTrimming: () => false,
    onEvent: (text) => {
      world.note(`${name}: ${text}`);
      if (/it waits for/.test(text)) world.happened('log: waits for a node that makes blocks');
    },
  });
  const refuse = async (): Promise<never> => {
    throw new DaybookError('NOT_FOUND', 'not on this node');
  };
  const orders: NodeOrders = {
    handOver: refuse,
    drain: refuse,
    offerSnapshot: () => housekeeping.offer(),
    snapshotPiece: (at, offset) => snapshots.piece(at, offset),
    blocks: async (from) => {
      if (blocks === undefined) return await refuse();
      return packBlocks(await blocks.blocksFrom(from));
    },
    held: async () => housekeeping.held,
  };
  await io.network.listen(address, (connection) =>
    servePrivately(rpcPeer(connection), orders, undefined),
  );
  members.tell(info());
  housekeeping.start();
}
