import { DaybookError, isDaybookError } from '../base/index.ts';
import { type Io, pause, type RpcPeer, rpcPeer, whyUnreachable } from '../io/index.ts';
import type { Leader } from '../log/index.ts';
import {
  type Grant,
  type GroupSummary,
  remoteSequencer,
  type Sequencer,
} from '../sequencer/index.ts';

/** Settings of {@link LeaderSequencer}. */
export interface LeaderSequencerOptions {
  readonly io: Pick<Io, 'clock' | 'timers' | 'network'>;
  /** Name of this node. */
  readonly node: string;
  /** The sequencer of this node, for when it leads itself. */
  readonly own: Sequencer | undefined;
  /** The leader's process is gone: it was connected, and now nothing listens there. */
  readonly onGone: (leader: Leader) => void;
  /**
   * There has been no way to the leader for a while, though it leads: its epoch, and what keeps it;
   * `undefined` as soon as there is one again.
   */
  readonly onCutOff: (epoch: number | undefined, why: string) => void;
}

const leaderWaitMs = 1_000;
/** A leader that does not answer for so long is asked again over a new connection. */
const requestTimeoutMs = 2_000;
const reconnectMs = 50;
/** A connection that lives so long leads somewhere: who is refused by TLS hears of it later. */
const reachedMs = 500;
/** A leader that died is replaced in less time than this. */
const cutOffMs = 3_000;
/** The group is executed again anyway; at once it would only meet the same refusal. */
const notReadyPauseMs = 10;

/** The connection to one leader. */
interface Followed {
  readonly leader: Leader;
  readonly sinceMs: number;
  readonly sequencer: Promise<Sequencer>;
  peer: RpcPeer | undefined;
  reached: boolean;
  dropped: boolean;
}

/**
 * The sequencer wherever it is: follows the leader from node to node over one connection. What a
 * leader that has gone left unanswered fails with `PEER_UNREACHABLE` and is asked again; a token
 * that was lost on the way leaves a hole, which the next leader or whoever waits for it fills.
 */
export class LeaderSequencer implements Sequencer {
  readonly #options: LeaderSequencerOptions;
  #leader: Leader | undefined;
  #followed: Followed | undefined;
  readonly #waiting = new Set<() => void>();
  /** Epoch of the last leader that a connection was made to. */
  #connectedEpoch = -1;
  /** Since when there is no way to the present leader. */
  #failingSinceMs: number | undefined;
  #cutOff: number | undefined;
  #closed = false;

  constructor(options: LeaderSequencerOptions) {
    this.#options = options;
  }

  /** The leader as last heard of. */
  get leader(): Leader | undefined {
    return this.#leader;
  }

  /** Who leads now; `undefined`: nobody does. */
  setLeader(leader: Leader | undefined): void {
    if (this.#closed) return;
    const same = leader?.epoch === this.#leader?.epoch && leader?.address === this.#leader?.address;
    if (same) return;
    this.#drop();
    this.#leader = leader;
    this.#failingSinceMs = undefined;
    if (leader === undefined) return;
    // At once, so that its end is noticed even while there is nothing to ask.
    this.#follow(leader);
    for (const wake of [...this.#waiting]) wake();
  }

  /**
   * @throws {DaybookError} as every sequencer; `PEER_UNREACHABLE` or `TIMEOUT` when there is no
   *   leader, or it does not answer: ask again.
   */
  async request(group: GroupSummary): Promise<Grant> {
    if (this.#leader === undefined) await this.#appears();
    const leader = this.#leader;
    if (leader === undefined) throw new DaybookError('PEER_UNREACHABLE', 'nobody leads');
    const followed = this.#followed ?? this.#follow(leader);
    try {
      const sequencer = await followed.sequencer;
      const asked = sequencer.request(group);
      const grant = await (sequencer === this.#options.own ? asked : this.#inTime(asked));
      if (!followed.reached) this.#reached(followed);
      return grant;
    } catch (error) {
      if (isDaybookError(error, 'TIMEOUT') && this.#followed === followed) this.#drop();
      if (isDaybookError(error, 'SEQUENCER_NOT_READY'))
        await pause(this.#options.io, notReadyPauseMs);
      throw error;
    }
  }

  /** Ends the connection; requests fail from now on. */
  close(): void {
    this.#drop();
    this.#leader = undefined;
    this.#closed = true;
    for (const wake of [...this.#waiting]) wake();
  }

  #follow(leader: Leader): Followed {
    const { node, own, io } = this.#options;
    const isOwn = leader.node === node && own !== undefined;
    const followed: Followed = {
      leader,
      sinceMs: io.clock.monotonicMs(),
      sequencer: isOwn ? Promise.resolve(own) : this.#connect(leader, () => followed),
      peer: undefined,
      reached: false,
      dropped: false,
    };
    this.#followed = followed;
    if (isOwn) this.#reached(followed);
    followed.sequencer.catch((error: unknown) => this.#failed(followed, error));
    return followed;
  }

  async #connect(leader: Leader, followed: () => Followed): Promise<Sequencer> {
    const peer = rpcPeer(await this.#options.io.network.connect(leader.address));
    const mine = followed();
    if (mine.dropped) {
      peer.close();
      throw new DaybookError('PEER_UNREACHABLE', 'another leads meanwhile');
    }
    mine.peer = peer;
    this.#connectedEpoch = leader.epoch;
    this.#options.io.timers.after(reachedMs, () => this.#reached(mine));
    peer.onClose((cause) => this.#failed(mine, cause));
    return remoteSequencer(peer);
  }

  /** The connection broke or could not be made: another one a little later, if it still leads. */
  #failed(followed: Followed, error: unknown): void {
    if (this.#followed !== followed) return;
    this.#drop();
    const { leader } = followed;
    if (!followed.reached) this.#notReached(followed, error);
    if (isRefused(error) && this.#connectedEpoch === leader.epoch) this.#options.onGone(leader);
    this.#options.io.timers.after(reconnectMs, () => {
      if (this.#leader === leader && this.#followed === undefined) this.#follow(leader);
    });
  }

  #reached(followed: Followed): void {
    if (this.#followed !== followed) return;
    followed.reached = true;
    this.#failingSinceMs = undefined;
    if (this.#cutOff === undefined) return;
    this.#cutOff = undefined;
    this.#options.onCutOff(undefined, '');
  }

  #notReached({ leader, sinceMs, peer }: Followed, error: unknown): void {
    this.#failingSinceMs ??= sinceMs;
    const forMs = this.#options.io.clock.monotonicMs() - this.#failingSinceMs;
    if (forMs < cutOffMs || this.#cutOff === leader.epoch) return;
    this.#cutOff = leader.epoch;
    // Who does not trust this node's certificate closes without a word, but says so at home.
    const ending =
      peer === undefined ? '' : `, as soon as it is made; the log of ${leader.node} may say why`;
    const why = `${leader.address}: ${whyUnreachable(error)}${ending}`;
    this.#options.onCutOff(leader.epoch, why);
  }

  #drop(): void {
    const followed = this.#followed;
    this.#followed = undefined;
    if (followed === undefined) return;
    followed.dropped = true;
    followed.peer?.close();
  }

  /** Resolves when somebody leads, or after a while. */
  #appears(): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        timer.cancel();
        this.#waiting.delete(wake);
        resolve();
      };
      const timer = this.#options.io.timers.after(leaderWaitMs, wake);
      this.#waiting.add(wake);
    });
  }

  #inTime<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const timer = this.#options.io.timers.after(requestTimeoutMs, () =>
        reject(new DaybookError('TIMEOUT', 'the sequencer does not answer')),
      );
      answer.then(resolve, reject).finally(() => timer.cancel());
    });
  }
}

/** Nothing listens at the address, which only the machine itself can say: no process is there. */
function isRefused(error: unknown): boolean {
  const cause = error instanceof DaybookError ? error.cause : undefined;
  return cause instanceof Error && 'code' in cause && cause.code === 'ECONNREFUSED';
}
