import { DaybookError, type ErrorCode } from '../../base/index.ts';
import {
  asPosition,
  type BatchItem,
  decodeBatch,
  type Outcome,
  type Position,
} from '../../model/index.ts';
import { type Attempt, AttemptLost, type Transport } from '../transport.ts';
import type { VirtualIo } from './virtual-io.ts';

/** Probabilities of what goes wrong, each in [0, 1]. */
export interface Faults {
  readonly unreachable: number;
  readonly overloaded: number;
  readonly lostAnswer: number;
  /** That a lost answer is lost as a whole. */
  readonly nothingHeard: number;
  readonly conflict: number;
  readonly refusal: number;
}

/**
 * Several gateways over one ledger, with faults. Keeps each transaction at most once, as the ledger
 * does, and executes late what a client may have given up: as a paused node would.
 */
export class FaultyNetwork implements Transport {
  /** First arguments of what took effect, in order. */
  readonly effects: { txId: string; orderingKey: string; argument: string }[] = [];
  readonly committed = new Map<string, Position>();
  batches = 0;
  /** Ordering keys that are being executed for a client that has not lost the attempt. */
  readonly keysUnderWay = new Map<string, number>();
  keyTwiceUnderWay = false;
  readonly #io: VirtualIo;
  readonly #faults: Faults;

  constructor(io: VirtualIo, faults: Faults) {
    this.#io = io;
    this.#faults = faults;
  }

  async send(_gateway: string, attempt: Attempt): Promise<void> {
    const { items } = decodeBatch(attempt.bytes);
    if (items.length !== attempt.count) throw new Error('count does not fit the batch');
    this.batches++;
    const keys = new Set(items.map((item) => item.orderingKey).filter((key) => key !== ''));
    for (const key of keys) {
      if (this.keysUnderWay.has(key)) this.keyTwiceUnderWay = true;
      this.keysUnderWay.set(key, 1);
    }
    try {
      await this.#send(items, attempt);
    } finally {
      for (const key of keys) this.keysUnderWay.delete(key);
    }
  }

  async #send(items: readonly BatchItem[], attempt: Attempt): Promise<void> {
    const io = this.#io;
    const deadlineMs = io.clock.monotonicMs() + attempt.waitMs;
    await io.sleep(io.random.number() * 5);
    if (this.#hits('unreachable')) throw new AttemptLost(false, new Error('unreachable'));
    if (this.#hits('overloaded')) throw new DaybookError('OVERLOADED', 'busy');
    if (!this.#hits('lostAnswer')) {
      await io.sleep(io.random.number() * 20);
      this.#execute(items, attempt.onOutcome);
      return;
    }
    // Some outcomes arrive or none; execution is before or after the loss.
    const heard = this.#hits('nothingHeard')
      ? 0
      : Math.floor(io.random.number() * (items.length + 1));
    const execute = (): void =>
      this.#execute(items, (index, outcome) => {
        if (!lost && index < heard) attempt.onOutcome(index, outcome);
      });
    let lost = false;
    if (io.random.number() < 0.5) execute();
    else {
      const paused = io.random.number() * 900;
      if (paused < deadlineMs - io.clock.monotonicMs()) io.timers.after(paused, execute);
    }
    await io.sleep(io.random.number() * 20);
    lost = true;
    throw new AttemptLost(true, new Error('connection reset'));
  }

  #execute(
    items: readonly BatchItem[],
    onOutcome: (index: number, outcome: Outcome) => void,
  ): void {
    items.forEach((item, index) => {
      onOutcome(index, this.#outcome(item));
    });
  }

  #outcome({ txId: id, orderingKey, transaction }: BatchItem): Outcome {
    const txId = Buffer.from(id).toString('hex');
    const known = this.committed.get(txId);
    if (known === undefined) {
      const rejected = (code: ErrorCode): Outcome => ({
        status: 'rejected',
        error: new DaybookError(code, code).toJSON(),
      });
      if (this.#hits('conflict')) return rejected('TRANSACTION_CONFLICT');
      if (this.#hits('refusal')) return rejected('CONTRACT_REJECTED');
      const argument = Buffer.from(transaction.args[0] ?? new Uint8Array()).toString();
      this.effects.push({ txId, orderingKey, argument });
      this.committed.set(txId, asPosition(this.effects.length));
    }
    const position = this.committed.get(txId) as Position;
    return { status: 'committed', position, result: '' };
  }

  #hits(fault: keyof Faults): boolean {
    return this.#io.random.number() < this.#faults[fault];
  }

  async post(): Promise<unknown> {
    throw new DaybookError('NOT_FOUND', 'no single signatures here');
  }

  async getJson(_gateway: string, path: string): Promise<unknown> {
    await this.#io.sleep(this.#io.random.number() * 5);
    if (this.#hits('unreachable')) throw new DaybookError('PEER_UNREACHABLE', 'unreachable');
    const txId = path.replace('transactions/', '');
    if (!this.committed.has(txId)) throw new DaybookError('TRANSACTION_UNKNOWN', 'unknown');
    return { valid: true };
  }

  lines(): AsyncIterable<string> {
    throw new DaybookError('NOT_FOUND', 'no reads here');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
