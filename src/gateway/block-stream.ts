import type { ServerResponse } from 'node:http';
import { DaybookError, limits } from '../base/index.ts';
import { type DeliveredBlock, lengthPrefix } from '../blocks/index.ts';
import type { GatewayContext } from './context.ts';

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
        if (!response.write(bytes)) await this.#drained();
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

  /** @throws {DaybookError} `OVERLOADED` when the reader stalls. */
  #drained(): Promise<void> {
    const response = this.#response;
    // Of a reader that is gone already nothing is heard any more.
    if (response.destroyed) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const end = (): void => {
        timer.cancel();
        response.off('drain', end);
        response.off('close', end);
        resolve();
      };
      const timer = this.#context.io.timers.after(limits.eventStallMsMax, () => {
        response.off('drain', end);
        response.off('close', end);
        reject(
          new DaybookError('OVERLOADED', 'blocks are not read', {
            details: { limit: 'eventStallMsMax', max: limits.eventStallMsMax },
          }),
        );
      });
      response.on('drain', end);
      response.on('close', end);
    });
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
