import { hash } from 'node:crypto';
import { asBuffer, ByteReader, ByteWriter, DaybookError } from '../base/index.ts';
import type { BlockVersion } from '../model/index.ts';
import { asPosition, type Position } from '../model/index.ts';

/** Bytes of a transaction id that the index keeps: enough to tell ids apart that nobody forged. */
const idBytes = 16;
const rowBytes = idBytes + 4;
const indexVersion = 1;
const checksumBytes = 32;

/** Bytes that {@link SegmentIndex.summary} needs. */
export const summaryBytes = 1 + 3 * 8 + 2 * 4;

/** What a segment is found by, without reading it. */
export interface SegmentSummary {
  /** Number of its first block, which is also its name. */
  readonly firstHeight: number;
  readonly blocks: number;
  readonly records: number;
  /** Number of its first record in the history tree. */
  readonly firstRecord: number;
  /** Bytes of the segment file. */
  readonly bytes: number;
}

/** Where a block lies in its segment file, without the length in front of it. */
export interface BlockPlace {
  readonly offset: number;
  readonly length: number;
}

/** A transaction in its segment: block, place in the block, and number in the history tree. */
export interface RecordPlace {
  readonly height: number;
  readonly transaction: number;
  readonly historyIndex: number;
  readonly position: Position;
}

/**
 * The index of one segment file: where its blocks are, positions of all records, transaction ids.
 * All of it follows from the blocks. While the segment grows it is appended to; once closed it is
 * written beside the segment.
 */
export class SegmentIndex {
  readonly firstHeight: number;
  readonly firstRecord: number;
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  /** Number, in the segment, of each block's first record. */
  readonly #starts: number[] = [];
  readonly #positions: number[] = [];
  /** While the segment grows: id → number of its first record. */
  readonly #byId = new Map<string, number>();
  #bytes = 0;
  /** Of a closed segment: ids with record numbers, sorted. */
  #sorted: Buffer | undefined;

  constructor(firstHeight: number, firstRecord: number) {
    this.firstHeight = firstHeight;
    this.firstRecord = firstRecord;
  }

  get blocks(): number {
    return this.#offsets.length;
  }

  get records(): number {
    return this.#positions.length;
  }

  /** Bytes of the segment file so far. */
  get bytes(): number {
    return this.#bytes;
  }

  get summary(): SegmentSummary {
    return {
      firstHeight: this.firstHeight,
      blocks: this.blocks,
      records: this.records,
      firstRecord: this.firstRecord,
      bytes: this.#bytes,
    };
  }

  /** Notes a block that was appended to the segment file. */
  add(place: BlockPlace, positions: readonly Position[], txIds: readonly Uint8Array[]): void {
    this.#offsets.push(place.offset);
    this.#lengths.push(place.length);
    this.#starts.push(this.#positions.length);
    for (const [at, position] of positions.entries()) {
      const id = idOf(txIds[at] as Uint8Array);
      // A repeated id is invalid; the first one is what counts.
      if (!this.#byId.has(id)) this.#byId.set(id, this.#positions.length);
      this.#positions.push(position);
    }
    this.#bytes = place.offset + place.length;
  }

  place(height: number): BlockPlace | undefined {
    const offset = this.#offsets[height - this.firstHeight];
    const length = this.#lengths[height - this.firstHeight];
    return offset === undefined || length === undefined ? undefined : { offset, length };
  }

  /** Block and transaction number of a record, by its number in the history tree. */
  placeOfRecord(number: number): BlockVersion {
    const { height, transaction } = this.#recordPlace(number - this.firstRecord);
    return { block: height, transaction };
  }

  /** The first record of a transaction id that stands here, if any. */
  findTransaction(txId: Uint8Array): RecordPlace | undefined {
    const table = this.#sorted;
    if (table === undefined) {
      const record = this.#byId.get(idOf(txId));
      return record === undefined ? undefined : this.#recordPlace(record);
    }
    const wanted = Buffer.from(txId.subarray(0, idBytes));
    let low = 0;
    let high = table.length / rowBytes;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * rowBytes;
      if (table.compare(wanted, 0, idBytes, at, at + idBytes) < 0) low = middle + 1;
      else high = middle;
    }
    const at = low * rowBytes;
    if (at >= table.length || table.compare(wanted, 0, idBytes, at, at + idBytes) !== 0) {
      return undefined;
    }
    return this.#recordPlace(table.readUInt32BE(at + idBytes));
  }

  /** Bytes to be kept in a file beside the segment. */
  encode(): Buffer {
    const table = this.#table();
    const writer = new ByteWriter(64 + this.blocks * 12 + this.records * 8 + table.length);
    writer.u8(indexVersion).u64(this.firstHeight).u64(this.firstRecord).u64(this.#bytes);
    writer.u32(this.blocks).u32(this.records);
    writer.u32(table.length / rowBytes);
    for (let at = 0; at < this.blocks; at++) {
      writer.u32(this.#offsets[at] as number).u32(this.#lengths[at] as number);
      writer.u32(this.#starts[at] as number);
    }
    for (const position of this.#positions) writer.u64(position);
    writer.raw(table);
    return writer.raw(checksum(writer.view())).finish();
  }

  /**
   * Reads {@link SegmentIndex.encode}'s bytes.
   *
   * @throws {DaybookError} `MALFORMED`: make it anew from the segment.
   */
  static decode(bytes: Buffer): SegmentIndex {
    const end = bytes.length - checksumBytes;
    if (end < 0 || !checksum(bytes.subarray(0, end)).equals(bytes.subarray(end))) {
      throw new DaybookError('MALFORMED', 'a damaged block index', {
        details: { what: 'block index' },
      });
    }
    const reader = new ByteReader(bytes, 'block index', 0, end);
    if (reader.u8() !== indexVersion) reader.fail('unknown version');
    const index = new SegmentIndex(reader.u64(), reader.u64());
    index.#bytes = reader.u64();
    const blocks = reader.u32();
    const records = reader.u32();
    const ids = reader.u32();
    for (let at = 0; at < blocks; at++) {
      index.#offsets.push(reader.u32());
      index.#lengths.push(reader.u32());
      index.#starts.push(reader.u32());
    }
    for (let at = 0; at < records; at++) index.#positions.push(reader.u64());
    index.#sorted = Buffer.from(reader.raw(ids * rowBytes));
    reader.finish();
    return index;
  }

  /** Reads only the front of {@link SegmentIndex.encode}'s bytes; they are not checked. */
  static summary(bytes: Buffer): SegmentSummary {
    const reader = new ByteReader(bytes, 'block index');
    if (reader.u8() !== indexVersion) reader.fail('unknown version');
    const [firstHeight, firstRecord, length] = [reader.u64(), reader.u64(), reader.u64()];
    const [blocks, records] = [reader.u32(), reader.u32()];
    return { firstHeight, blocks, records, firstRecord, bytes: length };
  }

  #recordPlace(record: number): RecordPlace {
    const block = upperBound(this.#starts, record) - 1;
    return {
      height: this.firstHeight + block,
      transaction: record - (this.#starts[block] as number),
      historyIndex: this.firstRecord + record,
      position: asPosition(this.#positions[record] as number),
    };
  }

  #table(): Buffer {
    if (this.#sorted !== undefined) return this.#sorted;
    const ids = [...this.#byId.keys()].sort();
    const table = Buffer.allocUnsafeSlow(ids.length * rowBytes);
    for (const [row, id] of ids.entries()) {
      table.latin1Write(id, row * rowBytes, idBytes);
      table.writeUInt32BE(this.#byId.get(id) as number, row * rowBytes + idBytes);
    }
    return table;
  }
}

function idOf(txId: Uint8Array): string {
  return asBuffer(txId).latin1Slice(0, idBytes);
}

function checksum(bytes: Buffer): Buffer {
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}

/** First index whose value is above. */
export function upperBound(values: readonly number[], value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] as number) <= value) low = middle + 1;
    else high = middle;
  }
  return low;
}
