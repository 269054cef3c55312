import type { ServerResponse } from 'node:http';
import { type DeliveredBlock, lengthPrefix } from '../blocks/index.ts';
import type { GatewayContext } from './context.ts';
import { drained } from './drained.ts';

const heartbeatMs = 10_000;
const farewellMs = 5_000;

/** One subscriber of blocks. Pulls them, so a slow one costs one block and a full connection. */
export class BlockStream {
  readonly #context: Pick<GatewayContext, 'io' | 'closing'>;
  readonly #response: ServerResponse;
  readonly #mediaType: string;

  constructor(
    context: Pick<GatewayContext, 'io' | 'closing'>,
    response: ServerResponse,
    mediaType: string,
  ) {
    this.#context = context;
    this.#response = response;
    this.#mediaType = mediaType;
  }

  /** Never rejects: what goes wrong on the way breaks the connection, and the client resumes. */
  async run(
    source: { follow(from: number, signal: AbortSignal): AsyncIterable<DeliveredBlock> },
    from: number,
  ): Promise<void> {
    const response = this.#response;
    const { closing, io } = this.#context;
    const stop = new AbortController();
    const abort = (): void => stop.abort();
    response.on('close', abort);
    closing.addEventListener('abort', abort, { once: true });
    response.writeHead(200, { 'content-type': this.#mediaType, 'cache-control': 'no-store' });
    response.flushHeaders();
    const heartbeat = this.#startHeartbeat();
    try {
      for await (const { bytes } of source.follow(from, stop.signal)) {
        response.write(lengthPrefix(bytes.length));
        if (!response.write(bytes)) await drained(io, response, 'blocks');
      }
      response.end();
    } catch {
      // An end in good order would say that there is no more.
      response.destroy();
    } finally {
      heartbeat();
      closing.removeEventListener('abort', abort);
      io.timers.after(farewellMs, () => response.destroy());
    }
  }

  #startHeartbeat(): () => void {
    const { timers } = this.#context.io;
    const beat = (): void => {
      if (!this.#response.writableNeedDrain) this.#response.write(lengthPrefix(0));
      timer = timers.after(heartbeatMs, beat);
    };
    let timer = timers.after(heartbeatMs, beat);
    return () => timer.cancel();
  }
}
