import { type Dispatcher, Pool } from 'undici';
import { DaybookError, isDaybookError } from '../base/index.ts';
import { noAnswerFrom, type Timers } from '../io/index.ts';
import {
  afterHeader,
  batchMediaType,
  deadlineHeader,
  isErrorJson,
  OutcomeReader,
} from '../model/index.ts';
import { type Attempt, AttemptLost, type Message, type Transport } from './transport.ts';

/** See {@link HttpTransport}. */
export interface HttpTransportOptions {
  readonly gateways: readonly string[];
  readonly channel: string;
  readonly timers: Timers;
  /** Connections kept to each gateway; each carries one batch at a time. */
  readonly connections: number;
  /** Trust roots and client certificate for HTTPS, PEM. */
  readonly tls?: { readonly ca?: string; readonly cert?: string; readonly key?: string };
  /** A fresh `authorization` header for reads. */
  readonly authorization: () => string;
}

/** Time beyond the gateway's own deadline before an answer counts as lost. */
const graceMs = 2_000;
const errorBytesMax = 256 * 1024;
const jsonBytesMax = 64 * 1024 * 1024;
const lineBytesMax = 16 * 1024 * 1024;

/** HTTP/1.1 to a gateway, over kept connections. */
export class HttpTransport implements Transport {
  readonly #pools = new Map<string, Pool>();
  readonly #path: string;
  readonly #options: HttpTransportOptions;

  constructor(options: HttpTransportOptions) {
    this.#options = options;
    this.#path = `/v1/channels/${encodeURIComponent(options.channel)}/`;
    for (const gateway of options.gateways) {
      const pool = new Pool(gateway, {
        connections: options.connections,
        pipelining: 1,
        connect: { timeout: 5_000, ...options.tls },
        // An endless answer (events) has a heartbeat; a batch has its own timer.
        bodyTimeout: 60_000,
        headersTimeout: 120_000,
      });
      this.#pools.set(gateway, pool);
    }
  }

  send(gateway: string, attempt: Attempt): Promise<void> {
    const headers: Record<string, string> = {
      'content-type': batchMediaType,
      [deadlineHeader]: String(Math.max(1, Math.round(attempt.waitMs))),
    };
    if (attempt.after !== undefined) headers[afterHeader] = String(attempt.after);
    return new Promise((resolve, reject) => {
      const handler = new BatchAnswer(attempt, resolve, reject);
      const timer = this.#options.timers.after(attempt.waitMs + graceMs, () => handler.timeOut());
      handler.onSettled = () => timer.cancel();
      this.#pool(gateway).dispatch(
        { path: this.#path + attempt.door, method: 'POST', headers, body: attempt.bytes },
        handler,
      );
    });
  }

  post(gateway: string, path: string, message: Message): Promise<unknown> {
    const { body, contentType, waitMs, after } = message;
    const headers: Record<string, string> = {
      'content-type': contentType,
      [deadlineHeader]: String(Math.max(1, Math.round(waitMs))),
    };
    if (after !== undefined) headers[afterHeader] = String(after);
    return this.#json(gateway, waitMs + graceMs, (signal) =>
      this.#pool(gateway).request({
        path: this.#path + path,
        method: 'POST',
        headers,
        body,
        signal,
      }),
    );
  }

  getJson(gateway: string, path: string, waitMs: number): Promise<unknown> {
    return this.#json(gateway, waitMs, (signal) => this.#get(gateway, path, signal));
  }

  async #json(
    gateway: string,
    waitMs: number,
    request: (signal: AbortSignal) => Promise<Dispatcher.ResponseData>,
  ): Promise<unknown> {
    const abort = new AbortController();
    const timer = this.#options.timers.after(waitMs, () => abort.abort());
    try {
      const { statusCode, body } = await request(abort.signal);
      const json = parse(await readText(body, jsonBytesMax));
      if (statusCode === 200 && json !== undefined) return json;
      throw isErrorJson(json) ? DaybookError.fromJSON(json) : notDaybook(gateway, statusCode);
    } catch (cause) {
      throw unreachableGateway(gateway, cause);
    } finally {
      timer.cancel();
    }
  }

  async *lines(gateway: string, path: string, signal: AbortSignal): AsyncGenerator<string> {
    const { statusCode, body } = await this.#get(gateway, path, signal);
    if (statusCode !== 200) {
      const json = parse(await readText(body, errorBytesMax));
      throw isErrorJson(json) ? DaybookError.fromJSON(json) : notDaybook(gateway, statusCode);
    }
    body.setEncoding('utf8');
    let rest = '';
    try {
      for await (const piece of body as AsyncIterable<string>) {
        const lines = (rest + piece).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > lineBytesMax) throw new Error('line too long');
        yield* lines;
      }
    } catch (cause) {
      throw unreachableGateway(gateway, cause);
    } finally {
      body.destroy();
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.destroy()));
  }

  #pool(gateway: string): Pool {
    const pool = this.#pools.get(gateway);
    if (pool !== undefined) return pool;
    throw new DaybookError('INVALID_ARGUMENT', 'not a gateway of this client', {
      details: { gateway },
    });
  }

  async #get(gateway: string, path: string, signal: AbortSignal): Promise<Dispatcher.ResponseData> {
    const headers = { authorization: this.#options.authorization() };
    try {
      return await this.#pool(gateway).request({
        path: this.#path + path,
        method: 'GET',
        headers,
        signal,
      });
    } catch (cause) {
      throw unreachableGateway(gateway, cause);
    }
  }
}

/** Takes the answer to one batch as undici hands it over, without streams in between. */
class BatchAnswer implements Dispatcher.DispatchHandler {
  onSettled: () => void = () => undefined;
  readonly #resolve: () => void;
  readonly #reject: (error: Error) => void;
  readonly #reader: OutcomeReader;
  #controller: Dispatcher.DispatchController | undefined;
  #statusCode = 0;
  #errorPieces: Buffer[] = [];
  #errorBytes = 0;
  #settled = false;

  constructor(attempt: Attempt, resolve: () => void, reject: (error: Error) => void) {
    this.#resolve = resolve;
    this.#reject = reject;
    this.#reader = new OutcomeReader(attempt.count, attempt.onOutcome);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#settled) controller.abort(new Error('no answer in time'));
  }

  onResponseStart(_controller: Dispatcher.DispatchController, statusCode: number): void {
    this.#statusCode = statusCode;
  }

  onResponseData(controller: Dispatcher.DispatchController, piece: Buffer): void {
    if (this.#settled) return;
    if (this.#statusCode === 200) {
      try {
        this.#reader.push(piece);
      } catch (error) {
        this.#fail(new AttemptLost(true, error));
        controller.abort(error as Error);
      }
    } else {
      this.#errorBytes += piece.length;
      if (this.#errorBytes <= errorBytesMax) this.#errorPieces.push(Buffer.from(piece));
    }
  }

  onResponseEnd(): void {
    if (this.#settled) return;
    if (this.#statusCode === 200) {
      if (this.#reader.complete) this.#settle(this.#resolve);
      else this.#fail(new AttemptLost(true, new Error('the answer ended early')));
      return;
    }
    const json = parse(Buffer.concat(this.#errorPieces).toString('utf8'));
    this.#fail(
      isErrorJson(json)
        ? DaybookError.fromJSON(json)
        : new AttemptLost(true, new Error(`unexpected status ${this.#statusCode}`)),
    );
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    // Without `onRequestStart` nothing was written to any connection.
    this.#fail(new AttemptLost(this.#controller !== undefined, error));
  }

  timeOut(): void {
    const started = this.#controller !== undefined;
    this.#fail(new AttemptLost(started, new Error('no answer in time')));
    this.#controller?.abort(new Error('no answer in time'));
  }

  #fail(error: Error): void {
    this.#settle(() => this.#reject(error));
  }

  #settle(end: () => void): void {
    if (this.#settled) return;
    this.#settled = true;
    this.onSettled();
    end();
  }
}

async function readText(body: AsyncIterable<Buffer>, bytesMax: number): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of body) {
    length += piece.length;
    if (length > bytesMax) throw new Error('answer too long');
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString('utf8');
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function unreachableGateway(gateway: string, cause: unknown): DaybookError {
  return isDaybookError(cause) ? cause : noAnswerFrom(gateway, cause);
}

function notDaybook(gateway: string, statusCode: number): DaybookError {
  return new DaybookError('PEER_UNREACHABLE', `unexpected answer from ${gateway}`, {
    details: { gateway, statusCode },
  });
}
