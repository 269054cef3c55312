import type { Bytestring } from '../base/index.ts';
import type { ContractCall } from '../contract/index.ts';
import { argumentsOf, decodeTransaction, type Transaction } from '../model/index.ts';
import type { CallKind } from './frames.ts';

/** Where a call's bytes stand in the frame that brought it. */
export interface CallBytes {
  readonly frame: Buffer;
  readonly txIdAt: number;
  readonly transactionAt: number;
  readonly transactionEnd: number;
}

/**
 * A call as the engine has it and contracts see it. It stays in the frame that brought it: fields
 * are read when somebody asks for them, since most calls need few.
 */
export class ReceivedCall implements ContractCall {
  /** The executor's number of the call; goes back with the result. */
  readonly call: number;
  readonly kind: CallKind;
  /** Mode `batch`: calls of one unit stand together in one frame. */
  readonly unit: number;
  readonly creator: Uint8Array;
  readonly #frame: Buffer;
  readonly #txIdAt: number;
  readonly #transactionAt: number;
  readonly #transactionEnd: number;
  #transaction: Transaction | undefined;

  constructor(call: number, kind: CallKind, unit: number, creator: Uint8Array, at: CallBytes) {
    this.call = call;
    this.kind = kind;
    this.unit = unit;
    this.creator = creator;
    this.#frame = at.frame;
    this.#txIdAt = at.txIdAt;
    this.#transactionAt = at.transactionAt;
    this.#transactionEnd = at.transactionEnd;
  }

  /** @throws {DaybookError} `MALFORMED` */
  get transaction(): Transaction {
    this.#transaction ??= decodeTransaction(this.#frame, this.#transactionAt, this.#transactionEnd);
    return this.#transaction;
  }

  /** Length of the transaction. */
  get transactionBytes(): number {
    return this.#transactionEnd - this.#transactionAt;
  }

  get channel(): string {
    return this.transaction.channel;
  }

  get contract(): string {
    return this.transaction.contract;
  }

  get functionName(): string {
    return this.transaction.functionName;
  }

  get args(): readonly Bytestring[] {
    return argumentsOf(this.transaction);
  }

  get nonce(): Uint8Array {
    return this.transaction.nonce;
  }

  get timestampMs(): number {
    return this.transaction.timestampMs;
  }

  get txId(): string {
    return this.#frame.toString('hex', this.#txIdAt, this.#txIdAt + 32);
  }
}
