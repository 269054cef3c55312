import { crc32 } from 'node:zlib';
import {
  ByteReader,
  type Bytestring,
  ByteWriter,
  DaybookError,
  limits,
  toDaybookError,
} from '../base/index.ts';
import type { Disk, DiskFile, Io } from '../io/index.ts';
import { asAddress, asPosition, sha256 } from '../model/index.ts';
import { openLmdbStore } from './lmdb-store.ts';
import type { BlockEndView, State, StateSettings } from './replica-state.ts';
import type { Row } from './state.ts';
import type { StoredWrite, StoreMeta } from './store.ts';
import { newSalt, TransactionIndex } from './transaction-index.ts';

/*
 * A snapshot file: magic 'daybook snapshot 1\n', then chunks: u32 length of the payload, u32 CRC-32
 * of it, payload. A payload starts with its kind:
 *   1 head  JSON of SnapshotHead
 *   2 rows  (key, version u64, value)…, all rows of the state in key order
 *   3 ids   (first 16 bytes of the transaction id, position u64)…: what may not be repeated
 *   4 end   JSON of SnapshotEnd
 * The file holds rows and duplicates check only: history, and look-ups of older transactions,
 * begin anew with the state that is restored from it.
 */

/** What a snapshot says about itself. */
export interface SnapshotHead {
  readonly channel: string;
  /** First address that is not in the snapshot. */
  readonly nextAddress: number;
  readonly logTimeMs: number;
  readonly horizonMs: number;
  /** No transaction noted in the snapshot has a later timestamp. */
  readonly greatestTimestampMs: number;
}

/** What stands at the end of a snapshot. */
export interface SnapshotEnd {
  readonly rows: number;
  readonly transactions: number;
  /** SHA-256 chained over the chunks of rows, hexadecimal: equal on all nodes at equal address. */
  readonly rowsDigest: string;
}

const magic = Buffer.from('daybook snapshot 1\n');
const kinds = { head: 1, rows: 2, ids: 3, end: 4 } as const;
const pageRows = 2_000;
/** Chunks are cut by rows alone, so that equal states give equal chunks. */
const chunkBytes = 1024 * 1024;
const commitRows = 50_000;

/**
 * Writes a snapshot of what is applied so far, while applying goes on.
 *
 * @param path - the file; it appears only when it is complete.
 * @throws {DaybookError} `IO_FAILED`, `DISK_FULL`
 */
export async function writeSnapshot(
  state: State,
  disk: Disk,
  path: string,
  channel: string,
): Promise<SnapshotHead & SnapshotEnd> {
  const { store, transactions, settled } = await state.snapshotParts();
  const view = { window: transactions.window(), store: store.snapshot() };
  return await writeView(view, settled, disk, path, channel);
}

/**
 * {@link writeSnapshot} of the state at the end of a block: its rows are exactly those of a state
 * root, so that whoever gets it can check it against what nodes have signed.
 *
 * @param waitMs - how long to wait for such a moment.
 * @throws {DaybookError} `TIMEOUT`, `IO_FAILED`, `DISK_FULL`
 */
export async function writeBlockEndSnapshot(
  state: State,
  disk: Disk,
  path: string,
  channel: string,
  waitMs: number,
): Promise<SnapshotHead & SnapshotEnd> {
  const view = await state.viewAtBlockEnd(waitMs);
  const asTheyAre = (row: Row): Row => row;
  return await writeView(view, asTheyAre, disk, path, channel);
}

async function writeView(
  { store: view, window }: BlockEndView,
  settled: (row: Row, before: number) => Row,
  disk: Disk,
  path: string,
  channel: string,
): Promise<SnapshotHead & SnapshotEnd> {
  const partial = `${path}.partial`;
  await disk.remove(partial);
  const file = await disk.open(partial, { create: true });
  try {
    const { meta } = view;
    const head: SnapshotHead = {
      channel,
      nextAddress: meta?.nextAddress ?? 0,
      logTimeMs: meta?.logTimeMs ?? 0,
      horizonMs: meta?.horizonMs ?? 0,
      greatestTimestampMs: window.greatestTimestampMs,
    };
    const output = new ChunkOutput(file);
    await output.begin();
    await output.json(kinds.head, head);
    const before = head.nextAddress * limits.recordsPerEntryMax;
    const rows = await writeRows(output, (start) =>
      view.page(start, pageRows).map((row) => settled(row, before)),
    );
    const noted = await writeIds(output, window.transactions(), head.nextAddress);
    const end: SnapshotEnd = { ...rows, transactions: noted };
    await output.json(kinds.end, end);
    await file.sync();
    await disk.rename(partial, path);
    return { ...head, ...end };
  } finally {
    view.release();
    await file.close();
  }
}

async function writeRows(
  output: ChunkOutput,
  page: (start: Bytestring) => { key: Bytestring; version: number; value: Bytestring }[],
): Promise<{ rows: number; rowsDigest: string }> {
  const writer = new ByteWriter(chunkBytes * 2).u8(kinds.rows);
  let rows = 0;
  let digest = sha256(new Uint8Array());
  const cut = async (): Promise<void> => {
    digest = sha256(digest, writer.view());
    await output.chunk(writer.view());
    writer.reset();
    writer.u8(kinds.rows);
  };
  for (let start = ''; ; ) {
    const found = page(start);
    for (const { key, version, value } of found) {
      writer.bytestring(key).u64(version).bytestring(value);
      rows++;
      if (writer.length >= chunkBytes) await cut();
    }
    const last = found.at(-1);
    if (last === undefined) break;
    start = `${last.key}\0`;
  }
  if (writer.length > 1) await cut();
  return { rows, rowsDigest: digest.toString('hex') };
}

async function writeIds(
  output: ChunkOutput,
  transactions: AsyncIterable<{ id: Buffer; position: number }>,
  nextAddress: number,
): Promise<number> {
  const writer = new ByteWriter(chunkBytes).u8(kinds.ids);
  const end = nextAddress * limits.recordsPerEntryMax;
  let count = 0;
  for await (const { id, position } of transactions) {
    // Applied after the rows were frozen: the log has it.
    if (position >= end) continue;
    writer.raw(id).u64(position);
    count++;
    if (writer.length >= chunkBytes) {
      await output.chunk(writer.view());
      writer.reset();
      writer.u8(kinds.ids);
    }
  }
  if (writer.length > 1) await output.chunk(writer.view());
  return count;
}

/**
 * Checks a whole snapshot file.
 *
 * @throws {DaybookError} `SNAPSHOT_INVALID`, `NOT_FOUND`
 */
export async function checkSnapshot(disk: Disk, path: string): Promise<SnapshotHead & SnapshotEnd> {
  return await readSnapshot(disk, path, { rows: nothing, ids: nothing });
}

/**
 * Makes a state directory out of a snapshot; `openState` then goes on from its address. The file is
 * checked as a whole first; the directory is replaced only when all is done.
 *
 * @param settings - as the state will be opened with.
 * @throws {DaybookError} `SNAPSHOT_INVALID` when the file is damaged or of another channel.
 */
export async function restoreSnapshot(
  io: Pick<Io, 'disk' | 'random'>,
  path: string,
  directory: string,
  channel: string,
  settings: StateSettings = {},
): Promise<SnapshotHead & SnapshotEnd> {
  const { disk } = io;
  const { openStore = openLmdbStore, transactionSegmentIdsMax: segmentIdsMax } = settings;
  const checked = await checkSnapshot(disk, path);
  if (checked.channel !== channel) {
    throw new DaybookError('SNAPSHOT_INVALID', `the snapshot is of channel ${checked.channel}`, {
      details: { channel: checked.channel },
    });
  }
  const fresh = `${directory}.restoring`;
  await disk.remove(fresh);
  await disk.makeDirectory(`${fresh}/rows`);
  await disk.makeDirectory(`${fresh}/transactions`);
  const target = openStore(fresh);
  const index = await TransactionIndex.open(disk, `${fresh}/transactions`, undefined, 0, {
    salt: newSalt(io.random),
    ...(segmentIdsMax === undefined ? {} : { segmentIdsMax }),
  });
  const { logTimeMs, horizonMs, greatestTimestampMs } = checked;
  let meta: StoreMeta = {
    formatVersion: 1,
    // Until the last commit this is an empty state that has not seen anything.
    nextAddress: asAddress(0),
    startAddress: asAddress(0),
    logTimeMs: 0,
    horizonMs: 0,
    historyBytes: 0,
    transactions: { segments: [], tail: 0, tailBytes: 0, salt: 1 },
  };
  let writes: StoredWrite[] = [];
  const commit = async (): Promise<void> => {
    const batch = writes;
    writes = [];
    await target.commit({ writes: batch, entries: [], meta });
  };
  await readSnapshot(disk, path, {
    rows: async (reader) => {
      while (reader.remaining > 0) {
        const key = reader.bytestring(limits.keyBytesMax + limits.nameBytesMax + 1);
        const version = asPosition(reader.u64());
        writes.push({ key, value: reader.bytestring(limits.valueBytesMax), version, head: 0 });
      }
      if (writes.length >= commitRows) await commit();
    },
    ids: async (reader) => {
      while (reader.remaining > 0) {
        const id = reader.raw(16);
        index.add(id, greatestTimestampMs, asPosition(reader.u64()), 0);
      }
      const { expired } = await index.flush(logTimeMs, horizonMs);
      await expired();
    },
  });
  const { files } = await index.flush(logTimeMs, horizonMs);
  const nextAddress = asAddress(checked.nextAddress);
  meta = {
    ...meta,
    nextAddress,
    startAddress: nextAddress,
    logTimeMs,
    horizonMs,
    transactions: files,
  };
  await commit();
  await target.close();
  await index.close();
  await disk.remove(directory);
  await disk.rename(fresh, directory);
  return checked;
}

type ChunkReader = (reader: ByteReader) => Promise<void>;

const nothing: ChunkReader = () => Promise.resolve();

async function readSnapshot(
  disk: Disk,
  path: string,
  take: { readonly rows: ChunkReader; readonly ids: ChunkReader },
): Promise<SnapshotHead & SnapshotEnd> {
  const file = await disk.open(path);
  try {
    const input = new ChunkInput(file);
    await input.begin();
    let head: SnapshotHead | undefined;
    let digest = sha256(new Uint8Array());
    for (;;) {
      const payload = await input.chunk();
      const reader = new ByteReader(payload, 'snapshot');
      const kind = reader.u8();
      const json = (): unknown => JSON.parse(reader.raw(reader.remaining).toString('utf8'));
      if (kind === kinds.head && head === undefined) head = json() as SnapshotHead;
      else if (kind === kinds.rows && head !== undefined) {
        digest = sha256(digest, payload);
        await take.rows(reader);
      } else if (kind === kinds.ids && head !== undefined) await take.ids(reader);
      else if (kind === kinds.end && head !== undefined) {
        const end = json() as SnapshotEnd;
        await input.finish();
        if (end.rowsDigest !== digest.toString('hex')) throw damaged('the digest differs');
        return { ...head, ...end };
      } else throw damaged(`a chunk of kind ${kind}`);
    }
  } catch (error) {
    const { code } = toDaybookError(error);
    if (code === 'MALFORMED' || error instanceof SyntaxError) {
      throw new DaybookError('SNAPSHOT_INVALID', 'the snapshot is malformed', { cause: error });
    }
    throw error;
  } finally {
    await file.close();
  }
}

class ChunkOutput {
  readonly #file: DiskFile;
  #offset = 0;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  async begin(): Promise<void> {
    await this.#write([magic]);
  }

  async json(kind: number, value: object): Promise<void> {
    await this.chunk(Buffer.concat([Buffer.of(kind), Buffer.from(JSON.stringify(value))]));
  }

  async chunk(payload: Buffer): Promise<void> {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(payload.length, 0);
    header.writeUInt32BE(crc32(payload), 4);
    await this.#write([header, payload]);
  }

  async #write(parts: readonly Buffer[]): Promise<void> {
    await this.#file.write(parts, this.#offset);
    for (const part of parts) this.#offset += part.length;
  }
}

class ChunkInput {
  readonly #file: DiskFile;
  #offset = 0;

  constructor(file: DiskFile) {
    this.#file = file;
  }

  async begin(): Promise<void> {
    if (!(await this.#read(magic.length)).equals(magic)) throw damaged('not a snapshot');
  }

  async chunk(): Promise<Buffer> {
    const header = await this.#read(8);
    const length = header.readUInt32BE(0);
    if (length === 0 || length > limits.snapshotChunkBytesMax) throw damaged('a chunk’s length');
    const payload = await this.#read(length);
    if (crc32(payload) !== header.readUInt32BE(4)) throw damaged('a chunk’s checksum');
    return payload;
  }

  async finish(): Promise<void> {
    if ((await this.#file.size()) !== this.#offset) throw damaged('bytes after the end');
  }

  async #read(count: number): Promise<Buffer> {
    const target = Buffer.allocUnsafe(count);
    if ((await this.#file.read(target, this.#offset)) !== count) throw damaged('ends early');
    this.#offset += count;
    return target;
  }
}

function damaged(what: string): DaybookError {
  return new DaybookError('SNAPSHOT_INVALID', `the snapshot is damaged: ${what}`, {
    details: { what },
  });
}
