import { DaybookError, isDaybookError } from '../../base/index.ts';
import type { Address } from '../../model/index.ts';
import { compareResult, compareTarget } from './etcd-api.ts';
import type { EtcdLog } from './etcd-log.ts';
import { Session } from './session.ts';
import { absent } from './txn.ts';
import { watchUnit } from './unit-watch.ts';

/** Who leads, as the others see it. */
export interface Leader {
  /** Name of the node. */
  readonly node: string;
  /** Where to reach its sequencer. */
  readonly address: string;
  /** Epoch of its reign. */
  readonly epoch: number;
}

/** What a node that wants to lead says of itself. */
export interface Candidate {
  readonly node: string;
  readonly address: string;
  /** How long a leader that died goes unnoticed, milliseconds; whole seconds ≥ 2. Default 2000. */
  readonly leaseMs?: number;
}

/** One reign: from the moment its epoch is sealed until `lost` aborts. */
export interface Reign {
  readonly epoch: number;
  /** The tail of the log at its beginning: the first token's address. */
  readonly tail: Address;
  /** Aborts when another may lead. Late tokens do no harm: the log refuses their epoch. */
  readonly lost: AbortSignal;
  /**
   * Ends the reign at once.
   *
   * @param successor - name of the node that is to lead next; others hold back for two seconds.
   */
  resign(successor?: string): Promise<void>;
}

const leaseDefaultMs = 2000;
const successorLeaseSeconds = 2;
const watchSilenceMs = 1000;
const failurePauseMs = 200;
/** A reign whose epoch another has sealed is of no use for at most about so long. */
const epochCheckMs = 500;

/**
 * Waits until no one leads, then leads: takes the leader's key under a lease and seals the next
 * epoch, in which only its own tokens can be written.
 *
 * @throws {DaybookError} `CLOSED` when `signal` aborts or the log is closed.
 */
export async function campaign(
  log: EtcdLog,
  candidate: Candidate,
  signal?: AbortSignal,
): Promise<Reign> {
  const ends = signal ?? new AbortController().signal;
  while (!ends.aborted) {
    let session: Session | undefined;
    try {
      await log.units.refresh();
      session = await Session.open(log.units, candidate.leaseMs ?? leaseDefaultMs);
      const reign = await compete(log, candidate, session, ends);
      if (reign !== undefined) return reign;
    } catch (error) {
      if (isDaybookError(error, 'CLOSED', 'ACCESS_DENIED')) throw error;
      await log.units.home.client.sleep(failurePauseMs);
    }
    void session?.close();
  }
  throw new DaybookError('CLOSED', 'the campaign was called off');
}

/** The present leader; `undefined` while there is none, or it has not sealed its epoch yet. */
export async function currentLeader(log: EtcdLog): Promise<Leader | undefined> {
  await log.units.refresh();
  return (await readLeader(log)).leader;
}

/**
 * The leader, now and after each change, without end; `undefined` while there is none. Ends when
 * `signal` aborts.
 *
 * @throws {DaybookError} `CLOSED` when the log is closed.
 */
export async function* watchLeader(
  log: EtcdLog,
  signal: AbortSignal,
): AsyncGenerator<Leader | undefined> {
  let last: string | undefined;
  while (!signal.aborted) {
    try {
      await log.units.refresh();
      const { leader, revision } = await readLeader(log);
      const text = JSON.stringify(leader ?? null);
      if (text !== last) {
        last = text;
        yield leader;
      }
      await untilLeaderChanges(log, revision, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!isDaybookError(error, 'TIMEOUT')) throw error;
    }
  }
}

/**
 * Ends a reign whose process is known to be gone, so that nobody waits for its lease to end. Does
 * nothing when another leads meanwhile. A leader that lives after all is fenced by its successor.
 */
export async function depose(log: EtcdLog, leader: Leader): Promise<void> {
  await log.units.refresh();
  const { keys, home } = log.units;
  const answer = await home.client.call('range', { key: keys.leader });
  const found = answer.kvs[0];
  if (found === undefined || !found.value.equals(encodeLeader(leader))) return;
  await home.client.call('txn', {
    compare: [
      {
        key: keys.leader,
        target: compareTarget.mod,
        result: compareResult.equal,
        mod_revision: Number(found.mod_revision),
      },
    ],
    success: [{ request_delete_range: { key: keys.leader } }],
  });
}

/** Undefined when the session was lost before the throne was won. */
async function compete(
  log: EtcdLog,
  candidate: Candidate,
  session: Session,
  signal: AbortSignal,
): Promise<Reign | undefined> {
  const { keys } = log.units;
  const both = AbortSignal.any([session.lost, signal]);
  const { node, address } = candidate;
  while (!both.aborted) {
    const successor = await session.unit.client.call('range', { key: keys.successor });
    const named = successor.kvs[0]?.value.toString('utf8');
    if (named === undefined || named === node) {
      const value = encodeLeader({ node, address, epoch: 0 });
      const answer = await session.unit.client.call('txn', {
        compare: [absent(keys.leader)],
        success: [{ request_put: { key: keys.leader, value, lease: session.lease } }],
        failure: [{ request_range: { key: keys.leader } }],
      });
      const present = answer.responses[0]?.response_range?.kvs[0];
      // It is ours too when the answer to our own transaction was lost.
      if (answer.succeeded || present?.value.equals(value)) {
        return await ascend(log, candidate, session);
      }
    }
    await untilLeaderChanges(log, Number(successor.header.revision), both);
  }
  return undefined;
}

async function ascend(log: EtcdLog, candidate: Candidate, session: Session): Promise<Reign> {
  const { keys } = log.units;
  const { node, address } = candidate;
  for (;;) {
    await log.units.refresh();
    if (log.units.home !== session.unit) {
      throw new DaybookError('TIMEOUT', 'leadership lives on another unit now');
    }
    const epoch = (await log.epoch()) + 1;
    let tail: Address;
    try {
      tail = await log.seal(epoch);
    } catch (error) {
      if (isDaybookError(error, 'LOG_EPOCH_SEALED') && !session.lost.aborted) continue;
      throw error;
    }
    const value = encodeLeader({ node, address, epoch });
    const { client } = session.unit;
    const answer = await client.call('txn', {
      compare: [
        {
          key: keys.leader,
          target: compareTarget.lease,
          result: compareResult.equal,
          lease: session.lease,
        },
      ],
      success: [{ request_put: { key: keys.leader, value, lease: session.lease } }],
    });
    if (!answer.succeeded || session.lost.aborted) {
      throw new DaybookError('TIMEOUT', 'the lease ended before the reign began');
    }
    void watchEpoch(log, epoch, session);
    return {
      epoch,
      tail,
      lost: session.lost,
      resign: async (successor) => {
        if (successor !== undefined) await nameSuccessor(session, keys.successor, successor);
        await session.close();
      },
    };
  }
}

/**
 * Ends a reign whose epoch another has sealed, though its lease lives: somebody who had not heard of
 * a new home unit may win an election on the old one, seal, and find out too late.
 */
async function watchEpoch(log: EtcdLog, epoch: number, session: Session): Promise<void> {
  while (!session.lost.aborted) {
    await session.unit.client.sleep(epochCheckMs);
    try {
      if (!session.lost.aborted && (await log.epoch()) > epoch) await session.close();
    } catch (error) {
      if (isDaybookError(error, 'CLOSED')) return;
    }
  }
}

async function nameSuccessor(session: Session, key: Buffer, node: string): Promise<void> {
  const { client } = session.unit;
  const { ID } = await client.call('leaseGrant', { TTL: successorLeaseSeconds });
  await client.call('put', { key, value: Buffer.from(node, 'utf8'), lease: ID });
}

async function readLeader(log: EtcdLog): Promise<{ leader: Leader | undefined; revision: number }> {
  const answer = await log.units.home.client.call('range', { key: log.units.keys.leader });
  const value = answer.kvs[0]?.value;
  const leader = value === undefined ? undefined : decodeLeader(value);
  const crowned = leader !== undefined && leader.epoch > 0 ? leader : undefined;
  return { leader: crowned, revision: Number(answer.header.revision) };
}

function untilLeaderChanges(log: EtcdLog, revision: number, signal: AbortSignal): Promise<void> {
  const { keys, io, home } = log.units;
  return watchUnit({
    client: home.client,
    timers: io.timers,
    key: keys.leader,
    end: Buffer.concat([keys.leader, Buffer.of(0)]),
    revision: revision + 1,
    silenceMs: watchSilenceMs,
    signal,
    deletes: true,
    onKeys: () => false,
  });
}

function encodeLeader(leader: Leader): Buffer {
  return Buffer.from(JSON.stringify(leader), 'utf8');
}

function decodeLeader(value: Buffer): Leader | undefined {
  try {
    return JSON.parse(value.toString('utf8')) as Leader;
  } catch {
    return undefined;
  }
}
