import { assert, type DaybookError, toDaybookError } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { SharedLog } from '../log/index.ts';
import type { Replica } from '../replica/index.ts';
import { groupSummary, type Sequencer } from '../sequencer/index.ts';
import { buildEntry, type EntryRecord } from './entry-builder.ts';
import type { Group, Groups } from './groups.ts';

/** What a {@link GroupWriter} works with. */
export interface GroupWriterOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  /** Name of the node, as it stands in its entries. */
  readonly name: string;
  readonly log: SharedLog;
  readonly sequencer: Sequencer;
  readonly replica: Replica;
  readonly groups: Groups;
  /** Called whenever the groups have been told something. */
  readonly onTold: () => void;
}

/** Of requests to the sequencer and of writes, between attempts. */
const backoffMsMin = 5;
const backoffMsMax = 200;

/** Gets tokens for groups and writes their entries, for as long as it takes. */
export class GroupWriter {
  readonly #options: GroupWriterOptions;
  #sequencerBackoffMs = backoffMsMin;
  #full: DaybookError | undefined;
  #ungranted: DaybookError | undefined;
  #stopped = false;

  constructor(options: GroupWriterOptions) {
    this.#options = options;
  }

  /** The log has no room at present. */
  get full(): DaybookError | undefined {
    return this.#full;
  }

  /** Why nothing leaves at present: the log has no room, or the sequencer cannot be asked. */
  get stuck(): DaybookError | undefined {
    return this.#full ?? this.#ungranted;
  }

  /** Nothing is tried again from now on. */
  stop(): void {
    this.#stopped = true;
  }

  /** Asks the sequencer once, and tells the groups what it said. */
  async request(group: Group): Promise<void> {
    const { groups, sequencer, replica, name, io, onTold } = this.#options;
    const records = group.executions.map((execution) => execution.summary);
    try {
      const grant = await sequencer.request(groupSummary(name, records));
      this.#sequencerBackoffMs = backoffMsMin;
      this.#ungranted = undefined;
      if (grant.next !== undefined) replica.expect(grant.next);
      groups.granted(group, grant);
    } catch (error) {
      const reason = toDaybookError(error);
      if (reason.retry === 'refresh') {
        this.#ungranted = undefined;
        groups.notGranted(group);
      } else {
        this.#ungranted = reason;
        const delayMs = this.#sequencerBackoffMs;
        this.#sequencerBackoffMs = Math.min(delayMs * 2, backoffMsMax);
        await pause(io, delayMs);
        if (this.#stopped) return;
        groups.postpone(group);
      }
    }
    onTold();
  }

  /** Writes a group's entry at its token until it is durable or the address is lost. */
  async write(group: Group, records: readonly EntryRecord[]): Promise<void> {
    const { log, io, name, groups, onTold } = this.#options;
    const { token } = group;
    assert(token !== undefined, 'a group is written at its token');
    const bytes = buildEntry(name, io.clock.nowMs(), records);
    let delayMs = backoffMsMin;
    for (let attempt = 1; !group.done && !this.#stopped; attempt++) {
      try {
        await log.write(token, bytes);
        groups.durable(group);
      } catch (error) {
        const { code, details } = toDaybookError(error);
        // This one is tried again until it gets in; what comes after it had better wait elsewhere.
        if (details.limit === 'logSpaceBytes') this.#full = toDaybookError(error);
        if (code === 'LOG_ADDRESS_TAKEN' || code === 'LOG_TRIMMED') {
          groups.lost(group);
        } else if (code === 'LOG_EPOCH_SEALED') {
          // An earlier attempt may have succeeded before the seal; closing the address tells.
          if (attempt === 1) groups.lost(group);
          else await log.fill(token.address).catch(() => undefined);
        }
        // Anything else leaves the fate open: the same bytes at the same address, until it is known.
        if (group.done) break;
        await pause(io, delayMs);
        delayMs = Math.min(delayMs * 2, backoffMsMax);
      }
    }
    this.#full = undefined;
    onTold();
  }
}
