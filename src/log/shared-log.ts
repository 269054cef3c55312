import type { Address } from '../model/index.ts';

/** What the sequencer granted: an address, and the epoch in which it may be written. Used once. */
export interface Token {
  readonly epoch: number;
  readonly address: Address;
}

/** What stands at an address. A `fill` closes a hole and has no bytes. */
export interface LogEntry {
  readonly address: Address;
  readonly kind: 'data' | 'fill';
  readonly epoch: number;
  /** Canonical bytes of an `Entry`; empty for a fill. */
  readonly bytes: Uint8Array;
}

/** What a writer may say of an entry. */
export interface WriteOptions {
  /**
   * It is small, and what can be trimmed waits for it: so it is not refused while the log's space only
   * comes to its end.
   */
  readonly makesRoom?: boolean;
}

/** `full`: writers wait for a trim; `none`: whatever puts anything is refused. */
export type LogRoom = 'enough' | 'full' | 'none';

/**
 * The shared log: addresses that are written once. The log store alone enforces invariant I1,
 * whoever writes.
 */
export interface SharedLog {
  /** The first address behind everything written or filled so far. */
  tail(): Promise<Address>;

  /**
   * Writes one entry at `token.address`; resolves once it is durable. Writing the very same bytes
   * again at the same address succeeds (an answer may have been lost), whatever is sealed.
   *
   * @param bytes - 1..entryBytesMax bytes. The log keeps them: they must not change any more.
   * @throws {DaybookError} `LOG_EPOCH_SEALED`: take a new token from the new sequencer.
   *   `LOG_ADDRESS_TAKEN`: someone filled the hole or wrote first; take a new token.
   *   `LOG_TRIMMED`: final. `OVERLOADED`: too much under way, or too far ahead of a hole; again
   *   later. `DISK_FULL`: not written; again later. `IO_FAILED`: whether it stands shows when the
   *   log is opened again.
   * @see CORFU, NSDI 2012, §3 (write-once storage units).
   */
  write(token: Token, bytes: Uint8Array, options?: WriteOptions): Promise<void>;

  /**
   * @throws {DaybookError} `LOG_NOT_WRITTEN`, `LOG_TRIMMED`, `LOG_DAMAGED`.
   */
  read(address: Address): Promise<LogEntry>;

  /**
   * All entries from `from` on: contiguous, in order, only durable ones, without end; waits at the
   * tail and at holes. Yields what is there in arrays, never empty ones.
   *
   * @throws {DaybookError} `LOG_TRIMMED` when `from` is before the trim point, `LOG_DAMAGED`,
   *   `CLOSED` when the log is closed. Ends quietly when `signal` aborts.
   */
  follow(from: Address, signal?: AbortSignal): AsyncIterable<readonly LogEntry[]>;

  /**
   * Closes the hole at `address` with a junk entry, durably. Does nothing when the address is
   * written, filled or trimmed already.
   */
  fill(address: Address): Promise<void>;

  /**
   * Allows the log to forget the addresses before `before` (at most those before the tail); they
   * answer `LOG_TRIMMED` from then.
   */
  trim(before: Address): Promise<void>;

  /**
   * Gives back what nobody needs, when the log refuses writers for want of space: needed where there is
   * nothing to trim, while what the log writes beside entries goes on, and others may have made room. Does
   * nothing while there is enough. Engines that take entries again by themselves have none.
   *
   * @returns what room there is now; `undefined`: a trim is under way.
   */
  reclaim?(): Promise<LogRoom | undefined>;

  /**
   * Fences all epochs below `epoch`, durably: their writes fail with `LOG_EPOCH_SEALED`. Sealing
   * at or below the current epoch throws that error too. Returns the tail: no entry of a lower
   * epoch will ever stand at or after it that was not there already.
   */
  seal(epoch: number): Promise<Address>;

  /** The epoch sealed last; 0 on a fresh log. Writers use it as is or a higher one. */
  epoch(): Promise<number>;

  /** The first address that is not trimmed. */
  start(): Promise<Address>;

  close(): Promise<void>;
}
