import { limits } from '../../base/index.ts';
import type { TxnRequest, TxnResponse } from './etcd-api.ts';

/** Transactions of one unit under way at a time; more writes than that share transactions. */
const transactionsInFlightMax = 4;

interface Waiting {
  readonly address: number;
  readonly request: TxnRequest;
  readonly bytes: number;
  readonly resolve: (answer: TxnResponse) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Sends small transactions to a unit. One that comes alone goes out at once; those that come while
 * others are under way go out together, nested in one transaction: each keeps its own conditions
 * and its own outcome, but etcd proposes and syncs them once. Not bounded itself: the log bounds
 * its writes in flight.
 */
export class WriteBatcher {
  readonly #send: (request: TxnRequest) => Promise<TxnResponse>;
  #waiting: Waiting[] = [];
  #inFlight = 0;

  constructor(send: (request: TxnRequest) => Promise<TxnResponse>) {
    this.#send = send;
  }

  /** The answer to `request`, which puts about `bytes` bytes at `address`. */
  submit(address: number, request: TxnRequest, bytes: number): Promise<TxnResponse> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ address, request, bytes, resolve, reject });
      this.#pump();
    });
  }

  #pump(): void {
    while (this.#inFlight < transactionsInFlightMax && this.#waiting.length > 0) {
      void this.#transact(this.#nextBatch());
    }
  }

  #nextBatch(): Waiting[] {
    let bytes = 0;
    const addresses = new Set<number>();
    for (const waiting of this.#waiting) {
      bytes += waiting.bytes;
      const full = addresses.size >= limits.logBatchEntriesMax || bytes > limits.logBatchBytesMax;
      // etcd refuses a transaction that names one key in two puts.
      if ((addresses.size > 0 && full) || addresses.has(waiting.address)) break;
      addresses.add(waiting.address);
    }
    return this.#waiting.splice(0, addresses.size);
  }

  async #transact(batch: readonly Waiting[]): Promise<void> {
    this.#inFlight++;
    try {
      const only = batch.length === 1 ? batch[0] : undefined;
      if (only !== undefined) {
        only.resolve(await this.#send(only.request));
      } else {
        const answer = await this.#send({
          compare: [],
          success: batch.map(({ request }) => ({ request_txn: request })),
        });
        batch.forEach(({ resolve, reject }, index) => {
          const inner = answer.responses[index]?.response_txn;
          if (inner) resolve(inner);
          else reject(new Error('etcd left out an answer'));
        });
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    } finally {
      this.#inFlight--;
      this.#pump();
    }
  }
}
