import { DaybookError } from '../../base/index.ts';
import type { ChangeRecord } from '../change.ts';
import type { SinkPosition } from '../follower-core.ts';
import type { MappedChange } from '../processor.ts';
import type { OrphanRow } from './orphans.ts';

/** A change that the system, or the processor, refused; or one of the same entity behind it. */
export interface ParkedChange {
  readonly change: ChangeRecord;
  readonly reason: string;
  /** False: left out for good (policy `skip`), noted only. */
  readonly waits: boolean;
}

/** What goes into the system in one transaction. */
export interface SinkBatch {
  readonly changes: readonly MappedChange[];
  readonly parked: readonly ParkedChange[];
}

/** What a sink tells when it is opened. */
export interface SinkState {
  /** `undefined`: never filled. */
  readonly at: SinkPosition | undefined;
  /** Entities (`entityOf`) that have parked changes. */
  readonly parked: readonly string[];
}

/**
 * A system that changes are posted to. All methods throw `SINK_UNAVAILABLE` for an outage and
 * `SINK_REFUSED` when the system refuses the rows; after either the sink is opened again.
 */
export interface Sink {
  /** Connects, makes what is missing, and tells where the system stands. May be called again. */
  open(): Promise<SinkState>;
  /**
   * Brings rows and cursor into the system, both or none.
   *
   * @param from - where the system stands. @throws {DaybookError} `SINK_FENCED` when it does not.
   */
  apply(from: number, batch: SinkBatch, at: SinkPosition): Promise<void>;
  /**
   * Tries changes without keeping anything of them.
   *
   * @param whole - they end with a whole commit, so that all constraints must hold after them.
   * @throws {DaybookError} `SINK_REFUSED`
   */
  tryOut(changes: readonly MappedChange[], whole: boolean): Promise<void>;
  /**
   * Replaces everything in the system by what the batches hold, in one transaction if the system has
   * such: its readers see the old content until all is there.
   *
   * @throws {DaybookError} `SINK_REFUSED` also when references do not hold at its end, after
   *   `hooks.orphans`.
   */
  fill(batches: AsyncIterable<FillBatch>, hooks: FillHooks): Promise<SinkPosition>;
  /** Parked changes that wait, in log order. */
  readParked(): Promise<readonly ParkedChange[]>;
  /** Takes changes out of the parked ones, with the rows that they now make. */
  unpark(batch: SinkBatch, taken: readonly ChangeRecord[]): Promise<void>;
  close(): Promise<void>;
}

/** Whom a sink asks while it fills. */
export interface FillHooks {
  /** Tells what is left of a batch that the system refused; throws to give up. */
  refused(batch: SinkBatch, error: DaybookError): Promise<SinkBatch>;
  /** Hears which rows refer to nothing at the end of the fill. */
  orphans(rows: readonly OrphanRow[]): void;
}

/** A part of a fill. */
export interface FillBatch extends SinkBatch {
  /**
   * No row gets a greater revision: a scan is not of one moment, so changes that are older than
   * some of its rows follow it, and must count.
   */
  readonly revisionMax: number;
  /** With the last part: where the system stands after it. */
  readonly at?: SinkPosition;
}

/** An outage. */
export function unavailable(what: string, cause: unknown): DaybookError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new DaybookError('SINK_UNAVAILABLE', `${what}: ${why}`, { cause });
}

/** A refusal of the rows. */
export function refused(what: string, cause: unknown): DaybookError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const code = (cause as { code?: unknown }).code;
  return new DaybookError('SINK_REFUSED', `${what}: ${why}`, {
    cause,
    details: { code: typeof code === 'string' ? code : undefined },
  });
}
