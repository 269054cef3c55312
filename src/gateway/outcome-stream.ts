import type { ServerResponse } from 'node:http';
import { ByteWriter, limits } from '../base/index.ts';
import type { Timer, Timers } from '../io/index.ts';
import { beginOutcomes, encodeOutcome, type Outcome, outcomeMediaType } from '../model/index.ts';

// One for all: it is only used within one turn of the event loop.
const scratch = new ByteWriter(64 * 1024);

/**
 * How long the first outcomes of a batch wait for company. Batches are mixed into entries, so under
 * load a few outcomes of each settle at a time, and a write for every few costs more than they do.
 */
const companyMs = 2;

/**
 * Answers one batch. Once everything has settled it leaves at the end of the turn of the event loop;
 * what settles earlier leaves a little later, together with what has settled by then. When all
 * settle together the whole answer is one piece with a length.
 */
export class OutcomeStream {
  readonly #response: ServerResponse;
  readonly #timers: Timers;
  readonly #onEnd: () => void;
  #indexes: number[] = [];
  #outcomes: Outcome[] = [];
  #timer: Timer | undefined;
  #missing: number;
  #begun = false;
  #gone = false;

  /**
   * @param onEnd - called once, when the outcome of every one of the `count` transactions is known,
   *   whether or not the client is still there.
   */
  constructor(response: ServerResponse, count: number, timers: Timers, onEnd: () => void) {
    this.#response = response;
    this.#missing = count;
    this.#timers = timers;
    this.#onEnd = onEnd;
    response.on('close', () => {
      this.#gone = true;
    });
  }

  /** Takes the outcome of transaction `index`. */
  settle(index: number, outcome: Outcome): void {
    this.#missing--;
    if (this.#missing === 0) this.#onEnd();
    if (this.#gone) return;
    this.#indexes.push(index);
    this.#outcomes.push(outcome);
    if (this.#missing === 0) {
      this.#timer?.cancel();
      this.#timers.soon(() => this.#flush());
    } else {
      this.#timer ??= this.#timers.after(companyMs, () => this.#flush());
    }
  }

  #flush(): void {
    this.#timer = undefined;
    if (this.#gone) return;
    const bytes = this.#encode();
    const response = this.#response;
    if (!this.#begun) {
      const headers: Record<string, string | number> = { 'content-type': outcomeMediaType };
      if (this.#missing === 0) headers['content-length'] = bytes.length;
      response.writeHead(200, headers);
    }
    this.#begun = true;
    if (this.#missing === 0) response.end(bytes);
    else {
      response.write(bytes);
      // The client may ask again with the same bytes; to wait for it here would cost memory.
      if (response.writableLength > limits.gatewayUnreadBytesMax) response.destroy();
    }
  }

  #encode(): Buffer {
    scratch.reset();
    if (!this.#begun) beginOutcomes(scratch);
    for (let at = 0; at < this.#indexes.length; at++) {
      encodeOutcome(scratch, this.#indexes[at] as number, this.#outcomes[at] as Outcome);
    }
    this.#indexes = [];
    this.#outcomes = [];
    return scratch.finish();
  }
}
