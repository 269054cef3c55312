import { crc32 } from 'node:zlib';
import {
  assert,
  type Bytestring,
  ByteWriter,
  bytestringOf,
  DaybookError,
  limits,
} from '../../base/index.ts';
import type { Disk, DiskFile } from '../../io/index.ts';
import type { Position } from '../../model/index.ts';
import type { StateWrite } from '../state.ts';

/*
 * The rows that one bulk update changed, as it left them: what the state tree needs at the switch.
 * Which rows those are, and their values, follow from the log alone; their order in the file does
 * not. A row: bytestring key, bytestring value, CRC-32 of both, since a wrong row would be a wrong state
 * root; the highest bit of the key's length says that the checksum is there, which older versions did not
 * write. `POSITION.part` grows while the update goes on, `POSITION.rows` is complete and never changes.
 */

const readBytes = 1024 * 1024;
const summedBit = 0x8000_0000;
const rowBytesMax = 12 + limits.keyBytesMax + limits.nameBytesMax + 1 + limits.valueBytesMax;

/** The file of one update in the state's directory. */
export class UpdatedRowsFile {
  readonly #disk: Disk;
  readonly #path: string;
  readonly #pending = new ByteWriter(64 * 1024);
  #file: DiskFile | undefined;
  #written: number;
  #flushing: Buffer | undefined;

  /** @param bytes - how much of a file that is there counts; the rows behind come again. */
  constructor(disk: Disk, directory: string, position: Position, bytes: number) {
    this.#disk = disk;
    this.#path = `${directory}/${position}`;
    this.#written = bytes;
  }

  /** Not flushed yet. */
  get pendingBytes(): number {
    return this.#pending.length;
  }

  add(key: Bytestring, value: Bytestring): void {
    const pending = this.#pending;
    const start = pending.length;
    pending.bytestring(key).bytestring(value);
    pending.patchU32(start, key.length + summedBit);
    pending.u32(crc32(pending.view(start)));
  }

  /** Writes what is pending at this very moment. @returns the file's length then. */
  async flush(): Promise<number> {
    // After a failure the same bytes are still there and go to the same place again.
    if (this.#pending.length > 0) {
      const fresh = this.#pending.finish();
      this.#pending.reset();
      this.#flushing =
        this.#flushing === undefined ? fresh : Buffer.concat([this.#flushing, fresh]);
    }
    if (this.#flushing !== undefined) {
      const file = await this.#open();
      await file.write([this.#flushing], this.#written);
      this.#written += this.#flushing.length;
      this.#flushing = undefined;
    }
    return this.#written;
  }

  /** Makes durable what is flushed. */
  async sync(): Promise<void> {
    await (await this.#open()).sync();
  }

  /** Declares the file complete. */
  async complete(): Promise<void> {
    assert(this.#pending.length === 0, 'all rows are flushed before the file is complete');
    // Not synced: like the store, it survives the process, and the state is discarded whole after the
    // machine stopped. A sync of so much at once would hold up the log's.
    await this.#open();
    await this.close();
    await this.#disk.rename(`${this.#path}.part`, `${this.#path}.rows`);
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  async #open(): Promise<DiskFile> {
    if (this.#file === undefined) {
      this.#file = await this.#disk.open(`${this.#path}.part`, { create: true });
      await this.#file.truncate(this.#written);
    }
    return this.#file;
  }
}

/** Writes a complete file at once, durably. */
export async function writeUpdatedRows(
  disk: Disk,
  directory: string,
  position: Position,
  rows: Iterable<{ readonly key: Bytestring; readonly value: Bytestring }>,
): Promise<void> {
  const file = new UpdatedRowsFile(disk, directory, position, 0);
  for (const { key, value } of rows) {
    file.add(key, value);
    if (file.pendingBytes >= readBytes) await file.flush();
  }
  await file.flush();
  await file.sync();
  await file.complete();
}

/**
 * Tells whether an update's file was complete once: it may have been taken away since.
 *
 * @param bytes - how long it is.
 */
export async function hadUpdatedRows(
  disk: Disk,
  directory: string,
  position: Position,
  bytes: number,
): Promise<boolean> {
  const names = await disk.list(directory);
  return names.includes(`${position}.rows`) || (bytes > 0 && !names.includes(`${position}.part`));
}

/** The updates with complete files. */
export async function updatesWithRows(disk: Disk, directory: string): Promise<Set<Position>> {
  const names = await disk.list(directory);
  return new Set(names.map(updateOf).filter((position) => position !== undefined));
}

function updateOf(name: string): Position | undefined {
  const digits = /^(\d+)\.rows$/.exec(name)?.[1];
  return digits === undefined ? undefined : (Number(digits) as Position);
}

/** Moves an update's complete file to another directory, where it is durable. */
export async function moveUpdatedRows(
  disk: Disk,
  position: Position,
  from: string,
  to: string,
): Promise<void> {
  const name = `${position}.rows`;
  const file = await disk.open(`${from}/${name}`);
  await file.sync().finally(() => file.close());
  await disk.makeDirectory(to);
  await disk.rename(`${from}/${name}`, `${to}/${name}`);
}

/** Removes an update's complete file: nobody needs its rows any more. */
export async function removeUpdatedRows(
  disk: Disk,
  directory: string,
  { position }: { readonly position: Position },
): Promise<void> {
  await disk.remove(`${directory}/${position}.rows`);
}

/**
 * Removes the complete files of the updates before a position.
 *
 * @param except - positions of those whose rows are still needed.
 */
export async function removeUpdatedRowsBefore(
  disk: Disk,
  directory: string,
  before: Position,
  except: readonly Position[],
): Promise<void> {
  for (const position of await updatesWithRows(disk, directory)) {
    if (position < before && !except.includes(position)) {
      await removeUpdatedRows(disk, directory, { position });
    }
  }
}

/** A complete file of rows, open. */
export interface UpdatedRows {
  /**
   * The rows in arrays: writes of the update's version. Each reads from the beginning.
   *
   * @throws {DaybookError} `BULK_ROWS_GONE` where they are not what was written.
   */
  rows(): Iterable<StateWrite[]>;
  close(): Promise<void>;
}

/** Opens the rows that an update changed; `undefined` as long as it has not gone through all. */
export async function openUpdatedRows(
  disk: Disk,
  directory: string,
  position: Position,
): Promise<UpdatedRows | undefined> {
  if (!(await updatesWithRows(disk, directory)).has(position)) return undefined;
  const file = await disk.open(`${directory}/${position}.rows`);
  const size = await file.size();
  return { rows: () => rowsIn(file, size, position), close: () => file.close() };
}

function* rowsIn(file: DiskFile, size: number, position: Position): Generator<StateWrite[]> {
  let rest = Buffer.alloc(0);
  for (let offset = 0; offset < size; ) {
    const fresh = Buffer.allocUnsafe(Math.min(readBytes, size - offset));
    const count = file.readSync(fresh, offset);
    if (count === 0) throw damagedRows(position);
    offset += count;
    const bytes = Buffer.concat([rest, fresh.subarray(0, count)]);
    const writes: StateWrite[] = [];
    let at = 0;
    for (let end = rowEnd(bytes, at); end !== undefined; end = rowEnd(bytes, at)) {
      writes.push(readRow(bytes.subarray(at, end), position));
      at = end;
    }
    rest = bytes.subarray(at);
    if (rest.length > rowBytesMax) throw damagedRows(position);
    yield writes;
  }
  if (rest.length > 0) throw damagedRows(position);
}

/** Where the row that begins at `at` ends; `undefined`: not in these bytes. */
function rowEnd(bytes: Buffer, at: number): number | undefined {
  if (bytes.length < at + 4) return undefined;
  const head = bytes.readUInt32BE(at);
  const valueAt = at + 4 + (head % summedBit);
  if (bytes.length < valueAt + 4) return undefined;
  const end = valueAt + 4 + bytes.readUInt32BE(valueAt) + (head < summedBit ? 0 : 4);
  return bytes.length < end ? undefined : end;
}

function readRow(row: Buffer, version: Position): StateWrite {
  const head = row.readUInt32BE(0);
  const end = row.length - (head < summedBit ? 0 : 4);
  if (end < row.length && crc32(row.subarray(0, end)) !== row.readUInt32BE(end)) {
    throw damagedRows(version);
  }
  const valueAt = 4 + (head % summedBit);
  const key = bytestringOf(row.subarray(4, valueAt));
  return { key, value: bytestringOf(row.subarray(valueAt + 4, end)), version };
}

function damagedRows(position: Position): DaybookError {
  return new DaybookError(
    'BULK_ROWS_GONE',
    `the rows of the bulk update at ${position} are damaged`,
    { details: { position } },
  );
}
