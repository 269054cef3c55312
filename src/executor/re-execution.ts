import { type Bytestring, type ErrorCode, limits } from '../base/index.ts';
import { createContractRuntime, type HistoryPage } from '../contract/index.ts';
import type { Io } from '../io/index.ts';
import {
  asPosition,
  type CommitRecord,
  decodeTransaction,
  joinRecord,
  recordTypeOf,
} from '../model/index.ts';
import { Overlay, type RecordedUpdate, type StateWrite } from '../state/index.ts';
import { Engine, type EngineResults } from './engine.ts';
import { type RunnerCall, receivedCalls } from './frames.ts';

/**
 * A transaction that is on record, as its client signed it: before it was executed (`submit`), or
 * after (`prepare`).
 */
export interface RecordedCall
  extends Pick<RunnerCall, 'kind' | 'txId' | 'creator' | 'transactionBytes'> {
  /** Index of the transaction in the batch that was signed. */
  readonly leaf: number;
}

/** What came out of executing it again. */
export type Reexecuted =
  | { readonly kind: 'record'; readonly record: CommitRecord; readonly readHistory: boolean }
  | {
      readonly kind: 'refused';
      readonly code: ErrorCode;
      readonly message: string;
      readonly readHistory: boolean;
    };

/**
 * Executes transactions that are on record once more, one after the other, by the very engine that
 * executors have, on a state in memory that the caller keeps up with {@link Reexecution.apply}.
 * Contracts come from the deploy transactions among them.
 *
 * It runs in this process: nothing ends a contract that never returns or takes all memory.
 */
export class Reexecution {
  readonly #engine: Engine;
  readonly #histories = new Map<Bytestring, HistoryPage['rows'][number][]>();
  #next = 0;
  #readHistory = false;
  #done: ((result: ReexecutedParts) => void) | undefined;

  constructor(io: Pick<Io, 'clock' | 'timers'>) {
    const results: EngineResults = {
      length: 0,
      // The engine uses these bytes again.
      record: (_call, execution, made, bodyBytes) => {
        this.#done?.({ kind: 'record', execution, body: Buffer.from(made.subarray(0, bodyBytes)) });
      },
      refused: (_call, code, message) => this.#done?.({ kind: 'refused', code, message }),
      evaluated: () => undefined,
      prepared: (_call, made, bodyBytes) => {
        this.#done?.({ kind: 'prepared', body: Buffer.from(made.subarray(0, bodyBytes)) });
      },
    };
    const engine: Engine = new Engine({
      runtime: createContractRuntime({
        timers: io.timers,
        prepare: (contract) => engine.prepare(contract),
      }),
      committed: new Overlay({ get: () => undefined, range: () => [] }),
      snapshot: asPosition(0),
      exclusiveControl: 'interleaved',
      firstExecution: 0,
      results,
      flush: () => undefined,
      monotonicMs: () => io.clock.monotonicMs(),
      soon: (callback) => io.timers.soon(callback),
      history: (key, limit, bookmark) => Promise.resolve(this.#history(key, limit, bookmark)),
    });
    this.#engine = engine;
  }

  /** Executes one transaction on the state as it is; its writes are forgotten. */
  async execute(call: RecordedCall): Promise<Reexecuted> {
    this.#readHistory = false;
    const parts = await new Promise<ReexecutedParts>((resolve) => {
      this.#done = resolve;
      this.#engine.execute(receivedCalls([{ ...call, call: this.#next++, unit: 0 }]));
    });
    const readHistory = this.#readHistory;
    if (parts.kind === 'refused') return { ...parts, readHistory };
    if (parts.kind === 'record') {
      this.#engine.apply([{ kind: 'failed', execution: parts.execution }], asPosition(0));
    }
    const { txId, leaf, transactionBytes } = call;
    const type = recordTypeOf(decodeTransaction(transactionBytes));
    const record = joinRecord({ type, txId, batch: 0, leaf, transactionBytes }, parts.body);
    return { kind: 'record', record, readHistory };
  }

  /**
   * Takes in what a valid transaction wrote. Keys are state keys. A bulk update is applied to rows
   * as they are read, for ever: its rows do not show in histories.
   */
  apply(
    { txId, timestampMs }: { readonly txId: string; readonly timestampMs: number },
    writes: readonly StateWrite[],
    bulk: RecordedUpdate | undefined,
  ): void {
    for (const { key, value } of writes) {
      const rows = this.#histories.get(key);
      const row = { txId, timestampMs, value };
      if (rows === undefined) this.#histories.set(key, [row]);
      else rows.push(row);
    }
    this.#engine.apply(
      [
        ...(bulk === undefined ? [] : [{ kind: 'bulk', update: bulk } as const]),
        ...writes.map((write) => ({ kind: 'write', ...write }) as const),
      ],
      asPosition(0),
    );
  }

  /** Newest first, as the state tells it. */
  #history(key: Bytestring, limit: number, bookmark: string): HistoryPage {
    this.#readHistory = true;
    const rows = this.#histories.get(key) ?? [];
    const end = bookmark === '' ? rows.length : Number(bookmark);
    const start = Math.max(0, end - Math.min(limit, limits.readsPerRecordMax));
    return {
      rows: rows.slice(start, end).reverse(),
      bookmark: start === 0 ? '' : String(start),
    };
  }
}

type ReexecutedParts =
  | { readonly kind: 'record'; readonly execution: number; readonly body: Buffer }
  | { readonly kind: 'prepared'; readonly body: Buffer }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly message: string };
