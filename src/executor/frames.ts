import {
  ByteReader,
  type Bytestring,
  ByteWriter,
  type ErrorCode,
  errorCatalog,
  limits,
} from '../base/index.ts';
import type { HistoryPage } from '../contract/index.ts';
import { asPosition, type ExclusiveControl, type Position } from '../model/index.ts';
import {
  decodeRecordedUpdate,
  encodeRecordedUpdate,
  type RecordedUpdate,
  type StateWrite,
} from '../state/index.ts';
import { ReceivedCall } from './received-call.ts';

/*
 * The messages between an executor and its contract process. Every frame carries many items: a
 * message per transaction would cost more than the transaction. Both ends are one program of one
 * version, so the format has no version of its own.
 */

/** Frames to the contract process, by their first byte. */
export const toRunner = {
  begin: 0,
  calls: 1,
  applied: 2,
  sealed: 3,
  flushed: 4,
  history: 5,
} as const;
/** Frames from the contract process, by their first byte. */
export const fromRunner = { ready: 0, results: 1, history: 2 } as const;

/** How a contract process begins. */
export interface RunnerSettings {
  /** Directory of the state that the replica keeps, to be read by `openStateReader`. */
  readonly stateDirectory: string;
  readonly exclusiveControl: ExclusiveControl;
  /** Number of the first execution; numbers go on from process to process. */
  readonly firstExecution: number;
  readonly bufferBytesMax: number;
}

/**
 * `submit`: the record goes to the log. `evaluate`: only the result is wanted. `prepare`: the record
 * on committed state alone, to be endorsed and signed before it goes anywhere.
 */
export type CallKind = 'submit' | 'evaluate' | 'prepare';
const callKinds: readonly CallKind[] = ['submit', 'evaluate', 'prepare'];

/** One call on its way to the engine, where it is a {@link ReceivedCall}. */
export interface RunnerCall {
  /** The executor's number of the call; comes back with the result. */
  readonly call: number;
  readonly kind: CallKind;
  /** Mode `batch`: calls of one unit stand together in one frame. */
  readonly unit: number;
  readonly txId: Uint8Array;
  readonly creator: Uint8Array;
  readonly transactionBytes: Uint8Array;
}

/** What happened in the log, in its order. */
export type AppliedOperation =
  /** As many own records are valid: executions and positions go up one by one from these. */
  | {
      readonly kind: 'own';
      readonly execution: number;
      readonly position: Position;
      readonly count: number;
    }
  | { readonly kind: 'failed'; readonly execution: number }
  | ({ readonly kind: 'write' } & StateWrite)
  /** A bulk update took effect; comes before the writes of its record. */
  | { readonly kind: 'bulk'; readonly update: RecordedUpdate }
  /** All rows below have taken it. */
  | { readonly kind: 'bulkDone'; readonly position: Position };

/** A reference to a value in flight: where its version goes once it is known. */
export interface VersionReference {
  /** Offset in the record's body, or `undefined` when the record says "absent" (a delete). */
  readonly bodyOffset: number | undefined;
  readonly summaryOffset: number;
  readonly execution: number;
}

/** What the executor does with results of calls; bytes are views of the frame. */
export interface ResultHandler {
  /**
   * Of a record only what the call made of it comes this way: its body, and its summary for the
   * sequencer. The executor has the head: it is what it sent.
   */
  record(
    call: number,
    execution: number,
    body: Buffer,
    summary: Buffer,
    references: readonly VersionReference[],
  ): void;
  /** @param references - executions in flight whose values the call read. */
  refused(call: number, code: ErrorCode, message: string, references: readonly number[]): void;
  evaluated(call: number, result: Bytestring): void;
  prepared(call: number, body: Buffer, summary: Buffer): void;
}

const noOffset = 0xffff_ffff;
const modes: readonly ExclusiveControl[] = ['transaction', 'batch', 'interleaved'];
const messageBytesMax = 64 * 1024;

/** The first frame to a contract process. */
export function encodeBegin(writer: ByteWriter, settings: RunnerSettings): void {
  writer.u8(toRunner.begin).text(settings.stateDirectory);
  writer.u8(modes.indexOf(settings.exclusiveControl)).u64(settings.firstExecution);
  writer.u64(settings.bufferBytesMax);
}

/** @throws {DaybookError} `MALFORMED` */
export function decodeBegin(reader: ByteReader): RunnerSettings {
  const stateDirectory = reader.text(64 * 1024);
  const exclusiveControl = modes[reader.u8()] ?? reader.fail('unknown mode');
  return {
    stateDirectory,
    exclusiveControl,
    firstExecution: reader.u64(),
    bufferBytesMax: reader.u64(),
  };
}

/** Appends a frame of calls. Creators are written once each. */
export function encodeCalls(writer: ByteWriter, calls: readonly RunnerCall[]): void {
  const creators = new Map<Uint8Array, number>();
  for (const { creator } of calls) {
    if (!creators.has(creator)) creators.set(creator, creators.size);
  }
  writer.u8(toRunner.calls).u32(creators.size);
  for (const creator of creators.keys()) writer.bytes(creator);
  writer.u32(calls.length);
  for (const call of calls) {
    writer.u64(call.call).u8(callKinds.indexOf(call.kind)).u64(call.unit);
    writer.u32(creators.get(call.creator) as number);
    writer.raw(call.txId).bytes(call.transactionBytes);
  }
}

/** Reads {@link encodeCalls}; the calls are views. */
export function decodeCalls(reader: ByteReader): ReceivedCall[] {
  const creators: Uint8Array[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    creators.push(reader.bytes(limits.certificateBytesMax * 2));
  }
  const calls: ReceivedCall[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const call = reader.u64();
    const kind = callKinds[reader.u8()] ?? reader.fail('unknown kind of call');
    const unit = reader.u64();
    const creator = creators[reader.u32()] ?? reader.fail('unknown creator');
    const txIdAt = reader.skip(32);
    const length = reader.length(limits.batchBytesMax);
    const transactionAt = reader.skip(length);
    const transactionEnd = reader.offset;
    const at = { frame: reader.buffer, txIdAt, transactionAt, transactionEnd };
    calls.push(new ReceivedCall(call, kind, unit, creator, at));
  }
  return calls;
}

/** Calls as they arrive at the other end. */
export function receivedCalls(calls: readonly RunnerCall[]): ReceivedCall[] {
  const writer = new ByteWriter();
  encodeCalls(writer, calls);
  const reader = new ByteReader(writer.finish(), 'calls');
  reader.u8();
  return decodeCalls(reader);
}

/** Collects what happened in the log for the contract process. */
export class AppliedWriter {
  readonly #writer = new ByteWriter(64 * 1024);
  #count = 0;
  /** The last operation, while more own records may join it. */
  #run = { countAt: 0, count: 0, execution: 0, position: 0 };

  /** Operations collected. */
  get count(): number {
    return this.#count;
  }

  get length(): number {
    return this.#writer.length;
  }

  own(execution: number, position: Position): void {
    const run = this.#run;
    const { count } = run;
    if (count > 0 && execution === run.execution + count && position === run.position + count) {
      run.count++;
      return;
    }
    this.#operation(0).u64(execution).u64(position).u32(1);
    this.#run = { countAt: this.#writer.length - 4, count: 1, execution, position };
  }

  failed(execution: number): void {
    this.#operation(1).u64(execution);
  }

  write(key: Bytestring, value: Bytestring | undefined, version: Position): void {
    this.#operation(2).bytestring(key).u64(version);
    if (value === undefined) this.#writer.u8(0);
    else this.#writer.u8(1).bytestring(value);
  }

  bulk(update: RecordedUpdate): void {
    encodeRecordedUpdate(this.#operation(3), update);
  }

  bulkDone(position: Position): void {
    this.#operation(4).u64(position);
  }

  /**
   * The frame, and a fresh start. The view is valid until the next operation.
   *
   * @param frame - number of the frame; results name the last one that was taken in.
   * @param snapshot - all positions below are applied after this frame.
   */
  take(frame: number, snapshot: Position): Buffer[] {
    const header = new ByteWriter(32);
    header.u8(toRunner.applied).u64(frame).u64(snapshot).u32(this.#count);
    this.#endRun();
    const body = this.#writer.finish();
    this.#writer.reset();
    this.#count = 0;
    return [header.view(), body];
  }

  #operation(tag: number): ByteWriter {
    this.#endRun();
    this.#count++;
    return this.#writer.u8(tag);
  }

  #endRun(): void {
    const run = this.#run;
    if (run.count > 1) this.#writer.patchU32(run.countAt, run.count);
    run.count = 0;
  }
}

/** Reads an {@link AppliedWriter}'s frame. */
export function decodeApplied(reader: ByteReader): {
  frame: number;
  snapshot: Position;
  operations: AppliedOperation[];
} {
  const frame = reader.u64();
  const snapshot = asPosition(reader.u64());
  const operations: AppliedOperation[] = [];
  for (let count = reader.u32(); count > 0; count--) {
    const tag = reader.u8();
    if (tag === 0) {
      operations.push({
        kind: 'own',
        execution: reader.u64(),
        position: asPosition(reader.u64()),
        count: reader.u32(),
      });
    } else if (tag === 1) {
      operations.push({ kind: 'failed', execution: reader.u64() });
    } else if (tag === 3) {
      operations.push({ kind: 'bulk', update: decodeRecordedUpdate(reader) });
    } else if (tag === 4) {
      operations.push({ kind: 'bulkDone', position: asPosition(reader.u64()) });
    } else {
      const key = reader.bytestring(limits.keyBytesMax * 2);
      const version = asPosition(reader.u64());
      const value = reader.u8() === 0 ? undefined : reader.bytestring(limits.valueBytesMax);
      operations.push({ kind: 'write', key, version, value });
    }
  }
  return { frame, snapshot, operations };
}

/** Collects results in the contract process until the turn of the event loop ends. */
export class ResultWriter {
  readonly #writer = new ByteWriter(64 * 1024);
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get length(): number {
    return this.#writer.length;
  }

  /** @param made - the record's body, then, from `bodyBytes` on, its summary. */
  record(
    call: number,
    execution: number,
    made: Buffer,
    bodyBytes: number,
    references: readonly VersionReference[],
  ): void {
    this.#count++;
    this.#writer.u8(0).u64(call).u64(execution);
    const writer = this.#made(made, bodyBytes).u32(references.length);
    for (const reference of references) {
      writer.u32(reference.bodyOffset ?? noOffset).u32(reference.summaryOffset);
      writer.u64(reference.execution);
    }
  }

  refused(call: number, code: ErrorCode, message: string, references: readonly number[]): void {
    this.#count++;
    const writer = this.#writer.u8(1).u64(call).text(code);
    writer.text(message.slice(0, messageBytesMax / 4)).u32(references.length);
    for (const execution of references) writer.u64(execution);
  }

  evaluated(call: number, result: Bytestring): void {
    this.#count++;
    this.#writer.u8(2).u64(call).bytestring(result);
  }

  prepared(call: number, made: Buffer, bodyBytes: number): void {
    this.#count++;
    this.#writer.u8(3).u64(call);
    this.#made(made, bodyBytes);
  }

  #made(made: Buffer, bodyBytes: number): ByteWriter {
    return this.#writer
      .u32(bodyBytes)
      .u32(made.length - bodyBytes)
      .raw(made);
  }

  /** The frame's parts, valid until the next result. @param appliedFrame - the last one taken in. */
  take(appliedFrame: number): Buffer[] {
    const header = new ByteWriter(32).u8(fromRunner.results).u64(appliedFrame).u32(this.#count);
    const body = this.#writer.view();
    this.#writer.reset();
    this.#count = 0;
    return [header.view(), body];
  }
}

/**
 * Reads a {@link ResultWriter}'s frame, one result after the other; bytes are views of it.
 *
 * @returns the last frame of what happened in the log that was taken in before.
 */
export function decodeResults(reader: ByteReader, handler: ResultHandler): number {
  const appliedFrame = reader.u64();
  for (let count = reader.u32(); count > 0; count--) decodeResult(reader, handler);
  return appliedFrame;
}

const noReferences: readonly VersionReference[] = [];

function decodeResult(reader: ByteReader, handler: ResultHandler): void {
  const tag = reader.u8();
  const call = reader.u64();
  if (tag === 0) {
    const execution = reader.u64();
    const bodyBytes = reader.length(limits.recordBytesMax);
    const summaryBytes = reader.length(limits.frameBytesMax);
    const body = reader.raw(bodyBytes);
    handler.record(call, execution, body, reader.raw(summaryBytes), readReferences(reader));
  } else if (tag === 1) {
    const code = reader.text(limits.nameBytesMax);
    const message = reader.text(messageBytesMax);
    const references: number[] = [];
    for (let count = reader.u32(); count > 0; count--) references.push(reader.u64());
    const known = code in errorCatalog ? (code as ErrorCode) : 'INTERNAL';
    handler.refused(call, known, message, references);
  } else if (tag === 2) {
    handler.evaluated(call, reader.bytestring(limits.valueBytesMax));
  } else {
    const bodyBytes = reader.length(limits.recordBytesMax);
    const summaryBytes = reader.length(limits.frameBytesMax);
    handler.prepared(call, reader.raw(bodyBytes), reader.raw(summaryBytes));
  }
}

function readReferences(reader: ByteReader): readonly VersionReference[] {
  const count = reader.u32();
  if (count === 0) return noReferences;
  const references: VersionReference[] = [];
  for (let left = count; left > 0; left--) {
    const bodyOffset = reader.u32();
    references.push({
      bodyOffset: bodyOffset === noOffset ? undefined : bodyOffset,
      summaryOffset: reader.u32(),
      execution: reader.u64(),
    });
  }
  return references;
}

/** The contract process asks for a page of a key's history; the answer has the same number. */
export interface HistoryRequest {
  readonly request: number;
  /** A state key. */
  readonly key: Bytestring;
  readonly limit: number;
  readonly bookmark: string;
}

/** The contract process asks by it. */
export function encodeHistoryRequest(writer: ByteWriter, request: HistoryRequest): void {
  writer.u8(fromRunner.history).u64(request.request);
  writer.bytestring(request.key).u32(request.limit).text(request.bookmark);
}

/** The reader stands behind the kind. */
export function decodeHistoryRequest(reader: ByteReader): HistoryRequest {
  return {
    request: reader.u64(),
    key: reader.bytestring(limits.keyBytesMax * 2),
    limit: reader.u32(),
    bookmark: reader.text(limits.keyBytesMax),
  };
}

/** @param page - `undefined` when the history could not be read. */
export function encodeHistoryAnswer(
  writer: ByteWriter,
  request: number,
  page: HistoryPage | undefined,
): void {
  writer
    .u8(toRunner.history)
    .u64(request)
    .u8(page === undefined ? 0 : 1);
  if (page === undefined) return;
  writer.u32(page.rows.length);
  for (const row of page.rows) {
    writer.text(row.txId).u64(row.timestampMs);
    if (row.value === undefined) writer.u8(0);
    else writer.u8(1).bytestring(row.value);
  }
  writer.text(page.bookmark);
}

/** The reader stands behind the kind; `page` is `undefined` when the history could not be read. */
export function decodeHistoryAnswer(reader: ByteReader): {
  request: number;
  page: HistoryPage | undefined;
} {
  const request = reader.u64();
  if (reader.u8() === 0) return { request, page: undefined };
  const rows: HistoryPage['rows'][number][] = [];
  for (let count = reader.u32(); count > 0; count--) {
    rows.push({
      txId: reader.text(limits.nameBytesMax),
      timestampMs: reader.u64(),
      value: reader.u8() === 0 ? undefined : reader.bytestring(limits.valueBytesMax),
    });
  }
  return { request, page: { rows, bookmark: reader.text(limits.keyBytesMax) } };
}
