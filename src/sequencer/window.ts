import { assert, type Bytestring } from '../base/index.ts';
import type { Position, ReadVersion } from '../model/index.ts';
import type { RecordSummary, SeenVersion, WrittenRange } from './sequencer.ts';

/**
 * What the sequencer remembers of granted writes: the last position per key for at most `keysMax`
 * keys, and the most recent bulk updates. What is forgotten raises the {@link Window.floor}, so
 * memory is bounded and an answer is never wrong for want of memory.
 *
 * The rule for a read of key `k` in version `v` by an executor whose state had applied everything
 * below `snapshot`: it conflicts if the last granted write of `k` is at or after `snapshot` *and*
 * after `v`. Not "if it is another than `v`": a grant whose address ended as a filled hole never
 * became a write, and must not poison its key for readers that have applied the fill.
 */
export class Window {
  readonly #lastWrites = new Map<Bytestring, Position>();
  /** Writes in grant order, a ring; also holds superseded ones until their slot is used again. */
  readonly #ringKeys: (Bytestring | undefined)[] = [];
  readonly #ringPositions: Position[] = [];
  readonly #keysMax: number;
  /** Writes ever noted; the newest is in slot `(count - 1) % keysMax`. */
  #count = 0;
  readonly #ranges: (WrittenRange & { position: Position })[] = [];
  readonly #rangesMax: number;
  #floor: Position;

  /** @param floor - writes below this position are unknown from the start. */
  constructor(floor: Position, keysMax: number, rangesMax: number) {
    assert(keysMax > 0 && rangesMax > 0, 'a window needs room');
    this.#floor = floor;
    this.#keysMax = keysMax;
    this.#rangesMax = rangesMax;
  }

  /** Every write at or after this position is known: older snapshots cannot be judged. */
  get floor(): Position {
    return this.#floor;
  }

  /** Keys remembered; at most `keysMax`. */
  get size(): number {
    return this.#lastWrites.size;
  }

  /** Notes a granted write. Positions ascend. */
  note(key: Bytestring, position: Position): void {
    const slot = this.#count % this.#keysMax;
    const forgotten = this.#ringKeys[slot];
    if (forgotten !== undefined) {
      const forgottenPosition = this.#ringPositions[slot] as Position;
      // A superseded write needs no memory: the newer one stands for it.
      if (this.#lastWrites.get(forgotten) === forgottenPosition) {
        this.#lastWrites.delete(forgotten);
        this.#raiseFloor(forgottenPosition);
      }
    }
    this.#ringKeys[slot] = key;
    this.#ringPositions[slot] = position;
    this.#count++;
    this.#lastWrites.set(key, position);
  }

  /** Notes a granted bulk update. */
  noteRange(range: WrittenRange, position: Position): void {
    this.#ranges.push({ ...range, position });
    if (this.#ranges.length > this.#rangesMax) {
      const forgotten = this.#ranges.shift();
      if (forgotten !== undefined) this.#raiseFloor(forgotten.position);
    }
  }

  /** Whether a read conflicts with a granted write; see the class. */
  conflicts(key: Bytestring, version: ReadVersion, snapshot: Position): boolean {
    const last = this.#lastWrites.get(key);
    if (last !== undefined && last >= snapshot && after(last, version)) return true;
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      const range = this.#ranges[at] as WrittenRange & { position: Position };
      if (range.position < snapshot) break;
      if (inside(key, range) && after(range.position, version)) return true;
    }
    return false;
  }

  /**
   * The first key found inside an interval with a granted write at or after the snapshot that the
   * reader did not see; for a bulk update its start.
   */
  rangeConflict(
    range: WrittenRange,
    rows: ReadonlyMap<Bytestring, ReadVersion>,
    snapshot: Position,
  ): Bytestring | undefined {
    const oldest = Math.max(0, this.#count - this.#keysMax);
    for (let at = this.#count - 1; at >= oldest; at--) {
      const slot = at % this.#keysMax;
      const position = this.#ringPositions[slot] as Position;
      if (position < snapshot) break;
      const key = this.#ringKeys[slot] as Bytestring;
      if (!inside(key, range) || this.#lastWrites.get(key) !== position) continue;
      if (after(position, rows.get(key))) return key;
    }
    for (let at = this.#ranges.length - 1; at >= 0; at--) {
      const written = this.#ranges[at] as WrittenRange & { position: Position };
      if (written.position < snapshot) break;
      if (!overlap(range, written)) continue;
      const sawAll =
        rows.size > 0 &&
        [...rows].every(
          ([key, version]) => !inside(key, written) || !after(written.position, version),
        );
      if (!sawAll) return written.start;
    }
    return undefined;
  }

  #raiseFloor(forgotten: Position): void {
    if (forgotten >= this.#floor) this.#floor = (forgotten + 1) as Position;
  }
}

/**
 * Judges the records of a group one after another, as replay will, and collects the writes of
 * those that pass. A read of a value of the same group is fine if that record passed and nobody
 * later in the group wrote the key.
 */
export class GroupJudge {
  /** Index of the last passing writer in the group, per key. */
  readonly writes = new Map<Bytestring, number>();
  /** Bulk updates of passing records. */
  readonly writtenRanges: (WrittenRange & { readonly index: number })[] = [];
  readonly #window: Window;
  /** Of the record that is being judged. */
  #snapshot = 0 as Position;

  constructor(window: Window) {
    this.#window = window;
  }

  /** The key that makes this record fail, or `undefined` when it passes. */
  judge(index: number, record: RecordSummary): Bytestring | undefined {
    this.#snapshot = record.snapshot;
    for (const read of record.reads) {
      if (this.#readConflicts(read)) return read.stateKey;
    }
    for (const range of record.ranges) {
      const key = this.#rangeConflict(range, range.rows);
      if (key !== undefined) return key;
    }
    for (const key of record.writes) this.writes.set(key, index);
    for (const range of record.writtenRanges) this.writtenRanges.push({ ...range, index });
    return undefined;
  }

  #readConflicts({ stateKey: key, version }: SeenVersion): boolean {
    const writer = this.writes.get(key);
    const bulk = this.#lastBulk(key);
    if (writer !== undefined || bulk !== undefined) {
      return localIndex(version) !== Math.max(writer ?? -1, bulk ?? -1);
    }
    // A value of a record of this group that did not pass.
    if (localIndex(version) !== undefined) return true;
    return this.#window.conflicts(key, version, this.#snapshot);
  }

  #rangeConflict(range: WrittenRange, seen: readonly SeenVersion[]): Bytestring | undefined {
    const rows = new Map<Bytestring, ReadVersion>();
    for (const row of seen) {
      rows.set(row.stateKey, row.version);
      if (localIndex(row.version) !== undefined && this.#readConflicts(row)) return row.stateKey;
    }
    for (const [key, index] of this.writes) {
      if (inside(key, range) && localIndex(rows.get(key)) !== index) return key;
    }
    for (const written of this.writtenRanges) {
      if (!overlap(range, written)) continue;
      const sawAll =
        rows.size > 0 &&
        [...rows].every(
          ([key, version]) => !inside(key, written) || (localIndex(version) ?? -1) >= written.index,
        );
      if (!sawAll) return written.start;
    }
    const fromOutside = new Map<Bytestring, ReadVersion>();
    for (const [key, version] of rows) {
      // A row of this group hides whatever the window knows of the key.
      fromOutside.set(key, localIndex(version) === undefined ? version : lastPosition);
    }
    return this.#window.rangeConflict(range, fromOutside, this.#snapshot);
  }

  #lastBulk(key: Bytestring): number | undefined {
    for (let at = this.writtenRanges.length - 1; at >= 0; at--) {
      const range = this.writtenRanges[at] as WrittenRange & { index: number };
      if (inside(key, range)) return range.index;
    }
    return undefined;
  }
}

const lastPosition = Number.MAX_SAFE_INTEGER as Position;

function localIndex(version: ReadVersion): number | undefined {
  return typeof version === 'object' ? version.index : undefined;
}

/** Whether a write at `position` is newer than the version a reader saw. */
function after(position: Position, version: ReadVersion): boolean {
  return version === undefined || typeof version === 'object' || position > version;
}

function inside(key: Bytestring, range: WrittenRange): boolean {
  return key >= range.start && (range.end === '' || key < range.end);
}

function overlap(left: WrittenRange, right: WrittenRange): boolean {
  return (
    (right.end === '' || left.start < right.end) && (left.end === '' || right.start < left.end)
  );
}
