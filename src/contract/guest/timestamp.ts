/** Stands in for the `Long` of protobuf timestamps: a 64-bit integer that fits a double. */
export class LongValue {
  readonly low: number;
  readonly high: number;
  readonly unsigned = false;
  readonly #value: number;

  constructor(value: number) {
    this.#value = value;
    this.low = value | 0;
    this.high = Math.floor(value / 0x1_0000_0000) | 0;
  }

  toNumber(): number {
    return this.#value;
  }

  toInt(): number {
    return this.low;
  }

  toBigInt(): bigint {
    return BigInt(this.#value);
  }

  toString(): string {
    return `${this.#value}`;
  }

  equals(other: unknown): boolean {
    return Number(other) === this.#value;
  }

  valueOf(): number {
    return this.#value;
  }
}

/** `google.protobuf.Timestamp` as Fabric's stub shows it. */
export interface Timestamp {
  readonly seconds: LongValue;
  readonly nanos: number;
}

/** Of a time in milliseconds since 1970. */
export function timestampOf(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  return { seconds: new LongValue(seconds), nanos: (ms - seconds * 1000) * 1_000_000 };
}
