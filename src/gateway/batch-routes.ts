import type { FastifyReply, FastifyRequest } from 'fastify';
import { DaybookError, limits, toDaybookError } from '../base/index.ts';
import {
  addressOf,
  afterHeader,
  asPosition,
  type Batch,
  type BatchItem,
  batchMediaType,
  deadlineHeader,
  decodeBatch,
  type Outcome,
  type Position,
  positionOf,
} from '../model/index.ts';
import { admitBatch, admitEvaluation, readDeadlineMs, readInteger } from './admission.ts';
import type { GatewayBackend } from './backend.ts';
import type { GatewayContext } from './context.ts';
import { outcomeJson } from './json.ts';
import { batchFromJson, jsonBatchSchema } from './json-batch.ts';
import { OutcomeStream } from './outcome-stream.ts';

interface ChannelRequest {
  Params: { channel: string };
  Querystring: { deadlineMs?: string };
}

type Settle = (index: number, outcome: Outcome) => void;

/** `POST …/batches` and `POST …/evaluate`. */
export function batchRoutes(context: GatewayContext): void {
  const { app } = context;
  app.addContentTypeParser(
    batchMediaType,
    { parseAs: 'buffer', bodyLimit: limits.batchBytesMax },
    (_request, body, done) => done(null, body),
  );
  const schema = (summary: string, description: string): object => ({
    tags: ['transactions'],
    summary,
    description,
    querystring: {
      type: 'object',
      properties: {
        deadlineMs: { type: 'string', description: `Same as the header ${deadlineHeader}` },
      },
    },
    body: { content: { 'application/json': { schema: jsonBatchSchema } } },
  });
  app.post<ChannelRequest>(
    '/v1/channels/:channel/batches',
    {
      schema: schema(
        'Submit a signed batch',
        `As ${batchMediaType}: answered by a stream of outcomes, each as it settles. ` +
          'As JSON: answered by one JSON document once all have settled.',
      ),
    },
    (request, reply) => serve(context, request, reply, submit),
  );
  app.post<ChannelRequest>(
    '/v1/channels/:channel/evaluate',
    {
      schema: schema(
        'Run signed calls on committed state without writing',
        'Same forms as for a batch, signed for evaluation (mode `batch` only).',
      ),
    },
    (request, reply) => serve(context, request, reply, evaluate),
  );
}

type Run = (
  context: GatewayContext,
  backend: GatewayBackend,
  batch: Batch,
  deadlineMs: number,
  settle: Settle,
) => void;

/**
 * Everything is checked before the first byte is answered, so errors have a status of their own.
 * Returns a promise only when the node must catch up first.
 */
function serve(
  context: GatewayContext,
  request: FastifyRequest<ChannelRequest>,
  reply: FastifyReply,
  run: Run,
): void | Promise<void> {
  const { io } = context;
  const backend = context.backend(request.params.channel);
  const { headers, query, body } = request;
  const waitMs = readDeadlineMs(headers[deadlineHeader] ?? query.deadlineMs);
  const deadlineMs = io.clock.monotonicMs() + waitMs;
  const after = headers[afterHeader];
  const batch = Buffer.isBuffer(body) ? decodeBatch(body) : batchFromJson(backend.channel, body);
  if (after !== undefined) {
    const position = asPosition(readInteger(afterHeader, after, 0, Number.MAX_SAFE_INTEGER));
    if (addressOf(position) >= backend.nextAddress()) {
      return catchUp(backend, position, waitMs).then(() =>
        start(context, backend, batch, deadlineMs, reply, run),
      );
    }
  }
  start(context, backend, batch, deadlineMs, reply, run);
}

/** @throws {DaybookError} `TIMEOUT` */
export async function catchUp(
  backend: GatewayBackend,
  position: Position,
  waitMs: number,
): Promise<void> {
  if (await backend.waitFor(position, waitMs)) return;
  throw new DaybookError('TIMEOUT', 'the node did not reach the position before the deadline', {
    details: { position, nextAddress: backend.nextAddress() },
  });
}

function start(
  context: GatewayContext,
  backend: GatewayBackend,
  batch: Batch,
  deadlineMs: number,
  reply: FastifyReply,
  run: Run,
): void {
  const { io, inFlight, metrics } = context;
  const startMs = io.clock.monotonicMs();
  const count = batch.items.length;
  inFlight.enter();
  let committed = 0;
  const end = (): void => {
    inFlight.leave();
    metrics.settled(committed, count - committed, (io.clock.monotonicMs() - startMs) / 1000);
  };
  // Outcomes may come while the batch is still being handed over; the answer begins after that.
  let answer: Settle | undefined;
  const early: [number, Outcome][] = [];
  const settle: Settle = (index, outcome) => {
    if (outcome.status === 'committed') committed++;
    if (answer === undefined) early.push([index, outcome]);
    else answer(index, outcome);
  };
  try {
    run(context, backend, batch, deadlineMs, settle);
  } catch (error) {
    inFlight.leave();
    throw error;
  }
  metrics.admitted(count);
  if (Buffer.isBuffer(reply.request.body)) {
    reply.hijack();
    const stream = new OutcomeStream(reply.raw, count, io.timers, end);
    answer = (index, outcome) => stream.settle(index, outcome);
  } else {
    answer = jsonAnswer(reply, batch, end);
  }
  for (const [index, outcome] of early) answer(index, outcome);
}

function submit(...[, backend, batch, deadlineMs, settle]: Parameters<Run>): void {
  admitBatch(backend, batch);
  backend.executor.submit(batch, deadlineMs, settle);
}

function evaluate(...[context, backend, batch, deadlineMs, settle]: Parameters<Run>): void {
  const { clock, timers } = context.io;
  admitEvaluation(backend, batch, clock.nowMs());
  batch.items.forEach(({ transaction }, index) => {
    let open = true;
    const once = (outcome: Outcome): void => {
      if (!open) return;
      open = false;
      timer.cancel();
      settle(index, outcome);
    };
    const reject = (error: unknown): void =>
      once({ status: 'rejected', error: toDaybookError(error).toJSON() });
    const timer = timers.after(Math.max(0, deadlineMs - clock.monotonicMs()), () =>
      reject(new DaybookError('TIMEOUT', 'the call was not evaluated before the deadline')),
    );
    const position: Position = positionOf(backend.nextAddress(), 0);
    const { contract, functionName, args } = transaction;
    backend.executor
      .evaluate({ channel: batch.channel, contract, functionName, args, creator: batch.creator })
      .then((result) => once({ status: 'committed', position, result }), reject);
  });
}

function jsonAnswer(reply: FastifyReply, { items }: Batch, end: () => void): Settle {
  const outcomes: object[] = [];
  let missing = items.length;
  return (index, outcome) => {
    outcomes[index] = outcomeJson(index, (items[index] as BatchItem).txId, outcome);
    missing--;
    if (missing > 0) return;
    end();
    void reply.send({ outcomes });
  };
}
