import { type Bytestring, bytestringOfText, DaybookError, limits, textOf } from '../base/index.ts';
import {
  type Address,
  addressOf,
  asAddress,
  asPosition,
  type BulkUpdate,
  type NamespaceSet,
  type Position,
  positionOf,
  rangeEndKey,
  stateKey,
} from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';
import { isIndexKey, type Row } from '../state/index.ts';
import { type ChangeRecord, contentOf } from './change.ts';
import type { CompiledSubscription } from './subscription.ts';

/** The part of a node that a journal reads. */
export interface JournalSource {
  readonly channel: string;
  /** The first address that is not applied. */
  nextAddress(): Address;
  /** Resolves to true once `position` is applied, to false after `waitMs`. */
  waitFor(position: Position, waitMs: number): Promise<boolean>;
  /**
   * Applied entries from `from` on, at most `limit`; empty at the tail; does not wait.
   *
   * @throws {DaybookError} `LOG_TRIMMED`
   */
  read(from: Address, limit: number): Promise<readonly AppliedEntry[]>;
  /** Rows of the state, `start <= key < end`, in key order. */
  rows(start: Bytestring, end: Bytestring, limit: number): readonly Row[];
  /** Log time after the last applied entry. */
  logTimeMs(): number;
}

/** Changes between two positions. */
export interface JournalPage {
  readonly from: number;
  readonly next: number;
  readonly tail: number;
  readonly changes: readonly ChangeRecord[];
}

/** Rows of the state, as changes. */
export interface ScanPage {
  /**
   * What is scanned is at least as new as this position for every entity; changes from here on
   * bring all of it to one position.
   */
  readonly from: number;
  readonly tail: number;
  readonly rows: readonly ChangeRecord[];
  /** Where to go on; `undefined` at the end. */
  readonly resume: string | undefined;
}

/** What {@link Journal.count} counts. */
export interface ChangeCount {
  readonly changes: number;
  readonly bulkUpdates: number;
  /** Log time of the first commit that has any. */
  readonly sinceMs: number | undefined;
  /** Everything before is counted. */
  readonly reached: number;
}

/** How much a page may hold. */
export interface PageSize {
  readonly changesMax: number;
  readonly bytesMax: number;
}

const entriesPerRead = 64;

/**
 * The journal of changes of one channel. Nothing is stored for it: the log is the journal, and a
 * position in it says everything about a follower.
 */
export class Journal {
  readonly #source: JournalSource;
  readonly #ended: Promise<void>;

  /** @param ended - resolves when waiting must end. */
  constructor(source: JournalSource, ended: Promise<void> = new Promise(() => undefined)) {
    this.#source = source;
    this.#ended = ended;
  }

  /** First position that is not applied. */
  get tail(): number {
    return positionOf(this.#source.nextAddress(), 0);
  }

  /**
   * Changes from a position on, at least one whole commit; waits for one at the tail.
   *
   * @param waitMs - answers an empty page when nothing came for so long.
   * @throws {DaybookError} `FOLLOWER_REFILL` when the log does not reach back so far, or a bulk
   *   update follows, whose rows are not in the log.
   */
  async page(
    subscription: CompiledSubscription,
    from: number,
    size: PageSize,
    waitMs: number,
  ): Promise<JournalPage> {
    if (from >= this.tail) {
      if (waitMs <= 0 || !(await this.#waitFor(from, waitMs))) {
        return { from, next: from, tail: this.tail, changes: [] };
      }
    }
    const page = new PageBuilder(subscription, from, size);
    let address = addressOf(asPosition(from));
    let left = limits.followerScanEntriesMax;
    while (!page.full && left > 0) {
      const entries = await this.#read(address, Math.min(left, entriesPerRead));
      if (entries.length === 0) break;
      for (const entry of entries) if (!page.add(entry)) break;
      address = asAddress((entries.at(-1) as AppliedEntry).address + 1);
      left -= entries.length;
      if (page.changes.length > 0 && address >= this.#source.nextAddress()) break;
    }
    if (page.next === from && page.blocked) throw refill('bulk-update', from);
    return { from, next: page.next, tail: this.tail, changes: page.changes };
  }

  /**
   * The next rows of the state as it is now, in key order.
   *
   * @param from - position of the first page of this scan; the node catches up with it first.
   * @throws {DaybookError} `TIMEOUT` when it does not in time, `MALFORMED`
   */
  async scan(
    subscription: CompiledSubscription,
    from: number | undefined,
    resume: string | undefined,
    size: PageSize,
  ): Promise<ScanPage> {
    const source = this.#source;
    if (from !== undefined && from > this.tail) {
      const caughtUp = await this.#waitFor(from - 1, limits.followerWaitMsMax);
      if (!caughtUp) throw new DaybookError('TIMEOUT', 'this node has not caught up with the scan');
    }
    const first = from ?? this.tail;
    const timeMs = source.logTimeMs();
    const { ranges } = subscription;
    let [at, start] = readResume(resume, ranges.length);
    const rows: ChangeRecord[] = [];
    let bytes = 0;
    for (let range = ranges[at]; range !== undefined; range = ranges[++at], start = '') {
      const { contract } = range;
      const end = rangeEndKey(contract, range.end);
      const least = stateKey(contract, range.start);
      // Byte order: `Math.max` is for numbers.
      // biome-ignore lint/complexity/useMathMinMax: these are strings
      let key = start < least ? least : start;
      const nameBytes = bytestringOfText(contract).length + 1;
      for (;;) {
        if (rows.length >= size.changesMax || bytes >= size.bytesMax) {
          return { from: first, tail: this.tail, rows, resume: writeResume(at, key) };
        }
        const found = source.rows(key, end, Math.min(500, size.changesMax - rows.length));
        for (const row of found) {
          if (isIndexKey(row.key)) continue;
          const inContract = row.key.slice(nameBytes);
          const selected = subscription.select(contract, inContract, row.value);
          if (selected?.value === undefined) continue;
          bytes += row.key.length + selected.value.length;
          rows.push({
            position: row.version,
            timeMs,
            txId: '',
            contract,
            key: textOf(inContract),
            ...contentOf(selected.value),
          });
        }
        const last = found.at(-1);
        if (last === undefined) break;
        key = `${last.key}\0`;
      }
    }
    return { from: first, tail: this.tail, rows, resume: undefined };
  }

  /**
   * Counts the selected changes between two positions.
   *
   * @param goOn - asked now and then; false ends the count where it is, at `reached`.
   * @throws {DaybookError} `FOLLOWER_REFILL` when the log does not reach back so far.
   */
  async count(
    subscription: CompiledSubscription,
    from: number,
    to: number,
    goOn: () => boolean,
  ): Promise<ChangeCount> {
    let reached = from;
    let changes = 0;
    let bulkUpdates = 0;
    let sinceMs: number | undefined;
    while (reached < to && goOn()) {
      const entries = await this.#read(addressOf(asPosition(reached)), entriesPerRead);
      const last = entries.at(-1);
      if (last === undefined) break;
      for (const { records, logTimeMs } of entries) {
        for (const { position, record, verdict } of records) {
          if (verdict !== 0 || position < reached || position >= to) continue;
          const before = changes + bulkUpdates;
          for (const set of record.sets) {
            changes += countWrites(set, subscription);
            bulkUpdates += set.bulkUpdates.filter((bulk) =>
              touches(subscription, set.namespace, bulk),
            ).length;
          }
          if (changes + bulkUpdates > before) sinceMs ??= logTimeMs;
        }
      }
      reached = Math.min(to, positionOf(asAddress(last.address + 1), 0));
    }
    return { changes, bulkUpdates, sinceMs, reached };
  }

  /** Log time of the first selected commit between two positions; `goOn` as in `count`. */
  async firstMs(
    subscription: CompiledSubscription,
    from: number,
    to: number,
    goOn: () => boolean,
  ): Promise<number | undefined> {
    for (let at = from; at < to && goOn(); ) {
      // One read at a time.
      let reads = 0;
      const part = await this.count(subscription, at, to, () => reads++ === 0);
      if (part.sinceMs !== undefined || part.reached === at) return part.sinceMs;
      at = part.reached;
    }
    return undefined;
  }

  #waitFor(position: number, waitMs: number): Promise<boolean> {
    return Promise.race([
      this.#source.waitFor(asPosition(position), waitMs),
      this.#ended.then(() => false),
    ]);
  }

  async #read(address: Address, count: number): Promise<readonly AppliedEntry[]> {
    try {
      return await this.#source.read(address, count);
    } catch (error) {
      if (error instanceof DaybookError && error.code === 'LOG_TRIMMED') {
        throw refill('log-trimmed', address);
      }
      throw error;
    }
  }
}

function refill(reason: string, from: number): DaybookError {
  return new DaybookError('FOLLOWER_REFILL', 'the copy must be filled anew', {
    details: { reason, from },
  });
}

/** Whether rows that are selected may be among those of a bulk update. */
function touches(
  { ranges }: CompiledSubscription,
  contract: string,
  { start, end }: Pick<BulkUpdate, 'start' | 'end'>,
): boolean {
  return ranges.some(
    (range) =>
      range.contract === contract &&
      (end === '' || range.start < end) &&
      (range.end === '' || start < range.end),
  );
}

function countWrites(
  { namespace, writes }: NamespaceSet,
  subscription: CompiledSubscription,
): number {
  let count = 0;
  for (const { key, value } of writes) {
    if (subscription.select(namespace, key, value) !== undefined) count++;
  }
  return count;
}

class PageBuilder {
  readonly changes: ChangeRecord[] = [];
  next: number;
  full = false;
  /** A bulk update stands at `next`. */
  blocked = false;
  readonly #subscription: CompiledSubscription;
  readonly #size: PageSize;
  #bytes = 0;

  constructor(subscription: CompiledSubscription, from: number, size: PageSize) {
    this.#subscription = subscription;
    this.#size = size;
    this.next = from;
  }

  /** @returns false when the page ends before or in this entry. */
  add(entry: AppliedEntry): boolean {
    if (this.full) return false;
    for (const applied of entry.records) {
      if (applied.position < this.next || applied.verdict !== 0) continue;
      if (!this.#addRecord(applied, entry.logTimeMs)) {
        this.next = applied.position;
        this.full = true;
        return false;
      }
    }
    this.next = Math.max(this.next, positionOf(asAddress(entry.address + 1), 0));
    return true;
  }

  #addRecord({ position, record }: AppliedRecord, timeMs: number): boolean {
    const before = this.changes.length;
    let bytes = 0;
    let txId: string | undefined;
    for (const { namespace, writes, bulkUpdates } of record.sets) {
      for (const { key, value } of writes) {
        const selected = this.#subscription.select(namespace, key, value);
        if (selected === undefined) continue;
        bytes += key.length + (selected.value?.length ?? 0);
        txId ??= Buffer.from(record.txId).toString('hex');
        this.changes.push({
          position,
          timeMs,
          txId,
          contract: namespace,
          key: textOf(key),
          ...contentOf(selected.value),
        });
      }
      if (bulkUpdates.some((bulk) => touches(this.#subscription, namespace, bulk))) {
        this.blocked = true;
        this.changes.length = before;
        return false;
      }
    }
    const { changesMax, bytesMax } = this.#size;
    if (before > 0 && (this.changes.length > changesMax || this.#bytes + bytes > bytesMax)) {
      this.changes.length = before;
      return false;
    }
    this.#bytes += bytes;
    return true;
  }
}

function writeResume(range: number, key: Bytestring): string {
  return `${range}.${Buffer.from(key, 'latin1').toString('base64url')}`;
}

function readResume(resume: string | undefined, ranges: number): [number, Bytestring] {
  if (resume === undefined) return [0, ''];
  const match = /^(\d{1,6})\.([\w-]*)$/.exec(resume);
  if (match === null || Number(match[1]) >= ranges) {
    throw new DaybookError('MALFORMED', 'not a place in a scan', { details: { what: 'resume' } });
  }
  return [Number(match[1]), Buffer.from(match[2] as string, 'base64url').toString('latin1')];
}
