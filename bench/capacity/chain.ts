import {
  type Address,
  asAddress,
  asPosition,
  type Batch,
  type Position,
  positionOf,
  stateKey,
  type VerdictCode,
  verdictName,
  verdicts,
} from '../../src/model/index.ts';
import { Replay, type ReplayState } from '../../src/replica/index.ts';
import type { Row, StateChange, StateWrite } from '../../src/state/index.ts';
import type { BenchLedger } from '../bench-ledger.ts';

/** Older versions of a row than so many are forgotten. */
const versionsKept = 64;

/** What replay needs of a state, in memory; all accounts are there from the beginning. */
class MemoryState implements ReplayState {
  readonly #rows = new Map<string, Row>();
  readonly #committed = new Set<string>();
  readonly #account: Pick<Row, 'value' | 'version'>;
  logTimeMs = 0;
  horizonMs = 0;

  constructor(account: Pick<Row, 'value' | 'version'>) {
    this.#account = account;
  }

  get(key: string): Row | undefined {
    return this.#rows.get(key) ?? (isAccount(key) ? { key, ...this.#account } : undefined);
  }

  version(key: string): Position | undefined {
    return this.#rows.get(key)?.version ?? (isAccount(key) ? this.#account.version : undefined);
  }

  range(start: string, end: string): Row[] {
    return [...this.#rows.values()].filter(({ key }) => key >= start && (end === '' || key < end));
  }

  isCommitted(txId: Uint8Array): boolean {
    return this.#committed.has(Buffer.from(txId).latin1Slice());
  }

  apply({ writes, records, logTimeMs, horizonMs }: StateChange): void {
    for (const { key, value, version } of writes) {
      if (value !== undefined) this.#rows.set(key, { key, value, version });
    }
    for (const { record, verdict } of records) {
      if (verdict !== verdicts.valid) continue;
      this.#committed.add(Buffer.from(record.txId).latin1Slice());
    }
    this.logTimeMs = logTimeMs;
    this.horizonMs = horizonMs;
  }
}

const accounts = stateKey('bench', 'account-');

function isAccount(key: string): boolean {
  return key.startsWith(accounts);
}

/** An entry as it was written, with what the simulation wants to know of it. */
export interface WrittenEntry {
  readonly address: number;
  readonly executor: number;
  readonly bytes: Buffer;
  readonly batches: readonly Batch[];
  /** Rows written, by record. */
  readonly rows: readonly (readonly number[])[];
  /** Index of each record in the entry. */
  readonly indices: readonly number[];
}

/**
 * The one log, replayed once by the real replay for all executors, as all come to the same
 * (invariant I7); and the versions of every row, since executors read at different prefixes.
 */
export class Chain {
  readonly #state: MemoryState;
  readonly #replay: Replay;
  readonly #first: Position;
  readonly #versions: (Position[] | undefined)[] = [];
  /** Records found valid, by address. */
  readonly #valid = new Map<number, number>();
  #next = 0;

  constructor(ledger: BenchLedger) {
    // The founding entry at address 0, the rows at 1.
    this.#first = positionOf(asAddress(1), 0);
    const [contract, account] = [...ledger.rows(1, this.#first)] as [StateWrite, StateWrite];
    this.#state = new MemoryState({ value: account.value ?? '', version: this.#first });
    this.#apply(new Replay(this.#state), ledger.founding);
    const { logTimeMs, horizonMs } = this.#state;
    const address = this.#address;
    this.#state.apply({
      address,
      writes: [contract],
      records: [],
      timestampsMs: [],
      logTimeMs,
      horizonMs,
    });
    this.#next++;
    this.#replay = new Replay(this.#state);
  }

  /** The first address that no executor has applied. */
  get next(): number {
    return this.#next;
  }

  /** Version of a row as a node sees it that has applied everything below `snapshot`. */
  version(row: number, snapshot: Position): Position {
    const versions = this.#versions[row];
    for (let at = (versions?.length ?? 0) - 1; at >= 0; at--) {
      const version = versions?.[at] as Position;
      if (version < snapshot) return version;
    }
    return this.#first;
  }

  /** How many of its records are valid; replays it when nobody has before. */
  apply(entry: WrittenEntry): number {
    const known = this.#valid.get(entry.address);
    if (known !== undefined) return known;
    // Costs are charged in virtual time: verifying for real as well would only take long.
    for (const batch of entry.batches) this.#replay.trustBatch(batch);
    const verdictsFound = this.#apply(this.#replay, entry.bytes);
    let valid = 0;
    verdictsFound.forEach((verdict, at) => {
      if (verdict === verdicts.readConflict) return;
      if (verdict !== verdicts.valid) throw new Error(`replay found ${verdictName(verdict)}`);
      valid++;
      const position = positionOf(asAddress(entry.address), entry.indices[at] ?? 0);
      for (const row of entry.rows[at] ?? []) this.#note(row, position);
    });
    this.#valid.set(entry.address, valid);
    return valid;
  }

  get #address(): Address {
    return asAddress(this.#next);
  }

  #apply(replay: Replay, bytes: Buffer): VerdictCode[] {
    const { change } = replay.next({ address: this.#address, kind: 'data', epoch: 0, bytes });
    this.#state.apply(change);
    this.#next++;
    return change.records.map(({ verdict }) => verdict);
  }

  #note(row: number, position: Position): void {
    const versions = this.#versions[row] ?? [];
    this.#versions[row] = versions;
    versions.push(asPosition(position));
    if (versions.length > versionsKept) versions.shift();
  }
}
