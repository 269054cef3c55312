import type { Cluster } from './cluster.ts';

/** What may break in a run; every seed switches some of it on. */
export interface Faults {
  readonly crashes: boolean;
  readonly power: boolean;
  readonly disks: boolean;
  readonly network: boolean;
  readonly pauses: boolean;
  readonly clocks: boolean;
  readonly sequencers: boolean;
}

/** Breaks things at random times until it is told to heal. */
export class Nemesis {
  readonly #cluster: Cluster;
  readonly #faults: Faults;
  readonly #gapUsMax: number;
  #healed = false;

  /** @param needed - faults that are on in any case, and come fast. */
  constructor(cluster: Cluster, needed: readonly (keyof Faults)[] = []) {
    this.#cluster = cluster;
    const { chance } = cluster.world;
    this.#gapUsMax = chance.between(60_000, needed.length > 0 ? 200_000 : 600_000);
    const some = (name: keyof Faults): boolean => chance.happens(0.6) || needed.includes(name);
    this.#faults = {
      crashes: some('crashes'),
      power: some('power'),
      disks: some('disks'),
      network: some('network'),
      pauses: some('pauses'),
      clocks: some('clocks'),
      sequencers: some('sequencers'),
    };
  }

  start(): void {
    const on = Object.entries(this.#faults).filter(([, active]) => active);
    this.#cluster.world.note(`faults: ${on.map(([name]) => name).join(' ')}`);
    if (this.#faults.disks) this.#breakDisks();
    this.#next();
  }

  /** Mends all that is broken; what is dead starts again by itself. */
  heal(): void {
    this.#healed = true;
    const { network, logMachine, nodes, world } = this.#cluster;
    world.note('everything heals');
    network.heal();
    for (const machine of [logMachine, ...nodes]) {
      const { faults } = machine.disk;
      faults.syncFails = 0;
      faults.slow = 0;
      faults.bytesMax = Number.POSITIVE_INFINITY;
      const { process } = machine;
      if (process !== undefined) {
        process.pausedUntilUs = 0;
        process.clockOffsetMs = 0;
      }
    }
    for (const node of nodes) node.useSequencer(true);
  }

  #next(): void {
    const { world } = this.#cluster;
    world.after(undefined, world.chance.between(5_000, this.#gapUsMax), 'nemesis', () => {
      if (this.#healed) return;
      this.#strike();
      this.#next();
    });
  }

  #strike(): void {
    const { world, logMachine, nodes } = this.#cluster;
    const { chance } = world;
    const node = chance.pick(nodes);
    const strikes: (() => void)[] = [];
    if (this.#faults.crashes) {
      strikes.push(
        () => node.crash(false),
        () => node.crash(false),
        () => node.crashContracts(),
        () => logMachine.crash(false),
      );
    }
    if (this.#faults.power) {
      strikes.push(
        () => node.crash(true),
        () => logMachine.crash(true),
      );
    }
    if (this.#faults.network)
      strikes.push(
        () => this.#partition(),
        () => this.#degrade(),
      );
    if (this.#faults.pauses) strikes.push(() => this.#pause());
    if (this.#faults.clocks) strikes.push(() => this.#stepClock());
    if (this.#faults.sequencers) {
      strikes.push(
        () => void logMachine.failOver().catch((error: unknown) => world.fail(error)),
        () => node.useSequencer(chance.happens(0.5)),
      );
    }
    if (strikes.length > 0) chance.pick(strikes)();
  }

  #breakDisks(): void {
    const { world, logMachine, nodes } = this.#cluster;
    const { chance } = world;
    for (const { disk } of [logMachine, ...nodes]) {
      if (chance.happens(0.5)) disk.faults.slow = 0.02;
    }
    if (chance.happens(0.5)) logMachine.disk.faults.syncFails = 0.002;
    if (chance.happens(0.3)) {
      const full = (): void => {
        if (this.#healed) return;
        logMachine.disk.faults.bytesMax = 0;
        world.note('the log’s disk is full');
        world.after(undefined, chance.between(100_000, 900_000), 'room', () => {
          logMachine.disk.faults.bytesMax = Number.POSITIVE_INFINITY;
        });
      };
      world.after(undefined, chance.between(500_000, 3_000_000), 'full', full);
    }
  }

  #machines(): { readonly from: string; readonly to: string } {
    const { chance } = this.#cluster.world;
    const names = ['log', ...this.#cluster.nodes.map(({ name }) => name)];
    const clients = this.#cluster.clients.map((_, number) => `client${number}`);
    const from = chance.pick([...names, ...clients]);
    const to = chance.pick(names);
    return chance.happens(0.5) ? { from, to } : { from: to, to: from };
  }

  /** One way; the other way may follow. */
  #partition(): void {
    const { world, network } = this.#cluster;
    const { from, to } = this.#machines();
    const untilUs = world.nowUs + world.chance.between(20_000, 3_000_000);
    world.note(`nothing passes from ${from} to ${to} for ${(untilUs - world.nowUs) / 1000} ms`);
    network.link(from, to).blockedUntilUs = untilUs;
    if (world.chance.happens(0.3)) network.link(to, from).blockedUntilUs = untilUs;
  }

  #degrade(): void {
    const { world, network } = this.#cluster;
    const { from, to } = this.#machines();
    const link = network.link(from, to);
    link.delayUs = world.chance.between(60, 20_000);
    link.resets = world.chance.happens(0.3) ? 0.002 : 0;
    world.note(`${from} to ${to} takes ${link.delayUs} µs`);
  }

  #pause(): void {
    const { world, logMachine, nodes } = this.#cluster;
    const { process } = world.chance.pick([logMachine, ...nodes]);
    if (process === undefined) return;
    const ms = world.chance.between(5, 2_500);
    process.pausedUntilUs = world.nowUs + ms * 1000;
    world.note(`${process.name} pauses for ${ms} ms`);
  }

  #stepClock(): void {
    const { world, logMachine, nodes } = this.#cluster;
    const { process } = world.chance.pick([logMachine, ...nodes]);
    if (process === undefined) return;
    process.clockOffsetMs = world.chance.between(-5_000, 5_000);
    world.note(`the clock of ${process.name} is off by ${process.clockOffsetMs} ms`);
  }
}
