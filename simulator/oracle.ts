import { hash } from 'node:crypto';
import { isDaybookError, type LimitName, limits } from '../src/base/index.ts';
import type { LogEntry, SharedLog } from '../src/log/index.ts';
import {
  addressOf,
  indexOf,
  type Outcome,
  type VerdictCode,
  verdictName,
  verdicts,
} from '../src/model/index.ts';
import { type AppliedEntry, type Replica, replayedBefore } from '../src/replica/index.ts';
import type { Happening } from './coverage.ts';
import type { LedgerModel } from './ledger-model.ts';
import { plain } from './mutant.ts';
import { SimulationFailure, type World } from './world.ts';

const conflicts: Readonly<Partial<Record<VerdictCode, Happening>>> = {
  [verdicts.readConflict]: 'replay: a key was changed meanwhile',
  [verdicts.phantomReadConflict]: 'replay: a range was changed meanwhile',
  [verdicts.duplicateTransactionId]: 'replay: a duplicate',
};

/** What somebody found at an address, and everybody must find. */
export interface KnownEntry {
  /** Over ids, places and verdicts of all records. */
  readonly fingerprint: number;
  /** Place and verdict of those that are not valid. */
  readonly invalid: string;
  /** Verdicts of all records, where one is not valid; of a configuration. */
  readonly codes: readonly VerdictCode[] | undefined;
  readonly logTimeMs: number;
}

/**
 * Sees everything that any node reads, applies and answers, and ends the run at the first thing that
 * contradicts an invariant of the design. What needs the whole log is checked in `final-checks.ts`.
 */
export class Oracle {
  readonly #world: World;
  /** What has taken effect so far. */
  readonly ledger: LedgerModel;
  /** I1: what anyone ever read at an address. */
  readonly #entries = new Map<number, string>();
  /** Where the log is trimmed: all that anyone ever read. */
  readonly #archive: Map<number, LogEntry> | undefined;
  /** I3, I7: what anyone found at an address. */
  readonly #verdicts = new Map<number, KnownEntry>();
  /** Next address of each running node. */
  readonly #next = new Map<string, number>();
  readonly #batches = new Set<string>();
  /** Next address that nobody has applied yet. */
  #taken = 0;
  #recordsApplied = 0;
  #answers = 0;

  /** @param keeps - whether it keeps what it sees: the log may lose it. */
  constructor(world: World, ledger: LedgerModel, keeps: boolean) {
    this.#world = world;
    this.ledger = ledger;
    this.#archive = keeps ? new Map() : undefined;
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

  /** What everybody finds at an address; `undefined`: nobody has applied it. */
  known(address: number): KnownEntry | undefined {
    return this.#verdicts.get(address);
  }

  /** What was applied at an address, whether or not the log still has it. */
  appliedAt(address: number): AppliedEntry {
    const entry = this.#archive?.get(address);
    const known = this.#verdicts.get(address);
    if (entry === undefined || known === undefined) {
      this.#wrong('I2', `the log has lost ${address}, which nobody applied`);
    }
    return replayedBefore(entry, known.logTimeMs, known.codes);
  }

  /** What stands at an address, whether or not the log still has it. */
  archived(address: number): LogEntry | undefined {
    return this.#archive?.get(address);
  }

  /** The same log; what passes is compared with what others saw there. */
  watch(node: string, log: SharedLog): SharedLog {
    const look = (entry: LogEntry): void => this.#look(node, entry);
    return {
      ...plain(log),
      write: async (token, bytes) => {
        this.#bounded(node, 'entryBytesMax', bytes.length);
        try {
          await log.write(token, bytes);
        } catch (error) {
          this.#refused(error);
          throw error;
        }
      },
      fill: (address) => {
        this.#world.happened('log: a hole is filled');
        this.#world.note(`${node} fills ${address}`);
        return log.fill(address);
      },
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
    for (const entry of entries) {
      const { address, records } = entry;
      const next = this.#next.get(node);
      if (next !== undefined && next !== address) {
        this.#wrong('I2', `${node} applied ${address} after ${next - 1}`);
      }
      this.#next.set(node, address + 1);
      this.#recordsApplied += records.length;
      const found = knownEntry(entry);
      const known = this.#verdicts.get(address);
      if (known === undefined) {
        this.#verdicts.set(address, found);
        this.#world.note(`${node} applied ${address}: ${records.length} records${found.invalid}`);
        this.#takeEffect(entry);
      } else if (known.fingerprint !== found.fingerprint) {
        const of = (one: KnownEntry): string => (one.invalid === '' ? ' all valid' : one.invalid);
        const what = `${node} found${of(found)} at ${address}, another node${of(known)}`;
        this.#wrong('I3', `${what} (fingerprints ${found.fingerprint}, ${known.fingerprint})`);
      }
    }
  }

  #bounded(node: string, limit: LimitName, actual: number): void {
    if (actual > limits[limit]) this.#wrong('I9', `${node} has ${actual} for ${limit}`);
  }

  #refused(error: unknown): void {
    if (isDaybookError(error, 'LOG_ADDRESS_TAKEN')) {
      this.#world.happened('log: an address is taken');
    } else if (isDaybookError(error, 'LOG_EPOCH_SEALED')) {
      this.#world.happened('log: a sealed epoch refuses a write');
    }
  }

  /** A signed batch has come to a node. */
  received(batchId: Uint8Array): void {
    const id = Buffer.from(batchId).toString('hex');
    if (this.#batches.has(id)) this.#world.happened('network: a batch arrives twice');
    this.#batches.add(id);
  }

  /** Nodes that find the same at an address need not be looked at one by one. */
  #takeEffect(entry: AppliedEntry): void {
    if (entry.address !== this.#taken++) {
      this.#wrong('I2', `${entry.address} is applied before ${this.#taken - 1}`);
    }
    for (const { verdict } of entry.records) {
      const what = conflicts[verdict];
      if (what !== undefined) this.#world.happened(what);
    }
    try {
      this.ledger.take(entry);
    } catch (error) {
      this.#world.fail(error);
      throw error;
    }
  }

  /** A node is about to answer a client. @param id - of the transaction that it asked for. */
  answering(node: string, id: Uint8Array, outcome: Outcome, replica: Replica): void {
    this.#answers++;
    if (outcome.status !== 'committed') return;
    const { position } = outcome;
    if (replica.nextAddress <= addressOf(position)) {
      this.#wrong(
        'I4',
        `${node} answers ${position} but has applied only to ${replica.nextAddress}`,
      );
    }
    const number = this.ledger.find(id);
    const known = number === undefined ? undefined : this.ledger.position(number);
    if (known === undefined) {
      const txId = (id as Buffer).toString('hex');
      this.#wrong('I4', `${node} answers ${txId}, which nobody found valid`);
    } else if (known !== position) {
      this.#wrong('I4', `${node} answers ${position} for a record at ${known}`);
    }
  }

  #look(node: string, entry: LogEntry): void {
    const digest = digestOf(entry);
    const known = this.#entries.get(entry.address);
    if (known === undefined) {
      this.#entries.set(entry.address, digest);
      this.#archive?.set(entry.address, entry);
    } else if (known !== digest) {
      this.#wrong('I1', `${node} reads another entry at ${entry.address} than was read before`);
    }
  }

  #wrong(invariant: string, what: string): never {
    const failure = new SimulationFailure('correctness', `${invariant}: ${what}`);
    this.#world.fail(failure);
    throw failure;
  }
}

/** Says what stands at an address. */
export function digestOf({ kind, epoch, bytes }: LogEntry): string {
  return kind === 'fill' ? kind : `${epoch} ${hash('sha1', bytes, 'base64')}`;
}

/** What nodes must agree on about an entry. */
export function knownEntry({ records, configVerdict, logTimeMs }: AppliedEntry): KnownEntry {
  let low = 0x811c_9dc5 ^ (configVerdict ?? 0xff);
  let high = records.length;
  let invalid = '';
  for (const { record, position, verdict } of records) {
    const { txId } = record;
    const id = ((txId[0] ?? 0) << 24) | ((txId[1] ?? 0) << 16) | ((txId[2] ?? 0) << 8);
    low = Math.imul(low ^ (id | verdict), 0x0100_0193) ^ (low >>> 15);
    high = Math.imul(high ^ indexOf(position) ^ (txId[3] ?? 0), 0x85eb_ca6b) ^ (high >>> 13);
    if (verdict !== verdicts.valid) invalid += ` ${indexOf(position)}:${verdictName(verdict)}`;
  }
  const codes =
    configVerdict === undefined
      ? invalid === ''
        ? undefined
        : records.map(({ verdict }) => verdict)
      : [configVerdict];
  const fingerprint = (low >>> 0) + (high & 0xf_ffff) * 2 ** 32;
  return { fingerprint, invalid, codes, logTimeMs };
}
