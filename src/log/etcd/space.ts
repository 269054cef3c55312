import { spaceExhausted } from './grpc-errors.ts';
import type { EtcdIo, UnitClient } from './unit-client.ts';

/** How full a member of a unit is; bytes. */
export interface SpaceUse {
  /** The size of etcd's file, to which its quota applies; only defragmentation shrinks it. */
  readonly fileBytes: number;
  readonly usedBytes: number;
}

const pollMs = 250;
/** Of a full log that stays so: between two looks, and between two writes for their sake. */
const fullPollMsMax = 1000;
const nudgeMsMax = 4000;
/**
 * What a member says of its sizes is up to a tenth of a second old: so often it commits to its file.
 * Twice that, because a busy disk takes its time.
 */
const settleMs = 200;
const answerMs = 1000;
/** So many write at least: not everybody who does is a registered node. */
const writersMin = 4;

/** The part of a {@link UnitClient} that is needed here. */
export type SpaceClient = Pick<
  UnitClient,
  'call' | 'sleep' | 'status' | 'statuses' | 'memberCount'
>;

/** Settings of a {@link SpaceWatch}; bytes. */
export interface SpaceLimits {
  /** What etcd is allowed to use. */
  readonly quotaBytes: number;
  /** From here on writers are refused. */
  readonly highBytes: number;
  /** How many nodes are known. Each sees only the bytes that it writes itself. */
  readonly nodes: () => number;
  /** A key that means nothing: see {@link SpaceWatch.refresh}. */
  readonly nudge: Buffer;
}

/**
 * Slows writers down before etcd's quota stops everything. Between two looks at the sizes each
 * process may write only its share of half of what is left, bytes that a look cannot have seen yet
 * included: who wants more waits for the next look. The other half is for what etcd's pages add.
 */
export class SpaceWatch {
  readonly #io: Pick<EtcdIo, 'clock'>;
  readonly #client: SpaceClient;
  readonly #limits: SpaceLimits;
  /** `undefined` before the first look. */
  #usedBytes: number | undefined;
  /** Let in since the last look began, and in the time that it may not have seen. */
  #sinceBytes = 0;
  #unseenBytes = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #nudgedMs = Number.NEGATIVE_INFINITY;
  /** How long nothing has changed: each look at a full log in vain doubles it. */
  #vainMs = pollMs;
  #looking: Promise<boolean> | undefined;

  constructor(io: Pick<EtcdIo, 'clock'>, client: SpaceClient, spaceLimits: SpaceLimits) {
    this.#io = io;
    this.#client = client;
    this.#limits = spaceLimits;
  }

  /** Writers are being refused. */
  get isFull(): boolean {
    return this.#usedBytes !== undefined && this.#usedBytes >= this.#limits.highBytes;
  }

  /**
   * Resolves when `bytes` more may be put.
   *
   * @throws {DaybookError} `OVERLOADED` with `details.limit` `logSpaceBytes`
   */
  async admit(bytes: number): Promise<void> {
    const pauseMs = Math.min(this.#vainMs, fullPollMsMax);
    if (this.#io.clock.monotonicMs() - this.#lookedMs >= pauseMs) void this.#look();
    while (!this.isFull && !this.#fits(bytes)) {
      // A unit that does not answer takes no writes either.
      if (!(await this.#look())) break;
    }
    if (this.isFull) throw spaceExhausted();
    this.#sinceBytes += bytes;
  }

  /**
   * Asks every member now; an unreachable unit leaves things as they are. While nobody writes, etcd
   * goes on saying the sizes of its last write: so this writes something.
   */
  async refresh(): Promise<void> {
    await this.#nudge();
    const use = await spaceUse(this.#client);
    if (use !== undefined) this.#usedBytes = use.usedBytes;
  }

  #fits(bytes: number): boolean {
    const pending = this.#sinceBytes + this.#unseenBytes;
    const { quotaBytes, nodes } = this.#limits;
    if (this.#usedBytes === undefined) return false;
    const share = (quotaBytes - this.#usedBytes) / (2 * Math.max(writersMin, nodes()));
    // However little is left below the high mark, one at a time goes.
    return pending === 0 || pending + bytes <= share;
  }

  /** False when too few members have answered. Callers at the same time share one. */
  #look(): Promise<boolean> {
    this.#looking ??= this.#lookOnce().finally(() => {
      this.#looking = undefined;
    });
    return this.#looking;
  }

  async #lookOnce(): Promise<boolean> {
    const { clock } = this.#io;
    // At least so far from the look before that this one sees all that was let in before that one.
    const earlyMs = this.#lookedMs + settleMs - clock.monotonicMs();
    if (earlyMs > 0) await this.#client.sleep(earlyMs);
    this.#lookedMs = clock.monotonicMs();
    this.#unseenBytes = this.#sinceBytes;
    this.#sinceBytes = 0;
    // Each is a revision that stays until the history is compacted, so they become few.
    if (this.isFull && this.#lookedMs - this.#nudgedMs >= this.#vainMs) await this.#nudge();
    const usedBytes = await this.#askMajority();
    if (usedBytes === undefined) return false;
    const wasFull = this.isFull;
    this.#usedBytes = usedBytes;
    this.#vainMs = wasFull && this.isFull ? Math.min(2 * this.#vainMs, nudgeMsMax) : pollMs;
    return true;
  }

  async #nudge(): Promise<void> {
    this.#nudgedMs = this.#io.clock.monotonicMs();
    const put = { key: this.#limits.nudge, value: Buffer.alloc(0) };
    // At the quota itself nothing can be written; a trim lifts that.
    await this.#client.call('put', put, { timeoutMs: answerMs }).catch(() => undefined);
  }

  /** Bytes used on the fullest of the members that answer first: one that hangs delays nobody. */
  #askMajority(): Promise<number | undefined> {
    const { memberCount } = this.#client;
    return new Promise((resolve) => {
      let asked = memberCount;
      let answered = 0;
      let usedBytes = 0;
      for (let member = 0; member < memberCount; member++) {
        void this.#client.status(member, answerMs).then((status) => {
          asked--;
          if (status !== undefined) {
            answered++;
            usedBytes = Math.max(usedBytes, Number(status.dbSizeInUse));
          }
          if (2 * answered > memberCount) resolve(usedBytes);
          else if (asked === 0) resolve(undefined);
        });
      }
    });
  }
}

/** Sizes of the fullest member that answers within a second; `undefined` when none does. */
export async function spaceUse(client: SpaceClient): Promise<SpaceUse | undefined> {
  const statuses = (await client.statuses(answerMs)).filter((status) => status !== undefined);
  if (statuses.length === 0) return undefined;
  return {
    fileBytes: Math.max(...statuses.map((status) => Number(status.dbSize))),
    usedBytes: Math.max(...statuses.map((status) => Number(status.dbSizeInUse))),
  };
}
