import type { ServerResponse } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { bytesOf, DaybookError, limits, toDaybookError } from '../base/index.ts';
import { addressOf, asPosition, positionOf } from '../model/index.ts';
import type { AppliedEntry, AppliedRecord } from '../replica/index.ts';
import { admitReader, readInteger } from './admission.ts';
import type { GatewayBackend } from './backend.ts';
import type { GatewayContext } from './context.ts';
import { drained } from './drained.ts';
import { toJsonBytes, transactionOf } from './json.ts';

interface EventsRequest {
  Params: { channel: string };
  Querystring: { from?: string; contract?: string; event?: string };
}

const heartbeatMs = 10_000;
const farewellMs = 5_000;

/** `GET …/events`: contract events of valid records, from a position on, without end. */
export function eventRoutes(context: GatewayContext): void {
  const { subscribers } = context;
  context.app.get<EventsRequest>(
    '/v1/channels/:channel/events',
    {
      schema: {
        tags: ['events'],
        summary: 'Contract events from a position on',
        description:
          'NDJSON, or server-sent events when `accept` is text/event-stream. Every line carries ' +
          'its position; go on after a break with `from` = that position + 1.',
        querystring: {
          type: 'object',
          properties: {
            from: { type: 'string', description: 'First position; default: only new events' },
            contract: { type: 'string' },
            event: { type: 'string', description: 'Name of the event' },
          },
        },
      },
    },
    (request, reply) => {
      const backend = context.backend(request.params.channel);
      const { authorization } = request.headers;
      admitReader(backend, authorization, context.openReads, context.io.clock.nowMs());
      const from = firstPosition(request);
      subscribers.enter();
      reply.hijack();
      const { contract, event } = request.query;
      const sse = request.headers.accept?.includes('text/event-stream') === true;
      const stream = new EventStream(context, reply, sse);
      void stream.run(backend, from, { contract, event }).finally(() => {
        subscribers.leave();
      });
    },
  );
}

function firstPosition(request: FastifyRequest<EventsRequest>): number | undefined {
  const last = request.headers['last-event-id'];
  if (last !== undefined) return readInteger('last-event-id', last, 0, Number.MAX_SAFE_INTEGER) + 1;
  const { from } = request.query;
  if (from === undefined) return undefined;
  return readInteger('from', from, 0, Number.MAX_SAFE_INTEGER);
}

interface Filter {
  readonly contract: string | undefined;
  readonly event: string | undefined;
}

/** One subscriber. Pulls from the log, so a slow one costs a full connection and no more. */
class EventStream {
  readonly #context: GatewayContext;
  readonly #response: ServerResponse;
  readonly #sse: boolean;
  readonly #abort = new AbortController();
  /** Everything up to this position was looked at. */
  #seen = -1;

  constructor(context: GatewayContext, reply: FastifyReply, sse: boolean) {
    this.#context = context;
    this.#response = reply.raw;
    this.#sse = sse;
  }

  /**
   * @param from - `undefined`: new events only; the first line says where they begin, so that the
   *   reader can go on from there after a break.
   */
  async run(backend: GatewayBackend, from: number | undefined, filter: Filter): Promise<void> {
    const start = from ?? positionOf(backend.nextAddress(), 0);
    const response = this.#response;
    const abort = (): void => this.#abort.abort();
    response.on('close', abort);
    this.#context.closing.addEventListener('abort', abort, { once: true });
    response.writeHead(200, {
      'content-type': this.#sse ? 'text/event-stream' : 'application/x-ndjson',
      'cache-control': 'no-store',
    });
    response.flushHeaders();
    this.#seen = start - 1;
    if (from === undefined) this.#beat();
    const heartbeat = this.#startHeartbeat();
    try {
      const entries = backend.follow(addressOf(asPosition(start)), this.#abort.signal);
      for await (const page of entries) await this.#page(page, start, filter);
      if (!response.destroyed) this.#last(new DaybookError('CLOSED', 'the gateway is closing'));
    } catch (error) {
      this.#last(toDaybookError(error));
    } finally {
      heartbeat();
      this.#context.closing.removeEventListener('abort', abort);
      response.end();
      // A reader that stalls would keep the connection for ever.
      this.#context.io.timers.after(farewellMs, () => response.destroy());
    }
  }

  async #page(page: readonly AppliedEntry[], from: number, filter: Filter): Promise<void> {
    for (const { address, records } of page) {
      if (this.#abort.signal.aborted) return;
      let lines = '';
      for (const applied of records) {
        const line = applied.position < from ? undefined : eventLine(applied, filter);
        if (line === undefined) continue;
        lines += this.#sse ? `id: ${applied.position}\ndata: ${line}\n\n` : `${line}\n`;
        this.#seen = Math.max(this.#seen, applied.position);
      }
      if (lines !== '' && !this.#response.write(lines))
        await drained(this.#context.io, this.#response, 'events');
      this.#seen = Math.max(this.#seen, positionOf(address, limits.recordsPerEntryMax - 1));
    }
  }

  #startHeartbeat(): () => void {
    const { timers } = this.#context.io;
    const beat = (): void => {
      if (!this.#response.writableNeedDrain) this.#beat();
      timer = timers.after(heartbeatMs, beat);
    };
    let timer = timers.after(heartbeatMs, beat);
    return () => timer.cancel();
  }

  #beat(): void {
    const line = JSON.stringify({ type: 'heartbeat', position: this.#seen });
    this.#response.write(this.#sse ? `: ${line}\n\n` : `${line}\n`);
  }

  #last(error: DaybookError): void {
    const line = JSON.stringify({ type: 'error', position: this.#seen, error: error.toJSON() });
    this.#response.write(this.#sse ? `event: error\ndata: ${line}\n\n` : `${line}\n`);
  }
}

function eventLine(
  { record, position, verdict }: AppliedRecord,
  filter: Filter,
): string | undefined {
  const { event } = record;
  if (event === undefined || verdict !== 0) return undefined;
  if (filter.event !== undefined && filter.event !== event.name) return undefined;
  const transaction = transactionOf(record);
  if (transaction === undefined) return undefined;
  if (filter.contract !== undefined && filter.contract !== transaction.contract) return undefined;
  return JSON.stringify({
    type: 'event',
    position,
    txId: Buffer.from(record.txId).toString('hex'),
    contract: transaction.contract,
    event: event.name,
    payload: toJsonBytes(bytesOf(event.payload)),
    timestampMs: transaction.timestampMs,
  });
}
