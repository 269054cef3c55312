import { connect, createServer, type Server, type Socket } from 'node:net';

/** A TCP proxy that can lose what the server answers after the server has done what was asked. */
export class LossyProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #losing = false;

  private constructor(target: string) {
    const [host, port] = target.split(':') as [string, string];
    this.#server = createServer((client) => {
      const upstream = connect(Number(port), host);
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          upstream.destroy();
        });
      }
      client.pipe(upstream);
      upstream.on('data', (bytes) => {
        if (!this.#losing) client.write(bytes);
      });
    });
  }

  static async start(target: string): Promise<LossyProxy> {
    const proxy = new LossyProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    return `127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  /** Swallows all answers for `delayMs`, then drops every connection. */
  async loseAnswers(delayMs: number): Promise<void> {
    this.#losing = true;
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    for (const socket of this.#sockets) socket.destroy();
    this.#losing = false;
  }

  stop(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
  }
}
