import type { ContractCall } from '../contract/index.ts';
import type { Transaction } from '../model/index.ts';
import type { RunnerCall } from './frames.ts';

/** A call as the contract sees it. */
export class CalledContract implements ContractCall {
  readonly channel: string;
  readonly contract: string;
  readonly functionName: string;
  readonly args: readonly Uint8Array[];
  readonly creator: Uint8Array;
  readonly nonce: Uint8Array;
  readonly timestampMs: number;
  readonly #txId: Uint8Array;

  constructor(call: RunnerCall, transaction: Transaction) {
    this.channel = transaction.channel;
    this.contract = transaction.contract;
    this.functionName = transaction.functionName;
    this.args = transaction.args;
    this.creator = call.creator;
    this.nonce = transaction.nonce;
    this.timestampMs = transaction.timestampMs;
    this.#txId = call.txId;
  }

  /** Few contracts ask for it: it is written out when they do. */
  get txId(): string {
    return (this.#txId as Buffer).toString('hex');
  }
}
