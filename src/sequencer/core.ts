import { assert, type Bytestring, checkLimit, limits } from '../base/index.ts';
import type { Token } from '../log/index.ts';
import { type Address, nextAddress, type Position, positionOf } from '../model/index.ts';
import { Reservations } from './reservations.ts';
import type { Grant, RecordSummary } from './sequencer.ts';
import { GroupJudge, Window } from './window.ts';

/** Why a request is not judged at all. */
export type Refusal = 'SNAPSHOT_TOO_OLD' | 'SEQUENCER_NOT_READY';

/** Settings of a reign. */
export interface SequencerSettings {
  readonly epoch: number;
  /** The log's tail when it was sealed for this epoch: the first address to grant. */
  readonly start: Address;
  readonly windowKeysMax?: number;
  readonly windowRangesMax?: number;
}

/**
 * The sequencer as a state machine without I/O: one reign, its next address and its window.
 * A reign begins knowing nothing of earlier writes, so it refuses executors that have not applied
 * everything before its start (`SEQUENCER_NOT_READY`).
 */
export class SequencerCore {
  readonly epoch: number;
  readonly #start: Position;
  readonly #window: Window;
  readonly #reservations = new Reservations();
  #next: Address;

  constructor(settings: SequencerSettings) {
    this.epoch = settings.epoch;
    this.#next = settings.start;
    this.#start = positionOf(settings.start, 0);
    this.#window = new Window(
      this.#start,
      settings.windowKeysMax ?? limits.sequencerWindowKeysMax,
      settings.windowRangesMax ?? limits.sequencerWindowRangesMax,
    );
  }

  /** The address that the next token will name. */
  get next(): Address {
    return this.#next;
  }

  /** Keys in the window. */
  get windowKeys(): number {
    return this.#window.size;
  }

  /** Judges a group; grants one token when at least one record passes. */
  request(requester: string, records: readonly RecordSummary[]): Grant | Refusal {
    checkLimit('recordsPerEntryMax', records.length);
    for (const { snapshot } of records) {
      if (snapshot < this.#start) return 'SEQUENCER_NOT_READY';
      if (snapshot < this.#window.floor) return 'SNAPSHOT_TOO_OLD';
    }
    this.#reservations.begin();
    const judge = new GroupJudge(this.#window);
    const conflicts: (Bytestring | undefined)[] = [];
    let passed = 0;
    for (let index = 0; index < records.length; index++) {
      const record = records[index] as RecordSummary;
      const conflict = this.#reservations.conflict(requester, record) ?? judge.judge(index, record);
      if (record.urgent) {
        if (conflict === undefined) this.#reservations.passed(requester);
        else this.#reservations.refused(requester, record);
      }
      conflicts.push(conflict);
      if (conflict === undefined) passed++;
    }
    this.#reservations.finish();
    if (passed === 0) return { token: undefined, conflicts, next: this.#next };
    const { address, epoch } = this.grant();
    for (const [key, index] of judge.writes) this.#window.note(key, positionOf(address, index));
    for (const range of judge.writtenRanges) {
      this.#window.noteRange(range, positionOf(address, range.index));
    }
    return { token: { epoch, address }, conflicts };
  }

  /** Grants an address for an entry that holds no records: a tick, a configuration. */
  grant(): Token {
    const address = this.#next;
    this.#next = nextAddress(address);
    assert(this.#next > address, 'addresses ascend');
    return { epoch: this.epoch, address };
  }
}
