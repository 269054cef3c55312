import type { Bytestring } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import type { Position } from '../model/index.ts';
import type { BulkJob, Sweeper } from './bulk/index.ts';
import { type RowParts, type RowSettler, rowOf } from './row-settler.ts';

/** A step of going through rows: about a millisecond. */
const sliceRows = 64;
/** Rows that were worked out elsewhere are taken over in less. */
const asideRows = 128;
/** The larger part of the time between two steps: commits have the cores to themselves meanwhile. */
const pauseMs = 6;
/** Flushed so often while going through rows: a large flush would hold everybody up. */
const flushRows = 1_000;
const pageRows = 1_000;

/** What a {@link BulkSweep} works with. */
export interface BulkSweepOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly parts: RowParts;
  readonly settler: RowSettler;
  readonly startSweeper: (() => Sweeper) | undefined;
  /** Everything below is in the store. */
  readonly flushedTo: () => Position;
  /** Flushes once; never rejects. @returns how long to wait after one that failed. */
  readonly flush: () => Promise<number | undefined>;
}

/** Goes through the rows of bulk updates: at once, or in the background. */
export class BulkSweep {
  readonly #options: BulkSweepOptions;
  #running: Promise<void> | undefined;
  #sweeper: Sweeper | undefined;
  #stopping = false;

  constructor(options: BulkSweepOptions) {
    this.#options = options;
  }

  /** A normal update: all its rows at once. */
  sweepNow(job: BulkJob): void {
    const { parts, settler } = this.#options;
    for (const { start, end } of job.update.ranges) {
      for (let from = start; ; ) {
        const rows = parts.overlay.range(from, end, pageRows);
        for (const row of rows) settler.settleRow(row, undefined, Number.POSITIVE_INFINITY);
        job.seen += rows.length;
        const last = rows.at(-1);
        if (last === undefined || rows.length < pageRows) break;
        from = `${last.key}\0`;
      }
    }
    job.swept = true;
  }

  /** Begins to go through the rows of heavy updates, if there are any. */
  start(): void {
    const { bulk } = this.#options.parts;
    if (this.#running !== undefined || this.#stopping || bulk.jobs.length === 0) return;
    this.#running = this.#run().finally(() => {
      this.#running = undefined;
      this.#sweeper?.close();
      this.#sweeper = undefined;
    });
  }

  /** Ends it where it is; what is left to do comes after the next start of the node. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await this.#running;
  }

  /**
   * Heavy updates, in the background: goes through the store's rows in small steps with pauses, so
   * that commits hardly notice. Begins when all rows below the update are in the store.
   */
  async #run(): Promise<void> {
    const { io, parts, flush, flushedTo } = this.#options;
    const { bulk } = parts;
    let unflushed = 0;
    while (!this.#stopping && bulk.jobs.length > 0) {
      const job = bulk.jobs.find(({ swept }) => !swept);
      if (job === undefined || job.update.position >= flushedTo() || unflushed >= flushRows) {
        unflushed = 0;
        const waitMs = await flush();
        if (waitMs !== undefined) await pause(io, waitMs);
        continue;
      }
      unflushed += (await this.#sweepAside(job)) ?? this.#sweepSlice(job);
      await pause(io, pauseMs);
    }
  }

  /**
   * The next rows as the sweeper works them out.
   *
   * @returns rows updated; `undefined`: there is no sweeper.
   */
  async #sweepAside(job: BulkJob): Promise<number | undefined> {
    const { parts, settler, startSweeper } = this.#options;
    const range = job.update.ranges[job.range];
    if (startSweeper === undefined || range === undefined) return undefined;
    try {
      this.#sweeper ??= startSweeper();
      const { rows, seen, last } = await this.#sweeper.slice({
        updates: parts.bulk.jobs.map(({ update }) => update.recorded),
        start: job.cursor === '' ? range.start : job.cursor,
        end: range.end,
        limit: asideRows,
      });
      let updated = 0;
      for (const row of rows) if (settler.take(row)) updated++;
      advance(job, seen, last);
      return updated;
    } catch {
      // Its process is gone: this thread does the next rows, and then another process is tried.
      this.#sweeper?.close();
      this.#sweeper = undefined;
      return undefined;
    }
  }

  /** @returns rows updated. */
  #sweepSlice(job: BulkJob): number {
    const { parts, settler } = this.#options;
    const range = job.update.ranges[job.range];
    if (range === undefined) {
      job.swept = true;
      return 0;
    }
    const start = job.cursor === '' ? range.start : job.cursor;
    const rows = parts.store.range(start, range.end, sliceRows);
    let updated = 0;
    for (const stored of rows) {
      const write = parts.overlay.peek(stored.key);
      const row = write === undefined ? stored : rowOf(write);
      if (row === undefined) continue;
      if (settler.settleRow(row, write?.head, Number.POSITIVE_INFINITY)) updated++;
    }
    advance(job, rows.length, rows.length < sliceRows ? undefined : rows.at(-1)?.key);
    return updated;
  }
}

/** @param last - the last key seen; `undefined`: the range has been gone through. */
function advance(job: BulkJob, seen: number, last: Bytestring | undefined): void {
  job.seen += seen;
  if (last === undefined) {
    job.range++;
    job.cursor = '';
  } else {
    job.cursor = `${last}\0`;
  }
}
