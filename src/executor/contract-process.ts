import { assert, ByteReader, type Bytestring, ByteWriter, DaybookError } from '../base/index.ts';
import type { ContractRuntime, HistoryPage } from '../contract/index.ts';
import type { Connection, Io } from '../io/index.ts';
import { asPosition, type Position } from '../model/index.ts';
import { Overlay, type StateReader } from '../state/index.ts';
import { Engine } from './engine.ts';
import {
  decodeApplied,
  decodeBegin,
  decodeCalls,
  decodeHistoryAnswer,
  encodeHistoryRequest,
  fromRunner,
  ResultWriter,
  toRunner,
} from './frames.ts';

/** What a contract process is made of. */
export interface ContractProcessParts {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  /** The connection to the executor. */
  readonly connection: Connection;
  /** Opens the rows that the executor's replica keeps in `directory`. */
  readonly openReader: (directory: string) => StateReader;
  /** @param prepare - installs a contract that another one is about to call. */
  readonly createRuntime: (prepare: (contract: string) => void) => ContractRuntime;
}

/**
 * The contract process's side of the connection: takes frames in, lets the engine work, sends
 * results. It keeps nothing that the executor could not give again.
 */
export function serveContracts(parts: ContractProcessParts): void {
  const { connection, io } = parts;
  const results = new ResultWriter();
  const history = new HistoryCalls(connection);
  let engine: Engine | undefined;
  let committed: Overlay | undefined;
  let reader: StateReader | undefined;
  let appliedFrame = 0;

  const flush = (): void => {
    if (results.count > 0) connection.send(results.take(appliedFrame));
  };
  const begin = (frame: ByteReader): void => {
    const settings = decodeBegin(frame);
    reader = parts.openReader(settings.stateDirectory);
    committed = new Overlay(reader);
    engine = new Engine({
      runtime: parts.createRuntime((contract) => engine?.prepare(contract)),
      committed,
      snapshot: asPosition(0),
      exclusiveControl: settings.exclusiveControl,
      firstExecution: settings.firstExecution,
      results,
      flush,
      monotonicMs: () => io.clock.monotonicMs(),
      soon: (callback) => io.timers.soon(callback),
      history: (key, limit, bookmark) => history.ask(key, limit, bookmark),
    });
  };

  connection.onFrame((bytes) => {
    const frame = new ByteReader(bytes, 'executor frame');
    const kind = frame.u8();
    if (kind === toRunner.begin) {
      begin(frame);
      return;
    }
    assert(engine !== undefined && committed !== undefined, 'the first frame is the beginning');
    switch (kind) {
      case toRunner.calls:
        engine.execute(decodeCalls(frame));
        return;
      case toRunner.applied: {
        const applied = decodeApplied(frame);
        appliedFrame = applied.frame;
        engine.apply(applied.operations, applied.snapshot);
        return;
      }
      case toRunner.sealed:
        committed.seal();
        return;
      case toRunner.flushed: {
        const position: Position = asPosition(frame.u64());
        reader?.refresh();
        committed.dropUpTo(position);
        return;
      }
      case toRunner.history: {
        const { request, page } = decodeHistoryAnswer(frame);
        history.answer(request, page);
        return;
      }
      default:
        frame.fail(`unknown kind ${kind}`);
    }
  });
  connection.onClose(() => reader?.close());
  connection.send([Buffer.of(fromRunner.ready)]);
}

/** Questions about histories that wait for the executor's answer. */
class HistoryCalls {
  readonly #connection: Connection;
  readonly #pending = new Map<
    number,
    { resolve: (page: HistoryPage) => void; reject: (error: DaybookError) => void }
  >();
  #next = 1;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  ask(key: Bytestring, limit: number, bookmark: string): Promise<HistoryPage> {
    const request = this.#next++;
    const writer = new ByteWriter(256);
    encodeHistoryRequest(writer, { request, key, limit, bookmark });
    this.#connection.send([writer.view()]);
    return new Promise((resolve, reject) => this.#pending.set(request, { resolve, reject }));
  }

  answer(request: number, page: HistoryPage | undefined): void {
    const pending = this.#pending.get(request);
    this.#pending.delete(request);
    if (page === undefined) {
      pending?.reject(new DaybookError('INVALID_ARGUMENT', 'no such page of the history'));
    } else {
      pending?.resolve(page);
    }
  }
}
