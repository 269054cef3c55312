import { DaybookError } from '../src/base/index.ts';
import type { Outbox, OutboxRow } from '../src/replication/index.ts';
import type { SimProcess, World } from './world.ts';

/** A change that the outside database has committed. */
export interface SourceChange {
  readonly entity: string;
  readonly revision: number;
  /** `null`: the entity is gone. */
  readonly content: string | null;
}

interface OpenTransaction {
  readonly txid: string;
  readonly rows: (OutboxRow & { readonly seq: string })[];
  readonly locked: Set<string>;
}

const entities = 6;
const abortShare = 0.1;
const deleteShare = 0.2;
const lockPollUs = 2_000;
/** Transactions of the outside application at a time. */
const sessions = 3;

/**
 * An outside database with an outbox, as the triggers of `installSource` fill it: numbers of rows and
 * of transactions are given out before the commit, and stay used when there is none; the revision of
 * an entity is taken under its lock, which is held to the end; what is not committed nobody sees.
 */
export class SourceModel {
  readonly #world: World;
  readonly #locks = new Map<string, OpenTransaction>();
  readonly #revisions = new Map<string, number>();
  readonly #outbox = new Map<string, OutboxRow>();
  #numbers = 0;
  #transactions = 0;
  /** The table whose changes are captured. */
  readonly table = new Map<string, string>();
  /** Everything that was committed, by transaction, in the order of commits. */
  readonly commits: (readonly SourceChange[])[] = [];
  /** Share of statements that fail, half of them after they took effect. */
  failures = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Whether every change has left the outbox. */
  get isDrained(): boolean {
    return this.#outbox.size === 0;
  }

  /** The outside application, until told to stop. */
  async work(stopped: () => boolean): Promise<void> {
    const session = async (): Promise<void> => {
      const { chance } = this.#world;
      const pauseMsMax = chance.pick([5, 50, 300]);
      while (!stopped()) {
        await this.#transaction();
        await this.#sleep(1 + chance.below(pauseMsMax));
      }
    };
    await Promise.all(Array.from({ length: sessions }, session));
  }

  /** The outbox as one process uses it. */
  of(process: SimProcess): Outbox {
    const statement = async <T>(work: () => T): Promise<T> => {
      const { chance } = this.#world;
      await this.#world.sleep(process, chance.between(200, 6_000));
      const fails = chance.happens(this.failures);
      if (fails && chance.happens(0.5)) {
        this.#world.happened('source: its database does not answer');
        throw unavailable();
      }
      const result = work();
      if (!fails) return result;
      this.#world.happened('source: rows leave the outbox without an answer');
      throw unavailable();
    };
    return {
      read: (_source, rowsMax) => statement(() => this.#read(rowsMax)),
      remove: (seqs) =>
        statement(() => {
          for (const seq of seqs) this.#outbox.delete(seq);
        }),
      close: async () => undefined,
    };
  }

  #read(rowsMax: number): OutboxRow[] {
    const rows = [...this.#outbox.values()].sort((a, b) => Number(a.seq) - Number(b.seq));
    const open = new Set(rows.slice(rowsMax).map(({ txid }) => txid));
    const complete = rows.filter(({ txid }) => !open.has(txid));
    if (complete.length > 0) return complete;
    const last = new Map(rows.map(({ txid }, at) => [txid, at]));
    const first = [...last].sort(([, a], [, b]) => a - b)[0]?.[0];
    return rows.filter(({ txid }) => txid === first);
  }

  async #transaction(): Promise<void> {
    const { chance } = this.#world;
    const open: OpenTransaction = {
      txid: String(++this.#transactions),
      rows: [],
      locked: new Set(),
    };
    const names = Array.from({ length: chance.between(1, 3) }, () => chance.below(entities));
    // In one order for all, so that none waits for another that waits for it.
    for (const name of names.toSorted((left, right) => left - right)) {
      const entity = `e${name}`;
      while ((this.#locks.get(entity) ?? open) !== open) await this.#sleep(lockPollUs / 1000);
      this.#locks.set(entity, open);
      open.locked.add(entity);
      this.#change(open, entity);
      await this.#sleep(chance.below(chance.pick([2, 20, 200])));
    }
    if (chance.happens(abortShare)) this.#world.happened('source: a transaction is rolled back');
    else this.#commit(open);
    for (const entity of open.locked) this.#locks.delete(entity);
  }

  #change(open: OpenTransaction, entity: string): void {
    const { chance, nowUs } = this.#world;
    const own = open.rows.findLast((row) => row.entity === entity);
    const before = own === undefined ? this.#revisions.get(entity) : Number(own.revision);
    const revision = Math.max((before ?? -1) + 1, nowUs);
    const content = chance.happens(deleteShare) ? null : `v${chance.below(1_000_000)}`;
    const seq = String(++this.#numbers);
    open.rows.push({ seq, txid: open.txid, entity, revision: String(revision), content });
  }

  #commit({ rows }: OpenTransaction): void {
    const last = Math.max(0, ...[...this.#outbox.keys()].map(Number));
    if (Number(rows[0]?.seq) < last) this.#world.happened('source: a late commit of early rows');
    for (const row of rows) {
      const { seq, entity, revision, content } = row;
      this.#outbox.set(seq, row);
      this.#revisions.set(entity, Number(revision));
      if (content === null) this.table.delete(entity);
      else this.table.set(entity, content);
    }
    this.commits.push(
      rows.map(({ entity, revision, content }) => ({
        entity,
        revision: Number(revision),
        content,
      })),
    );
  }

  #sleep(ms: number): Promise<void> {
    return this.#world.sleep(undefined, ms * 1000);
  }
}

function unavailable(): DaybookError {
  return new DaybookError('SOURCE_UNAVAILABLE', 'the connection to the database broke');
}
