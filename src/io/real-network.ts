import { unlink } from 'node:fs/promises';
import {
  type AddressInfo,
  createConnection,
  createServer,
  type NetConnectOpts,
  type Server,
  type Socket,
} from 'node:net';
import {
  connect as connectTls,
  createServer as createTlsServer,
  type SecureContextOptions,
  type TLSSocket,
  type TLSSocketOptions,
} from 'node:tls';
import { DaybookError, limits } from '../base/index.ts';
import { framedConnection } from './framed-connection.ts';
import type { Connection, Listener, Network } from './io.ts';
import { listenFailed } from './listen-failed.ts';
import { whyUnreachable } from './why-unreachable.ts';

/** TLS between processes that trust one authority; PEM. */
export interface NetworkTls {
  /** The root that every certificate must lead to. */
  readonly ca: Uint8Array;
  readonly certificate: Uint8Array;
  readonly key: Uint8Array;
}

/** TCP and unix sockets. */
export function realNetwork(): Network {
  return { connect: (address) => connect(address), listen: (...args) => listen(...args) };
}

/**
 * The same under TLS: both sides show a certificate of the authority. Names in certificates are not
 * compared with addresses: a certificate says that its holder belongs to the network.
 *
 * @param onRefused - hears which address was refused here, and why: the other side only sees that its
 *   connection closes.
 */
export function tlsNetwork(
  tls: NetworkTls,
  onRefused: (from: string, why: string) => void = () => undefined,
): Network {
  return {
    connect: (address) => connect(address, tls),
    listen: (address, onConnection) => listen(address, onConnection, { ...tls, onRefused }),
  };
}

interface ListeningTls extends NetworkTls {
  readonly onRefused: (from: string, why: string) => void;
}

const ownRoots = '--private-ca names the file with the roots';

function secureOptions(tls: NetworkTls): SecureContextOptions & TLSSocketOptions {
  return {
    ca: Buffer.from(tls.ca),
    cert: Buffer.from(tls.certificate),
    key: Buffer.from(tls.key),
    minVersion: 'TLSv1.3',
    rejectUnauthorized: true,
  };
}

function connect(address: string, tls?: NetworkTls): Promise<Connection> {
  const target = parseAddress(address);
  return new Promise((resolve, reject) => {
    const socket =
      tls === undefined
        ? createConnection(target)
        : connectTls({
            ...target,
            ...secureOptions(tls),
            checkServerIdentity: () => undefined,
          });
    const late = setTimeout(() => {
      socket.destroy(new Error(`connectMsMax is ${limits.connectMsMax}`));
    }, limits.connectMsMax);
    const onError = (cause: Error): void => {
      clearTimeout(late);
      reject(
        new DaybookError(
          'PEER_UNREACHABLE',
          `cannot connect to ${address}: ${whyUnreachable(cause, '', ownRoots)}`,
          {
            details: { address },
            cause,
          },
        ),
      );
    };
    socket.once('error', onError);
    socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
      clearTimeout(late);
      socket.off('error', onError);
      resolve(framedConnection(socket));
    });
  });
}

async function listen(
  address: string,
  onConnection: (connection: Connection) => void,
  tls?: ListeningTls,
): Promise<Listener> {
  const target = parseAddress(address);
  try {
    return await listenOnce(target, onConnection, tls);
  } catch (error) {
    // A unix socket file outlives a killed process: take it over when nobody answers.
    if (!('path' in target) || !(await isStale(target))) throw error;
    await unlink(target.path);
    return await listenOnce(target, onConnection, tls);
  }
}

type Target = { host: string; port: number } | { path: string };

function listenOnce(
  target: Target,
  onConnection: (connection: Connection) => void,
  tls: ListeningTls | undefined,
): Promise<Listener> {
  const open = new Set<Connection>();
  const accept = (socket: Socket): void => {
    const connection = framedConnection(socket);
    open.add(connection);
    socket.once('close', () => open.delete(connection));
    onConnection(connection);
  };
  const server: Server =
    tls === undefined
      ? createServer(accept)
      : createTlsServer(
          // Refused below instead: a socket that is refused before does not tell whose it was.
          { ...secureOptions(tls), requestCert: true, rejectUnauthorized: false },
          (socket) => {
            const cause = whyUnauthorized(socket);
            if (cause === undefined) accept(socket);
            else refuse(tls, socket, cause);
          },
        ).on('tlsClientError', (cause, socket) => refuse(tls, socket, cause));
  server.maxConnections = limits.peerConnectionsMax;
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => reject(listenFailed(format(target), cause)));
    server.listen(target, () => {
      const bound = server.address() as AddressInfo | string;
      resolve({
        address: format(
          'path' in target || typeof bound === 'string' ? target : { ...target, port: bound.port },
        ),
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            for (const connection of open) connection.close();
          }),
      });
    });
  });
}

/**
 * Why whoever connected does not belong to the network; `undefined`: it does. Node gives the bare code
 * of what is wrong with a certificate, and takes a session of TLS 1.3 that goes on for authorized,
 * also when no certificate was ever shown in it: so the certificate is asked for first.
 */
function whyUnauthorized(socket: TLSSocket): Error | undefined {
  if (Object.keys(socket.getPeerCertificate()).length === 0) {
    return new Error('it shows no certificate');
  }
  if (socket.authorized) return undefined;
  const code = String(socket.authorizationError);
  return Object.assign(new Error(code), { code });
}

function refuse({ onRefused }: ListeningTls, socket: TLSSocket, cause: Error): void {
  const from = socket.remoteAddress;
  socket.destroy();
  // Who is gone before anything was said had nothing to say.
  if (from !== undefined) onRefused(from, whyUnreachable(cause, '', ownRoots));
}

function isStale(target: { path: string }): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createConnection(target);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

function parseAddress(address: string): Target & NetConnectOpts {
  if (address.startsWith('unix:')) return { path: address.slice('unix:'.length) };
  const colon = address.lastIndexOf(':');
  const host = address.slice(0, colon).replace(/^\[(.*)\]$/, '$1');
  const port = Number(address.slice(colon + 1));
  if (colon <= 0 || !/^\d+$/.test(address.slice(colon + 1)) || port > 65_535) {
    throw new DaybookError('INVALID_ARGUMENT', `not host:port or unix:/path: ${address}`, {
      details: { address },
    });
  }
  return { host, port };
}

function format(target: Target): string {
  if ('path' in target) return `unix:${target.path}`;
  return target.host.includes(':')
    ? `[${target.host}]:${target.port}`
    : `${target.host}:${target.port}`;
}
