import { ByteReader, ByteWriter, DaybookError, toDaybookError } from '../src/base/index.ts';
import type { RunningExecutor } from '../src/executor/index.ts';
import type { Connection, Io } from '../src/io/index.ts';
import {
  addressOf,
  afterHeader,
  asPosition,
  type Batch,
  type BatchItem,
  beginOutcomes,
  deadlineHeader,
  decodeBatch,
  encodeOutcome,
  type IdentityVerifier,
  type Outcome,
  type Position,
  positionOf,
  verdictName,
  verdicts,
  verifyBatch,
} from '../src/model/index.ts';
import type { Replica } from '../src/replica/index.ts';
import type { Cluster } from './cluster.ts';
import type { GatewayRoutes } from './gateway-routes.ts';
import { SimulationFailure } from './world.ts';

/** A node as those see it who hand batches in. */
export interface Served {
  readonly name: string;
  readonly executor: Pick<RunningExecutor, 'submit' | 'evaluate'>;
  readonly replica: Replica;
  /** It appends at the log's tail by itself. */
  readonly isAlone: boolean;
  readonly io: Pick<Io, 'clock'>;
  /** Why it serves nobody just now. */
  refusal(): DaybookError | undefined;
  /** What is not modelled here. */
  readonly routes: GatewayRoutes;
  /** It is about to answer that a transaction is committed. */
  readonly answering: () => void;
}

/** What a client of the library asks: u8 of these, u32 milliseconds, u64 position, the rest. */
export const doors = { batches: 1, evaluate: 2, get: 3, post: 4, events: 5 } as const;
/** What it is answered, each as the first byte of a frame. */
export const answers = { outcomes: 1, error: 2, json: 3, lines: 4 } as const;
/** Ends the path that is posted to; the body follows. */
export const endOfPath = 10;

/** Where the nodes' doors are for clients of the library. */
export function gatewayAddress(node: string): string {
  return `${node}:2`;
}

/** Hands a verified batch to the executor, and watches what it answers. @throws {DaybookError} */
export function submitWatched(
  { world, oracle }: Cluster,
  { name, executor, replica, isAlone, answering }: Served,
  batch: Batch,
  deadlineMs: number,
  onOutcome: (index: number, outcome: Outcome) => void,
): void {
  const answered = new Uint8Array(batch.items.length);
  executor.submit(batch, deadlineMs, (index, outcome) => {
    const { txId } = batch.items[index] as BatchItem;
    if (answered[index] === 1) {
      const id = (txId as Buffer).toString('hex');
      world.fail(new SimulationFailure('correctness', `${id} is answered twice`));
    }
    answered[index] = 1;
    oracle.answering(name, txId, outcome, replica);
    if (outcome.status === 'committed') answering();
    if (isAlone && outcome.status === 'committed') {
      world.happened('sequencer: a node without one commits');
    }
    onOutcome(index, outcome);
  });
}

/** @throws {DaybookError} `CLOSED` before the channel is founded. */
export function verifierOf({ verifier }: Replica): IdentityVerifier {
  if (verifier === undefined) throw new DaybookError('CLOSED', 'not founded');
  return verifier;
}

/**
 * Stands for the gateway towards clients of the library: one question at a time on a connection,
 * outcomes as they come, as over HTTP.
 */
export function serveClients(cluster: Cluster, served: Served, connection: Connection): void {
  const answer = (kind: number, bytes: Uint8Array): void => {
    connection.send([Buffer.of(kind), bytes]);
  };
  const fail = (thrown: unknown): void => {
    const error = toDaybookError(thrown);
    if (error.code === 'INTERNAL') cluster.world.fail(error);
    answer(answers.error, Buffer.from(JSON.stringify(error.toJSON())));
  };
  const question = async (frame: Buffer): Promise<void> => {
    const reader = new ByteReader(frame, 'question');
    const door = reader.u8();
    const waitMs = reader.u32();
    const deadlineMs = served.io.clock.monotonicMs() + waitMs;
    const after = reader.u64();
    const rest = reader.raw(reader.remaining);
    if (door === doors.events) {
      const stream = served.routes.follow(rest.toString(), connection, answers.lines);
      // What its reader says from now on is that it has taken a piece.
      connection.onFrame(() => stream.taken());
      return;
    }
    if (door === doors.post) {
      const json = await post(cluster, served, rest, { waitMs, after });
      answer(answers.json, Buffer.from(JSON.stringify(json)));
      return;
    }
    const refusal = served.refusal();
    if (refusal !== undefined) throw refusal;
    if (door === doors.get) {
      answer(answers.json, Buffer.from(JSON.stringify(statusOf(served, rest.toString()))));
      return;
    }
    const batch = decodeBatch(rest);
    if (addressOf(asPosition(after)) > served.replica.nextAddress) {
      cluster.world.happened('client: a node catches up with what it was told');
    }
    await served.replica.waitFor(asPosition(after), deadlineMs);
    if (door === doors.batches) submit(cluster, served, batch, deadlineMs, answer);
    else evaluate(served, batch, answer);
  };
  connection.onFrame((frame) => void question(frame).catch(fail));
  connection.onClose(() => undefined);
}

/** @throws {DaybookError} */
async function post(
  { oracle, world }: Cluster,
  served: Served,
  rest: Buffer,
  { waitMs, after }: { readonly waitMs: number; readonly after: number },
): Promise<object> {
  const { name, routes, replica, answering } = served;
  const at = rest.indexOf(endOfPath);
  const path = rest.toString('latin1', 0, at);
  const body = rest.subarray(at + 1);
  const headers = {
    [deadlineHeader]: String(waitMs),
    ...(after === 0 ? {} : { [afterHeader]: String(after - 1) }),
  };
  if (path === 'prepare') {
    // What is signed already is taken to its end.
    const reason = served.refusal();
    if (reason !== undefined) throw reason;
    if (addressOf(asPosition(after)) > replica.nextAddress) {
      world.happened('client: a node catches up with what it was told');
    }
    return await routes.post(path, body, headers);
  }
  const outcome = (await routes.post(path, JSON.parse(body.toString()), headers)) as PostedOutcome;
  if (outcome.status === 'committed') {
    const committed = { status: 'committed', position: outcome.position, result: '' } as const;
    oracle.answering(name, Buffer.from(outcome.txId, 'hex'), committed, replica);
    answering();
  }
  return outcome;
}

interface PostedOutcome {
  readonly status: 'committed' | 'rejected';
  readonly txId: string;
  readonly position: Position;
}

type Answer = (kind: number, bytes: Uint8Array) => void;

function submit(
  cluster: Cluster,
  served: Served,
  batch: Batch,
  deadlineMs: number,
  answer: Answer,
): void {
  verifyBatch(batch, verifierOf(served.replica), 'submit');
  cluster.oracle.received(batch.batchId);
  let begun = false;
  submitWatched(cluster, served, batch, deadlineMs, (index, outcome) => {
    answer(answers.outcomes, piece(!begun, index, outcome));
    begun = true;
  });
}

function evaluate({ executor, replica }: Served, batch: Batch, answer: Answer): void {
  verifyBatch(batch, verifierOf(replica), 'evaluate');
  const position = positionOf(replica.nextAddress, 0);
  let begun = false;
  for (const [index, { transaction }] of batch.items.entries()) {
    const { contract, functionName, args } = transaction;
    const settle = (outcome: Outcome): void => {
      answer(answers.outcomes, piece(!begun, index, outcome));
      begun = true;
    };
    executor
      .evaluate({ channel: batch.channel, contract, functionName, args, creator: batch.creator })
      .then(
        (result) => settle({ status: 'committed', position, result }),
        (error: unknown) => settle({ status: 'rejected', error: toDaybookError(error).toJSON() }),
      );
  }
}

function piece(isFirst: boolean, index: number, outcome: Outcome): Uint8Array {
  const writer = new ByteWriter(64);
  if (isFirst) beginOutcomes(writer);
  encodeOutcome(writer, index, outcome);
  return writer.finish();
}

function statusOf({ replica }: Served, path: string): object {
  const txId = path.slice(path.lastIndexOf('/') + 1);
  const status = replica.status(txId);
  if (status === undefined) {
    throw new DaybookError('TRANSACTION_UNKNOWN', 'no such transaction is known here');
  }
  const { position, verdict } = status;
  return { txId, position, verdict: verdictName(verdict), valid: verdict === verdicts.valid };
}
