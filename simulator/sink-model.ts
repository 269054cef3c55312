import { DaybookError } from '../src/base/index.ts';
import type { SinkPosition } from '../src/replication/follower-core.ts';
import type { Sink } from '../src/replication/index.ts';
import type { FillBatch, SinkBatch } from '../src/replication/sinks/sink.ts';
import type { SimProcess, World } from './world.ts';

/** What a follower's system held at its cursor. */
export interface SinkCheckpoint {
  readonly position: number;
  readonly rows: ReadonlyMap<string, string>;
}

interface SinkRow {
  readonly content: string;
  readonly revision: number;
}

const checkpointsMax = 30;

/**
 * A follower's database: rows and cursor in one transaction, which outlives the follower's process.
 * Transactions take time, fail, and succeed without an answer.
 */
export class SinkModel {
  readonly #world: World;
  #rows = new Map<string, SinkRow>();
  #at: SinkPosition | undefined;
  /** To be compared with the ledger at those positions. */
  readonly checkpoints: SinkCheckpoint[] = [];
  /** Share of transactions that fail, half of them after they took effect. */
  failures = 0;
  applies = 0;
  fills = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Everything before it is in the system. */
  get position(): number | undefined {
    return this.#at?.position;
  }

  /** All rows as they are now, at the cursor. */
  now(): SinkCheckpoint {
    const rows = new Map([...this.#rows].map(([key, { content }]) => [key, content]));
    return { position: this.#at?.position ?? 0, rows };
  }

  /** The system as one process of the follower uses it. */
  of(process: SimProcess): Sink {
    const transact = async <T>(work: () => T): Promise<T> => {
      const { chance } = this.#world;
      await this.#world.sleep(process, chance.between(200, 6_000));
      const fails = chance.happens(this.failures);
      if (fails && chance.happens(0.5)) {
        this.#world.happened('follower: its transaction fails');
        throw unavailable();
      }
      const result = work();
      if (fails) {
        this.#world.happened('follower: its transaction succeeds without an answer');
        throw unavailable();
      }
      return result;
    };
    return {
      open: () => transact(() => ({ at: this.#at, parked: [] })),
      apply: (from, batch, at) => transact(() => this.#apply(from, batch, at)),
      tryOut: async () => undefined,
      fill: async (batches: AsyncIterable<FillBatch>) => {
        const rows = new Map<string, SinkRow>();
        let end: SinkPosition | undefined;
        for await (const batch of batches) {
          take(rows, batch, batch.revisionMax);
          end = batch.at ?? end;
        }
        return await transact(() => {
          if (end === undefined) throw unavailable();
          this.#rows = rows;
          this.fills++;
          this.#world.happened('follower: filled anew');
          return this.#commit(end);
        });
      },
      readParked: async () => [],
      unpark: async () => undefined,
      close: async () => undefined,
    };
  }

  #apply(from: number, batch: SinkBatch, at: SinkPosition): void {
    if (this.#at?.position !== from) {
      throw new DaybookError('SINK_FENCED', `the system stands at ${this.#at?.position}`);
    }
    take(this.#rows, batch, Number.MAX_SAFE_INTEGER);
    this.applies++;
    this.#world.happened('follower: a page is applied');
    this.#commit(at);
  }

  #commit(at: SinkPosition): SinkPosition {
    this.#at = at;
    if (this.checkpoints.length < checkpointsMax && this.#world.chance.happens(0.2)) {
      this.checkpoints.push(this.now());
    }
    return at;
  }
}

function take(rows: Map<string, SinkRow>, { changes }: SinkBatch, revisionMax: number): void {
  for (const { change } of changes) {
    const { key, content, position } = change;
    const revision = Math.min(position, revisionMax);
    const before = rows.get(key);
    if (before !== undefined && before.revision > revision) continue;
    if (content === undefined) rows.delete(key);
    else rows.set(key, { content, revision });
  }
}

function unavailable(): DaybookError {
  return new DaybookError('SINK_UNAVAILABLE', 'the connection to the database broke');
}
