import { asBuffer, DaybookError } from '../../base/index.ts';

/** One field of a protobuf message. `bytes` for length-delimited fields, `value` for varints. */
export interface ProtoField {
  readonly field: number;
  readonly value: number;
  readonly bytes: Buffer;
  /** Where `bytes` begins in the message that was read. */
  readonly offset: number;
}

const noBytes = Buffer.alloc(0);

/**
 * All fields of a protobuf message, in order; byte fields are views. Only varints up to 2^53 and
 * length-delimited fields occur in what Daybook reads.
 *
 * @throws {DaybookError} `MALFORMED` naming `what`.
 */
export function protoFields(bytes: Uint8Array, what: string): ProtoField[] {
  const buffer = asBuffer(bytes);
  const fields: ProtoField[] = [];
  let at = 0;
  const fail = (): never => {
    throw new DaybookError('MALFORMED', `malformed ${what}`, { details: { what, offset: at } });
  };
  const varint = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = buffer[at++];
      if (byte === undefined || factor > 2 ** 49) return fail();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return Number.isSafeInteger(value) ? value : fail();
    }
  };
  while (at < buffer.length) {
    const tag = varint();
    const field = Math.floor(tag / 8);
    if (field === 0) fail();
    if (tag % 8 === 0) fields.push({ field, value: varint(), bytes: noBytes, offset: at });
    else if (tag % 8 === 2) {
      const length = varint();
      if (length > buffer.length - at) fail();
      fields.push({ field, value: 0, bytes: buffer.subarray(at, at + length), offset: at });
      at += length;
    } else fail();
  }
  return fields;
}

/** A protobuf message by field number; the last one wins where a field is not repeated. */
export class ProtoMessage {
  readonly fields: readonly ProtoField[];
  readonly #what: string;

  /** @throws {DaybookError} `MALFORMED` naming `what`. */
  constructor(bytes: Uint8Array, what: string) {
    this.fields = protoFields(bytes, what);
    this.#what = what;
  }

  bytes(field: number): Buffer {
    return this.#last(field)?.bytes ?? noBytes;
  }

  text(field: number): string {
    return this.bytes(field).toString('utf8');
  }

  number(field: number): number {
    return this.#last(field)?.value ?? 0;
  }

  message(field: number, what: string): ProtoMessage {
    return new ProtoMessage(this.bytes(field), `${this.#what} ${what}`);
  }

  /** All elements of a repeated field of bytes or messages. */
  repeated(field: number): Buffer[] {
    return this.fields.filter((one) => one.field === field).map((one) => one.bytes);
  }

  #last(field: number): ProtoField | undefined {
    return this.fields.findLast((one) => one.field === field);
  }
}
