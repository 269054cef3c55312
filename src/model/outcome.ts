import {
  ByteReader,
  type Bytestring,
  type ByteWriter,
  checkLimit,
  type ErrorJson,
  limits,
} from '../base/index.ts';
import { asPosition, type Position } from './position.ts';

/** How one transaction ended. Who asked knows its id by the index in the batch. */
export type Outcome = CommittedOutcome | RejectedOutcome;

/**
 * Durable, and found valid by the answering node's own replica (invariant I4). For an evaluated call
 * `position` is the one below which everything was applied when it ran.
 */
export interface CommittedOutcome {
  readonly status: 'committed';
  readonly position: Position;
  readonly result: Bytestring;
}

/**
 * Not committed. `error.retry` says whether sending the same bytes again helps; after
 * `OUTCOME_UNKNOWN` the transaction may still commit.
 */
export interface RejectedOutcome {
  readonly status: 'rejected';
  readonly error: ErrorJson;
}

/*
 * The answer to a batch is a stream of outcomes, each as soon as it is known, in any order:
 *
 *   u8 version (1)
 *   then any number of
 *     u32 length of the rest ‖ u16 index in the batch ‖ u8 status
 *       status 0, committed: u64 position ‖ result (all that is left)
 *       status 1, rejected: JSON of the error (all that is left)
 *
 * Integers are big-endian. The stream is complete when every index of the batch came once.
 */

/** Media type of a stream of outcomes. */
export const outcomeMediaType = 'application/vnd.daybook.outcomes';
/** Media type of a signed batch, see `signBatch`. */
export const batchMediaType = 'application/vnd.daybook.batch';
/** Header: how long the gateway may work on a batch, in milliseconds. */
export const deadlineHeader = 'daybook-deadline-ms';
/**
 * Header: a position that the gateway's node must have applied before it executes the batch, so
 * that a client sees what it did through another gateway.
 */
export const afterHeader = 'daybook-after';

const outcomeVersion = 1;
const errorJsonBytesMax = 64 * 1024;
const headerBytes = 3;
const outcomeBytesMax = headerBytes + 8 + limits.valueBytesMax;

/** Starts a stream of outcomes. */
export function beginOutcomes(writer: ByteWriter): void {
  writer.u8(outcomeVersion);
}

/**
 * Appends one outcome to a stream.
 *
 * @throws {DaybookError} `LIMIT_EXCEEDED` (`valueBytesMax`)
 */
export function encodeOutcome(writer: ByteWriter, index: number, outcome: Outcome): void {
  if (outcome.status === 'committed') {
    checkLimit('valueBytesMax', outcome.result.length);
    writer.u32(headerBytes + 8 + outcome.result.length).u16(index);
    writer.u8(0).u64(outcome.position).rawBytestring(outcome.result);
  } else {
    const error = Buffer.from(errorText(outcome.error), 'utf8');
    writer
      .u32(headerBytes + error.length)
      .u16(index)
      .u8(1)
      .raw(error);
  }
}

function errorText(error: ErrorJson): string {
  const text = JSON.stringify(error);
  if (Buffer.byteLength(text) <= errorJsonBytesMax) return text;
  // A contract chooses its message; cut it rather than lose the code.
  const { code, message, retry } = error;
  return JSON.stringify({ code, message: message.slice(0, 4096), retry });
}

/**
 * Reads a stream of outcomes that arrives in pieces. Keeps at most one unfinished outcome.
 */
export class OutcomeReader {
  readonly #count: number;
  readonly #onOutcome: (index: number, outcome: Outcome) => void;
  readonly #seen: Uint8Array;
  #rest: Buffer | undefined;
  #parts: Buffer[] = [];
  #partsLength = 0;
  #needed = 0;
  #begun = false;
  #missing: number;

  /** @param count - the number of transactions in the batch. */
  constructor(count: number, onOutcome: (index: number, outcome: Outcome) => void) {
    this.#count = count;
    this.#missing = count;
    this.#seen = new Uint8Array(count);
    this.#onOutcome = onOutcome;
  }

  /** True once the outcome of every transaction came. */
  get complete(): boolean {
    return this.#missing === 0;
  }

  /**
   * Takes the next piece of the stream; results are copied out of it.
   *
   * @throws {DaybookError} `MALFORMED`
   */
  push(piece: Buffer): void {
    let bytes = piece;
    if (this.#rest !== undefined) {
      // Joining only when enough has come keeps a large outcome in small pieces linear.
      this.#parts.push(piece);
      this.#partsLength += piece.length;
      if (this.#rest.length + this.#partsLength < this.#needed) return;
      bytes = Buffer.concat([this.#rest, ...this.#parts]);
      this.#parts = [];
      this.#partsLength = 0;
      this.#rest = undefined;
    }
    const reader = new ByteReader(bytes, 'outcome stream');
    if (!this.#begun && reader.remaining > 0) {
      const version = reader.u8();
      if (version !== outcomeVersion) reader.fail(`unknown version ${version}`);
      this.#begun = true;
    }
    while (reader.remaining >= 4) {
      const start = reader.offset;
      const length = reader.length(outcomeBytesMax);
      if (length < headerBytes) reader.fail('outcome too short');
      if (reader.remaining < length) {
        this.#keep(bytes.subarray(start), 4 + length);
        return;
      }
      this.#outcome(reader, length);
    }
    if (reader.remaining > 0) this.#keep(bytes.subarray(reader.offset), 4);
  }

  #keep(rest: Buffer, needed: number): void {
    this.#rest = rest;
    this.#needed = needed;
  }

  #outcome(reader: ByteReader, length: number): void {
    const index = reader.u16();
    if (index >= this.#count || this.#seen[index] === 1) reader.fail('index of an outcome');
    const status = reader.u8();
    let outcome: Outcome;
    if (status === 0) {
      if (length < headerBytes + 8) reader.fail('outcome too short');
      const position = asPosition(reader.u64());
      outcome = {
        status: 'committed',
        position,
        result: reader.rawBytestring(length - headerBytes - 8),
      };
    } else if (status === 1) {
      outcome = { status: 'rejected', error: readError(reader, length - headerBytes) };
    } else {
      reader.fail(`unknown status ${status}`);
    }
    this.#seen[index] = 1;
    this.#missing--;
    this.#onOutcome(index, outcome);
  }
}

function readError(reader: ByteReader, length: number): ErrorJson {
  const text = reader.raw(length).toString('utf8');
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    reader.fail('error is not JSON');
  }
  if (!isErrorJson(json)) reader.fail('not an error');
  return json;
}

/** True for the JSON form of a `DaybookError`. */
export function isErrorJson(json: unknown): json is ErrorJson {
  if (typeof json !== 'object' || json === null) return false;
  const { code, message, details } = json as Partial<ErrorJson>;
  const detailsFit = details === undefined || (typeof details === 'object' && details !== null);
  return typeof code === 'string' && typeof message === 'string' && detailsFit;
}
