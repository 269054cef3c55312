import { type Bytestring, bytesOf, textOf } from '../base/index.ts';
import type { Position, TxId } from '../model/index.ts';

/** How a call ended well. */
export class CallResult {
  /** The transaction's id; of an evaluated call it is in no log. */
  readonly txId: TxId;
  /**
   * Where the transaction stands in the log; of an evaluated call, the position below which
   * everything was applied when it ran.
   */
  readonly position: Position;
  readonly #result: Bytestring;

  constructor(txId: TxId, position: Position, result: Bytestring) {
    this.txId = txId;
    this.position = position;
    this.#result = result;
  }

  /** What the contract function returned. */
  bytes(): Buffer {
    return bytesOf(this.#result);
  }

  /** The same as UTF-8 text. */
  text(): string {
    return textOf(this.#result);
  }

  /** The same, parsed; `undefined` when the function returned nothing. */
  json<T = unknown>(): T {
    return (this.#result === '' ? undefined : JSON.parse(this.text())) as T;
  }
}
