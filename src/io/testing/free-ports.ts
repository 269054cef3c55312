import { createServer } from 'node:net';

/**
 * TCP ports of this machine that nobody listens on, each different: for servers that must know their
 * port before they start, or come back at the same one.
 */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listenAnywhere));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** One of {@link freePorts}. */
export async function freePort(): Promise<number> {
  return (await freePorts(1))[0] as number;
}

function listenAnywhere(): Promise<ReturnType<typeof createServer>> {
  const server = createServer();
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}
