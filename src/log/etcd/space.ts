import { spaceExhausted } from './grpc-errors.ts';
import type { EtcdIo, UnitClient } from './unit-client.ts';

/** How full a member of a unit is; bytes. */
export interface SpaceUse {
  /** The size of etcd's file, to which its quota applies; only defragmentation shrinks it. */
  readonly fileBytes: number;
  readonly usedBytes: number;
}

const pollMs = 250;

/**
 * Slows writers down before etcd's quota stops everything, trimming included. Asks for the sizes
 * at most four times a second and only while there are writes.
 */
export class SpaceWatch {
  readonly #io: EtcdIo;
  readonly #client: UnitClient;
  readonly #highBytes: number;
  #askedMs = Number.NEGATIVE_INFINITY;
  #full = false;

  constructor(io: EtcdIo, client: UnitClient, highBytes: number) {
    this.#io = io;
    this.#client = client;
    this.#highBytes = highBytes;
  }

  /** Writers are being refused. */
  get isFull(): boolean {
    return this.#full;
  }

  /** @throws {DaybookError} `OVERLOADED` with `details.limit` `logSpaceBytes` */
  check(): void {
    const nowMs = this.#io.clock.monotonicMs();
    if (nowMs - this.#askedMs >= pollMs) {
      this.#askedMs = nowMs;
      void this.refresh();
    }
    if (this.#full) throw spaceExhausted();
  }

  /** Asks now; an unreachable unit leaves things as they are. */
  async refresh(): Promise<void> {
    const use = await spaceUse(this.#client).catch(() => undefined);
    if (use !== undefined) this.#full = use.usedBytes >= this.#highBytes;
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
