import type { Cluster } from './cluster.ts';
import type { EtcdSide } from './etcd-side.ts';
import type { Repairs } from './repair.ts';
import { makesSomePlain } from './retention.ts';

/** What may break in a run; every seed switches some of it on. */
export interface Faults {
  readonly crashes: boolean;
  readonly power: boolean;
  readonly disks: boolean;
  readonly network: boolean;
  readonly pauses: boolean;
  readonly clocks: boolean;
  readonly sequencers: boolean;
  /** Of etcd's members; only where the log lies on etcd. */
  readonly etcd: boolean;
  /** New entries go to other units; only where the log lies on etcd. */
  readonly layouts: boolean;
}

/** Faults are so much rarer under full load. */
const loadGaps = 4;
const damageGapUsMax = 400_000;
const absenceGapUsMax = 400_000;
const rotGapUsMax = 200_000;

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
    const gapUsMax = chance.between(40_000, needed.length > 0 ? 200_000 : 400_000);
    // Under full load a crash costs the replay of a long log: there is work between two of them.
    this.#gapUsMax = cluster.workload.kind === 'load' ? gapUsMax * loadGaps : gapUsMax;
    const share = needed.length > 0 ? 0.3 : 0.6;
    const some = (name: keyof Faults): boolean => chance.happens(share) || needed.includes(name);
    this.#faults = {
      crashes: some('crashes'),
      power: some('power'),
      disks: some('disks'),
      network: some('network'),
      pauses: some('pauses'),
      clocks: some('clocks'),
      sequencers: some('sequencers'),
      etcd: some('etcd'),
      layouts: some('layouts'),
    };
  }

  start(): void {
    const on = Object.entries(this.#faults).filter(([, active]) => active);
    this.#cluster.world.note(`faults: ${on.map(([name]) => name).join(' ')}`);
    if (this.#faults.disks) this.#breakDisks();
    const { nodes, workload, world } = this.#cluster;
    if (this.#faults.sequencers && workload.kind === 'mixed' && world.chance.happens(0.2)) {
      for (const node of nodes) node.useSequencer(false);
    }
    const { repairs, retention } = this.#cluster;
    if (repairs !== undefined) this.#damage(repairs);
    if (makesSomePlain(retention)) this.#takeMakers(0);
    const { rot = 'none' } = retention?.chains ?? {};
    if (rot !== 'none') this.#rotChains();
    this.#next();
  }

  /** Mends all that is broken; what is dead starts again by itself. */
  heal(): void {
    this.#healed = true;
    const { network, logMachine, nodes, followers, sources, world } = this.#cluster;
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
    this.#cluster.etcd?.heal();
    logMachine.heal();
    for (const node of nodes) node.heal();
    for (const follower of followers) follower.heal();
    for (const reader of this.#cluster.readers) reader.heal();
    for (const source of sources) source.heal();
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
    const { world, logMachine, nodes, followers, sources, etcd } = this.#cluster;
    const { chance } = world;
    const node = chance.pick(nodes);
    const strikes: (() => void)[] = [];
    if (this.#faults.crashes) {
      strikes.push(
        () => node.crash(false),
        () => node.crash(false),
        () => node.crashContracts(),
        () => this.#loseToken('kill'),
      );
      if (followers.length > 0) strikes.push(() => chance.pick(followers).crash());
      if (sources.length > 0) strikes.push(() => chance.pick(sources).crash());
      const { blocks } = node;
      if (blocks !== undefined) strikes.push(() => blocks.kill());
      if (etcd === undefined) strikes.push(() => logMachine.crash(false));
    }
    if (this.#faults.power) {
      strikes.push(() => node.crash(true));
      if (etcd === undefined) strikes.push(() => logMachine.crash(true));
    }
    if (this.#faults.network)
      strikes.push(
        () => this.#partition(),
        () => this.#degrade(),
        () => this.#clog(),
        () => this.#loseToken('cut off'),
      );
    if (this.#faults.disks && etcd === undefined) strikes.push(() => logMachine.rot());
    if (this.#faults.pauses) strikes.push(() => this.#pause());
    if (this.#faults.clocks) strikes.push(() => this.#stepClock());
    if (this.#faults.sequencers) {
      const next = etcd === undefined ? () => logMachine.failOver() : () => node.handOver();
      const failOver = (): void => void next().catch((error: unknown) => world.fail(error));
      strikes.push(
        failOver,
        failOver,
        () => node.useSequencer(chance.happens(0.5)),
        () => {
          for (const one of nodes) one.useSequencer(false);
        },
      );
    }
    if (etcd !== undefined) strikes.push(...this.#etcdStrikes(etcd));
    strikes.push(...this.#absences());
    if (strikes.length > 0) chance.pick(strikes)();
  }

  /** Where the log is kept short: what only a snapshot helps against. */
  #absences(): (() => void)[] {
    const { world, nodes, retention } = this.#cluster;
    const last = nodes.at(-1);
    if (retention === undefined || last === undefined) return [];
    const strikes: (() => void)[] = [];
    if (this.#faults.network) {
      strikes.push(() => {
        const { name } = world.chance.pick(nodes);
        this.#cutOff(name, world.nowUs + world.chance.between(300_000, 2_500_000));
      });
    }
    if (this.#faults.crashes) {
      strikes.push(() => world.chance.pick(nodes).stayAway(world.chance.between(300, 1_500)));
    }
    // Only of one node: what it held must lie elsewhere.
    if (retention.losses === 'disk') strikes.push(() => last.loseDisk());
    if (retention.chains?.blackouts === true && this.#faults.power) {
      strikes.push(() => {
        world.note('all nodes lose power');
        world.happened('blocks: all nodes lose power at once');
        for (const node of nodes) node.crash(true);
      });
    }
    if (retention.losses === 'rot') strikes.push(() => last.rotSnapshot());
    return strikes;
  }

  /** Now and then whoever makes blocks is away, and who makes none goes on. */
  #takeMakers(awayMs: number): void {
    const { world, nodes } = this.#cluster;
    const us = awayMs * 1000 + world.chance.between(20_000, absenceGapUsMax);
    world.after(undefined, us, 'absence', () => {
      if (this.#healed) return;
      const ms = world.chance.between(300, 1_200);
      for (const node of nodes) if (node.blocks !== undefined) node.stayAway(ms);
      this.#takeMakers(ms);
    });
  }

  /** Where nodes compare: what goes wrong with the state of one of them, while the others are well. */
  #damage(repairs: Repairs): void {
    const { world, nodes } = this.#cluster;
    world.after(undefined, world.chance.between(20_000, damageGapUsMax), 'damage', () => {
      if (this.#healed) return;
      const { care } = world.chance.pick(nodes);
      const ailing = nodes.filter((node) => node.care?.isAiling === true).length;
      if (ailing <= (repairs.damage === 'many' ? 1 : 0)) {
        care?.strike().catch((error: unknown) => world.fail(error));
      }
      this.#damage(repairs);
    });
  }

  /** What was stored of the chains, on one node at a time. */
  #rotChains(): void {
    const { world, nodes } = this.#cluster;
    world.after(undefined, world.chance.between(20_000, rotGapUsMax), 'rot', () => {
      if (this.#healed) return;
      world.chance.pick(nodes).blocks?.rot.strike();
      this.#rotChains();
    });
  }

  #etcdStrikes(etcd: EtcdSide): (() => void)[] {
    const { world } = this.#cluster;
    const { chance } = world;
    const unit = chance.pick(etcd.clusters);
    const strikes: (() => void)[] = [];
    if (this.#faults.etcd) {
      strikes.push(
        () => unit.members.killOne(chance.between(100_000, 3_000_000)),
        () => unit.members.changeLeader(),
        () => unit.leases.expireOne(),
        () => unit.compact(),
        () => unit.members.leaveBehind(chance.between(50_000, 600_000), () => unit.compact()),
        () => {
          unit.members.faults.lostAnswers = chance.pick([0, 0.02, 0.2]);
          unit.members.faults.slow = chance.pick([0, 0.05, 0.3]);
          world.note(
            `${unit.members.name} loses ${unit.members.faults.lostAnswers} of its answers`,
          );
        },
      );
    }
    if (this.#faults.layouts) {
      strikes.push(() => void etcd.changeLayout().catch((error: unknown) => world.fail(error)));
    }
    return strikes;
  }

  #breakDisks(): void {
    const { world, logMachine, nodes, followers, sources } = this.#cluster;
    const { chance } = world;
    for (const { disk } of [logMachine, ...nodes]) {
      if (chance.happens(0.5)) disk.faults.slow = 0.02;
    }
    for (const { sink } of followers) sink.failures = chance.pick([0, 0.05, 0.2]);
    for (const { model } of sources) model.failures = chance.pick([0, 0.05, 0.2]);
    if (chance.happens(0.5)) logMachine.disk.faults.syncFails = 0.01;
    if (chance.happens(0.3)) {
      const full = (): void => {
        if (this.#healed) return;
        logMachine.disk.faults.bytesMax = 0;
        world.note('the log’s disk is full');
        world.after(undefined, chance.between(100_000, 900_000), 'room', () => {
          logMachine.disk.faults.bytesMax = Number.POSITIVE_INFINITY;
        });
      };
      world.after(undefined, chance.between(100_000, 2_000_000), 'full', full);
    }
  }

  #machineNames(): string[] {
    return [...this.#logNames(), ...this.#cluster.nodes.map(({ name }) => name)];
  }

  #machines(): { readonly from: string; readonly to: string } {
    const { chance } = this.#cluster.world;
    const names = this.#machineNames();
    const clients = this.#cluster.clients.map((_, number) => `client${number}`);
    const { followers, sdkClients, sources, readers } = this.#cluster;
    for (const { name } of [...followers, ...sdkClients, ...sources, ...readers]) {
      clients.push(name);
    }
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
    const both = world.chance.happens(0.3);
    if (both) network.link(to, from).blockedUntilUs = untilUs;
    world.happened(both ? 'network: a two-way partition' : 'network: a one-way partition');
  }

  /** The next who gets a token dies with it, or cannot write for a while: a hole, or a late write. */
  #loseToken(how: 'kill' | 'cut off'): void {
    const { world, network, nodes } = this.#cluster;
    this.#cluster.afterGrant = (requester) => {
      if (this.#healed) return;
      world.note(`${requester} gets a token: ${how}`);
      world.happened(
        how === 'kill'
          ? 'process: killed with a token in hand'
          : 'process: cut off with a token in hand',
      );
      if (how === 'kill') {
        nodes.find(({ name }) => name === requester)?.crash(false);
        return;
      }
      const untilUs = world.nowUs + world.chance.between(300_000, 1_500_000);
      for (const log of this.#logNames()) network.link(requester, log).blockedUntilUs = untilUs;
    };
  }

  #logNames(): string[] {
    return this.#cluster.etcd?.clusters.flatMap(({ machines }) => machines) ?? ['log'];
  }

  /** Nothing passes between a node and the log. */
  #cutOff(name: string, untilUs: number): void {
    const { world, network } = this.#cluster;
    world.note(`${name} is cut off for ${(untilUs - world.nowUs) / 1000} ms`);
    for (const log of this.#logNames()) {
      network.link(name, log).blockedUntilUs = untilUs;
      network.link(log, name).blockedUntilUs = untilUs;
    }
  }

  /** Everything that goes to one machine, or comes from it, waits for a moment, then comes at once. */
  #clog(): void {
    const { world, network, nodes } = this.#cluster;
    const { name } = world.chance.pick(nodes);
    const others = this.#machineNames().filter((other) => other !== name);
    const untilUs = world.nowUs + world.chance.between(20_000, 400_000);
    const inwards = world.chance.happens(0.5);
    world.happened('network: a machine is clogged');
    world.note(`${name} is clogged, ${inwards ? 'inwards' : 'outwards'}`);
    for (const other of others) {
      const link = inwards ? network.link(other, name) : network.link(name, other);
      link.blockedUntilUs = Math.max(link.blockedUntilUs, untilUs);
    }
  }

  #degrade(): void {
    const { world, network } = this.#cluster;
    const { from, to } = this.#machines();
    const link = network.link(from, to);
    link.delayUs = world.chance.between(60, 20_000);
    link.resets = world.chance.pick([0, 0.005, 0.05]);
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
    const { world, logMachine, nodes, config, clockStepMsMax } = this.#cluster;
    const { process } = world.chance.pick([logMachine, ...nodes]);
    if (process === undefined) return;
    const before = process.clockOffsetMs;
    process.clockOffsetMs = world.chance.between(-clockStepMsMax, clockStepMsMax);
    world.happened(process.clockOffsetMs > before ? 'clock: a step forward' : 'clock: a step back');
    if (process.clockOffsetMs > config.transactionLifetimeMs) {
      world.happened('clock: ahead by more than a transaction lives');
    }
    world.note(`the clock of ${process.name} is off by ${process.clockOffsetMs} ms`);
  }
}
