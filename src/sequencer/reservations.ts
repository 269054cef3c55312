import { type Bytestring, limits } from '../base/index.ts';
import type { DecodedGroup, DecodedRecord } from './decoded-group.ts';

/** A reservation that is not used ends after so many requests. */
const requestsMax = 16;

/**
 * Fairness between executors. An executor sees its own writes in flight, another one has to wait
 * until they are applied; so whoever has a hot key could keep it for as long as its clients like. An
 * *urgent* record (it lost several times) that loses once more gets its keys reserved: records of
 * other executors that touch them are refused until a group of its executor has passed.
 *
 * One executor at a time has a reservation, for all its urgent records: two that each held a part
 * of what the other needs would wait for each other. It ends by itself when its executor does not
 * come back.
 */
export class Reservations {
  #holder: string | undefined;
  readonly #keys = new Set<Bytestring>();
  /** Number of the request at which the reservation ends. */
  #until = 0;
  #requests = 0;
  #used = false;

  /** A request begins. */
  begin(): void {
    this.#requests++;
    this.#used = false;
    if (this.#holder !== undefined && this.#requests > this.#until) this.#end();
  }

  /** The key of a record that is reserved for somebody else. */
  conflict(requester: string, group: DecodedGroup, record: DecodedRecord): Bytestring | undefined {
    if (this.#holder === undefined || this.#holder === requester) return undefined;
    return keysOf(group, record).find((key) => this.#keys.has(key));
  }

  /** An urgent record was refused. */
  refused(requester: string, group: DecodedGroup, record: DecodedRecord): void {
    if (this.#holder === undefined) {
      this.#holder = requester;
      this.#until = this.#requests + requestsMax;
    }
    if (this.#holder !== requester) return;
    if (this.#keys.size >= limits.sequencerReservationsMax) return;
    for (const key of keysOf(group, record)) this.#keys.add(key);
  }

  /** An urgent record passed. */
  passed(requester: string): void {
    if (this.#holder === requester) this.#used = true;
  }

  /** The request is answered: a reservation that served its purpose makes room for the next. */
  finish(): void {
    if (this.#used) this.#end();
  }

  #end(): void {
    this.#holder = undefined;
    this.#keys.clear();
  }
}

function keysOf(group: DecodedGroup, record: DecodedRecord): readonly Bytestring[] {
  const { readsFrom, readsTo, writesFrom, writesTo } = record;
  return [...group.rowKeys.slice(readsFrom, readsTo), ...group.writes.slice(writesFrom, writesTo)];
}
