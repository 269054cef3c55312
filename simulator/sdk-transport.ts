import { ByteWriter, DaybookError, type ErrorJson, isDaybookError } from '../src/base/index.ts';
import { type Attempt, AttemptLost, type Transport } from '../src/client/index.ts';
import type { Connection, Io } from '../src/io/index.ts';
import { OutcomeReader } from '../src/model/index.ts';
import { answers, doors, gatewayAddress } from './gateway-model.ts';

/** Time beyond the gateway's own deadline before an answer counts as lost, as over HTTP. */
const graceMs = 2_000;

/**
 * How the client library reaches gateways over the simulated network: connections are kept, each
 * carries one question at a time, and one that breaks loses the answer, or what is left of it.
 */
export class SimTransport implements Transport {
  readonly #io: Io;
  readonly #idle = new Map<string, Set<Connection>>();

  constructor(io: Io) {
    this.#io = io;
  }

  async send(gateway: string, { door, bytes, count, waitMs, after, onOutcome }: Attempt) {
    const reader = new OutcomeReader(count, onOutcome);
    const connection = await this.#connect(gateway, false).catch((error: unknown) => {
      throw new AttemptLost(false, error);
    });
    const question = header(doors[door], waitMs, after);
    try {
      await this.#ask(gateway, connection, [question, bytes], waitMs + graceMs, (kind, piece) => {
        if (kind === answers.outcomes) reader.push(piece);
        return reader.complete;
      });
    } catch (error) {
      throw isDaybookError(error) ? error : new AttemptLost(true, error);
    }
  }

  async getJson(gateway: string, path: string, waitMs: number): Promise<unknown> {
    const question = [header(doors.get, waitMs, undefined), Buffer.from(path)];
    return await this.#askJson(gateway, question, waitMs, true);
  }

  async post(
    gateway: string,
    path: string,
    { body, waitMs, after }: Parameters<Transport['post']>[2],
  ): Promise<unknown> {
    const question = [header(doors.post, waitMs, after), Buffer.from(`${path}\n`), body];
    return await this.#askJson(gateway, question, waitMs + graceMs, false);
  }

  async *lines(gateway: string, path: string, signal: AbortSignal): AsyncGenerator<string> {
    const connection = await this.#connect(gateway, true);
    const pieces: string[] = [];
    let failure: Error | undefined;
    let wake: () => void = () => undefined;
    const end = (cause: Error): void => {
      failure ??= cause;
      wake();
    };
    const abort = (): void => end(new Error('aborted'));
    signal.addEventListener('abort', abort, { once: true });
    connection.onClose((cause) => end(cause ?? new Error('the connection was closed')));
    connection.onFrame((frame) => {
      const [kind = 0] = frame;
      const piece = frame.toString('utf8', 1);
      if (kind === answers.error) end(DaybookError.fromJSON(JSON.parse(piece) as ErrorJson));
      else pieces.push(piece);
      wake();
    });
    connection.send([header(doors.events, 0, undefined), Buffer.from(path)]);
    try {
      for (;;) {
        const piece = pieces.shift();
        if (piece !== undefined && piece !== '') {
          yield* piece.split('\n').filter((line) => line !== '');
          connection.send([Buffer.of(1)]);
        } else if (piece === undefined) {
          if (failure !== undefined) throw lost(gateway, failure);
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
    } finally {
      signal.removeEventListener('abort', abort);
      connection.close();
    }
  }

  async close(): Promise<void> {
    for (const kept of this.#idle.values()) for (const connection of kept) connection.close();
  }

  /** @throws {DaybookError} what the gateway answered, or `PEER_UNREACHABLE`. */
  async #askJson(
    gateway: string,
    question: readonly Uint8Array[],
    waitMs: number,
    isNew: boolean,
  ): Promise<unknown> {
    let json: unknown;
    try {
      const connection = await this.#connect(gateway, isNew);
      await this.#ask(gateway, connection, question, waitMs, (_, piece) => {
        json = JSON.parse(piece.toString());
        return true;
      });
    } catch (cause) {
      throw lost(gateway, cause);
    }
    return json;
  }

  /** @throws {DaybookError} `PEER_UNREACHABLE` */
  async #connect(gateway: string, isNew: boolean): Promise<Connection> {
    const [kept] = isNew ? [] : (this.#idle.get(gateway) ?? []);
    if (kept === undefined) {
      return await this.#io.network.connect(gatewayAddress(new URL(gateway).hostname));
    }
    this.#idle.get(gateway)?.delete(kept);
    return kept;
  }

  /**
   * Sends a question; resolves when `onFrame` says that the answer is complete.
   *
   * @throws {DaybookError} what the gateway answered; any other error: the answer is lost.
   */
  async #ask(
    gateway: string,
    connection: Connection,
    question: readonly Uint8Array[],
    waitMs: number,
    onFrame: (kind: number, piece: Buffer) => boolean,
  ): Promise<void> {
    let end: () => void = () => undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const timer = this.#io.timers.after(waitMs, () => reject(new Error('no answer in time')));
        end = () => timer.cancel();
        connection.onClose((cause) => {
          this.#idle.get(gateway)?.delete(connection);
          reject(cause ?? new Error('the connection was closed'));
        });
        connection.onFrame((frame) => {
          const [kind = 0] = frame;
          const piece = frame.subarray(1);
          if (kind === answers.error) {
            reject(DaybookError.fromJSON(JSON.parse(piece.toString()) as ErrorJson));
          } else if (onFrame(kind, piece)) resolve();
        });
        connection.send(question);
      });
      const kept = this.#idle.get(gateway) ?? new Set();
      this.#idle.set(gateway, kept.add(connection));
    } catch (error) {
      // An answer that comes after all must not be taken for that of another question.
      connection.close();
      throw error;
    } finally {
      end();
    }
  }
}

function lost(gateway: string, cause: unknown): DaybookError {
  if (isDaybookError(cause)) return cause;
  return new DaybookError('PEER_UNREACHABLE', `no answer from ${gateway}`, { cause });
}

function header(door: number, waitMs: number, after: number | undefined): Uint8Array {
  const writer = new ByteWriter(16).u8(door).u32(Math.max(1, Math.round(waitMs)));
  return writer.u64(after === undefined ? 0 : after + 1).finish();
}
