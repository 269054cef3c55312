import type pg from 'pg';
import type { RowValue } from '../processor.ts';
import { copyText, postgresText } from './postgres-text.ts';

const frameTextMax = 64 * 1024;
const frameHeadBytes = 5;
const copyData = 'd'.charCodeAt(0);
/** Message `CopyDone`. */
const copyDone = Buffer.from([0x63, 0, 0, 0, 4]);
/** Message `CopyFail` with an empty reason. */
const copyFail = Buffer.from([0x66, 0, 0, 0, 5, 0]);

/** Rows as the data of a COPY, which may be sent more than once. */
export class CopyRows {
  readonly #lines: Iterator<string>;
  readonly #frames: Buffer[] = [];
  #last = false;

  /** @param arrays - of which columns the type is an array. */
  constructor(
    rows: readonly (readonly RowValue[])[],
    revisions: readonly number[],
    arrays: readonly boolean[],
  ) {
    this.#lines = textsOf(rows, revisions, arrays);
  }

  /** Messages `CopyData`. They are made one by one: the server reads the first while the next is made. */
  *frames(): Generator<Buffer> {
    yield* this.#frames;
    while (!this.#last) {
      const { value, done } = this.#lines.next();
      this.#last = done === true;
      if (done === true) return;
      const frame = frameOf(value);
      this.#frames.push(frame);
      yield frame;
    }
  }
}

/**
 * Runs statements of which one is `COPY … FROM STDIN`; one that fails ends them.
 *
 * @throws {pg.DatabaseError} @throws {DaybookError} `SINK_REFUSED`: a value has no text form.
 */
export function copyIn(client: pg.Client, sql: string, rows: CopyRows): Promise<void> {
  return new Promise((resolve, reject) => {
    client.query(new CopyIn(sql, rows, resolve, reject));
  });
}

/** What the driver takes for a query of another kind than its own, and calls back. */
class CopyIn implements pg.Submittable {
  readonly #sql: string;
  readonly #rows: CopyRows;
  readonly #resolve: () => void;
  readonly #reject: (error: Error) => void;
  #failure: Error | undefined;

  constructor(sql: string, rows: CopyRows, resolve: () => void, reject: (error: Error) => void) {
    this.#sql = sql;
    this.#rows = rows;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  submit(connection: pg.Connection): void {
    connection.query(this.#sql);
  }

  /** All at once: a page is bounded, and after an error the server drops what is still on its way. */
  handleCopyInResponse({ stream }: pg.Connection): void {
    try {
      for (const frame of this.#rows.frames()) stream.write(frame);
      stream.write(copyDone);
    } catch (error) {
      this.#failure = error as Error;
      stream.write(copyFail);
    }
  }

  handleCommandComplete(): void {
    // The end is when the server is ready for more.
  }

  handleReadyForQuery(): void {
    this.#resolve();
  }

  handleError(error: Error): void {
    this.#reject(this.#failure ?? error);
  }
}

function* textsOf(
  rows: readonly (readonly RowValue[])[],
  revisions: readonly number[],
  arrays: readonly boolean[],
): Generator<string> {
  let text = '';
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at] as readonly RowValue[];
    for (let column = 0; column < arrays.length; column++) {
      const value = row[column];
      text +=
        typeof value === 'number'
          ? `${value}\t`
          : `${copyText(postgresText(value, arrays[column] === true))}\t`;
    }
    text += `${revisions[at]}\n`;
    if (text.length >= frameTextMax) {
      yield text;
      text = '';
    }
  }
  if (text !== '') yield text;
}

function frameOf(text: string): Buffer {
  const bytes = Buffer.byteLength(text);
  const frame = Buffer.allocUnsafe(frameHeadBytes + bytes);
  frame[0] = copyData;
  // The length counts itself.
  frame.writeUInt32BE(bytes + 4, 1);
  frame.write(text, frameHeadBytes);
  return frame;
}
