import { type Bytestring, ByteWriter, DaybookError } from '../base/index.ts';
import type { Disk, DiskFile } from '../io/index.ts';
import type { Position } from '../model/index.ts';
import type { HistoryRow } from './state.ts';
import type { HistoryHead } from './store.ts';

const headerBytes = 8 + 8 + 8 + 32 + 1 + 4;
/** Read in one go: a header and a usual value. */
const guessBytes = 512;

/**
 * The history of all keys in one file that only grows. A row: head of the previous row of the key,
 * position, time, transaction id, value. Rows of a key are chained, newest first; the head of each
 * chain is kept with the key (see {@link HistoryHead}), so a write costs one sequential append.
 */
export class HistoryFile {
  readonly #file: DiskFile;
  /** Bytes that are in the file. */
  #written: number;
  /** What is being written right now, and what came since. */
  #flushing: Buffer | undefined;
  readonly #pending = new ByteWriter(1024 * 1024);

  private constructor(file: DiskFile, written: number) {
    this.#file = file;
    this.#written = written;
  }

  /** Opens the file and cuts off everything behind `bytes`: it will be written again. */
  static async open(disk: Disk, path: string, bytes: number): Promise<HistoryFile> {
    const file = await disk.open(path, { create: true });
    const size = await file.size();
    if (size < bytes) {
      await file.close();
      throw new DaybookError('STATE_DAMAGED', `the history has ${size} bytes instead of ${bytes}`);
    }
    if (size > bytes) await file.truncate(bytes);
    return new HistoryFile(file, bytes);
  }

  /** Bytes not yet in the file. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  /** Adds a row; `value` undefined: deleted. @returns the key's new head. */
  append(
    previous: HistoryHead,
    position: Position,
    timestampMs: number,
    txId: Uint8Array,
    value: Bytestring | undefined,
  ): HistoryHead {
    const writer = this.#pending;
    const offset = this.#pendingStart() + writer.length;
    writer.u64(previous).u64(position).u64(timestampMs).raw(txId);
    if (value === undefined) writer.u8(0).u32(0);
    else writer.u8(1).bytestring(value);
    return offset + 1;
  }

  /** At most `limit` rows from `head` on, and the head to go on with (0: no more). */
  read(head: HistoryHead, limit: number): { rows: HistoryRow[]; next: HistoryHead } {
    const rows: HistoryRow[] = [];
    let next = head;
    while (next !== 0 && rows.length < limit) {
      const { row, previous } = this.#row(next - 1);
      rows.push(row);
      next = previous;
    }
    return { rows, next };
  }

  /** Writes what is pending to the file. @returns the file's length then, once it is written. */
  async flush(): Promise<number> {
    // After a failure the same bytes are still there and go to the same place again.
    if (this.#pending.length > 0) {
      const fresh = this.#pending.finish();
      this.#flushing =
        this.#flushing === undefined ? fresh : Buffer.concat([this.#flushing, fresh]);
      this.#pending.reset();
    }
    if (this.#flushing !== undefined) {
      await this.#file.write([this.#flushing], this.#written);
      this.#written += this.#flushing.length;
      this.#flushing = undefined;
    }
    return this.#written;
  }

  async close(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
  }

  #pendingStart(): number {
    return this.#written + (this.#flushing?.length ?? 0);
  }

  #row(offset: number): { row: HistoryRow; previous: HistoryHead } {
    let bytes = this.#bytes(offset, guessBytes);
    if (bytes.length < headerBytes) throw damaged(offset);
    const length = bytes.readUInt32BE(headerBytes - 4);
    if (bytes.length < headerBytes + length) {
      bytes = this.#bytes(offset, headerBytes + length);
      if (bytes.length < headerBytes + length) throw damaged(offset);
    }
    const previous = readU64(bytes, 0);
    if (previous > offset) throw damaged(offset);
    return {
      previous,
      row: {
        version: readU64(bytes, 8) as Position,
        timestampMs: readU64(bytes, 16),
        txId: bytes.toString('hex', 24, 56),
        value: bytes[56] === 0 ? undefined : bytes.latin1Slice(headerBytes, headerBytes + length),
      },
    };
  }

  #bytes(offset: number, count: number): Buffer {
    const pendingStart = this.#pendingStart();
    if (offset >= pendingStart) {
      const at = offset - pendingStart;
      return this.#pending.view().subarray(at, at + count);
    }
    if (offset >= this.#written && this.#flushing !== undefined) {
      const at = offset - this.#written;
      return this.#flushing.subarray(at, at + count);
    }
    const target = Buffer.allocUnsafe(count);
    return target.subarray(0, this.#file.readSync(target, offset));
  }
}

function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32BE(at) * 0x1_0000_0000 + bytes.readUInt32BE(at + 4);
}

function damaged(offset: number): DaybookError {
  return new DaybookError('STATE_DAMAGED', `the history is damaged at byte ${offset}`, {
    details: { offset },
  });
}
