import { ByteReader, type Bytestring, ByteWriter, limits } from '../../base/index.ts';
import type { Disk } from '../../io/index.ts';
import type { Position } from '../../model/index.ts';
import type { Row } from '../state.ts';
import {
  decodeRecordedUpdate,
  encodeRecordedUpdate,
  PendingUpdate,
  PendingUpdates,
  type RecordedUpdate,
} from './pending-updates.ts';
import type { SweptRow } from './sweeper.ts';
import { hadUpdatedRows, removeUpdatedRows, UpdatedRowsFile } from './updated-rows.ts';

/** One bulk update on its way through the rows. */
export interface BulkJob {
  readonly update: PendingUpdate;
  readonly file: UpdatedRowsFile;
  /** The range that is being gone through, and where in it. */
  range: number;
  cursor: Bytestring;
  /** Rows updated so far. */
  updated: number;
  /** Rows looked at so far by going through the ranges. */
  seen: number;
  /** All rows are updated; it is over once they are in the store. */
  swept: boolean;
}

/** How far a bulk update has come, for people to see. */
export interface BulkProgress {
  readonly position: Position;
  readonly rowsSeen: number;
  readonly rowsUpdated: number;
}

/** What one of the texts of {@link BulkWork.save} says. */
function decodeSaved(text: string): {
  readonly bytes: number;
  readonly rest: Pick<BulkJob, 'range' | 'cursor' | 'updated' | 'seen' | 'swept'>;
  readonly recorded: RecordedUpdate;
} {
  const reader = new ByteReader(Buffer.from(text, 'base64'), 'bulk update');
  const bytes = reader.u64();
  const rest = {
    range: reader.u32(),
    cursor: reader.bytestring(limits.keyBytesMax * 2),
    updated: reader.u64(),
    seen: reader.u64(),
    swept: reader.u8() === 1,
  };
  return { bytes, rest, recorded: decodeRecordedUpdate(reader) };
}

/** Positions of the updates that not all rows in the store have taken. @param saved - in its meta row. */
export function updatesUnderWay(saved: readonly string[] = []): Position[] {
  return saved
    .map(decodeSaved)
    .filter(({ rest }) => !rest.swept)
    .map(({ recorded }) => recorded.position);
}

/** The bulk updates of a state that its store has not taken whole. */
export class BulkWork {
  readonly pending = new PendingUpdates();
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #keepsRows: boolean;
  #jobs: BulkJob[] = [];

  private constructor(disk: Disk, directory: string, keepsRows: boolean) {
    this.#disk = disk;
    this.#directory = directory;
    this.#keepsRows = keepsRows;
  }

  /**
   * @param directory - where the rows go that each update changed, see `updated-rows.ts`.
   * @param saved - what {@link BulkWork.save} gave at the last flush.
   * @param keepsRows - false: nobody needs the rows of an update once all have taken it.
   */
  static async open(
    disk: Disk,
    directory: string,
    saved: readonly string[],
    keepsRows: boolean,
  ): Promise<BulkWork> {
    const work = new BulkWork(disk, directory, keepsRows);
    await disk.makeDirectory(directory);
    for (const text of saved) {
      const { bytes, rest, recorded } = decodeSaved(text);
      // It was over, and only the last word of it was lost.
      if (rest.swept && (await hadUpdatedRows(disk, directory, recorded.position, bytes))) continue;
      work.#add(recorded, bytes, rest);
    }
    return work;
  }

  /** In log order. */
  get jobs(): readonly BulkJob[] {
    return this.#jobs;
  }

  get progress(): BulkProgress[] {
    return this.#jobs.map(({ update, seen, updated }) => ({
      position: update.position,
      rowsSeen: seen,
      rowsUpdated: updated,
    }));
  }

  add(recorded: RecordedUpdate): BulkJob {
    return this.#add(recorded, 0, { range: 0, cursor: '', updated: 0, seen: 0, swept: false });
  }

  covers(key: Bytestring): boolean {
    return this.#jobs.length > 0 && this.pending.covers(key);
  }

  /**
   * Applies to a row what it has not taken of the updates below `before`.
   *
   * @param note - told each new value with the update that made it, in order.
   * @returns the row as it is then; the same object when nothing concerns it.
   */
  settle(row: Row, before: number, note: (update: RecordedUpdate, value: Bytestring) => void): Row {
    let now = row;
    for (const job of this.#jobs) {
      const { update } = job;
      if (update.position >= before) break;
      if (now.version >= update.position || !update.covers(now.key)) continue;
      const value = update.valueAfter(now.key, now.value);
      if (value === undefined) continue;
      now = { key: now.key, value, version: update.position };
      job.file.add(now.key, value);
      job.updated++;
      note(update.recorded, value);
    }
    return now;
  }

  /**
   * {@link BulkWork.settle} of a row for which it was worked out elsewhere.
   *
   * @param note - told each new value with the update that made it, in order.
   * @returns the last of them; `undefined`: the row stays.
   */
  take(
    { key, steps }: SweptRow,
    note: (update: RecordedUpdate, value: Bytestring) => void,
  ): SweptRow['steps'][number] | undefined {
    let last: SweptRow['steps'][number] | undefined;
    for (const step of steps) {
      const job = this.#jobs.find(({ update }) => update.position === step.position);
      if (job === undefined) continue;
      job.file.add(key, step.value);
      job.updated++;
      note(job.update.recorded, step.value);
      last = step;
    }
    return last;
  }

  /**
   * The jobs as they are at this very moment, for the store's meta row, once their files are
   * written.
   */
  async save(): Promise<string[]> {
    const saved = this.#jobs.map(({ update, file, range, cursor, updated, seen, swept }) => {
      const writer = new ByteWriter(512);
      writer.u32(range).bytestring(cursor).u64(updated).u64(seen);
      writer.u8(swept ? 1 : 0);
      encodeRecordedUpdate(writer, update.recorded);
      return { bytes: file.flush(), rest: writer.finish() };
    });
    const written = await Promise.allSettled(saved.map(({ bytes }) => bytes));
    return saved.map(({ rest }, at) => {
      const result = written[at] as PromiseSettledResult<number>;
      if (result.status === 'rejected') throw result.reason;
      return new ByteWriter(16).u64(result.value).raw(rest).finish().toString('base64');
    });
  }

  /** Ends jobs whose rows are all in the store. */
  async complete(jobs: readonly BulkJob[]): Promise<void> {
    for (const job of jobs) {
      await job.file.complete();
      if (!this.#keepsRows) await removeUpdatedRows(this.#disk, this.#directory, job.update);
      this.#jobs = this.#jobs.filter((other) => other !== job);
      this.pending.remove(job.update.position);
    }
  }

  async close(): Promise<void> {
    for (const { file } of this.#jobs) await file.close();
  }

  #add(
    recorded: RecordedUpdate,
    bytes: number,
    rest: Pick<BulkJob, 'range' | 'cursor' | 'updated' | 'seen' | 'swept'>,
  ): BulkJob {
    const update = new PendingUpdate(recorded);
    const file = new UpdatedRowsFile(this.#disk, this.#directory, recorded.position, bytes);
    const job: BulkJob = { update, file, ...rest };
    this.#jobs.push(job);
    this.pending.add(update);
    return job;
  }
}
