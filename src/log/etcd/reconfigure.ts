import { assert, DaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import type { KnownFence } from './fence.ts';
import {
  encodeLayout,
  homeUnit,
  type Layout,
  type LayoutUnit,
  lastSegment,
  nextLayout,
} from './layout.ts';
import { carryRemembered } from './remembered.ts';
import type { TailFinder } from './tail.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

const settlePauseMs = 20;

/** Changes of epoch and layout: everything that seals units. */
export class Recovery {
  readonly #units: Units;
  readonly #tail: TailFinder;
  #settling: Promise<void> | undefined;

  constructor(units: Units, tail: TailFinder) {
    this.#units = units;
    this.#tail = tail;
  }

  /** See `SharedLog.seal`. */
  async seal(epoch: number): Promise<Address> {
    const by = this.#units.operation();
    const reign = { epoch, by, won: false };
    for (;;) {
      const layout = await this.#units.refresh();
      if (await this.#sealUnits(layout, reign)) {
        const tail = await this.#tail.find();
        if (this.#units.layout === layout) return tail;
      }
    }
  }

  /**
   * Lets new entries go to `wanted(…)` from the present tail on, while the log is in use. Those who
   * write meanwhile wait for a moment. Returns the layout then in force.
   */
  async reconfigure(wanted: (layout: Layout) => readonly LayoutUnit[]): Promise<Layout> {
    for (;;) {
      const layout = await this.#units.refresh();
      const units = wanted(layout);
      if (same(units, lastUnits(layout))) return layout;
      await this.#replace(layout, units);
    }
  }

  /**
   * Waits until `unit` lets entries in under the layout in force. A reconfiguration that somebody
   * left half done is completed, or undone when its outcome was not decided.
   */
  settle(unit: Unit): Promise<void> {
    this.#settling ??= this.#settle(unit).finally(() => {
      this.#settling = undefined;
    });
    return this.#settling;
  }

  async #settle(unit: Unit): Promise<void> {
    const { io, settings } = this.#units;
    const untilMs = io.clock.monotonicMs() + settings.reconfigureTimeoutMs;
    for (;;) {
      const layout = await this.#units.refresh();
      if (this.#units.isOpen(await unit.readFence())) return;
      if (!layout.units.some(({ id }) => id === unit.id)) return;
      if (io.clock.monotonicMs() >= untilMs) {
        await this.#replace(layout, lastUnits(layout));
        return;
      }
      await unit.client.sleep(settlePauseMs);
    }
  }

  /** Replaces exactly `layout`; returns quietly when another replaced it first. */
  async #replace(layout: Layout, units: readonly LayoutUnit[]): Promise<void> {
    const by = this.#units.operation();
    const home = this.#units.unit(homeUnit(layout));
    // Who is remembered meanwhile is there, and will be remembered anew.
    const nextHome = units[0]?.id ?? home.id;
    if (nextHome !== home.id) {
      await carryRemembered(home, this.#units.unit(nextHome), this.#units.keys);
    }
    const fences = await this.#sealLayout(layout, by);
    if (fences === undefined) {
      await this.#units.refresh();
      return;
    }
    const next = nextLayout(layout, {
      tail: await this.#tail.find(true),
      trim: asAddress(Math.max(...fences.map((fence) => fence.trim))),
      epoch: Math.max(...fences.map((fence) => fence.epoch)),
      units,
    });
    const decided = await home.decideLayout(next.generation, encodeLayout(next));
    // A unit that leaves gets a pointer, for those who know no other unit.
    await Promise.all(
      layout.units.map(({ id }) => this.#units.unit(id).decideLayout(next.generation, decided)),
    );
    await this.#units.refresh();
  }

  /** Stops all writes under `layout`; `undefined` when a unit is beyond it already. */
  async #sealLayout(layout: Layout, by: string): Promise<KnownFence[] | undefined> {
    const fences = await Promise.all(
      layout.units.map(({ id }) =>
        this.#units
          .unit(id)
          .changeFence(by, (fence) =>
            fence.generation > layout.generation || fence.sealed
              ? undefined
              : { ...fence, sealed: true },
          ),
      ),
    );
    // A layout that is known has been put in force everywhere before.
    assert(
      fences.every((fence) => fence.generation >= layout.generation),
      'a unit was sealed before its layout was in force',
    );
    const beyond = fences.some((fence) => fence.generation > layout.generation);
    return beyond ? undefined : fences;
  }

  /** Sets the epoch on every unit, home first, which decides between two with the same epoch. */
  async #sealUnits(
    layout: Layout,
    reign: { readonly epoch: number; readonly by: string; won: boolean },
  ): Promise<boolean> {
    const { epoch, by } = reign;
    for (const unit of this.#units.all) {
      const isHome = unit === this.#units.home;
      const fence = await unit.changeFence(by, (now) =>
        now.epoch >= epoch || now.sealed || now.generation !== layout.generation
          ? undefined
          : { ...now, epoch },
      );
      // Once won, others may rewrite the fence (with the same epoch) before we look again.
      if (isHome && fence.by === by) reign.won = true;
      const lost = isHome && !reign.won && fence.epoch === epoch;
      if (fence.epoch > epoch || lost) {
        throw new DaybookError('LOG_EPOCH_SEALED', `epoch ${epoch} is sealed already`, {
          details: { epoch: fence.epoch },
        });
      }
      if (fence.sealed || fence.generation !== layout.generation) {
        await this.settle(unit);
        return false;
      }
    }
    return true;
  }
}

/** The units that new entries go to. */
export function lastUnits(layout: Layout): LayoutUnit[] {
  const { units } = lastSegment(layout);
  return units.map((id) => layout.units.find((unit) => unit.id === id) as LayoutUnit);
}

function same(a: readonly LayoutUnit[], b: readonly LayoutUnit[]): boolean {
  const text = (units: readonly LayoutUnit[]): string => JSON.stringify(units);
  return text(a) === text(b);
}
