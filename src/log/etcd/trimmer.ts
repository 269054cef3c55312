import { isDaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import type { LogRoom } from '../shared-log.ts';
import type { AlarmMember } from './etcd-api.ts';
import type { Gate } from './gate.ts';
import { isCompacted } from './grpc-errors.ts';
import type { Recovery } from './reconfigure.ts';
import { spaceUse } from './space.ts';
import type { TailFinder } from './tail.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/** Addresses deleted at a time, so that etcd does not stand still for long. */
const deleteAddresses = 4096;
const defragmentTimeoutMs = 60_000;
const statusTimeoutMs = 1000;
const attemptsMax = 3;
const compactionPauseMs = 200;
const compactionRoundsMax = 20;
/** Not longer: others may have filled the unit again, and the next trim would be late. */
const roomRoundsMax = 5;
const noSpace = 1;
/** A file that shrank by less was made anew in vain, which keeps members from their work: so it is not
 * tried again before so many times as long have passed. */
const gainRatioMin = 0.05;
const vainPauseRatio = 4;
/** A full unit's history is compacted when its use has grown by this share of what is left. */
const historyRatio = 1 / 8;
/** Share of the quota from which on a file with less than the other share in use is made anew. */
const fileHighRatio = 0.9;
const fileUsedRatio = 0.8;

/** Moves the trim point, and gives the space back. */
export class Trimmer {
  readonly #units: Units;
  readonly #tail: TailFinder;
  readonly #recovery: Recovery;
  readonly #gate: Gate;
  /** Under way. */
  #trims = 0;
  /** In use on a full unit when its history was compacted last. */
  readonly #compactedBytes = new Map<string, number>();
  /** When space is looked for again on a unit that had none to give. */
  readonly #notBeforeMs = new Map<string, number>();

  constructor(units: Units, tail: TailFinder, recovery: Recovery, gate: Gate) {
    this.#units = units;
    this.#tail = tail;
    this.#recovery = recovery;
    this.#gate = gate;
  }

  /**
   * See `SharedLog.trim`. The home unit comes first: its trim point is what the log says, and what must
   * be settled before another unit can be trimmed needs its space.
   */
  async trim(wanted: Address): Promise<void> {
    this.#trims++;
    try {
      await this.#trim(asAddress(Math.min(wanted, await this.#tail.find())));
    } finally {
      this.#trims--;
    }
  }

  async #trim(before: Address): Promise<void> {
    await this.#units.refresh();
    const [home, ...others] = this.#units.all;
    if (home !== undefined) await this.#trimUnit(home, before);
    const failures: unknown[] = [];
    for (const unit of others) {
      // One that cannot be trimmed now keeps no other from it.
      await this.#trimUnit(unit, before).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  /** See `SharedLog.reclaim`. */
  async reclaimFull(): Promise<LogRoom | undefined> {
    let least: LogRoom = 'enough';
    // Also the units of a layout that cannot be put in force for want of their space. One that does not
    // answer may have left the log, or is asked the next time.
    for (const unit of this.#units.connected) {
      const room = await this.#makeRoom(unit);
      if (room === undefined) return undefined;
      const isWorse = room === 'none' || least === 'enough';
      if (isWorse && this.#units.all.includes(unit)) least = room;
    }
    return least;
  }

  /** `undefined`: a trim is under way, and does it. */
  async #makeRoom(unit: Unit): Promise<LogRoom | undefined> {
    const isRaised = async (): Promise<boolean> =>
      (await this.#alarms(unit, statusTimeoutMs).catch(() => [])).length > 0;
    const wasRaised = await isRaised();
    if (this.#trims > 0) return undefined;
    if (wasRaised) {
      await this.#reclaimFull(unit);
      if (await isRaised()) return 'none';
    } else if (await this.#isFull(unit)) await this.#forgetHistory(unit);
    return (await this.#isFull(unit)) ? 'full' : 'enough';
  }

  async #isFull({ client }: Unit): Promise<boolean> {
    const { quotaBytes, spaceHighRatio } = this.#units.settings;
    const use = await spaceUse(client);
    return use !== undefined && use.usedBytes >= quotaBytes * spaceHighRatio;
  }

  /**
   * Registrations, reigns and looks at a full unit go on and leave old revisions behind: where nothing is
   * trimmed nobody else compacts them, and with time they would take what is left below the quota.
   */
  async #forgetHistory(unit: Unit): Promise<void> {
    const { quotaBytes, spaceHighRatio } = this.#units.settings;
    const used = async (): Promise<number> => (await spaceUse(unit.client))?.usedBytes ?? 0;
    const grewBytes = (await used()) - (this.#compactedBytes.get(unit.id) ?? 0);
    if (grewBytes < quotaBytes * (1 - spaceHighRatio) * historyRatio) return;
    await this.#compact(unit);
    await this.#untilCompacted(unit);
    // Pages are free with the second commit after they were given back.
    for (let commit = 0; commit < 2; commit++) {
      await unit.space.refresh();
      await unit.client.sleep(compactionPauseMs);
    }
    this.#compactedBytes.set(unit.id, await used());
  }

  async #reclaimFull(unit: Unit): Promise<void> {
    const { clock } = this.#units.io;
    const sinceMs = clock.monotonicMs();
    if (sinceMs < (this.#notBeforeMs.get(unit.id) ?? 0)) return;
    const before = (await spaceUse(unit.client))?.fileBytes ?? 0;
    await this.reclaim(unit);
    const after = (await spaceUse(unit.client))?.fileBytes ?? 0;
    if (before - after >= before * gainRatioMin) return;
    const nowMs = clock.monotonicMs();
    this.#notBeforeMs.set(unit.id, nowMs + vainPauseRatio * (nowMs - sinceMs));
  }

  /**
   * Makes a unit usable that has reached etcd's quota, and shrinks files that are mostly empty:
   * compacts, defragments one member after the other, lifts the alarm.
   *
   * @param shrink - defragment in any case.
   */
  async reclaim(unit: Unit, shrink = false): Promise<void> {
    const { client } = unit;
    await this.#compact(unit);
    if (shrink || (await this.#needsDefragmentation(unit))) {
      await this.#untilCompacted(unit);
      for (let member = 0; member < client.memberCount; member++) {
        // A member that is away does it when it is asked the next time.
        if ((await client.status(member, statusTimeoutMs)) === undefined) continue;
        const timeoutMs = defragmentTimeoutMs;
        await client
          .call('defragment', {}, { member, once: true, timeoutMs, attemptTimeoutMs: timeoutMs })
          .catch(() => undefined);
      }
    }
    for (const { memberID, alarm } of await this.#alarms(unit)) {
      await client.call('alarm', { action: 2, memberID, alarm });
    }
    await unit.space.refresh();
    // Members compact in their own time: writers may be let in again a little later.
    for (let round = 0; unit.space.isFull && round < roomRoundsMax; round++) {
      await client.sleep(compactionPauseMs);
      await unit.space.refresh();
    }
  }

  async #compact({ client }: Unit): Promise<void> {
    const answer = await client.call('range', { key: this.#units.keys.fence });
    await client
      .call('compact', { revision: answer.header.revision, physical: true })
      .catch((error: unknown) => {
        if (!isCompacted(error)) throw error;
      });
  }

  /** Each member compacts in its own time after the first one has answered; others write meanwhile. */
  async #untilCompacted(unit: Unit): Promise<void> {
    let last: readonly number[] = [];
    for (let round = 0; round < compactionRoundsMax; round++) {
      const statuses = await unit.client.statuses(statusTimeoutMs);
      const used = statuses.map((status) => Number(status?.dbSizeInUse ?? 0));
      if (used.every((bytes, member) => bytes >= (last[member] ?? Number.POSITIVE_INFINITY)))
        return;
      last = used;
      await unit.client.sleep(compactionPauseMs);
    }
  }

  async #trimUnit(unit: Unit, before: Address): Promise<void> {
    const old = await unit.readFence();
    const wasFull = await this.#moveTrimPoint(unit, before);
    await this.#forget(unit, old?.trim ?? asAddress(0), before);
    await this.reclaim(unit, wasFull);
  }

  /** True when the quota had been reached. */
  async #moveTrimPoint(unit: Unit, before: Address): Promise<boolean> {
    const by = this.#units.operation();
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#gate.open(unit);
        const fence = await unit.changeFence(by, (now) =>
          now.trim >= before || now.sealed ? undefined : { ...now, trim: before },
        );
        if (fence.trim >= before) return attempt > 1;
        await this.#recovery.settle(unit);
      } catch (error) {
        if (!isDaybookError(error, 'OVERLOADED') || attempt === attemptsMax) throw error;
        // A layout that is to be settled first may lack the space of another unit.
        if ((await this.#alarms(unit)).length === 0) throw error;
        await this.#gate.shut(unit, before);
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

  /** Alarms for want of space that are raised. */
  async #alarms(unit: Unit, timeoutMs?: number): Promise<readonly AlarmMember[]> {
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    const { alarms } = await unit.client.call('alarm', { action: 0 }, options);
    return alarms.filter(({ alarm }) => alarm === noSpace);
  }

  async #needsDefragmentation(unit: Unit): Promise<boolean> {
    const { quotaBytes } = this.#units.settings;
    if ((await this.#alarms(unit)).length > 0) return true;
    const use = await spaceUse(unit.client);
    if (use === undefined) return false;
    const { fileBytes, usedBytes } = use;
    return fileBytes >= quotaBytes * fileHighRatio && usedBytes < fileBytes * fileUsedRatio;
  }
}
