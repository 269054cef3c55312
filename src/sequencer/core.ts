import { assert, type Bytestring, limits } from '../base/index.ts';
import type { Token } from '../log/index.ts';
import { type Address, nextAddress, type Position, positionOf } from '../model/index.ts';
import { DecodedGroup, type DecodedRecord } from './decoded-group.ts';
import { Reservations } from './reservations.ts';
import type { Grant, GroupSummary } from './sequencer.ts';
import { Window } from './window.ts';

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
  readonly #group = new DecodedGroup();
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

  /**
   * Judges a group; grants one token when at least one record passes.
   *
   * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`
   */
  request(request: GroupSummary): Grant | Refusal {
    const { requester } = request;
    const group = this.#group;
    const start = positionOf(this.#next, 0);
    group.read(request, start);
    for (const { snapshot } of group.records) {
      if (snapshot < this.#start) return 'SEQUENCER_NOT_READY';
      if (snapshot < this.#window.floor) return 'SNAPSHOT_TOO_OLD';
    }
    this.#reservations.begin();
    this.#window.begin(start);
    const conflicts = new Array<Bytestring | undefined>(request.count);
    let passed = 0;
    for (let index = 0; index < request.count; index++) {
      const record = group.records[index] as DecodedRecord;
      const conflict =
        this.#reservations.conflict(requester, group, record) ?? this.#window.judge(group, index);
      if (record.urgent) {
        if (conflict === undefined) this.#reservations.passed(requester);
        else this.#reservations.refused(requester, group, record);
      }
      conflicts[index] = conflict;
      if (conflict === undefined) passed++;
    }
    this.#reservations.finish();
    this.#window.finish();
    if (passed === 0) return { token: undefined, conflicts, next: this.#next };
    return { token: this.grant(), conflicts };
  }

  /** Grants an address for an entry that holds no records: a tick, a configuration. */
  grant(): Token {
    const address = this.#next;
    this.#next = nextAddress(address);
    assert(this.#next > address, 'addresses ascend');
    return { epoch: this.epoch, address };
  }
}
