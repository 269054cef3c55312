import { checkLimit, DaybookError, isDaybookError, limits } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import type { Token, WriteOptions } from '../shared-log.ts';
import type { KnownFence } from './fence.ts';
import type { Gate } from './gate.ts';
import { readStored, trimmed } from './reader.ts';
import type { Recovery } from './reconfigure.ts';
import {
  encodeSplitHead,
  encodeStored,
  partIdCharacters,
  type StoredEntry,
} from './stored-entry.ts';
import type { TailFinder } from './tail.ts';
import type { Unit } from './unit.ts';
import type { Units } from './units.ts';

/** An entry on its way; remembers where its parts were put, over all attempts. */
interface Job {
  readonly address: Address;
  /** `undefined` for a fill, which takes the epoch in force. */
  readonly epoch: number | undefined;
  readonly bytes: Uint8Array;
  /** Not refused for want of space while etcd itself takes it. */
  readonly makesRoom: boolean;
  partsId?: string;
  partsOn?: Unit;
}

const nothing = new Uint8Array(0);

/** Writes and fills: the write rule, repeated until its outcome is known. */
export class Writer {
  readonly #units: Units;
  readonly #tail: TailFinder;
  readonly #recovery: Recovery;
  readonly #gate: Gate;
  #inFlight = 0;

  constructor(units: Units, tail: TailFinder, recovery: Recovery, gate: Gate) {
    this.#units = units;
    this.#tail = tail;
    this.#recovery = recovery;
    this.#gate = gate;
  }

  /** See `SharedLog.write`. */
  async write(token: Token, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
    checkLimit('entryBytesMax', bytes.length);
    if (bytes.length === 0) throw new DaybookError('INVALID_ARGUMENT', 'an entry has no bytes');
    if (this.#inFlight >= limits.logWritesInFlightMax) {
      throw new DaybookError('OVERLOADED', 'too many writes in flight', {
        details: { limit: 'logWritesInFlightMax' },
      });
    }
    this.#inFlight++;
    try {
      const { makesRoom = false } = options;
      await this.#put({ address: token.address, epoch: token.epoch, bytes, makesRoom });
    } finally {
      this.#inFlight--;
    }
  }

  /** See `SharedLog.fill`. */
  async fill(address: Address): Promise<void> {
    try {
      await this.#put({ address, epoch: undefined, bytes: nothing, makesRoom: true });
    } catch (error) {
      if (!isDaybookError(error, 'LOG_TRIMMED')) throw error;
    }
  }

  async #put(job: Job): Promise<void> {
    const { clock } = this.#units.io;
    const deadlineMs = clock.monotonicMs() + this.#units.settings.callTimeoutMs;
    while (!(await this.#attempt(job))) {
      if (clock.monotonicMs() >= deadlineMs) {
        throw new DaybookError('TIMEOUT', `could not write ${job.address} in time`);
      }
    }
    this.#tail.learn(job.address);
  }

  /** False when layout or fence were not as known: they are known better now. */
  async #attempt(job: Job): Promise<boolean> {
    const { address } = job;
    const unit = this.#units.holder(address);
    if (unit === undefined) throw trimmed(address);
    const fence = unit.knownFence ?? (await unit.readFence());
    if (fence !== undefined && address < fence.trim) throw trimmed(address);
    if (!this.#units.isOpen(fence)) {
      await this.#recovery.settle(unit);
      return false;
    }
    if (job.epoch !== undefined && job.epoch < fence.epoch) return this.#sealed(job, unit, fence);
    const epoch = job.epoch ?? fence.epoch;
    const value = await this.#value(job, epoch, unit, fence);
    if (value === undefined) return false;
    const outcome = await unit.put(address, value, fence, job.makesRoom);
    if (outcome.written) return true;
    const now = unit.knownFence;
    if (now !== undefined && address < now.trim) throw trimmed(address);
    if (outcome.existing === undefined) {
      if (outcome.shut) await this.#gate.open(unit);
      return false;
    }
    if (job.epoch === undefined) return true;
    const stored = await readStored(this.#units, unit, address);
    await this.#dropParts(job, unit, stored);
    if (stored !== undefined && sameBytes(stored, job)) return true;
    throw taken(address);
  }

  /** The value to put at the address, its parts put before it; `undefined` to try anew. */
  async #value(
    job: Job,
    epoch: number,
    unit: Unit,
    fence: KnownFence,
  ): Promise<Buffer | undefined> {
    const { address, bytes } = job;
    if (bytes.length <= limits.logPartBytesMax) {
      return encodeStored(address, job.epoch === undefined ? 'fill' : 'data', epoch, bytes);
    }
    const id = this.#partsId(job);
    const parts = Math.ceil(bytes.length / limits.logPartBytesMax);
    if (job.partsOn !== unit) {
      for (let index = 0; index < parts; index++) {
        const from = index * limits.logPartBytesMax;
        const part = Buffer.from(bytes.subarray(from, from + limits.logPartBytesMax));
        const key = this.#units.keys.part(address, id, index);
        if (!(await unit.putPart(key, part, fence))) return undefined;
      }
      job.partsOn = unit;
    }
    return encodeSplitHead(address, epoch, bytes, { parts, id });
  }

  #partsId(job: Job): string {
    job.partsId ??= this.#units.io.random.bytes(partIdCharacters / 2).toString('hex');
    return job.partsId;
  }

  /** An epoch has ended, but the entry may have been written before that and the answer lost. */
  async #sealed(job: Job, unit: Unit, fence: KnownFence): Promise<boolean> {
    const stored = await readStored(this.#units, unit, job.address);
    await this.#dropParts(job, unit, stored);
    if (stored !== undefined && sameBytes(stored, job)) return true;
    if (stored !== undefined) throw taken(job.address);
    throw new DaybookError('LOG_EPOCH_SEALED', `epoch ${job.epoch} is sealed`, {
      details: { epoch: fence.epoch, address: job.address },
    });
  }

  /** Parts without a head are garbage; those that are left behind go when their address is trimmed. */
  async #dropParts(job: Job, unit: Unit, stored: StoredWithBytes | undefined): Promise<void> {
    if (job.partsOn !== unit || job.partsId === undefined) return;
    if (stored?.stored.split?.id === job.partsId) return;
    const { keys } = this.#units;
    const from = keys.part(job.address, job.partsId);
    await unit.deleteRange(from, keys.part(job.address, `${job.partsId}0`)).catch(() => undefined);
  }
}

interface StoredWithBytes {
  readonly stored: StoredEntry;
  readonly bytes: Uint8Array;
}

function sameBytes(found: StoredWithBytes, job: Job): boolean {
  return found.stored.kind !== 'fill' && Buffer.compare(found.bytes, job.bytes) === 0;
}

function taken(address: Address): DaybookError {
  return new DaybookError('LOG_ADDRESS_TAKEN', `address ${address} is taken`, {
    details: { address },
  });
}
