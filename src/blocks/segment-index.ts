import { hash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { asBuffer, ByteReader, ByteWriter, DaybookError } from '../base/index.ts';
import type { BlockVersion } from '../model/index.ts';
import { asPosition, type Position } from '../model/index.ts';

/** Bytes of a transaction id that the index keeps: enough to tell ids apart that nobody forged. */
const idBytes = 16;
const rowBytes = idBytes + 4;
/** Until 2 it had no checksums of blocks. */
const indexVersion = 2;
const checksumBytes = 32;
const frontBytes = 1 + 3 * 8 + 2 * 4;

/** Bytes that {@link SegmentIndex.summary} needs. */
export const summaryBytes: number = frontBytes + 4;

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

/** Where a block lies in its segment file, without the length in front of it, and its checksum. */
export interface BlockPlace {
  readonly offset: number;
  /** 0: nothing is known of the block. */
  readonly length: number;
  /** CRC-32 of the block as it was written. */
  readonly sum: number;
}

/** What an index keeps of a block's records. */
export interface IndexedRecords {
  readonly positions: readonly Position[];
  readonly txIds: readonly Uint8Array[];
}

/** A transaction in its segment: block, place in the block, and number in the history tree. */
export interface RecordPlace {
  readonly height: number;
  readonly transaction: number;
  readonly historyIndex: number;
  readonly position: Position;
}

/**
 * The index of one segment file: where its blocks are, their checksums, positions of all records,
 * transaction ids. But for the checksums all of it follows from the blocks. It is written beside the
 * segment when that is closed, and whenever blocks that were appended are made durable.
 */
export class SegmentIndex {
  readonly firstHeight: number;
  readonly firstRecord: number;
  readonly #offsets: number[] = [];
  readonly #lengths: number[] = [];
  readonly #sums: number[] = [];
  /** Number, in the segment, of each block's first record. */
  readonly #starts: number[] = [];
  readonly #positions: number[] = [];
  /** While the segment grows: id → number of its first record. */
  readonly #byId = new Map<string, number>();
  #bytes = 0;
  /** As it was read from its file, until it grows: ids with record numbers, sorted. */
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
  add(place: BlockPlace, { positions, txIds }: IndexedRecords): void {
    if (this.#sorted !== undefined) {
      for (const [id, record] of this.#ids()) this.#byId.set(id, record);
      this.#sorted = undefined;
    }
    this.#push(place);
    for (const [at, position] of positions.entries()) {
      this.#pushRecord(position, idOf(txIds[at] as Uint8Array));
    }
  }

  /** Notes a block that is damaged, so that nothing is known of its records. */
  addDamaged(place: BlockPlace): void {
    this.add(place, { positions: [], txIds: [] });
  }

  /** Records of damaged blocks that the next block counts. */
  skipRecords(count: number): void {
    for (let at = 0; at < count; at++) this.#pushRecord(0, undefined);
  }

  place(height: number): BlockPlace | undefined {
    const at = height - this.firstHeight;
    if (at < 0 || at >= this.blocks) return undefined;
    const [offset, length] = [this.#offsets[at] as number, this.#lengths[at] as number];
    return { offset, length, sum: this.#sums[at] as number };
  }

  /** Positions of a block's records. */
  positionsOf(height: number): readonly Position[] {
    const at = height - this.firstHeight;
    return this.#positions.slice(this.#starts[at], this.#starts[at + 1]).map(asPosition);
  }

  /** The index of as many blocks from the first on, at these places; some with other records. */
  moved(
    blocks: readonly { readonly place: BlockPlace; readonly records?: IndexedRecords }[],
  ): SegmentIndex {
    const made = new SegmentIndex(this.firstHeight, this.firstRecord);
    const ids = new Map([...this.#ids()].map(([id, record]) => [record, id]));
    for (const [at, { place, records }] of blocks.entries()) {
      if (records !== undefined) {
        made.add(place, records);
        continue;
      }
      made.#push(place);
      const end = this.#starts[at + 1] ?? this.records;
      for (let record = this.#starts[at] as number; record < end; record++) {
        made.#pushRecord(this.#positions[record] as number, ids.get(record));
      }
    }
    return made;
  }

  #push({ offset, length, sum }: BlockPlace): void {
    this.#offsets.push(offset);
    this.#lengths.push(length);
    this.#sums.push(sum);
    this.#starts.push(this.#positions.length);
    if (length > 0) this.#bytes = offset + length;
  }

  #pushRecord(position: number, id: string | undefined): void {
    // A repeated id is invalid; the first one is what counts.
    if (id !== undefined && !this.#byId.has(id)) this.#byId.set(id, this.#positions.length);
    this.#positions.push(position);
  }

  *#ids(): Generator<[id: string, record: number]> {
    const table = this.#sorted;
    if (table === undefined) {
      yield* this.#byId;
      return;
    }
    for (let at = 0; at < table.length; at += rowBytes) {
      yield [table.latin1Slice(at, at + idBytes), table.readUInt32BE(at + idBytes)];
    }
  }

  /** Block and transaction number of a record, by its number in the history tree. */
  placeOfRecord(number: number): BlockVersion {
    const record = number - this.firstRecord;
    const block = upperBound(this.#starts, record) - 1;
    const transaction = record - (this.#starts[block] as number);
    return { block: this.firstHeight + block, transaction };
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
    const writer = new ByteWriter(96 + this.blocks * 16 + this.records * 8 + table.length);
    writer.u8(indexVersion).u64(this.firstHeight).u64(this.firstRecord).u64(this.#bytes);
    writer.u32(this.blocks).u32(this.records);
    writer.u32(crc32(writer.view()));
    writer.u32(table.length / rowBytes);
    for (let at = 0; at < this.blocks; at++) {
      writer.u32(this.#offsets[at] as number).u32(this.#lengths[at] as number);
      writer.u32(this.#starts[at] as number).u32(this.#sums[at] as number);
    }
    for (const position of this.#positions) writer.u64(position);
    writer.raw(table);
    return writer.raw(checksum(writer.view())).finish();
  }

  /**
   * Reads {@link SegmentIndex.encode}'s bytes.
   *
   * @throws {DaybookError} `MALFORMED`, also of an older version: make it anew from the segment.
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
    reader.u32();
    const ids = reader.u32();
    for (let at = 0; at < blocks; at++) {
      index.#offsets.push(reader.u32());
      index.#lengths.push(reader.u32());
      index.#starts.push(reader.u32());
      index.#sums.push(reader.u32());
    }
    for (let at = 0; at < records; at++) index.#positions.push(reader.u64());
    index.#sorted = Buffer.from(reader.raw(ids * rowBytes));
    reader.finish();
    return index;
  }

  /**
   * Reads only the front of {@link SegmentIndex.encode}'s bytes. Of version 1 it is not checked.
   *
   * @throws {DaybookError} `MALFORMED`
   */
  static summary(bytes: Buffer): SegmentSummary {
    const reader = new ByteReader(bytes, 'block index');
    const version = reader.u8();
    if (version < 1 || version > indexVersion) reader.fail('unknown version');
    if (version > 1 && bytes.readUInt32BE(frontBytes) !== crc32(bytes.subarray(0, frontBytes))) {
      reader.fail('its front is damaged');
    }
    const [firstHeight, firstRecord, length] = [reader.u64(), reader.u64(), reader.u64()];
    const [blocks, records] = [reader.u32(), reader.u32()];
    return { firstHeight, blocks, records, firstRecord, bytes: length };
  }

  #recordPlace(record: number): RecordPlace {
    const historyIndex = this.firstRecord + record;
    const { block, transaction } = this.placeOfRecord(historyIndex);
    return {
      height: block,
      transaction,
      historyIndex,
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
