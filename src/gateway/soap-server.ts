import type { X509Certificate } from 'node:crypto';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import fastify, { type FastifyInstance } from 'fastify';
import { type Io, listenFailed } from '../io/index.ts';
import { limitConnections } from './connections.ts';

/** See {@link startSoapServer}. */
export interface SoapServerOptions {
  readonly io: Pick<Io, 'timers'>;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly paths: readonly string[];
  /** HTTPS, PEM; with `ca` only those connect who have a certificate of one of these authorities. */
  readonly tls?: {
    readonly key: string;
    readonly cert: string;
    readonly ca?: readonly string[];
  };
  /** Longest message, bytes. */
  readonly bytesMax: number;
  /** Connections at a time. */
  readonly connectionsMax: number;
  /** Answers a message; must not throw. `certificate`: of the client, when it had to show one. */
  readonly answer: (
    text: string,
    certificate: X509Certificate | undefined,
  ) => Promise<{ readonly status: number; readonly body: string }>;
}

const requestMsMax = 60_000;
const graceMs = 2_000;

/**
 * Takes SOAP messages over HTTP or HTTPS.
 *
 * @throws {DaybookError} `LISTEN_FAILED` when the port cannot be had.
 */
export async function startSoapServer(
  options: SoapServerOptions,
): Promise<{ readonly url: string; readonly port: number; close(): Promise<void> }> {
  const { io, host, port, tls, paths } = options;
  const settings = {
    logger: false,
    bodyLimit: options.bytesMax,
    requestTimeout: requestMsMax,
    forceCloseConnections: 'idle' as const,
  };
  const app =
    tls === undefined
      ? fastify(settings)
      : (fastify({
          ...settings,
          https: {
            key: tls.key,
            cert: tls.cert,
            ...(tls.ca === undefined
              ? {}
              : { ca: [...tls.ca], requestCert: true, rejectUnauthorized: true }),
          },
        }) as unknown as FastifyInstance);
  limitConnections(app.server as Server, options.connectionsMax, tls === undefined);
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'string' }, (_request, body, done) => {
    done(null, body);
  });
  for (const path of paths) {
    app.post(path, async (request, reply) => {
      const socket = request.raw.socket as TLSSocket;
      const certificate = tls?.ca === undefined ? undefined : socket.getPeerX509Certificate();
      const text = typeof request.body === 'string' ? request.body : '';
      const { status, body } = await options.answer(text, certificate);
      return await reply.code(status).type('text/xml; charset=utf-8').send(body);
    });
  }
  try {
    await app.listen({ host, port });
  } catch (cause) {
    await app.close();
    throw listenFailed(`${host}:${port}`, cause);
  }
  const { port: listens } = app.server.address() as AddressInfo;
  const name = host.includes(':') ? `[${host}]` : host;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${name}:${listens}`,
    port: listens,
    close: async () => {
      const timer = io.timers.after(graceMs, () => app.server.closeAllConnections());
      app.server.closeIdleConnections();
      await app.close();
      timer.cancel();
    },
  };
}
