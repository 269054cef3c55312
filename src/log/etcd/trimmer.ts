import { isDaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import { isCompacted } from './grpc-errors.ts';
import type { Recovery } from './reconfigure.ts';
import { spaceUse } from './space.ts';
import type { TailFinder } from './tail.ts';
import { absent, type Unit } from './unit.ts';
import type { Units } from './units.ts';

/** Addresses deleted at a time, so that etcd does not stand still for long. */
const deleteAddresses = 4096;
const defragmentTimeoutMs = 60_000;
const ballastBytes = 256 * 1024;
const attemptsMax = 3;
const compactionPauseMs = 200;
const compactionRoundsMax = 20;
const noSpace = 1;

/** Moves the trim point, and gives the space back. */
export class Trimmer {
  readonly #units: Units;
  readonly #tail: TailFinder;
  readonly #recovery: Recovery;

  constructor(units: Units, tail: TailFinder, recovery: Recovery) {
    this.#units = units;
    this.#tail = tail;
    this.#recovery = recovery;
  }

  /** See `SharedLog.trim`. */
  async trim(wanted: Address): Promise<void> {
    const before = asAddress(Math.min(wanted, await this.#tail.find()));
    await this.#units.refresh();
    for (const unit of this.#units.all) {
      const old = await unit.readFence();
      const wasFull = await this.#moveTrimPoint(unit, before);
      await this.#forget(unit, old?.trim ?? asAddress(0), before);
      await this.reclaim(unit, wasFull);
      await this.#layBallast(unit);
    }
  }

  /**
   * Makes a unit usable that has reached etcd's quota, and shrinks files that are mostly empty:
   * compacts, defragments one member after the other, lifts the alarm.
   *
   * @param shrink - defragment in any case.
   */
  async reclaim(unit: Unit, shrink = false): Promise<void> {
    const { client } = unit;
    const { keys } = this.#units;
    const answer = await client.call('range', { key: keys.fence });
    await client
      .call('compact', { revision: answer.header.revision, physical: true })
      .catch((error: unknown) => {
        if (!isCompacted(error)) throw error;
      });
    if (shrink || (await this.#needsDefragmentation(unit))) {
      await this.#untilCompacted(unit);
      for (let member = 0; member < client.memberCount; member++) {
        // A member that is away does it when it is asked the next time.
        await client
          .call('defragment', {}, { member, timeoutMs: 100, attemptTimeoutMs: defragmentTimeoutMs })
          .catch(() => undefined);
      }
    }
    const { alarms } = await client.call('alarm', { action: 0 });
    for (const { memberID, alarm } of alarms) {
      if (alarm === noSpace) await client.call('alarm', { action: 2, memberID, alarm });
    }
    await unit.space.refresh();
    // Members compact in their own time: writers may be let in again a little later.
    for (let round = 0; unit.space.isFull && round < compactionRoundsMax; round++) {
      await client.sleep(compactionPauseMs);
      await unit.space.refresh();
    }
  }

  /** Each member compacts in its own time after the first one has answered. */
  async #untilCompacted(unit: Unit): Promise<void> {
    let last = '';
    for (let round = 0; round < compactionRoundsMax; round++) {
      const statuses = await unit.client.statuses(1000);
      const sizes = statuses.map((status) => status?.dbSizeInUse).join();
      if (sizes === last) return;
      last = sizes;
      await unit.client.sleep(compactionPauseMs);
    }
  }

  /** True when the quota had been reached. */
  async #moveTrimPoint(unit: Unit, before: Address): Promise<boolean> {
    const by = this.#units.operation();
    for (let attempt = 1; ; attempt++) {
      try {
        const fence = await unit.changeFence(by, (now) =>
          now.trim >= before || now.sealed ? undefined : { ...now, trim: before },
        );
        if (fence.trim >= before) return attempt > 1;
        await this.#recovery.settle(unit);
      } catch (error) {
        if (!isDaybookError(error, 'OVERLOADED') || attempt === attemptsMax) throw error;
        // Deleting needs no space, and the ballast is there to be deleted.
        await unit.client.call('deleteRange', { key: this.#units.keys.ballast });
        await this.reclaim(unit, true);
      }
    }
  }

  async #forget(unit: Unit, old: Address, before: Address): Promise<void> {
    const { keys } = this.#units;
    await unit.deleteRange(keys.part(asAddress(0)), keys.part(before));
    // From 0 and not from `old`: an earlier trim may have died before it had deleted all.
    for (let from = 0; from < before; ) {
      const to = Math.min(Math.max(from, old) + deleteAddresses, before);
      await unit.deleteRange(keys.entry(asAddress(from)), keys.entry(asAddress(to)));
      from = to;
    }
  }

  async #layBallast(unit: Unit): Promise<void> {
    const key = this.#units.keys.ballast;
    const value = Buffer.alloc(ballastBytes);
    await unit.client
      .call('txn', { compare: [absent(key)], success: [{ request_put: { key, value } }] })
      .catch((error: unknown) => {
        if (!isDaybookError(error, 'OVERLOADED')) throw error;
      });
  }

  async #needsDefragmentation(unit: Unit): Promise<boolean> {
    const { quotaBytes, spaceHighRatio } = this.#units.settings;
    const { alarms } = await unit.client.call('alarm', { action: 0 });
    const use = await spaceUse(unit.client);
    if (alarms.some(({ alarm }) => alarm === noSpace)) return true;
    if (use === undefined) return false;
    return use.fileBytes >= quotaBytes * spaceHighRatio && use.usedBytes < use.fileBytes / 2;
  }
}
