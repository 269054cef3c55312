import type { FastifyInstance } from 'fastify';
import { DaybookError } from '../base/index.ts';
import type { Io } from '../io/index.ts';
import type { Bounded } from './admission.ts';
import type { GatewayBackend } from './backend.ts';
import type { GatewayMetrics } from './metrics.ts';

/** One node of the network, as clients see it. */
export interface ListedNode {
  readonly name: string;
  /** URL of its gateway. */
  readonly gateway: string;
  /** It takes no new transactions. */
  readonly draining: boolean;
}

/** What all routes share. */
export interface GatewayContext {
  readonly app: FastifyInstance;
  readonly io: Pick<Io, 'clock' | 'timers'>;
  /** Batches under way. */
  readonly inFlight: Bounded;
  /** Event subscribers. */
  readonly subscribers: Bounded;
  readonly metrics: GatewayMetrics;
  /** Aborts when the gateway closes. */
  readonly closing: AbortSignal;
  readonly openReads: boolean;
  /** @throws {DaybookError} `CHANNEL_UNKNOWN` */
  backend(channel: string): GatewayBackend;
  readonly backends: readonly GatewayBackend[];
  /** The nodes that clients may use. */
  nodes(): readonly ListedNode[];
}

/** Finds a channel's backend by name. */
export function backendFinder(
  backends: readonly GatewayBackend[],
): (channel: string) => GatewayBackend {
  const byName = new Map(backends.map((backend) => [backend.channel, backend]));
  return (channel) => {
    const backend = byName.get(channel);
    if (backend !== undefined) return backend;
    throw new DaybookError('CHANNEL_UNKNOWN', `this node has no channel ${channel}`, {
      details: { channel: channel.slice(0, 100) },
    });
  };
}
