import { spaceExhausted } from './grpc-errors.ts';
import type { EtcdIo, UnitClient } from './unit-client.ts';

/** How full a member of a unit is; bytes. */
export interface SpaceUse {
  /** The size of etcd's file, to which its quota applies; only defragmentation shrinks it. */
  readonly fileBytes: number;
  readonly usedBytes: number;
}

const pollMs = 1000;

/**
 * Slows writers down before etcd's quota stops everything, trimming included. Asks for the sizes
 * at most once a second and only while there are writes; counts what is written in between, so that a
 * fast writer does not run past the mark.
 */
export class SpaceWatch {
  readonly #io: EtcdIo;
  readonly #client: UnitClient;
  readonly #highBytes: number;
  #askedMs = Number.NEGATIVE_INFINITY;
  #usedBytes = 0;
  /** Written here in all, and how much of it etcd's answer contained for sure. */
  #writtenBytes = 0;
  #countedBytes = 0;

  constructor(io: EtcdIo, client: UnitClient, highBytes: number) {
    this.#io = io;
    this.#client = client;
    this.#highBytes = highBytes;
  }

  /** Writers are being refused. */
  get isFull(): boolean {
    return this.#usedBytes + this.#writtenBytes - this.#countedBytes >= this.#highBytes;
  }

  /**
   * Asks for room for a write.
   *
   * @throws {DaybookError} `OVERLOADED` with `details.limit` `logSpaceBytes`
   */
  check(bytes: number): void {
    const nowMs = this.#io.clock.monotonicMs();
    if (nowMs - this.#askedMs >= pollMs) {
      this.#askedMs = nowMs;
      void this.refresh();
    }
    if (this.isFull) throw spaceExhausted();
    this.#writtenBytes += bytes;
  }

  /** Asks now; an unreachable unit leaves things as they are. */
  async refresh(): Promise<void> {
    const writtenBytes = this.#writtenBytes;
    const use = await spaceUse(this.#client).catch(() => undefined);
    if (use === undefined) return;
    this.#usedBytes = use.usedBytes;
    this.#countedBytes = Math.max(this.#countedBytes, writtenBytes);
  }
}

/** Sizes of the fullest member that answers within a second; `undefined` when none does. */
export async function spaceUse(client: UnitClient): Promise<SpaceUse | undefined> {
  const statuses = (await client.statuses(1000)).filter((status) => status !== undefined);
  if (statuses.length === 0) return undefined;
  return {
    fileBytes: Math.max(...statuses.map((status) => Number(status.dbSize))),
    usedBytes: Math.max(...statuses.map((status) => Number(status.dbSizeInUse))),
  };
}
