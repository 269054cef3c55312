import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import swagger from '@fastify/swagger';
import fastify, { type FastifyInstance } from 'fastify';
import { DaybookError, limits } from '../base/index.ts';
import { abortForMany, type Io, listenFailed, type Timer } from '../io/index.ts';
import { Bounded } from './admission.ts';
import type { GatewayBackend } from './backend.ts';
import { batchRoutes } from './batch-routes.ts';
import { blockRoutes } from './block-routes.ts';
import { limitConnections } from './connections.ts';
import { backendFinder, type GatewayContext, type ListedNode } from './context.ts';
import { eventRoutes } from './events.ts';
import { followerRoutes } from './follower-routes.ts';
import { answerClientError, answerErrors, answerFrameworkError } from './http-errors.ts';
import { GatewayMetrics } from './metrics.ts';
import { nodeRoutes } from './node-routes.ts';
import { preparedRoutes } from './prepared-routes.ts';
import { readRoutes } from './read-routes.ts';

/** See {@link startGateway}. */
export interface GatewayOptions {
  readonly io: Pick<Io, 'clock' | 'timers'>;
  readonly nodeName: string;
  /** One for each channel. */
  readonly backends: readonly GatewayBackend[];
  /** Default: 127.0.0.1. */
  readonly host?: string;
  /** Default 0: any free one. */
  readonly port?: number;
  /** Serves HTTPS; PEM. With `ca`, clients must show a certificate of it. */
  readonly tls?: { readonly key: string; readonly cert: string; readonly ca?: string };
  /** Whether anybody may read transactions, events and the log. Default: true. */
  readonly openReads?: boolean;
  /** Default: `limits.gatewayConnectionsMax`. */
  readonly connectionsMax?: number;
  /** Default: `limits.gatewayBatchesInFlightMax`. */
  readonly batchesInFlightMax?: number;
  /** The nodes that clients may use, for `GET /v1/nodes`. Default: none is told. */
  readonly nodes?: () => readonly ListedNode[];
  /** Hears of every error that is a bug of ours, with its cause. */
  readonly onInternalError?: (error: DaybookError) => void;
}

/** A gateway that listens. */
export interface Gateway {
  /** `http://host:port`. */
  readonly url: string;
  readonly port: number;
  /** Refuses new requests, lets those under way end (at most `graceMs`), closes everything. */
  close(graceMs?: number): Promise<void>;
}

const graceMsDefault = 5_000;
const sweepMs = 50;
const idleMsMax = 72_000;
const headersMsMax = 10_000;
const requestMsMax = 30_000;

/**
 * Opens the one endpoint of a node: the HTTP API of `docs/http-api.md`.
 *
 * @throws {DaybookError} `LISTEN_FAILED` when the port cannot be had.
 */
export async function startGateway(options: GatewayOptions): Promise<Gateway> {
  const { io, backends, host = '127.0.0.1', tls } = options;
  const app = createApp(tls);
  // Every stream to a client listens.
  const closing = abortForMany();
  const inFlight = new Bounded('gatewayBatchesInFlightMax', options.batchesInFlightMax);
  const subscribers = new Bounded('eventSubscribersMax');
  const connectionsMax = options.connectionsMax ?? limits.gatewayConnectionsMax;
  const connections = limitConnections(app.server as Server, connectionsMax, tls === undefined);
  const metrics = new GatewayMetrics(backends, {
    connections,
    batches_in_flight: () => inFlight.count,
    event_subscribers: () => subscribers.count,
  });
  const context: GatewayContext = {
    app,
    io,
    inFlight,
    subscribers,
    metrics,
    closing: closing.signal,
    openReads: options.openReads ?? true,
    backend: backendFinder(backends),
    backends,
    nodes: options.nodes ?? (() => []),
  };
  answerErrors(app, (error) => {
    metrics.refused(error.code);
    if (error.code === 'INTERNAL') options.onInternalError?.(error);
  });
  app.addHook('onRequest', (_request, _reply, done) => {
    done(closing.signal.aborted ? new DaybookError('CLOSED', 'the gateway is closing') : undefined);
  });
  await app.register(swagger, {
    openapi: {
      info: { title: 'Daybook', description: 'See docs/http-api.md.', version: '1' },
    },
  });
  batchRoutes(context);
  preparedRoutes(context);
  readRoutes(context);
  eventRoutes(context);
  followerRoutes(context);
  blockRoutes(context);
  nodeRoutes(context, options.nodeName);
  try {
    await app.listen({ host, port: options.port ?? 0 });
  } catch (cause) {
    await app.close();
    throw listenFailed(`${host}:${options.port ?? 0}`, cause);
  }
  const { port } = app.server.address() as AddressInfo;
  const name = host.includes(':') ? `[${host}]` : host;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${name}:${port}`,
    port,
    close: async (graceMs = graceMsDefault) => {
      if (closing.signal.aborted) return;
      closing.abort();
      const timer = io.timers.after(graceMs, () => app.server.closeAllConnections());
      // A connection whose last request ends only now is kept alive and would hold the server.
      let sweep: Timer | undefined;
      const sweepIdle = (): void => {
        app.server.closeIdleConnections();
        sweep = io.timers.after(sweepMs, sweepIdle);
      };
      sweepIdle();
      await app.close();
      timer.cancel();
      sweep?.cancel();
    },
  };
}

function createApp(tls: GatewayOptions['tls']): FastifyInstance {
  const options = {
    logger: false,
    bodyLimit: limits.batchBytesMax,
    keepAliveTimeout: idleMsMax,
    requestTimeout: requestMsMax,
    return503OnClosing: false,
    forceCloseConnections: 'idle' as const,
    clientErrorHandler: answerClientError,
    frameworkErrors: answerFrameworkError,
    routerOptions: { maxParamLength: 256 },
    ajv: { customOptions: { coerceTypes: false as const, removeAdditional: false as const } },
  };
  const http = { headersTimeout: headersMsMax, connectionsCheckingInterval: 5_000 };
  const app =
    tls === undefined
      ? fastify({ ...options, http })
      : (fastify({
          ...options,
          https: {
            ...http,
            ...tls,
            ...(tls.ca === undefined ? {} : { requestCert: true, rejectUnauthorized: true }),
          },
        }) as unknown as FastifyInstance);
  app.setSerializerCompiler(() => (data) => JSON.stringify(data));
  return app;
}
