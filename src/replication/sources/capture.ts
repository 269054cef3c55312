import { limits, toDaybookError } from '../../base/index.ts';
import type { Io } from '../../io/index.ts';

/** The ledger as a source needs it; `daybook/client`'s `Client` is one. */
export interface SourceLedger {
  submit(
    contract: string,
    functionName: string,
    args: readonly string[],
    options: { readonly orderingKey?: string },
  ): Promise<unknown>;
}

/** A row of an outbox. */
export interface OutboxRow {
  /** A decimal number; not the order of commits. */
  readonly seq: string;
  /** The source's transaction. */
  readonly txid: string;
  readonly entity: string;
  /** A decimal number; the order of an entity's changes. */
  readonly revision: string;
  /** `null`: the entity is gone. */
  readonly content: string | null;
}

/** A connection to an outbox. What it throws is `SOURCE_UNAVAILABLE`, unless it says otherwise. */
export interface Outbox {
  /**
   * Rows of whole transactions, by `seq`: of those that have all their rows among the first `rowsMax`,
   * and when there are none, of the one whose last row comes first. So no transaction is taken before
   * another that it came after at some entity: that one's last row is before its own.
   */
  read(source: string, rowsMax: number): Promise<readonly OutboxRow[]>;
  /** Removes rows by their `seq`. */
  remove(seqs: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

/** Settings of {@link captureOutbox}. */
export interface OutboxCaptureOptions {
  readonly io: Pick<Io, 'timers'>;
  /** Opens the outbox: at the start, and again after a failure. */
  readonly open: () => Promise<Outbox>;
  readonly source: string;
  readonly ledger: SourceLedger;
  /** The contract that takes the changes: `examples/contracts/capture` or one like it. */
  readonly contract: string;
  /** Pause at an empty outbox, milliseconds. Default 50. */
  readonly pollMs?: number;
  /** Most rows at once. Default `limits.outboxRowsMax`. */
  readonly rowsMax?: number;
  readonly onEvent?: (text: string) => void;
}

/** A capture that runs. */
export interface Capture {
  /** Changes that the ledger has confirmed since the start. */
  readonly captured: number;
  /** Resolves after `stop`; rejects with what the ledger refused. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

/** A transaction's argument may have 1 MiB. */
const argumentCharactersMax = 300_000;
const pauseMaxMs = 5_000;

/**
 * Brings the changes of an outbox into the ledger, in order, one ledger transaction for each
 * transaction of the source. A row leaves the outbox when the ledger has confirmed it; what is sent
 * twice for that reason, the contract recognises by its revision.
 */
export function captureOutbox(options: OutboxCaptureOptions): Capture {
  return new RunningCapture(options);
}

class RunningCapture implements Capture {
  captured = 0;
  readonly ended: Promise<void>;
  readonly #options: OutboxCaptureOptions;
  #stopping = false;
  #wake: () => void = () => undefined;

  constructor(options: OutboxCaptureOptions) {
    this.#options = options;
    this.ended = this.#run();
    this.ended.catch(() => undefined);
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#wake();
    await this.ended.catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { pollMs = 50, onEvent } = this.#options;
    let pauseMs = 100;
    let outbox: Outbox | undefined;
    while (!this.#stopping) {
      try {
        outbox ??= await this.#options.open();
        const count = await this.#round(outbox);
        pauseMs = 100;
        if (count === 0) await this.#pause(pollMs);
      } catch (thrown) {
        const error = toDaybookError(thrown, 'SOURCE_UNAVAILABLE');
        await outbox?.close().catch(() => undefined);
        outbox = undefined;
        // A refused transaction would be refused again; anything else passes.
        if (error.retry === 'never') throw error;
        onEvent?.(`capture: ${error.code} ${error.message}`);
        await this.#pause(pauseMs);
        pauseMs = Math.min(pauseMs * 2, pauseMaxMs);
      }
    }
    await outbox?.close().catch(() => undefined);
  }

  /** Captures what is in the outbox now, up to a limit. */
  async #round(outbox: Outbox): Promise<number> {
    const { source, contract, ledger, rowsMax = limits.outboxRowsMax } = this.#options;
    const rows = await outbox.read(source, rowsMax);
    if (rows.length === 0) return 0;
    const parts = groupBySourceTransaction(rows).flatMap(splitLarge);
    const outcomes = await Promise.allSettled(
      parts.map((part) =>
        ledger.submit(contract, 'apply', [source, JSON.stringify(part.map(changeOf))], {
          orderingKey: `source/${source}`,
        }),
      ),
    );
    const done = parts.filter((_part, at) => outcomes[at]?.status === 'fulfilled').flat();
    if (done.length > 0) {
      await outbox.remove(done.map(({ seq }) => seq));
      this.captured += done.length;
    }
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return rows.length;
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const end = (): void => {
        timer.cancel();
        resolve();
      };
      const timer = this.#options.io.timers.after(ms, end, { keepAlive: true });
      this.#wake = end;
      if (this.#stopping) end();
    });
  }
}

/**
 * Rows by the transaction of the source that wrote them, transactions by their last row: a
 * transaction that came after another at some entity has a later row, so it comes after it here.
 */
function groupBySourceTransaction(rows: readonly OutboxRow[]): OutboxRow[][] {
  const groups = new Map<string, OutboxRow[]>();
  for (const row of rows) {
    const group = groups.get(row.txid);
    // Entered again at the end, for the order of last rows.
    if (group === undefined) groups.set(row.txid, [row]);
    else {
      groups.delete(row.txid);
      group.push(row);
      groups.set(row.txid, group);
    }
  }
  return [...groups.values()];
}

function splitLarge(rows: OutboxRow[]): OutboxRow[][] {
  const parts: OutboxRow[][] = [];
  let part: OutboxRow[] = [];
  let characters = 0;
  for (const row of rows) {
    const length = (row.content?.length ?? 0) + row.entity.length + 64;
    if (part.length > 0 && characters + length > argumentCharactersMax) {
      parts.push(part);
      part = [];
      characters = 0;
    }
    part.push(row);
    characters += length;
  }
  if (part.length > 0) parts.push(part);
  return parts;
}

function changeOf({ entity, revision, content }: OutboxRow): object {
  return { entity, revision: Number(revision), content };
}
