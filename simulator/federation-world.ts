import { DaybookError, isDaybookError } from '../src/base/index.ts';
import { type Io, pause, type RpcPeer, rpcPeer } from '../src/io/index.ts';
import {
  allMarks,
  askingMarks,
  beginCopy,
  type ChangeRecord,
  copyPage,
  endCopy,
  join,
  MemoryStore,
  type PullAnswer,
  pull,
  receive,
  type Vector,
  writeCopy,
} from '../src/replication/federation/core/index.ts';
import { sharedPrefixes } from '../src/replication/federation/core/rows.ts';
import { federation, nodeId, TestNode } from '../src/replication/federation/testing/small-world.ts';
import { finish } from './finish.ts';
import { type Mutant, noMutant } from './mutant.ts';
import type { Chance } from './random.ts';
import { SimDisk } from './sim-disk.ts';
import { simIo } from './sim-io.ts';
import { SimNetwork } from './sim-network.ts';
import { type SimProcess, SimulationFailure, type World } from './world.ts';

/** What a federation did, for the report. */
export interface FederationCounts {
  /** Changes that took effect, and that a node refused or the federation did not let through. */
  readonly valid: number;
  readonly refused: number;
  readonly nodes: number;
  readonly copies: number;
}

const methods = { pull: 220, copy: 221 } as const;
const names = ['a', 'b', 'c', 'd', 'e'];
const convergeBoundMs = 60_000;
const restartMs = 100;
const answerMs = 1_000;

/**
 * Registries under several administrations: the federation's core on each node, rows that outlive
 * its process, pulls over a network that delays, resets and partitions.
 *
 * @throws {SimulationFailure} when they do not converge, or do not agree in the end.
 */
export async function federate(
  world: World,
  ticks: number,
  mutant: Mutant = noMutant,
): Promise<FederationCounts> {
  const { chance } = world;
  const founders = federation(...names.slice(0, chance.between(2, names.length - 1)));
  // It comes later, when journals do not reach back to the beginning any more.
  const late = new TestNode(names[founders.length] as string);
  const registries = [...founders, late];
  const network = new SimNetwork(world);
  const counts = { refused: 0, copies: 0 };
  const machines = registries.map(
    (node) => new RegistryMachine(world, network, node, counts, mutant),
  );
  const newcomer = machines.at(-1) as RegistryMachine;
  for (const machine of machines) machine.meet(machines);
  for (const machine of machines) if (machine !== newcomer) machine.start();
  world.after(undefined, chance.between(1, Math.max(1, ticks * 700)), 'join', () => {
    const sponsor = chance.pick(founders);
    world.note(`${newcomer.name} joins by ${sponsor.id}`);
    sponsor.admit(late);
    late.store.run(join(late.id, [sponsor.id]));
    newcomer.start();
  });
  const faults = { on: true };
  strike(world, network, machines, faults);
  await world.run(() => false, world.nowUs + ticks * 1000);
  faults.on = false;
  world.note('everything heals');
  network.heal();
  for (const machine of machines) machine.heal();
  const settled = untilSame(world, registries);
  await finish(world, settled, convergeBoundMs, 'the registries do not converge');
  let valid = 0;
  const excused = new Set(machines.flatMap(({ node, hasCopied }) => (hasCopied ? [node.id] : [])));
  for (const node of registries) valid += checkRegistry(node, excused);
  return { valid, nodes: registries.length, ...counts };
}

/** One node of the federation. */
class RegistryMachine {
  readonly node: TestNode;
  readonly name: string;
  readonly #world: World;
  readonly #network: SimNetwork;
  readonly #counts: { refused: number; copies: number };
  #process: SimProcess | undefined;
  readonly #mutant: Mutant;
  #others: readonly RegistryMachine[] = [];
  #saved = new MemoryStore();
  hasCopied = false;
  #publishes = true;
  #starts = 0;

  constructor(
    world: World,
    network: SimNetwork,
    node: TestNode,
    counts: { refused: number; copies: number },
    mutant: Mutant,
  ) {
    this.#mutant = mutant;
    this.#world = world;
    this.#network = network;
    this.#counts = counts;
    this.node = node;
    this.name = node.id.slice('uddi:'.length, node.id.indexOf('.'));
  }

  get address(): string {
    return `${this.name}:1`;
  }

  meet(machines: readonly RegistryMachine[]): void {
    this.#others = machines.filter((machine) => machine !== this);
  }

  start(): void {
    const process = this.#world.spawn(this.name, `${this.name}.${this.#starts++}`);
    this.#process = process;
    const io = simIo(this.#world, process, new SimDisk(this.#world), this.#network);
    const keepOn = (task: () => Promise<void>): void => {
      task().catch((error: unknown) => this.#world.fail(error));
    };
    keepOn(async () => {
      await io.network.listen(this.address, (connection) => this.#serve(rpcPeer(connection)));
    });
    // Two at a time: answers overtake one another.
    for (let puller = 0; puller < 2; puller++) keepOn(() => this.#pullAlways(io));
    keepOn(() => this.#publishAlways(io));
  }

  crash(): void {
    if (this.#process?.alive !== true) return;
    this.#world.note(`${this.name} is killed`);
    this.#world.kill(this.#process);
    const { registry } = this.#mutant;
    this.node.store = registry?.restart?.(this.node.store, this.#saved) ?? this.node.store;
    this.#world.after(undefined, restartMs * 1000, 'restart', () => this.start());
  }

  pause(ms: number): void {
    if (this.#process !== undefined) {
      this.#process.pausedUntilUs = this.#world.nowUs + ms * 1000;
    }
  }

  /** No new changes; what was begun comes to its end. */
  heal(): void {
    this.#publishes = false;
    if (this.#process !== undefined) this.#process.pausedUntilUs = 0;
  }

  #serve(peer: RpcPeer): void {
    const { store } = this.node;
    const answer = (value: unknown): Uint8Array[] => [Buffer.from(JSON.stringify(value))];
    peer.handle(methods.pull, (payload) => {
      const { marks, limit } = JSON.parse(payload.toString()) as { marks: Vector; limit: number };
      const found = store.run(pull(marks, limit));
      return answer(this.#mutant.registry?.answer?.(found) ?? found);
    });
    peer.handle(methods.copy, () => {
      // All of it is of one moment.
      const marks = store.run(allMarks());
      const rows: unknown[] = [];
      let after: string | undefined;
      do {
        const page = store.run(copyPage(50, after));
        rows.push(...page.rows);
        after = page.next;
      } while (after !== undefined);
      return answer({ marks, rows: this.#mutant.registry?.copy?.(rows) ?? rows });
    });
  }

  async #pullAlways(io: Io): Promise<void> {
    const { chance } = this.#world;
    for (;;) {
      await pause(io, chance.between(5, 80));
      const other = chance.pick(this.#others);
      try {
        await this.#pullFrom(io, other);
      } catch (error) {
        // Another one has it, too, or the same a little later.
        if (!isDaybookError(error, 'PEER_UNREACHABLE', 'CLOSED')) this.#refused(error);
      }
    }
  }

  async #pullFrom(io: Io, other: RegistryMachine): Promise<void> {
    const { chance } = this.#world;
    const { store } = this.node;
    if (this.#mutant.registry?.restart !== undefined && chance.happens(0.2)) {
      this.#saved = new MemoryStore(store.entries());
    }
    const question = { marks: store.run(askingMarks()), limit: chance.pick([1, 5, 100]) };
    const answer = await ask<PullAnswer>(io, other.address, methods.pull, question);
    if (answer.type === 'records') {
      this.#receive(answer.records, other);
      // Delivered again, as after a lost acknowledgement.
      if (chance.happens(0.05)) {
        if (answer.records.length > 0) this.#world.happened('federation: a record arrives again');
        this.#receive(answer.records, other);
      }
      return;
    }
    const copy = await ask<{ marks: Vector; rows: never }>(io, other.address, methods.copy, {});
    while (!store.run(beginCopy(copy.marks, 50)));
    store.run(writeCopy(copy.rows));
    store.run(endCopy(this.node.nowMs));
    this.hasCopied = true;
    this.#counts.copies++;
    this.#world.happened('federation: a node copies another');
    this.#world.note(`${this.name} copies ${other.name}`);
  }

  #receive(records: readonly ChangeRecord[], other: RegistryMachine): void {
    const { taken } = this.node.store.run(receive(records, this.node.nowMs, other.node.id));
    if (taken === 0) return;
    this.#world.happened('federation: a change takes effect');
    this.#world.note(`${this.name} takes ${taken} records from ${other.name}`);
  }

  async #publishAlways(io: Io): Promise<void> {
    const { chance } = this.#world;
    while (this.#publishes) {
      await pause(io, chance.between(1, 60));
      if (!this.#publishes) return;
      try {
        this.#publish(chance);
      } catch (error) {
        this.#refused(error);
      }
    }
  }

  #publish(chance: Chance): void {
    const { node } = this;
    const anyName = (): string => chance.pick([this, ...this.#others]).name;
    const keyOf = (name: string): string =>
      `${nodeId(name).replace(/node$/, '')}k${chance.below(4)}`;
    const own = (): string => keyOf(chance.happens(0.8) ? this.name : anyName());
    const dice = chance.below(100);
    if (dice < 55) node.save(own(), chance.happens(0.6) ? [keyOf(anyName())] : []);
    else if (dice < 75) node.remove(own());
    else if (dice < 82) node.transfer(own(), nodeId(anyName()));
    else if (dice < 92) {
      const claim = `uddi:p${chance.below(3)}.example:keygenerator`;
      node.save(claim, [], { kind: 'tModel' });
    } else if (dice < 96) node.requestAcknowledgement();
    else node.compact();
  }

  /** Every refusal has a code of the federation; anything else is a bug. */
  #refused(error: unknown): void {
    if (!isDaybookError(error, 'REGISTRY_REFUSED')) throw error;
    this.#counts.refused++;
    this.#world.happened('federation: a change is refused');
  }
}

async function ask<T>(io: Io, address: string, method: number, question: object): Promise<T> {
  const peer = rpcPeer(await io.network.connect(address));
  const timer = io.timers.after(answerMs, () => peer.close());
  try {
    const payload = await peer.call(method, [Buffer.from(JSON.stringify(question))]);
    return JSON.parse(payload.toString()) as T;
  } catch (error) {
    if (error instanceof DaybookError) throw error;
    throw new DaybookError('INTERNAL', String(error), { cause: error });
  } finally {
    timer.cancel();
    peer.close();
  }
}

function strike(
  world: World,
  network: SimNetwork,
  machines: readonly RegistryMachine[],
  faults: { readonly on: boolean },
): void {
  const { chance } = world;
  world.after(undefined, chance.between(10_000, 200_000), 'nemesis', () => {
    if (!faults.on) return;
    const machine = chance.pick(machines);
    const other = chance.pick(machines);
    const link = network.link(machine.name, other.name);
    const dice = chance.below(5);
    if (dice === 0) machine.crash();
    else if (dice === 1) machine.pause(chance.between(10, 1_500));
    else if (dice === 2) {
      link.delayUs = chance.between(60, 30_000);
      link.resets = chance.pick([0, 0.05]);
    } else if (machine !== other) {
      const ms = chance.between(50, 1_500);
      world.note(`nothing passes from ${machine.name} to ${other.name} for ${ms} ms`);
      link.blockedUntilUs = world.nowUs + ms * 1000;
    }
    strike(world, network, machines, faults);
  });
}

/** Resolves when all nodes have the same, and nothing is under way between them. */
async function untilSame(world: World, nodes: readonly TestNode[]): Promise<void> {
  for (;;) {
    await world.sleep(undefined, 250_000);
    const marks = nodes.map((node) => JSON.stringify(node.store.run(allMarks())));
    if (new Set(marks).size > 1) continue;
    const open = nodes.some((node) => Object.keys(node.rowsOf('pending', 'waiting|')).length > 0);
    if (!open && new Set(nodes.map(contentOf)).size === 1) return;
  }
}

/** Without tombstones, which each node purges in its own time. */
function contentOf(node: TestNode): string {
  const rows = Object.entries(node.rowsOf(...sharedPrefixes, 'quarantine|'));
  return JSON.stringify(
    rows.filter(([, row]) => (row as { deletedMs?: number }).deletedMs === undefined),
  );
}

/**
 * @param excused - nodes that took a full copy. What they had changed before is done again on top,
 *   and may have no effect by then.
 * @returns how many of the node's own changes took effect.
 */
function checkRegistry(node: TestNode, excused: ReadonlySet<string>): number {
  const wrong = (what: string): never => {
    throw new SimulationFailure('correctness', `federation: ${node.id} ${what}`);
  };
  const dangling = node.dangling();
  if (dangling.length > 0) wrong(`refers to what is not there: ${dangling.join(' ')}`);
  const quarantined = Object.keys(node.rowsOf('quarantine|')).filter(
    (key) => !excused.has(key.split('|')[1] ?? ''),
  );
  if (quarantined.length > 0) wrong(`keeps in quarantine: ${quarantined.join(' ')}`);
  let committed = 0;
  for (const { key, published } of node.changes) {
    const outcome = node.outcome(published);
    if (outcome === 'failed') continue;
    if (outcome === 'refused-elsewhere' && excused.has(node.id)) continue;
    if (outcome !== 'committed') wrong(`left the change of ${key} ${outcome ?? 'unknown'}`);
    committed++;
    const stored = node.entity(key);
    if (stored === undefined && Object.keys(node.rowsOf(`key|${key}`)).length === 0) {
      wrong(`has lost ${key}, which was committed`);
    }
    const { origin, usn } = stored?.change ?? published.change;
    if (origin === node.id && usn < published.change.usn) wrong(`shows an old change of ${key}`);
  }
  return committed;
}
