import {
  ByteReader,
  type Bytestring,
  ByteWriter,
  bytestringOf,
  checkLimit,
  DaybookError,
  limits,
} from '../base/index.ts';
import { sha256 } from './hash.ts';
import type { Identity } from './identity.ts';
import { identityBytes } from './identity.ts';
import { merkleLeafHash } from './merkle.ts';

/** What a client asks for: one contract call. */
export interface Transaction {
  readonly channel: string;
  readonly contract: string;
  /** Pins a deployed version; `''` takes whichever is deployed. */
  readonly contractVersion: string;
  /** Function name, `name` or `ContractClass:name` as in Fabric. */
  readonly functionName: string;
  readonly args: readonly Uint8Array[];
  /** 24 random bytes that make the transaction id unique. */
  readonly nonce: Uint8Array;
  /** The client's time, milliseconds since 1970; what `Date.now()` answers inside the contract. */
  readonly timestampMs: number;
}

/** A transaction id: 64 lower-case hexadecimal digits. */
export type TxId = string;

const transactionVersion = 1;
const timestampBytes = 8;

/** Canonical bytes of a transaction: what is hashed, signed and kept in the log, as received. */
export function encodeTransaction(transaction: Transaction): Buffer {
  const writer = new ByteWriter(256);
  writeTransaction(transaction, writer);
  return writer.finish();
}

/** Appends {@link encodeTransaction}'s bytes to `writer`. */
export function writeTransaction(transaction: Transaction, writer: ByteWriter): void {
  checkLimit('argumentsMax', transaction.args.length);
  writer.u8(transactionVersion);
  name(writer, transaction.channel);
  name(writer, transaction.contract);
  name(writer, transaction.contractVersion);
  name(writer, transaction.functionName);
  writer.u16(transaction.args.length);
  for (const argument of transaction.args) {
    checkLimit('argumentBytesMax', argument.length);
    writer.bytes(argument);
  }
  if (transaction.nonce.length !== limits.nonceBytes) {
    throw new DaybookError('INVALID_ARGUMENT', `a nonce has ${limits.nonceBytes} bytes`, {
      details: { what: 'nonce', length: transaction.nonce.length },
    });
  }
  writer.raw(transaction.nonce).u64(transaction.timestampMs);
}

/**
 * Reads {@link encodeTransaction}'s bytes, which stand in `bytes` from `start` to `end`. Byte fields
 * are views of `bytes`, made when they are asked for: most of those who decode a transaction want
 * its names and time only. So a copy made by spreading lacks `args` and `nonce`.
 *
 * @throws {DaybookError} `MALFORMED`
 */
export function decodeTransaction(
  bytes: Uint8Array,
  start: number = 0,
  end: number = bytes.length,
): Transaction {
  return new ReceivedTransaction(bytes, start, end);
}

/** A transaction's arguments as bytestrings. */
export function argumentsOf(transaction: Transaction): Bytestring[] {
  return transaction instanceof ReceivedTransaction
    ? transaction.bytestrings()
    : transaction.args.map(bytestringOf);
}

class ReceivedTransaction implements Transaction {
  readonly channel: string;
  readonly contract: string;
  readonly contractVersion: string;
  readonly functionName: string;
  readonly timestampMs: number;
  readonly #bytes: Buffer;
  /** Where the arguments begin, after their number. */
  readonly #argsAt: number;
  readonly #argsCount: number;
  readonly #end: number;
  #args: readonly Uint8Array[] | undefined;

  constructor(bytes: Uint8Array, start: number, end: number) {
    const reader = new ByteReader(bytes, 'transaction', start, end);
    const version = reader.u8();
    if (version !== transactionVersion) reader.fail(`unknown version ${version}`);
    this.channel = reader.text(limits.nameBytesMax);
    this.contract = reader.text(limits.nameBytesMax);
    this.contractVersion = reader.text(limits.nameBytesMax);
    this.functionName = reader.text(limits.nameBytesMax);
    const count = reader.u16();
    if (count > limits.argumentsMax) reader.fail(`argumentsMax is ${limits.argumentsMax}`);
    this.#bytes = reader.buffer;
    this.#argsAt = reader.offset;
    this.#argsCount = count;
    this.#end = end;
    for (let at = 0; at < count; at++) reader.skip(reader.length(limits.argumentBytesMax));
    reader.skip(limits.nonceBytes);
    this.timestampMs = reader.u64();
    reader.finish();
  }

  get args(): readonly Uint8Array[] {
    if (this.#args !== undefined) return this.#args;
    const reader = this.#argsReader();
    const args: Buffer[] = new Array(this.#argsCount);
    for (let at = 0; at < args.length; at++) args[at] = reader.bytes(limits.argumentBytesMax);
    this.#args = args;
    return args;
  }

  /** Keys of the state are arguments more often than not. */
  bytestrings(): Bytestring[] {
    const reader = this.#argsReader();
    const args: Bytestring[] = new Array(this.#argsCount);
    for (let at = 0; at < args.length; at++) args[at] = reader.key(limits.argumentBytesMax);
    return args;
  }

  get nonce(): Uint8Array {
    const end = this.#end - timestampBytes;
    return this.#bytes.subarray(end - limits.nonceBytes, end);
  }

  #argsReader(): ByteReader {
    return new ByteReader(this.#bytes, 'transaction', this.#argsAt, this.#end);
  }
}

/** The first four bytes of an id. Ids are hashes: these are as good as any hash of them. */
export function firstWord(txId: Uint8Array): number {
  return (
    ((txId[0] as number) << 24) |
    ((txId[1] as number) << 16) |
    ((txId[2] as number) << 8) |
    (txId[3] as number)
  );
}

/** `SHA-256(nonce ‖ creator)` as in Fabric; the creator is the serialised identity. */
export function transactionId(nonce: Uint8Array, creator: Uint8Array): Buffer {
  return sha256(nonce, creator);
}

/** The hexadecimal transaction id of a transaction that `creator` makes. */
export function transactionIdOf(transaction: Transaction, creator: Identity): TxId {
  return transactionId(transaction.nonce, identityBytes(creator)).toString('hex');
}

/**
 * Why a transaction's timestamp does not do at a node now; `undefined`: it does. When the clock is
 * that of the log, the transaction is too old or its maker's clock is wrong. Else it may as well be
 * the node's, and others may take it. All times in milliseconds since 1970.
 */
export function untimely(
  timestampMs: number,
  nowMs: number,
  logTimeMs: number,
  transactionLifetimeMs: number,
): DaybookError | undefined {
  if (Math.abs(nowMs - timestampMs) <= transactionLifetimeMs) return undefined;
  const details = { timestampMs, nowMs, logTimeMs, transactionLifetimeMs };
  const [made, here] = [timestampMs, nowMs].map(timeText);
  const message = `made at ${made}, and here it is ${here}: more than ${transactionLifetimeMs} ms apart`;
  return Math.abs(nowMs - logTimeMs) <= transactionLifetimeMs
    ? new DaybookError('TRANSACTION_EXPIRED', message, { details })
    : new DaybookError('CLOCKS_APART', message, { details });
}

/** Any bytes can say any time; dates end in the year 275760. */
function timeText(ms: number): string {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? `${ms} ms` : date.toISOString();
}

/**
 * The leaf under which a transaction is signed: it binds the transaction's bytes to its id, and so
 * to its creator.
 */
export function transactionLeafHash(txId: Uint8Array, transactionBytes: Uint8Array): Buffer {
  return merkleLeafHash(txId, transactionBytes);
}

function name(writer: ByteWriter, value: string): void {
  // A UTF-16 unit becomes at most three bytes.
  if (value.length * 3 > limits.nameBytesMax) {
    checkLimit('nameBytesMax', Buffer.byteLength(value));
  }
  writer.text(value);
}
