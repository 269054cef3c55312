import { limits, toDaybookError } from '../base/index.ts';
import type { SharedLog } from '../log/index.ts';
import {
  type Address,
  addressOf,
  decodeEntry,
  decodeRecord,
  indexOf,
  type Outcome,
  type Position,
  type RecordsEntry,
} from '../model/index.ts';
import { unknownOutcome } from './executor-errors.ts';

interface Asked {
  readonly txId: Uint8Array;
  readonly position: Position;
  readonly onOutcome: (outcome: Outcome) => void;
}

/**
 * Gives the outcomes of transactions that were committed before, out of the log. A batch that comes
 * again asks for hundreds that stand in few entries: each entry is read once for all who ask, and
 * few at a time, or the answers would break the connection to the log (`sendBufferBytesMax`).
 */
export class OriginalOutcomes {
  readonly #log: Pick<SharedLog, 'read'>;
  /** Those who wait, by entry, in the order of asking. */
  readonly #asked = new Map<Address, Asked[]>();
  readonly #queue: Address[] = [];
  #reading = 0;
  #waiting = 0;

  constructor(log: Pick<SharedLog, 'read'>) {
    this.#log = log;
  }

  /** Transactions whose outcomes were asked for and not given yet. */
  get waiting(): number {
    return this.#waiting;
  }

  /** @param position - where the transaction took effect. */
  ask(txId: Uint8Array, position: Position, onOutcome: (outcome: Outcome) => void): void {
    this.#waiting++;
    const address = addressOf(position);
    const asked = this.#asked.get(address);
    if (asked !== undefined) {
      asked.push({ txId, position, onOutcome });
      return;
    }
    this.#asked.set(address, [{ txId, position, onOutcome }]);
    this.#queue.push(address);
    this.#next();
  }

  #next(): void {
    while (this.#reading < limits.originalReadsMax) {
      const address = this.#queue.shift();
      if (address === undefined) return;
      this.#reading++;
      this.#log.read(address).then(
        ({ bytes }) => this.#answer(address, outcomesOf(bytes)),
        (error: unknown) => {
          // It did take effect; only its result is gone with the log's old part.
          const isTrimmed = toDaybookError(error).code === 'LOG_TRIMMED';
          this.#answer(address, ({ txId, position }) =>
            isTrimmed
              ? { status: 'committed', position, result: '' }
              : { status: 'rejected', error: unknownOutcome(txId).toJSON() },
          );
        },
      );
    }
  }

  #answer(address: Address, outcomeOf: (asked: Asked) => Outcome): void {
    const all = this.#asked.get(address) ?? [];
    this.#asked.delete(address);
    this.#reading--;
    this.#waiting -= all.length;
    for (const asked of all) asked.onOutcome(outcomeOf(asked));
    this.#next();
  }
}

function outcomesOf(bytes: Uint8Array): (asked: Asked) => Outcome {
  const records = new Map(
    (decodeEntry(bytes) as RecordsEntry).records.map((record) => [record.index, record]),
  );
  return ({ position }) => {
    const stored = records.get(indexOf(position));
    const result = stored === undefined ? '' : decodeRecord(stored.bytes).result;
    return { status: 'committed', position, result };
  };
}
