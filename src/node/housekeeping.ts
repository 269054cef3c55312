import { isDaybookError } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import { type Address, asAddress, type LogRetention } from '../model/index.ts';
import { neededFrom } from '../replication/index.ts';
import type { Makers } from './makers.ts';
import { awayOf, type Member, makersIn, trimPoint } from './members.ts';
import type { ChainFiles } from './node-blocks.ts';
import { remoteOrders } from './private-service.ts';
import type { SnapshotFiles } from './snapshots.ts';

/** Settings of {@link Housekeeping}. */
export interface HousekeepingOptions {
  readonly io: Pick<Io, 'network' | 'timers'>;
  readonly log: Pick<SharedLog, 'start' | 'trim'>;
  /** Name of the node. */
  readonly name: string;
  readonly snapshots: SnapshotFiles;
  /** Pause between two rounds. */
  readonly everyMs: number;
  /** Entries that a new node rather replays than fetches a snapshot. */
  readonly joinReplayEntriesMax: number;
  /** As the log says; `undefined`: the log is kept whole. */
  readonly retention: () => LogRetention | undefined;
  /** The first address that the node has not applied. */
  readonly nextAddress: () => Address;
  /**
   * Writes what is applied to a file, durably.
   *
   * @returns the first address that is not in it.
   */
  readonly writeSnapshot: (path: string) => Promise<Address>;
  /**
   * Makes the node's blocks durable, if they reach `wanted`. Without it the node makes none.
   *
   * @returns see `BlockGenerator.savedTo`.
   */
  readonly saveBlocks?: (wanted: Address) => Promise<Address>;
  /** See `NodeBlocks.files`. */
  readonly chainFiles?: () => ChainFiles;
  /** What the node tells the others now. */
  readonly info: () => Member;
  readonly tell: (info: Member) => Promise<void>;
  /** The nodes with what they told last. */
  readonly members: () => readonly Member[];
  readonly makers: Makers;
  /** Another node looks after the trim point. */
  readonly leavesTrimming: () => boolean;
  readonly onEvent: (text: string) => void;
}

/**
 * What keeps the log short: every now and then the node writes a snapshot, if the log has grown, tells
 * the others what it holds, and trims what enough nodes hold, unless that is another node's part.
 */
export class Housekeeping {
  readonly #options: HousekeepingOptions;
  readonly #closing = new AbortController();
  #waitsFor: readonly string[] = [];
  /** What blocks are saved to, as they said since they were opened. */
  #saved: Address = asAddress(0);
  /** Why blocks could not be saved in the last round. */
  #unsaved: string | undefined;
  #running: Promise<void> = Promise.resolve();
  #taking: Promise<void> | undefined;

  constructor(options: HousekeepingOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  /**
   * Everything before this address is here to stay, in a snapshot and in blocks: a node that lost its
   * state goes on from here with both. Nothing is, as long as nobody has looked whether the blocks are whole.
   */
  get held(): Address {
    const { snapshots, saveBlocks } = this.#options;
    if (saveBlocks === undefined) return snapshots.held;
    return this.#files === 'whole' ? snapshots.heldBy(this.#saved) : asAddress(0);
  }

  get #files(): ChainFiles {
    return this.#options.chainFiles?.() ?? 'whole';
  }

  /** See `TrimPoint.waitsFor`; empty while another node trims. */
  get waitsFor(): readonly string[] {
    return this.#waitsFor;
  }

  /** See `NodeOrders.offerSnapshot`. */
  async offer(): Promise<Address> {
    const { snapshots, joinReplayEntriesMax, nextAddress, retention } = this.#options;
    const keeps = retention()?.entries ?? joinReplayEntriesMax;
    const due = Math.min(joinReplayEntriesMax, keeps) / 2;
    if (nextAddress() - snapshots.newest >= Math.max(1, due)) await this.#take();
    return snapshots.newest;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { io, everyMs, onEvent } = this.#options;
    const { signal } = this.#closing;
    for (;;) {
      await pause(io, everyMs, { signal });
      if (signal.aborted) return;
      try {
        await this.#once();
      } catch (error) {
        onEvent(`snapshot or trim failed: ${String(error)}`);
      }
    }
  }

  async #once(): Promise<void> {
    const { name, snapshots, nextAddress, info, tell, members } = this.#options;
    const retention = this.#options.retention();
    const next = nextAddress();
    const due = Math.max(1, (retention?.entries ?? Number.POSITIVE_INFINITY) / 2);
    if (next - snapshots.newest >= due) await this.#take();
    await this.#saveBlocks();
    if (retention === undefined) return;
    const own = info();
    const known = members().find((member) => member.name === name);
    const changed =
      known?.held !== own.held ||
      known?.snapshot !== own.snapshot ||
      neededFrom(known?.followers ?? []) !== neededFrom(own.followers ?? []);
    if (changed) {
      await tell(own).catch((error: unknown) => {
        // A log without room takes no news either, and now the trim is wanted most.
        if (!isDaybookError(error, 'OVERLOADED')) throw error;
      });
    }
    if (this.#options.leavesTrimming()) this.#waitsFor = [];
    else await this.#trim(retention, next);
  }

  async #trim(retention: LogRetention, tail: Address): Promise<void> {
    const { log, makers } = this.#options;
    const members = await this.#membersNow();
    const known = await makers.names();
    await this.#remember(members, known);
    const start = await log.start();
    const { before, waitsFor } = trimPoint(members, known, retention, { start, tail });
    this.#tellWaiting(waitsFor);
    if (before <= start) return;
    await log.trim(asAddress(before));
    // These hold what those hold that are away, so it is for these that the log waits from now on.
    if (makersIn(members).length < retention.holders) return;
    for (const name of awayOf(known, members)) await makers.forget(name);
  }

  /** Nodes of older versions do not do it themselves. */
  async #remember(members: readonly Member[], known: readonly string[]): Promise<void> {
    for (const { name, id } of makersIn(members)) {
      if (known.includes(name)) continue;
      await this.#options.makers.remember({ name, id }).catch((error: unknown) => {
        // It counts without that while it is there; and now the trim is wanted most.
        if (!isDaybookError(error, 'OVERLOADED')) throw error;
      });
    }
  }

  #tellWaiting(names: readonly string[]): void {
    if (names.join() === this.#waitsFor.join()) return;
    this.#waitsFor = names;
    this.#options.onEvent(
      names.length === 0
        ? 'the log waits for no node any more'
        : `the log is not trimmed: it waits for ${names.join(', ')}, which made blocks and are away or make none any more; forget those that will not come back (daybook node forget)`,
    );
  }

  async #saveBlocks(): Promise<void> {
    const { snapshots, saveBlocks } = this.#options;
    if (saveBlocks === undefined) return;
    // What was noted before is for this node alone: it begins there if it loses its state.
    if (this.#files === 'lacking') this.#saved = asAddress(0);
    const wanted = snapshots.next ?? snapshots.held;
    if (this.#files === 'lacking' || this.#saved >= wanted) return;
    try {
      this.#saved = await saveBlocks(wanted);
      await snapshots.cover(this.#saved);
      this.#tellUnsaved(undefined);
    } catch (error) {
      // What was saved before stays.
      if (!isDaybookError(error)) throw error;
      const { code, message } = error;
      const isOpening = code === 'PROOF_NOT_READY' || code === 'NOT_FOUND';
      this.#tellUnsaved(isOpening ? undefined : message);
    }
  }

  /** Once for each reason: the log grows until they can be saved. */
  #tellUnsaved(reason: string | undefined): void {
    if (reason !== undefined && reason !== this.#unsaved) {
      this.#options.onEvent(`blocks cannot be saved, so the log is kept for them: ${reason}`);
    }
    this.#unsaved = reason;
  }

  /** Those who want one at the same time get the same. */
  #take(): Promise<void> {
    const { snapshots, writeSnapshot } = this.#options;
    const take = async (): Promise<void> => {
      const path = `${snapshots.path(0)}.writing`;
      await snapshots.add(path, await writeSnapshot(path));
    };
    this.#taking ??= take().finally(() => {
      this.#taking = undefined;
    });
    return this.#taking;
  }

  /** The members with what they hold: as they say now, or last said. */
  #membersNow(): Promise<Member[]> {
    const { io, name, members } = this.#options;
    return Promise.all(
      members().map(async (member) => {
        if (member.name === name) return { ...member, held: this.held };
        try {
          return { ...member, held: await remoteOrders(io, member.address).held() };
        } catch {
          return member;
        }
      }),
    );
  }
}
