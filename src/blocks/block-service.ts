import {
  type Bytestring,
  DaybookError,
  isDaybookError,
  limits,
  toDaybookError,
} from '../base/index.ts';
import { abortForMany, type Io, pause } from '../io/index.ts';
import {
  type Address,
  type BlockVersion,
  type Position,
  positionOf,
  type TxId,
} from '../model/index.ts';
import type { AppliedEntry, Replica } from '../replica/index.ts';
import { type Row, type State, stateProofToJson } from '../state/index.ts';
import type { AttestationJson } from './attestation.ts';
import type { BlockBackend, BlockStatus } from './block-backend.ts';
import { type KeyProof, provenRow, type Receipt } from './receipt.ts';

/** Settings of {@link startBlockService}. */
export interface BlockServiceOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly replica: Pick<Replica, 'readApplied'> & {
    readonly state?: Pick<State, 'bulkDirectory'> &
      Partial<Pick<State, 'pendingUpdates' | 'nextAddress'>>;
  };
  /** Opens the generator: at the start, and again when its process has ended. */
  readonly open: () => Promise<BlockBackend>;
  /** The row of a key as it was before a position: the newest version below it. */
  readonly rowBefore: (key: Bytestring, position: Position) => Row | undefined;
  /** Openings in a row without a new block before it gives up. Default 8. */
  readonly attemptsMax?: number;
}

/** A block as it is delivered. */
export interface DeliveredBlock {
  readonly height: number;
  /** `common.Block`. */
  readonly bytes: Buffer;
}

/**
 * Feeds a generator from a replica and answers for its chain. It pulls: when blocks fall behind,
 * they fall behind; commits never wait for them.
 *
 * @throws {DaybookError} what opening the generator threw.
 */
export async function startBlockService(options: BlockServiceOptions): Promise<BlockService> {
  const backend = await options.open();
  return new BlockService(options, backend, await backend.status());
}

/** See {@link startBlockService}. */
export class BlockService {
  readonly #options: BlockServiceOptions;
  /** Everybody who waits listens. */
  readonly #stop = abortForMany();
  readonly #waiters = new Set<() => void>();
  readonly #running: Promise<void>;
  #backend: BlockBackend;
  #status: BlockStatus;
  #alarm: DaybookError | undefined;

  constructor(options: BlockServiceOptions, backend: BlockBackend, status: BlockStatus) {
    this.#options = options;
    this.#backend = backend;
    this.#status = status;
    this.#running = this.#run();
  }

  /** Where the chain stands. */
  get status(): BlockStatus {
    return this.#status;
  }

  /** Why no more blocks are made (`BLOCK_MISMATCH`, `STATE_DAMAGED`, …); else `undefined`. */
  get alarm(): DaybookError | undefined {
    return this.#alarm;
  }

  /** @throws {DaybookError} `NOT_FOUND`, `STATE_DAMAGED` */
  block(height: number): Promise<Buffer> {
    return this.#read(this.#backend.block(height));
  }

  /** Where the chain stands, and how far the scrub is, at this moment. */
  async now(): Promise<BlockStatus> {
    const status = await this.#backend.status();
    await this.#lookFor(status);
    return status;
  }

  /** @see BlockBackend.save */
  save(wanted: Address): Promise<Address> {
    return this.#backend.save(wanted);
  }

  /** @see BlockBackend.statement */
  statement(height: number): Promise<AttestationJson> {
    return this.#read(this.#backend.statement(height));
  }

  /** @see BlockBackend.digests */
  digests(from: number, count: number): Promise<Buffer> {
    return this.#read(this.#backend.digests(from, count));
  }

  /** @throws {DaybookError} `TRANSACTION_UNKNOWN` when it is in no block yet. */
  receipt(txId: TxId): Promise<Receipt> {
    return this.#read(this.#backend.receipt(txId));
  }

  /**
   * Proves what a key (state key: namespace ‖ 0x00 ‖ key) held after the newest block.
   *
   * @throws {DaybookError} `PROOF_NOT_READY`
   */
  async keyProof(key: Bytestring): Promise<KeyProof> {
    if (this.#status.height === 0) {
      throw new DaybookError('PROOF_NOT_READY', 'there is no block yet');
    }
    const answer = await this.#read(this.#backend.keyPath(key));
    const { path, position, block } = answer;
    const { pending, pendingRoot } = answer;
    const proof = provenRow(key, path, Buffer.from(pendingRoot, 'hex'), [
      () => this.#options.rowBefore(key, position),
      ...pending.toReversed().map((before) => () => this.#options.rowBefore(key, before)),
    ]);
    return { kind: 'daybook key proof 1', proof: stateProofToJson(proof), block };
  }

  /**
   * Block and transaction number of records that the replica has applied; waits until the generator
   * got them, which is long before their block is complete.
   *
   * @param waitMs - how long at most.
   * @throws {DaybookError} `TIMEOUT`, `CLOSED`, the service's alarm.
   */
  async placesOf(positions: readonly Position[], waitMs: number): Promise<BlockVersion[]> {
    if (positions.length === 0) return [];
    for (let waitedMs = 0; ; waitedMs += placesPollMs) {
      if (this.#stop.signal.aborted) throw new DaybookError('CLOSED', 'blocks are being closed');
      const places = await this.#backend.placesOf(positions).catch((error: unknown) => {
        this.#noteDamage(error);
        // Its process is being started again.
        if (toDaybookError(error).code !== 'PEER_UNREACHABLE') throw error;
        return [null];
      });
      const known = places.flatMap((place) => place ?? []);
      if (known.length === positions.length) return known;
      if (this.#alarm !== undefined) throw this.#alarm;
      if (waitedMs >= waitMs) {
        throw new DaybookError('TIMEOUT', 'the chain has not got as far as the versions read', {
          details: { position: Math.max(...positions) },
        });
      }
      await this.#pause(placesPollMs);
    }
  }

  /**
   * Blocks from a height on, in order, those to come included; without end. Resume after a break
   * with the height behind the last one received. Ends when `signal` aborts or the service closes.
   *
   * @throws {DaybookError} `OVERLOADED` over `blockFollowersMax`; the service's alarm.
   */
  async *follow(from: number, signal?: AbortSignal): AsyncGenerator<DeliveredBlock> {
    const ended = (): boolean => this.#stop.signal.aborted || (signal?.aborted ?? false);
    for (let height = from; !ended(); ) {
      if (height < this.#status.height) {
        const bytes = await this.#blockAfterRestart(height);
        if (bytes === undefined) continue;
        yield { height, bytes };
        height++;
      } else {
        if (this.#alarm !== undefined) throw this.#alarm;
        await this.#change(signal);
      }
    }
  }

  /** Stops, saves and closes. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#wake();
    await this.#running;
    await this.#backend.close().catch((error: unknown) => {
      // A process that has ended saved its blocks; the rest is made again.
      if (toDaybookError(error).code !== 'PEER_UNREACHABLE') throw error;
    });
  }

  async #run(): Promise<void> {
    const { attemptsMax = 8 } = this.#options;
    let attempts = 0;
    let height = this.#status.height;
    while (!this.#stop.signal.aborted) {
      try {
        await this.#pump();
        return;
      } catch (thrown) {
        const error = toDaybookError(thrown);
        if (this.#status.height > height) attempts = 0;
        height = this.#status.height;
        attempts++;
        if (error.code !== 'PEER_UNREACHABLE' || attempts > attemptsMax) {
          this.#fail(error);
          return;
        }
        await this.#pause(Math.min(100 * 2 ** attempts, 5000));
        if (this.#stop.signal.aborted) return;
        try {
          this.#backend = await this.#options.open();
        } catch (cause) {
          if (toDaybookError(cause).code === 'PEER_UNREACHABLE') continue;
          this.#fail(toDaybookError(cause));
          return;
        }
      }
    }
  }

  async #pump(): Promise<void> {
    const backend = this.#backend;
    const stop = new AbortController();
    const end = (): void => stop.abort();
    this.#stop.signal.addEventListener('abort', end, { once: true });
    // Nothing may come along to be pushed for a long time, and there are other calls to serve.
    backend.onExit?.(end);
    try {
      const { state } = this.#options.replica;
      if (state !== undefined) await backend.useBulkDirectory?.(state.bulkDirectory);
      // What waited when the generator was closed may be there, and the log quiet.
      await this.#push(backend, [], stop.signal);
      const from = positionOf(backend.nextAddress, 0);
      for await (const entries of this.#options.replica.readApplied(from, stop.signal)) {
        for (const part of parts(entries)) {
          await this.#push(backend, part, stop.signal);
          if (stop.signal.aborted) break;
        }
        // What comes next need not follow the last part that was handed over.
        if (stop.signal.aborted) break;
      }
    } finally {
      this.#stop.signal.removeEventListener('abort', end);
    }
    if (!this.#stop.signal.aborted) {
      throw new DaybookError('PEER_UNREACHABLE', 'the block process has ended');
    }
  }

  /** Resolves when the blocks are stored that these entries complete; commits go on meanwhile. */
  async #push(
    backend: BlockBackend,
    entries: readonly AppliedEntry[],
    signal: AbortSignal,
  ): Promise<void> {
    let status = await backend.push(entries);
    while (status.waitingFor !== undefined && !signal.aborted) {
      // For the rows of a bulk update.
      this.#status = status;
      this.#wake();
      // Asked before: it may have ended since the generator looked for its rows.
      const over = this.#isOver(status.waitingFor);
      await this.#pause(bulkPollMs);
      status = await backend.push([]);
      if (over && status.waitingFor !== undefined && this.#isOver(status.waitingFor)) {
        throw new DaybookError(
          'BULK_ROWS_GONE',
          `nobody has the rows of the bulk update at ${status.waitingFor} any more`,
          { details: { position: status.waitingFor } },
        );
      }
    }
    await this.#lookFor(status);
    // A generator that starts again repeats blocks that it has.
    if (status.height >= this.#status.height) this.#status = status;
    this.#wake();
  }

  /** Whether all rows have taken a bulk update, so that its file is there or has been removed. */
  #isOver(position: Position): boolean {
    const { state } = this.#options.replica;
    if (state?.pendingUpdates === undefined) return false;
    return (
      state.nextAddress !== undefined &&
      position < positionOf(state.nextAddress, 0) &&
      state.pendingUpdates.every((update) => update.position !== position)
    );
  }

  /** A stored block, waiting for a process that is being started again. */
  async #blockAfterRestart(height: number): Promise<Buffer | undefined> {
    try {
      return await this.block(height);
    } catch (error) {
      if (toDaybookError(error).code !== 'PEER_UNREACHABLE') throw error;
      if (this.#alarm !== undefined) throw this.#alarm;
      await this.#pause(50);
      return undefined;
    }
  }

  /** What turns out to be damaged must be mended, unless it is a block that is about to be made again. */
  async #read<T>(reading: Promise<T>): Promise<T> {
    try {
      return await reading;
    } catch (error) {
      this.#noteDamage(error);
      throw error;
    }
  }

  #noteDamage(error: unknown): void {
    if (!isDaybookError(error, 'STATE_DAMAGED')) return;
    const { height = -1 } = error.details;
    if (Number(height) < this.#status.height) this.#fail(error);
  }

  /** A sweep may have found a damaged block that nobody wanted: reading it raises the alarm. */
  async #lookFor({ damaged, height }: BlockStatus): Promise<void> {
    if (damaged === undefined || damaged >= height) return;
    await this.block(damaged).catch(() => undefined);
  }

  #fail(error: DaybookError): void {
    if (this.#stop.signal.aborted) return;
    this.#alarm = error;
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }

  #change(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiters.size >= limits.blockFollowersMax) {
      throw new DaybookError('OVERLOADED', 'too many followers of blocks', {
        details: { limit: 'blockFollowersMax', max: limits.blockFollowersMax },
      });
    }
    return new Promise((resolve) => {
      const wake = (): void => {
        this.#waiters.delete(wake);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      this.#waiters.add(wake);
      signal?.addEventListener('abort', wake);
    });
  }

  #pause(delayMs: number): Promise<void> {
    return pause(this.#options.io, delayMs, { signal: this.#stop.signal });
  }
}

const bulkPollMs = 100;
const placesPollMs = 5;

/** Splits entries so that a message stays far below `frameBytesMax`. */
function* parts(entries: readonly AppliedEntry[]): Generator<readonly AppliedEntry[]> {
  let part: AppliedEntry[] = [];
  let bytes = 0;
  for (const applied of entries) {
    const size = sizeOf(applied);
    if (part.length > 0 && bytes + size > limits.blockPushBytesMax) {
      yield part;
      part = [];
      bytes = 0;
    }
    part.push(applied);
    bytes += size;
  }
  if (part.length > 0) yield part;
}

function sizeOf({ entry }: AppliedEntry): number {
  if (entry?.kind !== 'records') return 4096;
  return entry.records.reduce((sum, { bytes }) => sum + bytes.length, 4096);
}
