import type { adoptChain, BlockBackend, BlockStore, mendAsWritten } from '../src/blocks/index.ts';
import type { Client, Transport } from '../src/client/index.ts';
import type { RunningExecutor } from '../src/executor/index.ts';
import type { Disk, Io } from '../src/io/index.ts';
import type { Member, SharedLog } from '../src/log/index.ts';
import type { Makers } from '../src/node/makers.ts';
import type { AppliedEntry, Replica } from '../src/replica/index.ts';
import type { MemoryStore, PullAnswer } from '../src/replication/federation/core/index.ts';
import type { Feed, Outbox, SourceLedger } from '../src/replication/index.ts';
import type { Sequencer } from '../src/sequencer/index.ts';
import type { BucketStore, State } from '../src/state/index.ts';
import type { Cluster } from './cluster.ts';
import type { Faults } from './nemesis.ts';
import type { RunOptions } from './run.ts';
import type { FailureKind } from './world.ts';

/** A deliberate bug, put between the rooms from outside: production code has no hooks for it. */
export interface Mutant {
  readonly name: string;
  /** The bug shows within so many seeds. */
  readonly seedsMax: number;
  /** How it shows; default: in any way but a crash. */
  readonly shows?: FailureKind;
  /** The worlds that it is in; default: those of a ledger whose log is embedded. */
  readonly world?: Partial<Omit<RunOptions, 'seed' | 'mutant'>>;
  /** Faults without which it cannot show. */
  readonly needs?: readonly (keyof Faults)[];
  prepare?(cluster: Cluster): void;
  /** Nodes serve before they have applied what the log held at their start. */
  readonly servesEarly?: boolean;
  /** Comes between log process and log store. */
  log?(log: SharedLog, cluster: Cluster): SharedLog;
  /** Comes between log process and sequencer. */
  sequencer?(sequencer: Sequencer, cluster: Cluster): Sequencer;
  /** Comes between the log and a member of etcd. */
  member?(member: Member): Member;
  /** Comes between a node and its log. */
  nodeLog?(log: SharedLog, sleep: (us: number) => Promise<void>): SharedLog;
  /** Changes a node's state. */
  state?(state: State, node: string): void;
  /** Nodes take whatever comes. */
  readonly admitsAll?: boolean;
  /** Nodes serve although their state is in doubt. */
  readonly servesInDoubt?: boolean;
  /** Nodes begin with their newest snapshot, wherever their blocks end. */
  readonly trustsNewestSnapshot?: boolean;
  /** Nodes compare roots only. */
  readonly comparesNoRows?: boolean;
  /** Comes between a node's repair and the outside world. */
  repairIo?(io: Io): Io;
  /** Comes between node and executor. */
  executor?(executor: RunningExecutor): RunningExecutor;
  /** Comes between an outside database and what captures its changes, or behind that. */
  readonly source?: {
    outbox?(outbox: Outbox, cluster: Cluster): Outbox;
    ledger?(ledger: SourceLedger): SourceLedger;
  };
  /** Comes between nodes and what they know of those who make blocks. */
  makers?(makers: Makers): Makers;
  /** Comes between a generator of blocks and where its checkpoints lie. */
  buckets?(buckets: BucketStore): BucketStore;
  /** Changes the store of a node's blocks. */
  store?(store: BlockStore, disk: Disk): void;
  /** Instead of `adoptChain`. */
  adopt?: typeof adoptChain;
  /** Instead of `mendAsWritten`. */
  mend?: typeof mendAsWritten;
  /** Comes between a node and the generator of its blocks. */
  blocks?(backend: BlockBackend, node: string, cluster: Cluster): BlockBackend;
  /** Comes between a follower and the ledger. */
  feed?(feed: Feed): Feed;
  /** Comes between the client library and the network. */
  transport?(transport: Transport): Transport;
  /** Comes between a program and the client library. */
  sdk?(client: Client): Client;
  /** Comes between a program that follows events and the network. */
  reader?(transport: Transport): Transport;
  /** Changes what a gateway's streams of events are made of. */
  follow?(entries: readonly AppliedEntry[]): readonly AppliedEntry[];
  /** Gateways write events whether or not they are read. */
  readonly writesOn?: boolean;
  /** Nodes endorse whatever comes. */
  readonly endorsesAll?: boolean;
  /** In a federation. */
  readonly registry?: {
    /** Changes what a node answers to a pull. */
    answer?(answer: PullAnswer): PullAnswer;
    /** Changes the rows of a full copy on their way. */
    copy?(rows: readonly unknown[]): readonly unknown[];
    /** The store that a node's process finds after it was killed; `saved`: as it was a while ago. */
    restart?(store: MemoryStore, saved: MemoryStore): MemoryStore;
  };
  /** Comes between a node's replica and those who post from it. */
  followersReplica?(replica: Replica, log: SharedLog): Replica;
  /** Comes between executor and replica. */
  executorReplica?(replica: Replica, log: SharedLog): Replica;
}

/** Nothing is wrong. */
export const noMutant: Mutant = { name: 'none', seedsMax: 0 };

/** The same log as an object of functions, to replace some of them. */
export function plain(log: SharedLog): SharedLog {
  return {
    tail: () => log.tail(),
    epoch: () => log.epoch(),
    start: () => log.start(),
    seal: (epoch) => log.seal(epoch),
    trim: (before) => log.trim(before),
    reclaim: async () => await log.reclaim?.(),
    fill: (address) => log.fill(address),
    write: (token, bytes) => log.write(token, bytes),
    read: (address) => log.read(address),
    follow: (from, signal) => log.follow(from, signal),
    close: () => log.close(),
  };
}
