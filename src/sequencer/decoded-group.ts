import { ByteReader, type Bytestring, checkLimit, limits } from '../base/index.ts';
import { asPosition, localFlag, type Position } from '../model/index.ts';
import type { GroupSummary, WrittenRange } from './sequencer.ts';

/** A state key is a namespace, one byte, and a key. */
const stateKeyBytesMax = limits.nameBytesMax + 1 + limits.keyBytesMax;

/** The version of a row that was absent: older than any write. */
export const absent = -1;

/** An interval that was read; the rows found in it stand at `rowsFrom <= at < rowsTo`. */
export interface DecodedRange extends WrittenRange {
  readonly rowsFrom: number;
  readonly rowsTo: number;
}

/** A `RecordSummary` whose keys stand in the lists of its group. */
export interface DecodedRecord {
  readonly snapshot: Position;
  readonly urgent: boolean;
  /** Rows read: `readsFrom <= at < readsTo`. */
  readonly readsFrom: number;
  readonly readsTo: number;
  readonly ranges: readonly DecodedRange[];
  /** Keys written: `writesFrom <= at < writesTo`. */
  readonly writesFrom: number;
  readonly writesTo: number;
  readonly writtenRanges: readonly WrittenRange[];
}

/**
 * The summaries of a group, decoded. The sequencer comes upon every key that anybody reads or
 * writes, so keys stand in lists that the next group uses again, not in objects of their own.
 */
export class DecodedGroup {
  readonly records: DecodedRecord[] = [];
  /** Keys read by all records, one after the other; some of a former group may follow. */
  readonly rowKeys: Bytestring[] = [];
  /**
   * Their versions as positions, or {@link absent}. A version that a record of the same group
   * writes is the position that this record gets if the group is granted `start`.
   */
  readonly rowVersions: number[] = [];
  readonly writes: Bytestring[] = [];
  #rows = 0;
  #writes = 0;
  /** Position of the group's first record. */
  #start = 0;

  /**
   * Takes the place of what was read before.
   *
   * @param start - the address that the group will get: no version that it saw elsewhere is newer.
   * @throws {DaybookError} `MALFORMED`, `LIMIT_EXCEEDED`
   */
  read({ count, summaries }: GroupSummary, start: Position): void {
    checkLimit('recordsPerEntryMax', count);
    this.#start = start;
    this.#rows = 0;
    this.#writes = 0;
    this.records.length = 0;
    const reader = new ByteReader(summaries, 'record summary');
    for (let left = count; left > 0; left--) {
      const end = reader.length(limits.frameBytesMax) + reader.offset;
      this.records.push(this.#record(reader));
      if (reader.offset !== end) reader.fail('length');
    }
    reader.finish();
  }

  #record(reader: ByteReader): DecodedRecord {
    const snapshot = asPosition(reader.u64());
    const urgent = reader.u8() === 1;
    const readsFrom = this.#rows;
    this.#readRows(reader);
    const readsTo = this.#rows;
    const ranges = this.#readRanges(reader);
    const writesFrom = this.#writes;
    for (let left = reader.length(limits.writesPerRecordMax); left > 0; left--) {
      this.writes[this.#writes++] = reader.key(stateKeyBytesMax);
    }
    const writesTo = this.#writes;
    const writtenRanges = readWrittenRanges(reader);
    return { snapshot, urgent, readsFrom, readsTo, ranges, writesFrom, writesTo, writtenRanges };
  }

  #readRows(reader: ByteReader): void {
    for (let left = reader.length(limits.readsPerRecordMax); left > 0; left--) {
      this.rowKeys[this.#rows] = reader.key(stateKeyBytesMax);
      this.rowVersions[this.#rows++] = this.#version(reader);
    }
  }

  #readRanges(reader: ByteReader): readonly DecodedRange[] {
    const count = reader.length(limits.readsPerRecordMax);
    if (count === 0) return none;
    const ranges: DecodedRange[] = [];
    for (let left = count; left > 0; left--) {
      const range = readInterval(reader);
      const rowsFrom = this.#rows;
      this.#readRows(reader);
      ranges.push({ ...range, rowsFrom, rowsTo: this.#rows });
    }
    return ranges;
  }

  #version(reader: ByteReader): number {
    const high = reader.u32();
    const low = reader.u32();
    if (high === localFlag) return this.#start + low;
    if (high >= 0x20_0000) reader.fail('version over 2^53');
    return Math.min(high * 0x1_0000_0000 + low, this.#start) - 1;
  }
}

const none: readonly never[] = [];

function readWrittenRanges(reader: ByteReader): readonly WrittenRange[] {
  const count = reader.length(limits.writesPerRecordMax);
  if (count === 0) return none;
  const ranges: WrittenRange[] = [];
  for (let left = count; left > 0; left--) ranges.push(readInterval(reader));
  return ranges;
}

function readInterval(reader: ByteReader): WrittenRange {
  return { start: reader.bytestring(stateKeyBytesMax), end: reader.bytestring(stateKeyBytesMax) };
}
