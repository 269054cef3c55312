import { DaybookError, isDaybookError } from '../base/index.ts';
import { type Io, pause } from '../io/index.ts';
import { asPosition, isErrorJson, type Position, type TxId } from '../model/index.ts';
import type { Balancer } from './balancer.ts';
import type { Transport } from './transport.ts';

/** What a contract announced with `setEvent` in a valid transaction. */
export interface ContractEvent {
  readonly position: Position;
  readonly txId: TxId;
  readonly contract: string;
  /** Name of the event. */
  readonly event: string;
  readonly payload: Buffer;
  readonly timestampMs: number;
}

/** Which events, and from where. */
export interface EventsOptions {
  /** The first position of interest; default: new events only. */
  readonly from?: number;
  readonly contract?: string;
  /** Name of the event. */
  readonly event?: string;
  /** Ends the iteration. */
  readonly signal?: AbortSignal;
}

interface EventsContext {
  readonly io: Pick<Io, 'clock' | 'timers' | 'random'>;
  readonly transport: Transport;
  readonly balancer: Balancer;
  readonly closing: AbortSignal;
}

/**
 * Contract events in log order, each once. After a broken connection it goes on where it was, at
 * this or another gateway, for as long as it takes. What one node cannot tell any more, the others are
 * asked for.
 *
 * @throws {DaybookError} what a gateway answers and no retry helps against, e.g. `LOG_TRIMMED`.
 */
export async function* followEvents(
  context: EventsContext,
  options: EventsOptions,
): AsyncGenerator<ContractEvent, void> {
  const { io, transport, balancer, closing } = context;
  const signals = options.signal === undefined ? [closing] : [closing, options.signal];
  const signal = AbortSignal.any(signals);
  let next = options.from;
  /** Answers in a row that what comes next is trimmed. */
  let trimmed = 0;
  while (!signal.aborted) {
    const { gateway, delayMs } = balancer.pick(io.clock.monotonicMs());
    if (delayMs > 0) await pause(io, delayMs, { signal, keepAlive: true });
    if (signal.aborted) return;
    balancer.started(gateway, 0);
    let failed = false;
    try {
      for await (const line of transport.lines(gateway, eventsPath(options, next), signal)) {
        if (line === '') continue;
        const parsed = readLine(line);
        next = parsed.position + 1;
        trimmed = 0;
        if (parsed.event !== undefined) yield parsed.event;
      }
      failed = true;
    } catch (error) {
      if (signal.aborted) return;
      // A node that began with a snapshot cannot tell what others can.
      const mayBeElsewhere = isDaybookError(error, 'LOG_TRIMMED') && ++trimmed < 2 * balancer.size;
      if (isDaybookError(error) && error.retry !== 'same' && !mayBeElsewhere) throw error;
      failed = true;
    } finally {
      balancer.ended(gateway, 0, failed, io.clock.monotonicMs(), io.random.number());
    }
  }
}

function eventsPath(options: EventsOptions, next: number | undefined): string {
  const query = new URLSearchParams();
  if (next !== undefined) query.set('from', String(next));
  if (options.contract !== undefined) query.set('contract', options.contract);
  if (options.event !== undefined) query.set('event', options.event);
  return `events?${query.toString()}`;
}

function readLine(line: string): { position: number; event?: ContractEvent } {
  const json = JSON.parse(line) as Record<string, unknown>;
  const { type, position, error } = json;
  if (type === 'error' && isErrorJson(error)) throw DaybookError.fromJSON(error);
  if (typeof position !== 'number') {
    throw new DaybookError('PEER_UNREACHABLE', 'the gateway sent a line without a position');
  }
  if (type !== 'event') return { position };
  const { txId, contract, event, payload, timestampMs } = json as unknown as EventLine;
  return {
    position,
    event: {
      position: asPosition(position),
      txId,
      contract,
      event,
      payload:
        typeof payload === 'string'
          ? Buffer.from(payload, 'utf8')
          : Buffer.from(payload.base64, 'base64'),
      timestampMs,
    },
  };
}

interface EventLine {
  readonly txId: TxId;
  readonly contract: string;
  readonly event: string;
  readonly payload: string | { readonly base64: string };
  readonly timestampMs: number;
}
