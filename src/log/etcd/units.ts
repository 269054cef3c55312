import { DaybookError, isDaybookError } from '../../base/index.ts';
import { asAddress } from '../../model/index.ts';
import type { KnownFence } from './fence.ts';
import { type Keys, keysOf } from './keys.ts';
import {
  decodeLayout,
  encodeLayout,
  foundingLayout,
  homeUnit,
  type Layout,
  type LayoutUnit,
  unitOf,
} from './layout.ts';
import type { Settings, UnitOptions } from './options.ts';
import { SpaceWatch } from './space.ts';
import { Unit } from './unit.ts';
import { type EtcdIo, UnitClient } from './unit-client.ts';

/** So long the other units may take to tell of a newer layout. */
const seedPauseMs = 500;

/**
 * The log's units and the layout in force, as far as this process knows. A layout is decided on the
 * home unit of the one before it, then copied to every unit concerned; whoever finds it decided but
 * not yet in force on a unit puts it in force there, before using it himself: so every unit of
 * {@link Units.layout} has a fence.
 */
export class Units {
  readonly io: EtcdIo;
  readonly settings: Settings;
  readonly keys: Keys;
  /** Marks what this process wrote. */
  readonly #name: string;
  readonly #units = new Map<string, Unit>();
  #layout: Layout | undefined;
  #refreshing: Promise<Layout> | undefined;
  /** How many nodes are registered, as last seen. */
  nodes = 0;
  #operations = 0;
  #closed = false;

  constructor(io: EtcdIo, settings: Settings) {
    this.io = io;
    this.settings = settings;
    this.keys = keysOf(settings.prefix);
    this.#name = io.random.bytes(9).toString('hex');
  }

  /** The newest layout that this process has seen in force. */
  get layout(): Layout {
    if (this.#layout === undefined) throw new DaybookError('INTERNAL', 'the log is not open');
    return this.#layout;
  }

  /** The unit that decides the next layout. */
  get home(): Unit {
    return this.unit(homeUnit(this.layout));
  }

  /** Every unit of the layout, home first. */
  get all(): readonly Unit[] {
    const home = this.home;
    const others = this.layout.units.filter((unit) => unit.id !== home.id);
    return [home, ...others.map((unit) => this.unit(unit.id))];
  }

  /** Every unit that this process has a connection to: those that left the log, or are to join it, too. */
  get connected(): readonly Unit[] {
    return [...this.#units.values()];
  }

  /** The unit that holds an address; `undefined` when all units of its time are gone. */
  holder(address: number): Unit | undefined {
    const id = unitOf(this.layout, asAddress(address));
    return id === undefined ? undefined : this.unit(id);
  }

  /** A unit of the layout by its id. */
  unit(id: string): Unit {
    const unit = this.#units.get(id);
    if (unit === undefined) throw new DaybookError('INTERNAL', `unknown log unit ${id}`);
    return unit;
  }

  /** A name that no other operation of any process has. */
  operation(): string {
    this.#operations++;
    return `${this.#name}-${this.#operations}`;
  }

  /**
   * Finds the log, or founds it when none of the given units has one.
   *
   * @throws {DaybookError} `TIMEOUT` when a unit cannot be reached, `CONFIG_INVALID`; `NOT_FOUND` when it
   *   would have to be founded, and must not be.
   */
  async open(): Promise<void> {
    const known = await this.#newestKnown();
    if (known === undefined && this.settings.mustExist) throw noLog(this.settings);
    const newest = known ?? (await this.#found());
    await this.#enter(newest);
    await this.refresh();
    for (const unit of this.#units.values()) void unit.client.preferLeader();
  }

  /** Looks for newer layouts and puts the newest in force; callers at the same time share one. */
  refresh(): Promise<Layout> {
    this.#refreshing ??= this.#refresh().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  /**
   * The newest layout that the given units know. One that does not answer is waited for only while
   * no other knows a layout: it may have left the log.
   */
  async #newestKnown(): Promise<Layout | undefined> {
    let newest: Layout | undefined;
    const asked = this.settings.units.map(async (options) => {
      const seed = await this.#connect(options);
      const values = await seed.layoutsFrom(1);
      const value = values[values.length - 1];
      if (value === undefined) return;
      const layout = decodeLayout(value);
      if (newest !== undefined && layout.log !== newest.log) throw foreign(options);
      if (newest === undefined || layout.generation > newest.generation) newest = layout;
    });
    await new Promise<void>((resolve, reject) => {
      for (const answer of asked) {
        answer.then(() => {
          if (newest !== undefined) this.io.timers.after(seedPauseMs, resolve);
        }, reject);
      }
      Promise.allSettled(asked).then(() => resolve(), reject);
    }).catch(async (error: unknown) => {
      await Promise.allSettled(asked);
      if (newest === undefined || isDaybookError(error, 'CONFIG_INVALID')) throw error;
    });
    return newest;
  }

  async #found(): Promise<Layout> {
    let units: LayoutUnit[];
    try {
      units = await this.describe(this.settings.units);
    } catch (error) {
      // Somebody else has founded it meanwhile.
      const newest = await this.#newestKnown();
      if (newest === undefined) throw error;
      return newest;
    }
    const layout = encodeLayout(foundingLayout(this.operation(), units));
    return decodeLayout(await this.unit(units[0]?.id ?? '').decideLayout(1, layout));
  }

  /** A connection to a cluster, known by its cluster id from then on. */
  async #connect(options: UnitOptions): Promise<Unit> {
    const client = new UnitClient(this.io, this.settings, options.endpoints);
    try {
      const answer = await client.call('range', { key: this.keys.fence });
      return this.#add(answer.header.cluster_id, client);
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** Connects to clusters that are to become units; returns them as a layout names them. */
  async describe(options: readonly UnitOptions[]): Promise<LayoutUnit[]> {
    const described: LayoutUnit[] = [];
    for (const { endpoints } of options) {
      const unit = await this.#connect({ endpoints });
      if (described.some((other) => other.id === unit.id)) {
        throw new DaybookError('CONFIG_INVALID', `${endpoints.join()} is named twice`);
      }
      const fence = await unit.readFence();
      if (fence !== undefined && fence.log !== this.#layout?.log) throw foreign({ endpoints });
      described.push({ id: unit.id, endpoints });
    }
    return described;
  }

  /**
   * Puts a decided layout in force on its units. May be done by several at a time, and again.
   * Safe because a layout is decided only while every unit of the one before is sealed.
   */
  async #activate(layout: Layout): Promise<void> {
    const value = encodeLayout(layout);
    const by = this.operation();
    await Promise.all(
      layout.units.map(async ({ id }) => {
        const unit = this.unit(id);
        // Looked at first: a unit that is full refuses even what would change nothing.
        const known = unit.knownFence ?? (await unit.readFence());
        if (known !== undefined && known.generation >= layout.generation) return;
        const { log, generation, epoch, trim } = layout;
        await unit.decideLayout(generation, value);
        await unit.createFence({ log, generation, epoch, trim, sealed: false, by });
        await unit.changeFence(by, (fence) =>
          fence.generation >= generation
            ? undefined
            : {
                log,
                generation,
                epoch: Math.max(fence.epoch, epoch),
                trim: asAddress(Math.max(fence.trim, trim)),
                sealed: false,
              },
        );
      }),
    );
  }

  /** True when `fence` belongs to the layout in force and lets entries in. */
  isOpen(fence: KnownFence | undefined): fence is KnownFence {
    return fence !== undefined && fence.generation === this.layout.generation && !fence.sealed;
  }

  close(): void {
    this.#closed = true;
    for (const unit of this.#units.values()) unit.close();
  }

  async #refresh(): Promise<Layout> {
    for (;;) {
      const values = await this.home.layoutsFrom(this.layout.generation + 1);
      const value = values[values.length - 1];
      if (value === undefined) break;
      await this.#enter(decodeLayout(value));
    }
    return this.layout;
  }

  /** Known only when it is in force: until then a unit that joins looks like one without its data. */
  async #enter(layout: Layout): Promise<void> {
    for (const { id, endpoints } of layout.units) {
      const unit = this.#units.get(id);
      if (unit === undefined) this.#add(id, new UnitClient(this.io, this.settings, endpoints));
      else if (unit.client.endpoints.join() !== endpoints.join()) {
        unit.client.setEndpoints(endpoints);
      }
    }
    await this.#activate(layout);
    this.#layout = layout;
  }

  #add(id: string, client: UnitClient): Unit {
    if (this.#closed) {
      client.close();
      throw new DaybookError('CLOSED', 'the log is closed');
    }
    const present = this.#units.get(id);
    if (present !== undefined) {
      client.close();
      return present;
    }
    const { quotaBytes, spaceHighRatio } = this.settings;
    const space = new SpaceWatch(this.io, client, {
      quotaBytes,
      highBytes: quotaBytes * spaceHighRatio,
      nodes: () => this.nodes,
      nudge: this.keys.nudge,
    });
    const unit = new Unit(id, client, this.keys, space);
    this.#units.set(id, unit);
    return unit;
  }
}

function noLog({ units, prefix }: Settings): DaybookError {
  const where = units.map(({ endpoints }) => endpoints.join()).join(';');
  const name = prefix.replace(/\/$/, '');
  return new DaybookError('NOT_FOUND', `no log named ${name} on etcd at ${where}`, {
    details: { prefix },
  });
}

function foreign({ endpoints }: UnitOptions): DaybookError {
  const where = endpoints.join();
  return new DaybookError('CONFIG_INVALID', `${where} holds another log under this prefix`);
}
