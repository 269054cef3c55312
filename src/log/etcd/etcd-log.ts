import { DaybookError } from '../../base/index.ts';
import { type Address, asAddress } from '../../model/index.ts';
import type { LogEntry, LogRoom, SharedLog, Token, WriteOptions } from '../shared-log.ts';
import { Follower } from './follower.ts';
import { Gate } from './gate.ts';
import { spaceExhausted } from './grpc-errors.ts';
import { type Layout, lastSegment } from './layout.ts';
import { type EtcdLogOptions, type UnitOptions, withDefaults } from './options.ts';
import { logEntry, readStored, trimmed } from './reader.ts';
import { Recovery } from './reconfigure.ts';
import type { SpaceUse } from './space.ts';
import { spaceUse } from './space.ts';
import { TailFinder } from './tail.ts';
import { Trimmer } from './trimmer.ts';
import type { EtcdIo } from './unit-client.ts';
import { Units } from './units.ts';
import { Writer } from './writer.ts';

/** In less time a unit whose member died, or does not answer, goes on with another. */
const awayMs = 5_000;

/** The shared log over one or more etcd clusters; see this folder's README. */
export class EtcdLog implements SharedLog {
  /** For the log's own neighbours in this folder: leadership, registry. */
  readonly units: Units;
  readonly #tail: TailFinder;
  readonly #recovery: Recovery;
  readonly #gate: Gate;
  readonly #writer: Writer;
  readonly #trimmer: Trimmer;
  readonly #closing = new AbortController();

  /** See `openEtcdLog`. */
  static async open(io: EtcdIo, options: EtcdLogOptions): Promise<EtcdLog> {
    const units = new Units(io, withDefaults(options));
    try {
      await units.open();
    } catch (error) {
      units.close();
      throw error;
    }
    return new EtcdLog(units);
  }

  private constructor(units: Units) {
    this.units = units;
    this.#tail = new TailFinder(units);
    this.#recovery = new Recovery(units, this.#tail);
    this.#gate = new Gate(units, this.#recovery);
    this.#writer = new Writer(units, this.#tail, this.#recovery, this.#gate);
    this.#trimmer = new Trimmer(units, this.#tail, this.#recovery, this.#gate);
  }

  async tail(): Promise<Address> {
    this.#checkOpen();
    return this.#tail.find();
  }

  async write(token: Token, bytes: Uint8Array, options?: WriteOptions): Promise<void> {
    this.#checkOpen();
    await this.#writer.write(token, bytes, options);
  }

  async read(address: Address): Promise<LogEntry> {
    this.#checkOpen();
    for (;;) {
      const { layout } = this.units;
      const unit = this.units.holder(address);
      if (unit === undefined) throw trimmed(address);
      const found = await readStored(this.units, unit, address);
      if (found !== undefined) return logEntry(found);
      // Another layout may have put the address elsewhere.
      if (!this.units.isOpen(unit.knownFence)) await this.#recovery.settle(unit);
      if (this.units.layout !== layout) continue;
      // It may have been deleted for want of space, before it is known to be trimmed.
      if (!(await this.#gate.isOpen(unit))) throw spaceExhausted();
      throw new DaybookError('LOG_NOT_WRITTEN', `nothing is written at ${address}`, {
        details: { address },
      });
    }
  }

  async *follow(from: Address, signal?: AbortSignal): AsyncGenerator<readonly LogEntry[]> {
    this.#checkOpen();
    const follower = new Follower(this.units, this.#tail, from);
    const ends = signal ?? new AbortController().signal;
    for await (const entries of follower.entries(ends)) {
      yield entries;
      if (!ends.aborted) this.#checkOpen();
    }
  }

  async fill(address: Address): Promise<void> {
    this.#checkOpen();
    await this.#writer.fill(address);
  }

  async trim(before: Address): Promise<void> {
    this.#checkOpen();
    await this.#trimmer.trim(before);
  }

  /** See `SharedLog.reclaim`. */
  async reclaim(): Promise<LogRoom | undefined> {
    this.#checkOpen();
    return this.#trimmer.reclaimFull();
  }

  async seal(epoch: number): Promise<Address> {
    this.#checkOpen();
    return this.#recovery.seal(epoch);
  }

  async epoch(): Promise<number> {
    this.#checkOpen();
    await this.units.refresh();
    return (await this.units.home.readFence())?.epoch ?? 0;
  }

  async start(): Promise<Address> {
    this.#checkOpen();
    await this.units.refresh();
    return (await this.units.home.readFence())?.trim ?? asAddress(0);
  }

  /** The layout in force. */
  async layout(): Promise<Layout> {
    this.#checkOpen();
    return this.units.refresh();
  }

  /**
   * From now on puts new entries on `units`, which may be other units than before, or the same ones
   * with other members. The log stays in use; a unit that leaves is needed until the addresses on
   * it are trimmed. Keep the first unit where it is when you can: leadership lives there.
   *
   * @throws {DaybookError} `TIMEOUT` when a unit of the present layout has no majority.
   */
  async setUnits(units: readonly UnitOptions[]): Promise<Layout> {
    this.#checkOpen();
    const described = await this.units.describe(units);
    return this.#recovery.reconfigure(() => described);
  }

  /** Bytes in use on the fullest member of every unit; `undefined` for a unit that is away. */
  async space(): Promise<readonly (SpaceUse | undefined)[]> {
    this.#checkOpen();
    return Promise.all(this.units.all.map((unit) => spaceUse(unit.client)));
  }

  /**
   * The units for new entries that have not answered this process for longer than another member of
   * etcd takes to lead: most of their members are down, or out of reach. Each as its endpoints.
   */
  unitsAway(): readonly string[] {
    return lastSegment(this.units.layout)
      .units.map((id) => this.units.unit(id).client)
      .filter((client) => client.silentMs >= awayMs)
      .map((client) => client.endpoints.join());
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.units.close();
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted) throw new DaybookError('CLOSED', 'the log is closed');
  }
}
