import { type Bytestring, limits } from '../base/index.ts';
import type { RecordSummary } from './sequencer.ts';

/** A reservation that nobody uses ends after so many requests. */
const requestsMax = 64;

/**
 * Fairness between executors. An executor sees its own writes in flight, another one has to wait
 * until they are applied; so whoever has a hot key could keep it for as long as its clients like. An
 * *urgent* record (it lost several times) that loses once more gets its keys reserved: records of
 * other executors that touch them are refused until one of its executor's has passed.
 *
 * All keys of a record or none, so two executors never wait for each other. Ends by itself when
 * its executor does not come back.
 */
export class Reservations {
  readonly #keys = new Map<Bytestring, { readonly requester: string; readonly until: number }>();
  #requests = 0;

  /** Another request begins. */
  tick(): void {
    this.#requests++;
  }

  /** The key of a record that is reserved for somebody else. */
  conflict(requester: string, record: RecordSummary): Bytestring | undefined {
    if (this.#keys.size === 0) return undefined;
    for (const key of keysOf(record)) {
      const reservation = this.#keys.get(key);
      if (reservation === undefined || reservation.requester === requester) continue;
      if (reservation.until >= this.#requests) return key;
      this.#keys.delete(key);
    }
    return undefined;
  }

  reserve(requester: string, record: RecordSummary): void {
    if (this.#keys.size >= limits.sequencerReservationsMax) this.#expire();
    if (this.#keys.size >= limits.sequencerReservationsMax) return;
    if (this.conflict(requester, record) !== undefined) return;
    const until = this.#requests + requestsMax;
    for (const key of keysOf(record)) this.#keys.set(key, { requester, until });
  }

  /** A record has what it wanted. */
  passed(requester: string, record: RecordSummary): void {
    if (this.#keys.size === 0) return;
    for (const key of keysOf(record)) {
      if (this.#keys.get(key)?.requester === requester) this.#keys.delete(key);
    }
  }

  #expire(): void {
    for (const [key, { until }] of this.#keys) if (until < this.#requests) this.#keys.delete(key);
  }
}

function* keysOf(record: RecordSummary): Generator<Bytestring> {
  for (const { key } of record.reads) yield key;
  yield* record.writes;
}
