import { DaybookError } from '../base/index.ts';
import type { ChangeRecord } from './change.ts';
import { changeId, entityOf } from './change.ts';
import {
  type MappedChange,
  mapChange,
  type Processor,
  type TableDeclaration,
} from './processor.ts';
import { writesOrphan } from './sinks/orphans.ts';
import type { ParkedChange, Sink, SinkBatch } from './sinks/sink.ts';

/**
 * What happens to a change that the processor or the system refuses. `stop`: the follower ends with
 * the error. `skip`: the change is noted and left out. `park`: it is kept in the system's own
 * database, and later changes of the same entity behind it, until they are tried again.
 */
export type PoisonPolicy = 'stop' | 'skip' | 'park';

/** What a processor made of a change, or why it could not. */
type Mapped = MappedChange | DaybookError;

/** Turns changes into a batch, leaves poison records out, and finds them when the system refuses. */
export class PoisonFilter {
  readonly #processor: Processor;
  readonly #tables: ReadonlyMap<string, TableDeclaration>;
  readonly #policy: PoisonPolicy;
  readonly #parked: Set<string>;
  readonly #orphans: ReadonlySet<string>;
  readonly #prepared = new WeakMap<readonly ChangeRecord[], readonly Mapped[]>();

  /** @param orphans - rows (`orphanName`) whose writers are poison, while a fill is repeated. */
  constructor(
    processor: Processor,
    tables: readonly TableDeclaration[],
    policy: PoisonPolicy,
    parked: readonly string[],
    orphans: ReadonlySet<string> = new Set(),
  ) {
    this.#processor = processor;
    this.#tables = new Map(tables.map((table) => [table.name, table]));
    this.#policy = policy;
    this.#parked = new Set(parked);
    this.#orphans = orphans;
  }

  /** Maps changes that {@link PoisonFilter.batch} will be asked for: there is time for it now. */
  prepare(changes: readonly ChangeRecord[]): void {
    this.#prepared.set(
      changes,
      changes.map((change) => this.#map(change)),
    );
  }

  /**
   * Maps changes, but for those behind a parked one.
   *
   * @throws {DaybookError} `PROCESSOR_FAILED` with policy `stop`
   */
  batch(changes: readonly ChangeRecord[]): SinkBatch {
    const mapped: MappedChange[] = [];
    const parked: ParkedChange[] = [];
    const prepared = this.#prepared.get(changes);
    changes.forEach((change, at) => {
      if (this.#parked.size > 0 && this.#parked.has(entityOf(change))) {
        parked.push(behind(change));
        return;
      }
      const made = prepared?.[at] ?? this.#map(change);
      if (made instanceof DaybookError) parked.push(this.#poison(change, made));
      else if (
        this.#orphans.size > 0 &&
        writesOrphan(made.operations, this.#tables, this.#orphans)
      ) {
        const error = new DaybookError('SINK_REFUSED', 'it refers to a row that is not there');
        parked.push(this.#poison(change, error));
      } else mapped.push(made);
    });
    return { changes: mapped, parked };
  }

  /**
   * Finds, by bisection, the changes that made the system refuse a batch.
   *
   * @returns the batch without them.
   * @throws {DaybookError} `SINK_REFUSED` with policy `stop`, naming the change; `SINK_UNAVAILABLE`
   */
  async isolate(
    sink: Pick<Sink, 'tryOut'>,
    batch: SinkBatch,
    error: DaybookError,
  ): Promise<SinkBatch> {
    let { changes } = batch;
    const parked = [...batch.parked];
    for (let refusal: DaybookError | undefined = error; refusal !== undefined; ) {
      const culprits = await this.#find(sink, changes, refusal);
      if (culprits.changes.length === 0) throw refusal;
      for (const { change } of culprits.changes) parked.push(this.#poison(change, culprits.error));
      const out = new Set(culprits.changes);
      // What stands behind a parked change of the same entity waits with it.
      const left: MappedChange[] = [];
      for (const mapped of changes) {
        if (out.has(mapped)) continue;
        if (this.#parked.has(entityOf(mapped.change))) {
          parked.push(behind(mapped.change));
        } else left.push(mapped);
      }
      changes = left;
      refusal = changes.length === 0 ? undefined : await refusalOf(sink, changes, true);
    }
    parked.sort((a, b) => a.change.position - b.change.position);
    return { changes, parked };
  }

  /** Entities (`entityOf`) that have parked changes. */
  get parked(): readonly string[] {
    return [...this.#parked];
  }

  /** How many entities have parked changes. */
  get parkedCount(): number {
    return this.#parked.size;
  }

  /** Forgets what was parked, before it is tried again. */
  released(entities: readonly string[]): void {
    for (const entity of entities) this.#parked.delete(entity);
  }

  #map(change: ChangeRecord): Mapped {
    try {
      return mapChange(this.#processor, this.#tables, change);
    } catch (error) {
      if (error instanceof DaybookError) return error;
      const why = error instanceof Error ? error.message : String(error);
      return new DaybookError('PROCESSOR_FAILED', `not operations: ${why}`, { cause: error });
    }
  }

  #poison(change: ChangeRecord, error: DaybookError): ParkedChange {
    if (this.#policy === 'stop') {
      throw new DaybookError(error.code, `${changeId(change)}: ${error.message}`, {
        cause: error,
        details: { ...error.details, change: changeId(change) },
      });
    }
    const waits = this.#policy === 'park';
    if (waits) this.#parked.add(entityOf(change));
    return { change: kept(change), reason: error.message, waits };
  }

  async #find(
    sink: Pick<Sink, 'tryOut'>,
    changes: readonly MappedChange[],
    refusal: DaybookError,
  ): Promise<{ changes: readonly MappedChange[]; error: DaybookError }> {
    const ends: number[] = [];
    changes.forEach(({ change }, index) => {
      if (changes[index + 1]?.change.position !== change.position) ends.push(index + 1);
    });
    const commits = await leastRefused(ends.length, (count) =>
      refusalOf(sink, changes.slice(0, ends[count - 1]), true),
    );
    if (commits === undefined) return { changes: [], error: refusal };
    const start = ends[commits.count - 2] ?? 0;
    const end = ends[commits.count - 1] ?? changes.length;
    if (end - start === 1) return { changes: changes.slice(start, end), error: commits.error };
    // Inside a commit constraints may be broken for a while, so these are not checked.
    const one = await leastRefused(end - start, (count) =>
      refusalOf(sink, changes.slice(0, start + count), false),
    );
    if (one === undefined) return { changes: changes.slice(start, end), error: commits.error };
    const at = start + one.count - 1;
    return { changes: changes.slice(at, at + 1), error: one.error };
  }
}

/** Reason of a change that waits only because an earlier one of its entity does. */
export const behindParked = 'behind a parked change';

function behind(change: ChangeRecord): ParkedChange {
  return { change: kept(change), reason: behindParked, waits: true };
}

/** Of a page's text a content is a part, which would keep all of it in memory. */
function kept(change: ChangeRecord): ChangeRecord {
  const { content } = change;
  if (content === undefined) return change;
  return { ...change, content: Buffer.from(content).toString() };
}

/** The least count that is refused, if refusal grows with the count. */
async function leastRefused(
  most: number,
  refusal: (count: number) => Promise<DaybookError | undefined>,
): Promise<{ count: number; error: DaybookError } | undefined> {
  let high = most;
  let error = await refusal(most);
  // It does not come again, so it did not depend on the rows alone: nobody to blame.
  if (error === undefined) return undefined;
  let low = 0;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const found = await refusal(middle);
    if (found === undefined) low = middle;
    else {
      high = middle;
      error = found;
    }
  }
  return { count: high, error };
}

async function refusalOf(
  sink: Pick<Sink, 'tryOut'>,
  changes: readonly MappedChange[],
  whole: boolean,
): Promise<DaybookError | undefined> {
  try {
    await sink.tryOut(changes, whole);
    return undefined;
  } catch (error) {
    if (error instanceof DaybookError && error.code === 'SINK_REFUSED') return error;
    throw error;
  }
}
