import { DaybookError } from '../src/base/index.ts';
import type { RunningExecutor } from '../src/executor/index.ts';
import { Bounded } from '../src/gateway/admission.ts';
import type { GatewayContext } from '../src/gateway/context.ts';
import { eventRoutes } from '../src/gateway/events.ts';
import type { GatewayBackend } from '../src/gateway/index.ts';
import { preparedRoutes } from '../src/gateway/prepared-routes.ts';
import { abortForMany, type Connection, type Io } from '../src/io/index.ts';
import { addressOf, asPosition, positionOf } from '../src/model/index.ts';
import { guardedBackend } from '../src/node/repair/guard.ts';
import type { Replica } from '../src/replica/index.ts';
import { appliedWithin } from './applied-within.ts';
import type { Cluster } from './cluster.ts';
import { EventAnswer } from './event-answer.ts';
import { SimulationFailure } from './world.ts';

/** What a route gets of a request, as far as these use it. */
interface Request {
  readonly params: Readonly<Record<string, string>>;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

interface Reply {
  readonly raw: EventAnswer;
  hijack(): void;
}

type Handler = (request: Request, reply: Reply | undefined) => unknown;

/** What a node's routes stand on. */
export interface RoutesParts {
  readonly name: string;
  readonly io: Io;
  readonly replica: Replica;
  readonly executor: RunningExecutor;
  /** Stands before all that is answered; `undefined`: nobody looks after the state. */
  readonly guard: Parameters<typeof guardedBackend>[1] | undefined;
}

/** Heartbeats, and patience with readers that do not read, take so much less than in production. */
const hurry = 50;

/**
 * The gateway's own routes for single signatures and for events, without HTTP: what Fastify and Node
 * would hand them comes over simulated connections.
 */
export class GatewayRoutes {
  readonly #cluster: Cluster;
  readonly #parts: RoutesParts;
  readonly #handlers = new Map<string, Handler>();
  readonly #inFlight: Bounded;
  readonly #answers = new Set<EventAnswer>();
  /** Until when what was prepared here waits for its signature. */
  readonly #prepared = new Map<string, number>();

  constructor(cluster: Cluster, parts: RoutesParts) {
    const { bounds } = cluster;
    this.#cluster = cluster;
    this.#parts = parts;
    this.#inFlight = new Bounded('gatewayBatchesInFlightMax', bounds.gatewayBatchesInFlightMax);
    const take = (path: string, _: object, handler: Handler): void => {
      this.#handlers.set(path.slice(path.lastIndexOf(':channel/') + ':channel/'.length), handler);
    };
    const backend = this.#backend();
    const { timers } = parts.io;
    // Of what routes share they use this much.
    const context = {
      app: { get: take, post: take },
      io: {
        clock: parts.io.clock,
        timers: {
          soon: (callback: () => void) => timers.soon(callback),
          after: (delayMs: number, callback: () => void) => timers.after(delayMs / hurry, callback),
        },
      },
      inFlight: this.#inFlight,
      subscribers: new Bounded('eventSubscribersMax', bounds.eventSubscribersMax),
      closing: abortForMany().signal,
      openReads: true,
      backend: () => backend,
    } as unknown as GatewayContext;
    preparedRoutes({ ...context, io: parts.io });
    eventRoutes(context);
  }

  /** Calls that wait for their signature. */
  get prepared(): number {
    const nowMs = this.#parts.io.clock.monotonicMs();
    for (const [txId, untilMs] of this.#prepared) {
      if (untilMs <= nowMs) this.#prepared.delete(txId);
    }
    return this.#prepared.size;
  }

  /** Open streams of events. */
  get readers(): number {
    for (const answer of this.#answers) if (answer.ended) this.#answers.delete(answer);
    return this.#answers.size;
  }

  /** Requests under way. */
  get underWay(): number {
    return this.#inFlight.count;
  }

  /** Answers `prepare` and `prepared/TXID`. @throws {DaybookError} */
  async post(path: string, body: unknown, headers: Request['headers']): Promise<object> {
    const { channel } = this.#cluster.config;
    const txId = path.startsWith('prepared/') ? path.slice('prepared/'.length) : undefined;
    const route = txId === undefined ? path : 'prepared/:txId';
    const params = txId === undefined ? { channel } : { channel, txId };
    const answer = await this.#handler(route)({ params, query: {}, headers, body }, undefined);
    return answer as object;
  }

  /** Answers `events?…` until either side has enough. @throws {DaybookError} */
  follow(path: string, connection: Connection, kind: number): EventAnswer {
    const { world, config, mutant } = this.#cluster;
    const query = Object.fromEntries(new URLSearchParams(path.slice(path.indexOf('?') + 1)));
    if (addressOf(asPosition(Number(query.from ?? 0))) >= this.#parts.replica.nextAddress) {
      world.happened('client: an event stream is opened at a node that lags');
    }
    const raw = new EventAnswer(world, connection, { kind, goesOn: mutant.writesOn === true });
    const request = { params: { channel: config.channel }, query, headers: {} };
    this.#handler('events')(request, { raw, hijack: () => undefined });
    this.#answers.add(raw);
    return raw;
  }

  #handler(route: string): Handler {
    const handler = this.#handlers.get(route);
    if (handler === undefined) throw new DaybookError('NOT_FOUND', `there is no route ${route}`);
    return handler;
  }

  #backend(): GatewayBackend {
    const { replica, executor, guard, io } = this.#parts;
    const { mutant } = this.#cluster;
    const founded = <T>(value: T | undefined): T => {
      if (value === undefined) throw new DaybookError('CLOSED', 'the channel is not founded');
      return value;
    };
    // As in production; these routes use no more of it.
    const backend = {
      channel: this.#cluster.config.channel,
      executor: this.#watched(executor),
      config: () => founded(replica.config),
      verifier: () => founded(replica.verifier),
      nextAddress: () => replica.nextAddress,
      waitFor: (position: number, waitMs: number) => appliedWithin(replica, io, position, waitMs),
      follow: async function* (from: Parameters<typeof positionOf>[0], signal: AbortSignal) {
        for await (const page of replica.readApplied(positionOf(from, 0), signal)) {
          yield mutant.follow?.(page) ?? page;
        }
      },
    } as unknown as GatewayBackend;
    return guard === undefined ? backend : guardedBackend(backend, guard);
  }

  /** The executor; who was given something to sign has room here until it is signed, or too old. */
  #watched(executor: RunningExecutor): Pick<RunningExecutor, 'prepare' | 'submitPrepared'> {
    const { bounds, world } = this.#cluster;
    const { clock } = this.#parts.io;
    return {
      prepare: async (batch, waitMs) => {
        const payload = await executor.prepare(batch, waitMs);
        const txId = Buffer.from(batch.items[0]?.txId ?? []).toString('hex');
        this.#prepared.set(txId, clock.monotonicMs() + bounds.preparedLifetimeMs);
        // Most are signed at once: who looks every now and then would miss them.
        if (this.prepared > bounds.preparedTransactionsMax) {
          const what = `I9: ${this.#parts.name} holds ${this.prepared} prepared calls`;
          world.fail(new SimulationFailure('correctness', what));
        }
        return payload;
      },
      submitPrepared: (txId, signature, deadlineMs, onOutcome) => {
        executor.submitPrepared(txId, signature, deadlineMs, onOutcome);
        this.#prepared.delete(Buffer.from(txId).toString('hex'));
      },
    };
  }
}
