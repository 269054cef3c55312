import { type Address, asAddress } from '../../model/index.ts';
import { encodeFence, type Fence, type KnownFence } from './fence.ts';
import { lastOnUnit } from './layout.ts';
import type { Recovery } from './reconfigure.ts';
import { absent, present, rangeAt, unchangedSince } from './txn.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/** The gate, with what stands on the unit at the same revision. */
interface GateState {
  readonly open: boolean;
  /** The first entry. */
  readonly first: Address | undefined;
  readonly fence: KnownFence;
}

/** Entries looked at for one that is there. */
const candidatesMax = 64;

/**
 * Trimming a unit that has no space left, not even for the fence with the new trim point. Deleting
 * needs none, but entries must not vanish while others may write: somebody would fill their places,
 * and those who have not read them yet would take the fills for what stood there. So the gate, a key
 * without which nothing is put, is deleted together with the entries, in one range. When there is
 * space again, whoever comes first opens it and moves the trim point to the first entry left.
 */
export class Gate {
  readonly #units: Units;
  readonly #recovery: Recovery;

  constructor(units: Units, recovery: Recovery) {
    this.#units = units;
    this.#recovery = recovery;
  }

  async isOpen(unit: Unit): Promise<boolean> {
    return (await this.#look(unit)).open;
  }

  /**
   * Shuts the gate and deletes what may go: the unit's entries before `before`, but for the last,
   * which marks the place. Does nothing when there are none.
   */
  async shut(unit: Unit, before: Address): Promise<void> {
    const { fence } = await this.#look(unit);
    const { keys, layout } = this.#units;
    let mark = lastOnUnit(layout, unit.id, before);
    for (let tries = 0; mark !== undefined && mark > fence.trim; tries++) {
      if ((await unit.get(mark)).kv !== undefined) {
        await unit.deleteRange(keys.gate, keys.entry(mark));
        await unit.deleteRange(keys.part(asAddress(0)), keys.part(mark));
        return;
      }
      // A hole, which nobody fills any more. Many of them would be strange.
      if (tries === candidatesMax) return;
      mark = lastOnUnit(layout, unit.id, mark);
    }
  }

  /**
   * Lets entries in again, if the gate is shut.
   *
   * @throws {DaybookError} `OVERLOADED` while there is no space.
   */
  async open(unit: Unit): Promise<void> {
    for (;;) {
      const seen = await this.#look(unit);
      if (seen.open) return;
      if (!this.#units.isOpen(seen.fence)) {
        await this.#recovery.settle(unit);
        continue;
      }
      const { layout } = this.#units;
      const { log, epoch, generation, sealed } = seen.fence;
      // What lies between the unit's address before its first entry and that one lies elsewhere.
      const gone = seen.first === undefined ? -1 : (lastOnUnit(layout, unit.id, seen.first) ?? -1);
      const trim = asAddress(Math.max(seen.fence.trim, gone + 1));
      const by = this.#units.operation();
      await this.#reopen(unit, seen, { log, epoch, trim, generation, sealed, by });
    }
  }

  async #look(unit: Unit): Promise<GateState> {
    const { keys } = this.#units;
    const from = keys.entry(asAddress(0));
    const answer = await unit.client.call('txn', {
      compare: [],
      success: [
        { request_range: { key: keys.gate } },
        { request_range: { key: from, range_end: keys.entriesEnd, limit: 1, keys_only: true } },
        { request_range: { key: keys.fence } },
      ],
    });
    const first = rangeAt(answer, 1).kvs[0];
    return {
      open: rangeAt(answer, 0).kvs.length > 0,
      first: first === undefined ? undefined : keys.addressOf(first.key),
      fence: unit.fenceIn(rangeAt(answer, 2)),
    };
  }

  /** Does nothing when anything is not as in `seen` any more. */
  async #reopen(unit: Unit, seen: GateState, fence: Fence): Promise<void> {
    const { keys } = this.#units;
    const first = seen.first === undefined ? [] : [present(keys.entry(seen.first))];
    await unit.client.call('txn', {
      compare: [absent(keys.gate), unchangedSince(seen.fence.revision, keys.fence), ...first],
      success: [
        { request_put: { key: keys.fence, value: encodeFence(fence) } },
        { request_put: { key: keys.gate, value: Buffer.alloc(0) } },
      ],
    });
  }
}
