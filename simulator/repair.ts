import type { DaybookError } from '../src/base/index.ts';
import { type BlockService, majorityOf } from '../src/blocks/index.ts';
import type { RunningExecutor } from '../src/executor/index.ts';
import { frozenReader } from '../src/executor/testing/inline-processes.ts';
import { type Io, rpcPeer } from '../src/io/index.ts';
import { stateKey, verdicts } from '../src/model/index.ts';
import { nodeAnswers } from '../src/node/repair/answers.ts';
import { type Guard, guardedExecutor } from '../src/node/repair/guard.ts';
import { type NodeRepair, openNodeRepair } from '../src/node/repair/node-repair.ts';
import { answerNodes, type OtherNode } from '../src/node/repair/other-nodes.ts';
import type { AppliedEntry, Replica } from '../src/replica/index.ts';
import {
  MemoryBucketStore,
  MemoryStore,
  type State,
  type StateSettings,
  type Stores,
} from '../src/state/index.ts';
import type { Cluster } from './cluster.ts';
import { account, contractName } from './contracts.ts';
import type { Happening } from './coverage.ts';
import type { Chance } from './random.ts';
import type { SimDisk } from './sim-disk.ts';
import { type SimProcess, SimulationFailure } from './world.ts';

/** How the nodes of a world look after their states, and what goes wrong with these. */
export interface Repairs {
  /**
   * `rows`: of one node at a time. `many`: of so many that those who are left are no majority.
   * `chain`: one node's generator sees another write than the log has. `broken`: it does so again
   * and again, until somebody replaces the machine.
   */
  readonly damage: 'rows' | 'many' | 'chain' | 'broken';
  readonly intervalMs: number;
  readonly scrubRowsPerS: number;
  readonly tickIntervalMs: number;
}

/** So few nodes have nobody to be outvoted by. */
const votersMin = 3;

/** Draws it. @param nodes - how many there are, at least 2. */
export function drawRepairs(chance: Chance, nodes: number): Repairs {
  return {
    damage: nodes < votersMin ? 'rows' : chance.pick(['rows', 'rows', 'many', 'chain', 'broken']),
    intervalMs: chance.between(50, 300),
    scrubRowsPerS: chance.pick([1_000, 4_000]),
    tickIntervalMs: chance.between(50, 200),
  };
}

/** Rows that nobody reads once they are there: what rots in them misleads no transaction. */
export const keptRows: readonly (readonly [key: string, value: string])[] = Array.from(
  { length: 12 },
  (_, at) => [`kept${at}`, `what was kept ${at}`],
);
const addedRow = 'kept-by-nobody';

/** All that a node keeps in LMDB. */
export type SimStores = Required<Stores & Pick<StateSettings, 'openStore'>>;

/** What a node keeps in LMDB lies in memory here, and goes and moves with the directories of its disk. */
export function simStores(disk: SimDisk): SimStores {
  const open = (directory: string): MemoryStore =>
    disk.object(`${directory}/rows/store`, () => new MemoryStore());
  return {
    openStore: open,
    openReader: (directory) => frozenReader(open(directory)),
    openBuckets: (directory) => disk.object(`${directory}/store`, () => new MemoryBucketStore()),
    bucketBits: 4,
  };
}

/** Parts of a node that is being started. */
interface CareParts {
  readonly process: SimProcess;
  readonly io: Io;
  readonly stateDirectory: string;
  readonly chainDirectory: string;
  readonly stateSettings: StateSettings;
  /** State and chain were made anew. */
  readonly onRestored: () => void;
}

/** Parts of a node that serves. */
interface ServingParts {
  readonly io: Io;
  readonly state: State;
  readonly replica: Replica;
  readonly blocks: () => BlockService;
}

const told: readonly (readonly [RegExp, Happening])[] = [
  [/^ALARM the state of this node is wrong.*is changed:/, 'repair: a changed row is found'],
  [/^ALARM the state of this node is wrong.*is missing:/, 'repair: a missing row is found'],
  [/^ALARM the state of this node is wrong.*is added:/, 'repair: an added row is found'],
  [/^ALARM the state of this node is wrong.*after \d+ blocks/, 'repair: a node is outvoted'],
  [/^ALARM this node HALTS/, 'repair: a node halts'],
  [/could not be restored yet/, 'repair: nobody to believe yet'],
  [/TIMEOUT no majority has signed/, 'repair: no majority signs'],
  [/it serves again$/, 'repair: a node agrees and serves again'],
];

/** Two more than that within an hour, and a node halts; the clock of a world does not come so far. */
const damagesMax = 2;
/** Rows that went wrong in memory are in the store by then. */
const flushedUs = 1_000_000;
const pollUs = 50_000;
const claimsWaitMs = 2_000;
/** After so long a person looks at nodes that cannot mend without one. */
const patienceUs = 3_000_000;
/** A lost row is missed after some rounds. */
const noticedUs = 5_000_000;

/** How one node looks after its state, as `src/node` does, and what happens to that state. */
export class NodeCare {
  readonly stores: SimStores;
  readonly #cluster: Cluster;
  readonly #name: string;
  /** Of the running process. */
  #repair: NodeRepair | undefined;
  #state: State | undefined;
  #blocks: (() => BlockService) | undefined;
  #damages = 0;
  #isNoticed = false;
  #damagedUs = 0;
  /** What was damaged and is not mended yet. */
  #damaged: 'rows' | 'chain' | undefined;
  /** Blocks of the chain that the damage is in, at most. */
  #damagedHeight = 0;
  /** What the next write that the generator sees turns into. */
  #spoils: 'none' | 'one' | 'all' = 'none';

  constructor(cluster: Cluster, name: string, disk: SimDisk) {
    this.#cluster = cluster;
    this.#name = name;
    this.stores = simStores(disk);
  }

  /** Its process has ended. */
  lost(): void {
    this.#repair = undefined;
    this.#state = undefined;
    this.#blocks = undefined;
  }

  get wasDamaged(): boolean {
    return this.#damages > 0;
  }

  /** It has not doubted its state since that was damaged. */
  get isUnnoticed(): boolean {
    return this.#damaged !== undefined && !this.#isNoticed;
  }

  get isHalted(): boolean {
    return this.#repair?.halted === true;
  }

  /** It has something to mend, or is at it. */
  get isAiling(): boolean {
    if (this.#damaged !== undefined && this.#isMended()) this.#damaged = undefined;
    const isDamaged = this.#damaged !== undefined || this.#spoils !== 'none';
    return isDamaged || this.#repair?.guard.status.state !== 'serving';
  }

  /** Why it serves nobody just now. */
  get refusal(): DaybookError | undefined {
    return this.#cluster.mutant.servesInDoubt === true ? undefined : this.#repair?.guard.error;
  }

  /**
   * Restores the state if it was found wrong. @returns false: the node halts, and waits for a person.
   */
  async open(parts: CareParts, onDiverged: () => void): Promise<boolean> {
    const { world, network, nodes, repairs, mutant } = this.#cluster;
    const { process, stateDirectory, chainDirectory, stateSettings } = parts;
    const io = mutant.repairIo?.(parts.io) ?? parts.io;
    const others = nodes
      .filter(({ name }) => name !== this.#name)
      .map(({ name }): OtherNode => {
        const call: OtherNode['call'] = async (method, payload) => {
          const peer = rpcPeer(await network.of(process).connect(careAddress(name)));
          try {
            return await peer.call(method, [payload]);
          } finally {
            peer.close();
          }
        };
        return { name, call };
      });
    const repair = await openNodeRepair({
      io,
      name: this.#name,
      channel: this.#cluster.config.channel,
      directory: '/',
      stateDirectory,
      chainDirectory,
      stateSettings,
      stores: this.stores,
      others: async () => others,
      ...(repairs === undefined ? {} : { intervalMs: repairs.intervalMs }),
      claimsWaitMs,
      onDiverged: () => world.after(process, 0, 'diverged', onDiverged),
      onEvent: (text) => this.#heard(text),
    });
    this.#repair = repair;
    if (repair.halted) return false;
    if (repair.asked) {
      world.note(`${this.#name} has its state restored`);
      // It may be cut short on the way.
      parts.onRestored();
      await repair.restore();
      world.happened('repair: a state is restored');
      if (!this.#holdsKeptRows()) this.#wrong(`I7: ${this.#name} restored a state that is wrong`);
    }
    return true;
  }

  /** Begins to compare, and to answer others who do. */
  async watch(parts: ServingParts): Promise<void> {
    const { io, state, replica, blocks } = parts;
    const repair = this.#repair;
    const { config, verifier } = replica;
    if (repair === undefined || config === undefined || verifier === undefined) return;
    this.#state = state;
    this.#blocks = blocks;
    repair.watch({
      blocks,
      verifier: () => replica.verifier ?? verifier,
      config: () => replica.config ?? config,
      replayed: replica.position,
    });
    const answers = nodeAnswers({
      io,
      name: this.#name,
      channel: config.channel,
      directory: '/',
      state,
      guard: repair.guard,
      blocks,
    });
    await io.network.listen(careAddress(this.#name), (connection) =>
      answerNodes(rpcPeer(connection), () => answers),
    );
  }

  /** Stands before what it answers. */
  get guard(): Guard | undefined {
    return this.#cluster.mutant.servesInDoubt === true ? undefined : this.#repair?.guard;
  }

  /** The executor behind the guard. */
  guarded(executor: RunningExecutor): Pick<RunningExecutor, 'submit' | 'evaluate'> {
    if (this.#repair === undefined || this.#cluster.mutant.servesInDoubt === true) return executor;
    return guardedExecutor(executor, this.#repair.guard);
  }

  /** I4: who doubts its state answers nobody. */
  answering(): void {
    const state = this.#repair?.guard.status.state;
    if (state === undefined || state === 'serving') return;
    this.#wrong(`I4: ${this.#name} answers although its state is in doubt (${state})`);
  }

  /** Something goes wrong with this node's state, or with its chain. @returns whether it did. */
  async strike(): Promise<boolean> {
    const { world, repairs } = this.#cluster;
    const isWell = this.#state !== undefined && !this.isAiling;
    if (!isWell || this.#damages >= damagesMax || repairs === undefined) return false;
    this.#isNoticed = false;
    if (repairs.damage === 'chain' || repairs.damage === 'broken') {
      this.#spoils = repairs.damage === 'broken' ? 'all' : 'one';
      world.note(`${this.#name} makes blocks of something else than the log`);
    } else await this.#rot();
    this.#damages++;
    return true;
  }

  /** One row rots in the store. */
  async #rot(): Promise<void> {
    const { world } = this.#cluster;
    const store = this.stores.openStore('/state') as MemoryStore;
    const { meta } = store;
    const [name, right] = world.chance.pick(keptRows);
    const row = store.get(stateKey(contractName, name));
    if (meta === undefined || row === undefined) return;
    this.#damaged = 'rows';
    this.#damagedUs = world.nowUs;
    const how = world.chance.pick(['changed', 'lost', 'added', 'in memory'] as const);
    world.note(`${this.#name}: the row ${name} rots: ${how}`);
    world.happened('repair: a row rots');
    const head = store.head(row.key);
    const value = `${right}?`;
    if (how === 'in memory') this.#state?.spoilForTests(row.key, value);
    else {
      const write = {
        changed: { ...row, head, value },
        lost: { ...row, head: 0, value: undefined },
        added: { ...row, head: 0, value, key: stateKey(contractName, addedRow) },
      }[how];
      await store.commit({ writes: [write], entries: [], meta });
    }
  }

  /** The entries as this node's generator sees them. */
  seen(entries: AppliedEntry[]): AppliedEntry[] {
    const all = this.#spoils === 'all';
    for (const { record, verdict } of entries.flatMap(({ records }) => records)) {
      if (this.#spoils === 'none' || verdict !== verdicts.valid) continue;
      const write = (record.sets as unknown as readonly SpoiledSet[])
        .flatMap(({ writes }) => writes)
        .find(({ key, value }) => value !== undefined && (!all || key === account(0)));
      if (write === undefined) continue;
      write.value = `${write.value}0`;
      this.#spoils = all ? 'all' : 'none';
      this.#damaged = 'chain';
      // The write is in one of the next two blocks.
      this.#damagedHeight = (this.#height() ?? 0) + 2;
      this.#cluster.world.happened('repair: a chain goes wrong');
    }
    return entries;
  }

  /** Another machine takes its place. */
  replaced(): void {
    this.#spoils = 'none';
    this.#damaged = undefined;
  }

  #height(): number | undefined {
    try {
      return this.#blocks?.().status.height;
    } catch {
      // It is being opened.
      return undefined;
    }
  }

  #heard(text: string): void {
    const { world } = this.#cluster;
    world.note(`${this.#name}: ${text}`);
    for (const [pattern, what] of told) if (pattern.test(text)) world.happened(what);
    if (text.startsWith('ALARM')) this.#isNoticed = true;
    if (text.includes('HALTS') && this.#cluster.repairs?.damage !== 'broken') {
      this.#wrong(`I7: ${this.#name} halts, and could be restored: ${text}`);
    }
    if (text.startsWith('ALARM') && this.#damaged === undefined) {
      this.#wrong(`I7: ${this.#name} doubts its state, which is right: ${text}`);
    }
  }

  #wrong(what: string): void {
    this.#cluster.world.fail(new SimulationFailure('correctness', what));
  }

  /** Whether what was damaged is as it should be again. */
  #isMended(): boolean {
    const { state, agreedHeight = 0 } = this.#repair?.guard.status ?? {};
    if (state !== 'serving' || this.#spoils === 'all') return false;
    if (this.#damaged === 'chain') return agreedHeight > this.#damagedHeight;
    return this.#cluster.world.nowUs > this.#damagedUs + flushedUs && this.#holdsKeptRows();
  }

  #holdsKeptRows(): boolean {
    const views = [this.stores.openStore('/state'), ...(this.#state ? [this.#state] : [])];
    // What rotted in memory comes to the store with the next flush, whenever that is.
    return views.every((view) => {
      const held = (key: string): string | undefined =>
        view.get(stateKey(contractName, key))?.value;
      return keptRows.every(([key, value]) => held(key) === value) && held(addedRow) === undefined;
    });
  }
}

/**
 * Waits until every node is right again; helps where only a person can. Where nothing has gone wrong
 * yet, it does now.
 */
export async function mended({ world, nodes }: Cluster): Promise<void> {
  const startUs = world.nowUs;
  let lookedUs = startUs;
  for (;;) {
    await world.sleep(undefined, pollUs);
    const ailing = nodes.filter(({ care }) => care?.isAiling === true);
    const [first] = ailing;
    if (first === undefined) {
      if (nodes.some(({ care }) => care?.wasDamaged === true)) return;
      await world.chance.pick(nodes).care?.strike();
      continue;
    }
    const late = world.nowUs > startUs + noticedUs;
    const unnoticed = late && ailing.find(({ care }) => care?.isUnnoticed === true);
    if (unnoticed) {
      const what = `I7: nobody notices that the state of ${unnoticed.name} is wrong`;
      throw new SimulationFailure('correctness', what);
    }
    const halted = ailing.find(({ care }) => care?.isHalted === true);
    const isStuck = ailing.length >= majorityOf(nodes.length) && nodes.length >= votersMin;
    if (halted === undefined && !(isStuck && world.nowUs > lookedUs + patienceUs)) continue;
    lookedUs = world.nowUs;
    world.happened('repair: a person replaces a node');
    (halted ?? first).replace();
  }
}

/** Where a node answers others who compare. */
function careAddress(node: string): string {
  return `${node}:9`;
}

interface SpoiledSet {
  readonly writes: readonly { readonly key: string; value: string | undefined }[];
}
