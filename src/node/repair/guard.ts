import { DaybookError, type ErrorJson } from '../../base/index.ts';
import type { BlockSource, GatewayBackend } from '../../gateway/index.ts';
import type { Outcome } from '../../model/index.ts';

/** What a node does about its state, for people to see. */
export interface GuardStatus {
  /**
   * `serving`; `repairing`: the majority's snapshot is being restored; `comparing`: restored, and not
   * yet found equal; `halted`: it differed again, and a person has to look.
   */
  readonly state: 'serving' | 'repairing' | 'comparing' | 'halted';
  readonly reason?: string;
  /** Directory with what was found. */
  readonly evidence?: string;
  /** Rows compared with the state tree since the start, and whole rounds of it. */
  readonly scrubbedRows?: number;
  readonly scrubPasses?: number;
  /** Height at which the node agreed with the majority last. */
  readonly agreedHeight?: number;
}

/** Stands before everything that a node answers: nothing passes once its state is in doubt. */
export class Guard {
  #status: GuardStatus = { state: 'serving' };

  get status(): GuardStatus {
    return this.#status;
  }

  /** Changes what is told; anything but `serving` closes. */
  set(status: GuardStatus): void {
    this.#status = status;
  }

  /** Adds numbers to the status. */
  note(numbers: Pick<GuardStatus, 'scrubbedRows' | 'scrubPasses' | 'agreedHeight'>): void {
    this.#status = { ...this.#status, ...numbers };
  }

  get error(): DaybookError | undefined {
    const { state, reason = '' } = this.#status;
    if (state === 'serving') return undefined;
    return new DaybookError('NODE_DIVERGED', `the node does not serve (${state}): ${reason}`, {
      details: { state },
    });
  }

  /** @throws {DaybookError} `NODE_DIVERGED` */
  check(): void {
    const { error } = this;
    if (error !== undefined) throw error;
  }

  /** `value`, unless the state is in doubt. */
  pass<T>(value: T): T {
    this.check();
    return value;
  }
}

/** A backend that answers nothing but its health while the guard is closed. */
export function guardedBackend(inner: GatewayBackend, guard: Guard): GatewayBackend {
  const { blocks, followers } = inner;
  const guarded: GatewayBackend = {
    channel: inner.channel,
    executor: guardedExecutor(inner.executor, guard),
    config: () => guard.pass(inner.config()),
    verifier: () => guard.pass(inner.verifier()),
    nextAddress: () => inner.nextAddress(),
    logTimeMs: () => inner.logTimeMs(),
    waitFor: async (position, waitMs) => guard.pass(await inner.waitFor(position, waitMs)),
    status: (txId) => guard.pass(inner.status(txId)),
    read: async (from, limit) => guard.pass(await inner.read(from, limit)),
    follow: async function* follow(from, signal) {
      for await (const entries of inner.follow(from, signal)) yield guard.pass(entries);
    },
    ...(blocks === undefined ? {} : { blocks: guardedBlocks(blocks, guard) }),
    contracts: () => guard.pass(inner.contracts()),
    health: () => {
      const { state, reason } = guard.status;
      const own = inner.health();
      const told = { ...own, guard: guard.status };
      if (state === 'serving') return told;
      return { ...told, ready: false, reason: `${state}: ${reason ?? ''}` };
    },
    metrics: () => inner.metrics(),
  };
  if (followers === undefined) return guarded;
  return Object.defineProperty(guarded, 'followers', { get: () => guard.pass(followers) });
}

/** An executor that answers nobody while the guard is closed, those neither who asked before. */
export function guardedExecutor(
  inner: GatewayBackend['executor'],
  guard: Guard,
): GatewayBackend['executor'] {
  const shown = (outcome: Outcome): Outcome => {
    const { error } = guard;
    return error === undefined ? outcome : { status: 'rejected', error: doubted(outcome, error) };
  };
  return {
    submit: (batch, deadlineMs, onOutcome) => {
      guard.check();
      inner.submit(batch, deadlineMs, (index, outcome) => onOutcome(index, shown(outcome)));
    },
    evaluate: async (query) => {
      guard.check();
      return guard.pass(await inner.evaluate(query));
    },
    prepare: async (batch, waitMs) => {
      guard.check();
      return guard.pass(await inner.prepare(batch, waitMs));
    },
    submitPrepared: (txId, signature, deadlineMs, onOutcome) => {
      guard.check();
      inner.submitPrepared(txId, signature, deadlineMs, (outcome) => onOutcome(shown(outcome)));
    },
    close: () => inner.close(),
  };
}

/**
 * What stands for an outcome that was found with a state in doubt. Another node has the right one: the
 * client asks it with the same signed bytes, and must not take what may be in the log for undone.
 */
function doubted(outcome: Outcome, error: DaybookError): ErrorJson {
  const isUndone = outcome.status === 'rejected' && outcome.error.code !== 'OUTCOME_UNKNOWN';
  if (isUndone) return error.toJSON();
  const { message, details } = error;
  return new DaybookError('OUTCOME_UNKNOWN', message, { cause: error, details }).toJSON();
}

function guardedBlocks(inner: BlockSource, guard: Guard): BlockSource {
  return { service: () => guard.pass(inner.service()), health: () => inner.health() };
}

/** A backend of a node that has nothing to serve from: its state is being made anew, or it halted. */
export function closedBackend(channel: string, guard: Guard): GatewayBackend {
  const refuse = (): never => {
    guard.check();
    throw new DaybookError('CLOSED', 'the node is starting');
  };
  return {
    channel,
    executor: {
      submit: refuse,
      evaluate: async () => refuse(),
      prepare: async () => refuse(),
      submitPrepared: refuse,
      close: async () => undefined,
    },
    config: refuse,
    verifier: refuse,
    nextAddress: () => 0 as ReturnType<GatewayBackend['nextAddress']>,
    logTimeMs: () => 0,
    waitFor: async () => refuse(),
    status: refuse,
    read: async () => refuse(),
    follow: () => ({ [Symbol.asyncIterator]: () => ({ next: async () => refuse() }) }),
    contracts: refuse,
    health: () => {
      const { state, reason = '' } = guard.status;
      return { ready: false, reason: `${state}: ${reason}`, guard: guard.status };
    },
    metrics: () => ({}),
  };
}
