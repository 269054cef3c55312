import { whyUnreachable } from '../io/index.ts';
import type { Outcome } from '../model/index.ts';

/** The two doors of a gateway that take signed batches. */
export type Door = 'batches' | 'evaluate';

/** One attempt to have a batch executed. */
export interface Attempt {
  readonly door: Door;
  readonly bytes: Buffer;
  /** Number of transactions in the batch. */
  readonly count: number;
  /** How long the gateway may take, milliseconds. */
  readonly waitMs: number;
  /** A position the gateway's node must have applied first. */
  readonly after: number | undefined;
  /** Called for each outcome as it comes. */
  readonly onOutcome: (index: number, outcome: Outcome) => void;
}

/** See {@link Transport.post}. */
export interface Message {
  readonly body: Buffer;
  readonly contentType: string;
  /** How long the gateway may take, milliseconds. */
  readonly waitMs: number;
  /** A position the gateway's node must have applied first. */
  readonly after: number | undefined;
}

/** How a client reaches gateways. */
export interface Transport {
  /**
   * Sends a batch; resolves when the outcome of every transaction came. No outcome comes after
   * that or after a rejection.
   *
   * @throws {DaybookError} what the gateway answered when it refused the batch as a whole (nothing
   *   was done), or {@link AttemptLost}.
   */
  send(gateway: string, attempt: Attempt): Promise<void>;
  /**
   * Sends something that is answered by one JSON document.
   *
   * @throws {DaybookError} what the gateway answered, or `PEER_UNREACHABLE`: it may have received it.
   */
  post(gateway: string, path: string, message: Message): Promise<unknown>;
  /** @throws {DaybookError} what the gateway answered, or `PEER_UNREACHABLE`. */
  getJson(gateway: string, path: string, waitMs: number): Promise<unknown>;
  /** The lines of an endless answer. @throws {DaybookError} as {@link Transport.getJson} */
  lines(gateway: string, path: string, signal: AbortSignal): AsyncIterable<string>;
  close(): Promise<void>;
}

/** The attempt failed on the way. */
export class AttemptLost extends Error {
  override readonly name = 'AttemptLost';
  /** False when the gateway cannot have received the batch. */
  readonly delivered: boolean;

  constructor(delivered: boolean, cause: unknown) {
    super(whyUnreachable(cause), { cause });
    this.delivered = delivered;
  }
}
