import { type Address, asAddress, nextAddress } from '../../model/index.ts';
import type { Keys } from './keys.ts';
import { firstOnUnit, lastSegment } from './layout.ts';
import type { Page, Unit } from './unit.ts';
import type { Units } from './units.ts';

const probeEntries = 256;

/**
 * Finds the tail: the address after the last entry on any unit of the last segment. Remembers how
 * far it got, as etcd would read all entries to find the last one.
 */
export class TailFinder {
  readonly #units: Units;
  #reached = 0;

  constructor(units: Units) {
    this.#units = units;
  }

  /** An entry stands at `address`: the tail is behind it. */
  learn(address: Address): void {
    if (address >= this.#reached) this.#reached = address + 1;
  }

  /** The tail is here or behind. */
  get reached(): number {
    return this.#reached;
  }

  /**
   * The tail of the layout in force; with `sealed`, of the layout as known, which is being replaced.
   */
  async find(sealed = false): Promise<Address> {
    for (;;) {
      const layout = this.#units.layout;
      const last = lastSegment(layout);
      const tails = await Promise.all(
        last.units.map((id) => this.#unitTail(this.#units.unit(id), last.from)),
      );
      // A unit that is sealed may have left the log: nothing but a newer layout would tell.
      const open = last.units.every((id) => this.#units.isOpen(this.#units.unit(id).knownFence));
      if (!sealed && !open) await this.#units.refresh();
      if (sealed || this.#units.layout === layout) {
        const tail = asAddress(Math.max(last.from, ...tails));
        this.#reached = Math.max(this.#reached, tail);
        return tail;
      }
    }
  }

  async #unitTail(unit: Unit, segmentFrom: Address): Promise<number> {
    // What others wrote at lower addresses since does not matter: something stands behind them.
    let from = Math.max(this.#reached, segmentFrom);
    let tail = 0;
    for (;;) {
      const page = await unit.page(asAddress(from), probeEntries, true);
      const found = lastAddress(this.#units.keys, page);
      tail = Math.max(tail, page.fence.trim);
      if (found !== undefined) tail = Math.max(tail, nextAddress(found));
      if (!page.more || found === undefined) return Math.max(tail, from);
      // There are at least so many addresses of this unit up to the last entry.
      from = Math.max(tail, this.#nthOnUnit(unit.id, asAddress(from), page.count - 1));
    }
  }

  #nthOnUnit(unit: string, from: Address, nth: number): number {
    const { layout } = this.#units;
    const first = firstOnUnit(layout, unit, from) ?? from;
    return first + nth * lastSegment(layout).units.length;
  }
}

/** The last address of a page, or `undefined` when it is empty. */
function lastAddress(keys: Keys, page: Page): Address | undefined {
  const kv = page.kvs[page.kvs.length - 1];
  return kv === undefined ? undefined : asAddress(keys.addressOf(kv.key));
}
