import {
  assert,
  type Bytestring,
  compareBytestrings,
  isInside,
  limits,
  lowerBound,
} from '../base/index.ts';
import type { Position } from '../model/index.ts';
import {
  absent,
  type DecodedGroup,
  type DecodedRange,
  type DecodedRecord,
} from './decoded-group.ts';
import type { WrittenRange } from './sequencer.ts';

/** The keys that one group wrote. */
interface Run {
  /** Position of the group's first record. */
  readonly start: Position;
  /** A key that was written twice stands here twice. */
  readonly keys: Bytestring[];
  /** `keys` in order, once enough ranges have been looked for among them. */
  sorted: readonly Bytestring[] | undefined;
  ranges: number;
}

/** Looking through keys a few times takes less than sorting them. */
const sortedFrom = 10;

/**
 * What the sequencer remembers of granted writes: the last position per key for about `keysMax`
 * keys, and the most recent bulk updates. What is forgotten raises the {@link Window.floor}, so
 * memory is bounded and an answer is never wrong for want of memory.
 *
 * The rule for a read of key `k` in version `v` by an executor whose state had applied everything
 * below `snapshot`: it conflicts if the last granted write of `k` is at or after `snapshot` *and*
 * after `v`. Not "if it is another than `v`": a grant whose address ended as a filled hole never
 * became a write, and must not poison its key for readers that have applied the fill.
 *
 * Records of a group are judged one after another, as replay will, and those that pass are noted at
 * once: for the next one they are writes like all others, except that it knows of them. A value of
 * the same group conflicts unless it is the last write of its key.
 */
export class Window {
  readonly #lastWrites = new Map<Bytestring, Position>();
  /** In grant order; those before `#firstRun` are forgotten. */
  #runs: Run[] = [];
  #firstRun = 0;
  /** Keys in all runs. */
  #noted = 0;
  /** Of the group that is being judged. */
  #open: Run;
  readonly #keysMax: number;
  readonly #ranges: (WrittenRange & { position: Position })[] = [];
  readonly #rangesMax: number;
  #floor: Position;

  /** @param floor - writes below this position are unknown from the start. */
  constructor(floor: Position, keysMax: number, rangesMax: number) {
    assert(keysMax > 0 && rangesMax > 0, 'a window needs room');
    this.#floor = floor;
    this.#keysMax = keysMax;
    this.#rangesMax = rangesMax;
    this.#open = { start: floor, keys: [], sorted: undefined, ranges: 0 };
  }

  /** Every write at or after this position is known: older snapshots cannot be judged. */
  get floor(): Position {
    return this.#floor;
  }

  /** Keys remembered; at most `keysMax` after {@link Window.finish}. */
  get size(): number {
    return this.#lastWrites.size;
  }

  /** A group is about to be judged. @param start - position of its first record. */
  begin(start: Position): void {
    this.#open = { start, keys: [], sorted: undefined, ranges: 0 };
  }

  /** The group has been judged: what is over the limits is forgotten. */
  finish(): void {
    const { keys } = this.#open;
    if (keys.length > 0) {
      this.#runs.push(this.#open);
      this.#noted += keys.length;
    }
    while (this.#noted > this.#keysMax) this.#forgetRun();
    while (this.#ranges.length > this.#rangesMax) {
      const forgotten = this.#ranges.shift();
      if (forgotten !== undefined) this.#raiseFloor(forgotten.position);
    }
  }

  /**
   * Judges the next record of the group. If it passes, what it writes is noted.
   *
   * @returns the key that makes it fail; for a bulk update its start.
   */
  judge(group: DecodedGroup, index: number): Bytestring | undefined {
    const record = group.records[index] as DecodedRecord;
    const conflict = this.#conflict(group, record);
    if (conflict !== undefined) return conflict;
    const position = (this.#open.start + index) as Position;
    for (let at = record.writesFrom; at < record.writesTo; at++) {
      const key = group.writes[at] as Bytestring;
      this.#open.keys.push(key);
      this.#lastWrites.set(key, position);
    }
    for (const range of record.writtenRanges) this.#ranges.push({ ...range, position });
    return undefined;
  }

  #conflict(group: DecodedGroup, record: DecodedRecord): Bytestring | undefined {
    // Nobody can have applied this group's own writes.
    const snapshot = Math.min(record.snapshot, this.#open.start);
    for (let at = record.readsFrom; at < record.readsTo; at++) {
      const key = group.rowKeys[at] as Bytestring;
      if (this.#readConflicts(key, group.rowVersions[at] as number, snapshot)) return key;
    }
    for (const range of record.ranges) {
      const key = this.#rangeConflict(group, range, snapshot);
      if (key !== undefined) return key;
    }
    return undefined;
  }

  #readConflicts(key: Bytestring, version: number, snapshot: number): boolean {
    const { start } = this.#open;
    const last = this.#lastWrites.get(key) ?? absent;
    if (version >= start) return version !== Math.max(last, this.#lastBulk(key, start));
    return (last >= snapshot && last > version) || this.#lastBulk(key, snapshot) > version;
  }

  /** The last bulk update at or after `since` that a key lies in. */
  #lastBulk(key: Bytestring, since: number): number {
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      const range = this.#ranges[at] as WrittenRange & { position: Position };
      if (range.position < since) break;
      if (isInside(key, range.start, range.end)) return range.position;
    }
    return absent;
  }

  /** A key inside an interval with a write at or after the snapshot that the reader did not see. */
  #rangeConflict(
    group: DecodedGroup,
    range: DecodedRange,
    snapshot: number,
  ): Bytestring | undefined {
    const seen = new Map<Bytestring, number>();
    for (let at = range.rowsFrom; at < range.rowsTo; at++) {
      const key = group.rowKeys[at] as Bytestring;
      const version = group.rowVersions[at] as number;
      seen.set(key, version);
      if (version >= this.#open.start && this.#readConflicts(key, version, snapshot)) return key;
    }
    const isNews = (key: Bytestring): boolean => {
      const last = this.#lastWrites.get(key) ?? absent;
      return last >= snapshot && last > (seen.get(key) ?? absent);
    };
    const own = this.#open.keys.find((key) => isInside(key, range.start, range.end) && isNews(key));
    if (own !== undefined) return own;
    for (let at = this.#runs.length - 1; at >= this.#firstRun; at--) {
      const run = this.#runs[at] as Run;
      if (run.start + limits.recordsPerEntryMax <= snapshot) break;
      const news = keysInside(run, range).find(isNews);
      if (news !== undefined) return news;
    }
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      const written = this.#ranges[at] as WrittenRange & { position: Position };
      if (written.position < snapshot) break;
      if (!overlap(range, written)) continue;
      let sawAll = seen.size > 0;
      for (const [key, version] of seen) {
        if (isInside(key, written.start, written.end) && version < written.position) sawAll = false;
      }
      if (!sawAll) return written.start;
    }
    return undefined;
  }

  #forgetRun(): void {
    const { start, keys } = this.#runs[this.#firstRun++] as Run;
    this.#noted -= keys.length;
    for (const key of keys) {
      const last = this.#lastWrites.get(key);
      // A superseded write needs no memory: the newer one stands for it.
      if (last === undefined || last >= start + limits.recordsPerEntryMax) continue;
      this.#lastWrites.delete(key);
      this.#raiseFloor(last);
    }
    if (this.#firstRun * 2 > this.#runs.length) {
      this.#runs = this.#runs.slice(this.#firstRun);
      this.#firstRun = 0;
    }
  }

  #raiseFloor(forgotten: Position): void {
    if (forgotten >= this.#floor) this.#floor = (forgotten + 1) as Position;
  }
}

/** The keys of a run that lie in a range. */
function keysInside(run: Run, range: WrittenRange): readonly Bytestring[] {
  if (++run.ranges < sortedFrom)
    return run.keys.filter((key) => isInside(key, range.start, range.end));
  run.sorted ??= [...run.keys].sort(compareBytestrings);
  const from = lowerBound(run.sorted, range.start);
  const to = range.end === '' ? run.sorted.length : lowerBound(run.sorted, range.end);
  return run.sorted.slice(from, to);
}

function overlap(left: WrittenRange, right: WrittenRange): boolean {
  return (
    (right.end === '' || left.start < right.end) && (left.end === '' || right.start < left.end)
  );
}
