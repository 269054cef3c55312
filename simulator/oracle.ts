import { createHash } from 'node:crypto';
import type { LogEntry, SharedLog } from '../src/log/index.ts';
import {
  addressOf,
  type Outcome,
  type TxId,
  type VerdictCode,
  verdicts,
} from '../src/model/index.ts';
import type { AppliedEntry, Replica } from '../src/replica/index.ts';
import { SimulationFailure, type World } from './world.ts';

interface KnownRecord {
  readonly position: number;
  readonly verdict: VerdictCode;
}

/**
 * Sees everything that any node reads, applies and answers, and ends the run at the first thing that
 * contradicts an invariant of the design. What needs the whole log is checked in `final-checks.ts`.
 */
export class Oracle {
  readonly #world: World;
  /** I1: what anyone ever read at an address. */
  readonly #entries = new Map<number, string>();
  /** I3, I7: what anyone found at an address. */
  readonly #verdicts = new Map<number, string>();
  /** Valid records by transaction id. */
  readonly #valid = new Map<TxId, KnownRecord>();
  /** Next address of each running node. */
  readonly #next = new Map<string, number>();
  #recordsApplied = 0;
  #answers = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Records applied, by all nodes together. */
  get recordsApplied(): number {
    return this.#recordsApplied;
  }

  get answers(): number {
    return this.#answers;
  }

  /** Digests of all that nodes read, by address. */
  get entries(): ReadonlyMap<number, string> {
    return this.#entries;
  }

  /** The same log; what passes is compared with what others saw there. */
  watch(node: string, log: SharedLog): SharedLog {
    const look = (entry: LogEntry): void => this.#look(node, entry);
    return {
      tail: () => log.tail(),
      epoch: () => log.epoch(),
      start: () => log.start(),
      seal: (epoch) => log.seal(epoch),
      trim: (before) => log.trim(before),
      write: (token, bytes) => log.write(token, bytes),
      fill: (address) => {
        this.#world.note(`${node} fills ${address}`);
        return log.fill(address);
      },
      close: () => log.close(),
      read: async (address) => {
        const entry = await log.read(address);
        look(entry);
        return entry;
      },
      follow: async function* (from, signal) {
        for await (const run of log.follow(from, signal)) {
          for (const entry of run) look(entry);
          yield run;
        }
      },
    };
  }

  /** A process of this node begins: it may apply again what an earlier one applied. */
  started(node: string): void {
    this.#next.delete(node);
  }

  applied(node: string, entries: readonly AppliedEntry[]): void {
    for (const { address, records, configVerdict } of entries) {
      const next = this.#next.get(node);
      if (next !== undefined && next !== address) {
        this.#wrong('I2', `${node} applied ${address} after ${next - 1}`);
      }
      this.#next.set(node, address + 1);
      let found = `${configVerdict ?? ''}`;
      for (const { verdict, position } of records) found += ` ${position}:${verdict}`;
      const known = this.#verdicts.get(address);
      if (known === undefined) {
        this.#verdicts.set(address, found);
        this.#world.note(`${node} applied ${address}:${found}`);
      } else if (known !== found) {
        this.#wrong('I3', `${node} found${found} at ${address}, another node${known}`);
      }
      this.#recordsApplied += records.length;
      for (const { record, position, verdict } of records) {
        if (verdict !== verdicts.valid) continue;
        const txId = Buffer.from(record.txId).toString('hex');
        const before = this.#valid.get(txId);
        if (before === undefined) this.#valid.set(txId, { position, verdict });
        else if (before.position !== position) {
          this.#wrong('I6', `${txId} took effect at ${before.position} and ${position}`);
        }
      }
    }
  }

  /** A node is about to answer a client. */
  answering(node: string, outcome: Outcome, replica: Replica): void {
    this.#answers++;
    if (outcome.status !== 'committed') return;
    const { txId, position } = outcome;
    if (replica.nextAddress <= addressOf(position)) {
      this.#wrong(
        'I4',
        `${node} answers ${position} but has applied only to ${replica.nextAddress}`,
      );
    }
    const known = this.#valid.get(txId);
    if (known === undefined) this.#wrong('I4', `${node} answers ${txId}, which nobody found valid`);
    else if (known.position !== position) {
      this.#wrong('I4', `${node} answers ${position} for a record at ${known.position}`);
    }
  }

  #look(node: string, entry: LogEntry): void {
    const digest = digestOf(entry);
    const known = this.#entries.get(entry.address);
    if (known === undefined) this.#entries.set(entry.address, digest);
    else if (known !== digest) {
      this.#wrong('I1', `${node} reads another entry at ${entry.address} than was read before`);
    }
  }

  #wrong(invariant: string, what: string): void {
    const failure = new SimulationFailure('correctness', `${invariant}: ${what}`);
    this.#world.fail(failure);
    throw failure;
  }
}

/** Says what stands at an address. */
export function digestOf({ kind, epoch, bytes }: LogEntry): string {
  const hash = createHash('sha1').update(bytes).digest('base64');
  return kind === 'fill' ? kind : `${epoch} ${hash}`;
}
