import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { DaybookError } from '../base/index.ts';

/**
 * Keeps a server's connections under a limit. One over it is answered `503` with `OVERLOADED` and
 * closed at once, before HTTP or TLS hears of it, so that a flood of idle connections costs next to
 * nothing.
 *
 * @param plain - false under TLS: then there is nothing to say before the handshake.
 * @returns the number of open connections.
 */
export function limitConnections(server: Server, max: number, plain: boolean): () => number {
  const accept = server.listeners('connection') as ((socket: Socket) => void)[];
  let open = 0;
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    if (open >= max) {
      refuse(socket, plain ? refusal(max) : undefined);
      return;
    }
    open++;
    socket.once('close', () => {
      open--;
    });
    for (const listener of accept) listener.call(server, socket);
  });
  return () => open;
}

function refuse(socket: Socket, answer: string | undefined): void {
  socket.on('error', () => undefined);
  // What was sent must be read, or closing would reset the connection and the answer be lost.
  socket.resume();
  if (answer === undefined) socket.destroy();
  else socket.end(answer, () => socket.destroySoon());
}

function refusal(max: number): string {
  const error = new DaybookError('OVERLOADED', 'too many connections', {
    details: { limit: 'gatewayConnectionsMax', max },
  });
  const body = JSON.stringify(error);
  return (
    'HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n' +
    `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`
  );
}
